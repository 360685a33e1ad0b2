"""Figures 10 and 11, Table 27: stronger augmentation or weight decay in training lowers memorization."""

from __future__ import annotations

from memkern.lab.encoders.resnet9 import CONV_TAPS, TAPS
from memkern.lab.experiments._context import ExperimentContext
from memkern.lab.experiments._experiment import Experiment, Result, Row
from memkern.lab.experiments._statistics import center, spread
from memkern.lab.training.recipe import Recipe
from memkern.transforms import PRESETS

_PAPER = {
    "conv1": (0.092, 0.091, 0.089),
    "conv2-2": (0.184, 0.183, 0.178),
    "conv4-0": (0.249, 0.246, 0.241),
    "conv4-2": (0.313, 0.308, 0.300),
    "Res6": (0.315, 0.311, 0.302),
}
STRENGTHS = ("weak", "normal", "strong")
DECAYS = (0.0, 1e-2, 1e-1)


def run(context: ExperimentContext) -> Result:
    """Pairs trained with three strengths of augmentation (measured with the same), and with three weight decays."""
    trained: dict[str, Recipe] = {name: context.recipe(views=PRESETS[name]) for name in STRENGTHS}
    trained |= {f"weight decay {decay}": context.recipe(weight_decay=decay) for decay in DECAYS}
    if context.preset.name == "tiny":  # the ends of both scales
        trained = {name: trained[name] for name in ("weak", "strong", *list(trained)[-1:], *list(trained)[3:4])}
    mem: dict[tuple[str, str], list[float]] = {}
    units: dict[tuple[str, str], list[float]] = {}
    accuracy: dict[str, list[float]] = {}
    for name, recipe in trained.items():
        for seed in context.seeds:
            measured = context.measure(seed, recipe)
            accuracy.setdefault(name, []).append(context.accuracy(context.encoder(seed, "f", recipe), seed))
            for tap in TAPS:
                mem.setdefault((name, tap), []).append(float(measured.ratios(tap).mean()))
                units.setdefault((name, tap), []).append(float(measured[tap].unitmem.mean()))
    rows: list[Row] = [
        {
            "training": name,
            "layer": tap,
            "layermem": center(values),
            "layermem_std": spread(values),
            "unitmem": center(units[name, tap]),
            "unitmem_std": spread(units[name, tap]),
            "accuracy": center(accuracy[name]),
        }
        for (name, tap), values in mem.items()
    ]
    seeds, hard, soft = range(len(context.seeds)), f"weight decay {DECAYS[-1]}", f"weight decay {DECAYS[0]}"

    def fall(values: dict[tuple[str, str], list[float]], a: str, b: str, i: int) -> float:
        return center(values[a, tap][i] - values[b, tap][i] for tap in CONV_TAPS)

    effects = {
        "strong augmentation lowers LayerMem": [fall(mem, "weak", "strong", i) for i in seeds],
        "strong augmentation lowers UnitMem": [fall(units, "weak", "strong", i) for i in seeds],
        "weight decay lowers UnitMem": [fall(units, soft, hard, i) for i in seeds],
        "weight decay lowers accuracy": [accuracy[soft][i] - accuracy[hard][i] for i in seeds],
    }
    note = "AdamW's weight decay is decoupled; the paper's three values are not known here."
    return Result(rows, effects, None, [note])


EXPERIMENT = Experiment(
    id="figure-10",
    covers=("Figure 10", "Figure 11", "Table 27"),
    title="LayerMem and UnitMem after training with weak to strong augmentation, and with weight decay",
    inputs="pairs f, g for every augmentation and weight decay",
    columns=("training", "layer", "layermem", "layermem_std", "unitmem", "unitmem_std", "accuracy"),
    findings={
        "strong augmentation lowers LayerMem": "With strong views LayerMem is lower than with weak ones.",
        "strong augmentation lowers UnitMem": "UnitMem is lower, too.",
        "weight decay lowers UnitMem": "Strong weight decay lowers UnitMem.",
        "weight decay lowers accuracy": "It lowers the accuracy of a probe.",
    },
    published=[
        {"training": name, "layer": tap, "layermem": value}
        for tap, values in _PAPER.items()
        for name, value in zip(STRENGTHS, values, strict=True)
    ],
    run=run,
)
