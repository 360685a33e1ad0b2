"""Table 26: LayerMem with other distances than l2."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import memkern
from memkern.lab.encoders.build import described
from memkern.lab.encoders.resnet9 import TAPS
from memkern.lab.experiments._context import ExperimentContext
from memkern.lab.experiments._experiment import Experiment, Result
from memkern.lab.experiments._plots import lines
from memkern.lab.experiments._statistics import center, kendall, spread
from memkern.scores import sslmem_score

DISTANCES = ("l1", "l2", "cosine", "angular")
_PAPER = {
    "conv1": (0.099, 0.091, 0.104, 0.096),
    "conv2-2": (0.187, 0.183, 0.190, 0.191),
    "conv4-0": (0.256, 0.246, 0.256, 0.259),
    "conv4-2": (0.325, 0.308, 0.321, 0.328),
    "Res6": (0.329, 0.311, 0.323, 0.329),
}


def run(context: ExperimentContext) -> Result:
    """LayerMem of all candidates; vectors have unit length before l1 and l2."""
    values: dict[tuple[str, str], list[float]] = {}
    for seed in context.seeds:
        spec, ids = context.recipe().views, context.split(seed).candidate[: context.preset.points(500)]
        sums = {}
        for role in "fg":
            parts = []
            for part in ids.split(10):
                drawn = memkern.views(
                    context.data().images[part].to(context.device),
                    n_views=context.preset.n_views,
                    transform=spec,
                    seed=0,
                    index=part,
                )
                parts.append(_distances(context.encoder(seed, role), drawn))
            sums[role] = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
        for key in sums["f"]:
            values.setdefault(key, []).append(float(sslmem_score(sums["f"][key], sums["g"][key], "ratio").mean()))
    rows = [
        {"layer": tap, "distance": name, "layermem": center(found), "std": spread(found)}
        for (tap, name), found in values.items()
    ]
    effects: dict[str, list[float]] = {name: [] for name in EXPERIMENT.findings}
    for place in range(len(context.seeds)):
        by_layer = {name: torch.tensor([values[tap, name][place] for tap in TAPS]) for name in DISTANCES}
        taus = {name: kendall(by_layer["l2"], by_layer[name])[0] for name in DISTANCES if name != "l2"}
        for name, tau in taus.items():
            effects[f"{name} orders the layers as l2 does"].append(tau)
    series = {name: [center(values[tap, name]) for tap in TAPS] for name in DISTANCES}
    figure = lines(series, list(TAPS), xlabel="layer", ylabel="LayerMem", title="LayerMem with four distances")
    return Result(list(rows), effects, figure)


@torch.inference_mode()
def _distances(encoder: nn.Module, views: Tensor) -> dict[tuple[str, str], Tensor]:
    """Mean distance over all pairs of views, `[N]`, for every tap and distance; whole activations are held."""
    n, v = views.shape[:2]
    seen: dict[str, Tensor] = {}
    modules = dict(encoder.named_modules())
    handles = [
        modules[path].register_forward_hook(lambda module, args, out, tap=tap: seen.update({tap: out}))
        for tap, path in described(encoder).taps.items()
    ]
    encoder(views.flatten(0, 1))
    for handle in handles:
        handle.remove()
    found = {}
    for tap, out in seen.items():
        each = out.unflatten(0, (n, v)).cpu().double()
        for name in DISTANCES:
            found[tap, name] = memkern.alignment(each, distance=name)
    return found


EXPERIMENT = Experiment(
    id="table-26",
    covers=("Table 26",),
    title="LayerMem measured with l1, l2, cosine and angular distance",
    inputs="pairs f, g; candidates",
    columns=("layer", "distance", "layermem", "std"),
    findings={
        f"{name} orders the layers as l2 does": f"LayerMem with {name} orders the layers as with l2 (Kendall's tau)."
        for name in DISTANCES
        if name != "l2"
    },
    published=[
        {"layer": tap, "distance": name, "layermem": value}
        for tap, listed in _PAPER.items()
        for name, value in zip(DISTANCES, listed, strict=True)
    ],
    run=run,
)
