"""Tables 2 and 10: attention against MLP layers of a vision transformer trained with MAE."""

from __future__ import annotations

from memkern.lab.encoders.build import described
from memkern.lab.experiments._context import ExperimentContext
from memkern.lab.experiments._experiment import Experiment, Result, Row
from memkern.lab.experiments._plots import lines
from memkern.lab.experiments._statistics import center

_FC = (0.020, 0.039, 0.060, 0.083, 0.105, 0.129, 0.155, 0.182, 0.210, 0.240, 0.271, 0.303)
_ATT = (0.006, 0.028, 0.046, 0.067, 0.092, 0.114, 0.140, 0.164, 0.191, 0.220, 0.249, 0.280)
_RES_FC = (0.022, 0.040, 0.061, 0.085, 0.106, 0.131, 0.156, 0.182, 0.211, 0.241, 0.271, 0.304)
_DELTA_ATT = (None, 0.006, 0.006, 0.006, 0.007, 0.008, 0.009, 0.008, 0.009, 0.009, 0.008, 0.009)
_DELTA_FC = (None, 0.011, 0.013, 0.017, 0.014, 0.015, 0.016, 0.018, 0.020, 0.020, 0.022, 0.023)
_BLOCK = (None, 0.018, 0.021, 0.024, 0.021, 0.025, 0.025, 0.026, 0.029, 0.030, 0.030, 0.033)


def run(context: ExperimentContext) -> Result:
    """LayerMem of both sub-layers and of the residual stream after each, with the three differences of the paper."""
    recipe = context.recipe("mae")
    found: dict[int, list[dict[str, float]]] = {}
    effects: dict[str, list[float]] = {name: [] for name in EXPERIMENT.findings}
    for seed in context.seeds:
        measured = context.measure(seed, recipe)
        depth = len(described(context.encoder(seed, "f", recipe)).unit_taps)
        mem = {
            (block, row): float(measured.ratios(f"block{block}.{row}").mean())
            for block in range(1, depth + 1)
            for row in ("att", "res-att", "fc", "res-fc")
        }
        for block in range(1, depth + 1):
            values = {row: mem[block, row] for row in ("att", "res-att", "fc", "res-fc")}
            values["delta_fc"] = mem[block, "fc"] - mem[block, "res-att"]
            if block > 1:
                before = mem[block - 1, "res-fc"]
                values |= {"delta_att": mem[block, "att"] - before, "delta_block": mem[block, "res-fc"] - before}
            found.setdefault(block, []).append(values)
        later = [found[block][-1] for block in range(2, depth + 1)]
        effects["MLP adds more than attention"].append(center(row["delta_fc"] - row["delta_att"] for row in later))
        effects["deeper blocks memorize more"].append(mem[depth, "res-fc"] - mem[1, "res-fc"])
    rows: list[Row] = [
        {"block": block, **{name: center(values[name] for values in seeds) for name in seeds[0]}}
        for block, seeds in found.items()
    ]
    series = {name: [float(row[name]) for row in rows] for name in ("att", "fc", "res-att", "res-fc")}
    figure = lines(series, list(found), xlabel="block", ylabel="LayerMem", title="LayerMem inside a ViT (MAE)")
    note = (
        "Delta_att is attention minus the stream before the block, delta_fc is MLP minus the stream after attention, "
        "delta_block the difference of the streams; the first block has no stream before it."
    )
    return Result(rows, effects, figure, [note])


EXPERIMENT = Experiment(
    id="table-2",
    covers=("Table 2", "Table 10"),
    title="LayerMem of attention, MLP and the residual stream, ViT trained with MAE",
    inputs="pairs f, g trained with MAE; candidates",
    columns=("block", "att", "delta_att", "res-att", "fc", "delta_fc", "res-fc", "delta_block"),
    findings={
        "MLP adds more than attention": "MLP layers add more memorization than attention layers.",
        "deeper blocks memorize more": "The last block memorizes more than the first.",
    },
    published=[
        {
            "block": block + 1,
            "att": _ATT[block],
            "delta_att": _DELTA_ATT[block],
            "fc": _FC[block],
            "delta_fc": _DELTA_FC[block],
            "res-fc": _RES_FC[block],
            "delta_block": _BLOCK[block],
        }
        for block in range(12)
    ],
    run=run,
)
