"""Tables 4, 29, 31 and Figure 12: two frameworks on a ResNet, two on a transformer."""

from __future__ import annotations

import torch

from memkern.lab.encoders.build import described
from memkern.lab.experiments import _resnet_layers
from memkern.lab.experiments._context import ExperimentContext
from memkern.lab.experiments._experiment import Experiment, Result, Row
from memkern.lab.experiments._plots import lines
from memkern.lab.experiments._statistics import center, kendall, slope, spread

_RESNET = {
    "conv1": (0.038, 0.040), "conv2-9": (0.072, 0.073), "conv3-12": (0.134, 0.136), "conv4-18": (0.235, 0.240),
    "conv5-9": (0.304, 0.309),
}  # fmt: skip
_VIT = {
    "mae": (0.019, 0.037, 0.055, 0.075, 0.095, 0.118, 0.139, 0.163, 0.188, 0.215, 0.243, 0.271),
    "dino": (0.019, 0.036, 0.056, 0.077, 0.096, 0.119, 0.142, 0.168, 0.193, 0.219, 0.247, 0.275),
}


def run(context: ExperimentContext) -> Result:
    """LayerMem and mean UnitMem by layer, with the data and the sizes of the preset instead of ImageNet's."""
    resnet = context.preset.resnet if context.preset.name != "paper" else _resnet_layers.encoder(context, 50)
    vit = context.recipe("mae").encoder
    found: dict[tuple[str, str], dict[str, list[float]]] = {}
    last: dict[tuple[str, str], list[float]] = {}
    rows: list[Row] = []
    for encoder, methods in ((resnet, ("simclr", "dino")), (vit, ("mae", "dino"))):
        for method in methods:
            recipe = context.recipe(method, encoder)
            mem: dict[str, list[float]] = {}
            units: dict[str, list[float]] = {}
            for seed in context.seeds:
                measured = context.measure(seed, recipe)
                model = described(context.encoder(seed, "f", recipe))
                taps = [tap for tap in model.taps if tap.startswith("conv") or tap.endswith(".res-fc")]
                for tap in taps:
                    mem.setdefault(tap, []).append(float(measured.ratios(tap).mean()))
                    fully = tap.replace("res-fc", "fc")
                    units.setdefault(tap, []).append(float(measured[fully].unitmem.mean()))
            found[encoder, method], last[encoder, method] = mem, list(units.values())[-1]
            for tap, values in mem.items():
                row = {"encoder": encoder, "method": method, "layer": tap, "layermem": center(values)}
                rows.append(row | {"layermem_std": spread(values), "unitmem": center(units[tap])})
    effects: dict[str, list[float]] = {name: [] for name in EXPERIMENT.findings}
    for i in range(len(context.seeds)):
        curves = {key: [values[i] for values in mem.values()] for key, mem in found.items()}
        effects["rises with depth everywhere"].append(min(slope(curve) for curve in curves.values()))
        for encoder, a, b in ((resnet, "simclr", "dino"), (vit, "mae", "dino")):
            pair = torch.tensor(curves[encoder, a]), torch.tensor(curves[encoder, b])
            kind = "ResNet" if encoder == resnet else "transformer"
            effects[f"{kind}: frameworks agree"].append(kendall(*pair)[0])
            gap = abs(last[encoder, a][i] - last[encoder, b][i])
            effects[f"{kind}: UnitMem is similar"].append(0.1 - gap)
    series = {f"{vit} {method}": [center(values) for values in found[vit, method].values()] for method in _VIT}
    blocks = [tap.partition(".")[0] for tap in found[vit, "mae"]]
    figure = lines(series, blocks, xlabel="block", ylabel="LayerMem", title="LayerMem of two frameworks")
    note = (
        f"The paper's encoders are ResNet50 and ViT-Base trained on ImageNet; here they are {resnet} and {vit} trained "
        f"on {context.preset.data}, all for equally many epochs, not stopped where their probes agree. LayerMem of a "
        "block is that of the stream after it, UnitMem that of its MLP's output (Figure 12 shows the last layers)."
    )
    return Result(rows, effects, figure, [note])


EXPERIMENT = Experiment(
    id="table-4",
    covers=("Table 4", "Table 29", "Table 31", "Figure 12"),
    title="LayerMem and UnitMem by layer under two frameworks for each architecture",
    inputs="pairs f, g: a ResNet trained with SimCLR and DINO, a transformer trained with MAE and DINO; candidates",
    columns=("encoder", "method", "layer", "layermem", "layermem_std", "unitmem"),
    findings={
        "rises with depth everywhere": "LayerMem rises with depth under every framework (smallest Kendall's tau).",
        "ResNet: frameworks agree": "The layers of the ResNet have one order under both frameworks (Kendall's tau).",
        "ResNet: UnitMem is similar": "Mean UnitMem of the ResNet's last convolution differs by less than 0.1.",
        "transformer: frameworks agree": "The blocks of the transformer have one order under both frameworks.",
        "transformer: UnitMem is similar": "Mean UnitMem of the transformer's last MLP differs by less than 0.1.",
    },
    published=[
        *(
            {"encoder": "resnet50", "method": method, "layer": tap, "layermem": values[place]}
            for place, method in enumerate(("simclr", "dino"))
            for tap, values in _RESNET.items()
        ),
        *(
            {"encoder": "vit-base", "method": method, "layer": f"block{block}", "layermem": value}
            for method, values in _VIT.items()
            for block, value in enumerate(values, 1)
        ),
    ],
    run=run,
)
