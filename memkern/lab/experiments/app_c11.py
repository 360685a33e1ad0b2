"""Appendix C.11: replacing a layer in f and g lowers the LayerMem of that layer only."""

from __future__ import annotations

import torch

from memkern.audit.interventions.replace import replace_layers
from memkern.lab.encoders.resnet9 import CONV_TAPS, TAPS
from memkern.lab.experiments import _replacement
from memkern.lab.experiments._context import ExperimentContext
from memkern.lab.experiments._experiment import Experiment, Result, Row
from memkern.lab.experiments._statistics import center, kendall
from memkern.lab.pair_scores import score_pair


def run(context: ExperimentContext) -> Result:
    """Replaces the layer with the largest change of LayerMem by that of an encoder trained on other data."""
    _, delta = _replacement.layer_scores(context)
    (layer,) = _replacement.best(delta, 1)
    tap, donor = CONV_TAPS[layer - 1], context.preset.others[0]
    before: dict[str, list[float]] = {}
    after: dict[str, list[float]] = {}
    effects: dict[str, list[float]] = {name: [] for name in EXPERIMENT.findings}
    for seed in context.seeds:
        f, g, giver = context.encoder(seed), context.encoder(seed, "g"), context.encoder(seed, data=donor)
        with replace_layers(f, giver, [TAPS[tap]]), replace_layers(g, giver, [TAPS[tap]]):
            changed = score_pair(
                f, g, context.data(), context.split(seed), context.recipe().views, n_views=context.preset.n_views,
                activation=context.activation,
            )  # fmt: skip
        whole = context.measure(seed)
        for name in CONV_TAPS:
            before.setdefault(name, []).append(float(whole.ratios(name).mean()))
            after.setdefault(name, []).append(float(changed.ratios(name).mean()))
        effects["the replaced layer falls"].append(before[tap][-1] - after[tap][-1])
        pair = (torch.tensor([each[name][-1] for name in CONV_TAPS]) for each in (before, after))
        effects["the pattern stays"].append(kendall(*pair)[0])
    rows: list[Row] = [
        {
            "layer": name,
            "replaced": name == tap,
            "layermem": center(before[name]),
            "layermem_after": center(after[name]),
        }
        for name in CONV_TAPS
    ]
    return Result(rows, effects)


EXPERIMENT = Experiment(
    id="app-c11",
    covers=("App. C.11",),
    title="LayerMem before and after a layer is replaced in both encoders",
    inputs="pairs f, g; an encoder of the other data set",
    columns=("layer", "replaced", "layermem", "layermem_after"),
    findings={
        "the replaced layer falls": "LayerMem of the replaced layer falls.",
        "the pattern stays": "The layers keep their order by LayerMem (Kendall's tau).",
    },
    published=[],
    run=run,
)
