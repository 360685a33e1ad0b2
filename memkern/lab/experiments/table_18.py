"""Table 18: LayerMem with norms, pools and the end of the network as layers of their own."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import memkern
from memkern.audit.taps.tap import Tap
from memkern.lab.encoders.resnet9 import TAPS
from memkern.lab.experiments._context import ExperimentContext
from memkern.lab.experiments._experiment import Experiment, Result, Row
from memkern.lab.experiments._statistics import center, spread
from memkern.scores import sslmem_score

_PAPER = {
    "conv1.bn": 0.091, "conv1.pool": 0.097, "conv2-0.conv": 0.123, "conv2-0.bn": 0.124, "conv2-0.pool": 0.128,
    "conv3.bn": 0.211, "conv3.pool": 0.215, "conv4-0.bn": 0.244, "conv4-0.pool": 0.247, "Res6": 0.311, "output": 0.318,
}  # fmt: skip


def run(context: ExperimentContext) -> Result:
    """LayerMem of the candidates after every convolution, norm, pool and skip connection."""
    places: dict[str, str] = {}
    for name, module in TAPS.items():
        parts = ("conv", "bn", "pool") if name in ("conv1", "conv2-0", "conv3", "conv4-0") else ("conv", "bn")
        places |= {name: module} if name.startswith("Res") else {f"{name}.{p}": f"{module}.{p}" for p in parts}
    places["output"] = "pool"
    found: dict[str, list[float]] = {}
    for seed in context.seeds:
        ids = context.split(seed).candidate
        f, g = (_alignments(context, context.encoder(seed, role), ids, places) for role in "fg")
        for name in places:
            found.setdefault(name, []).append(float(sslmem_score(f[name], g[name], "ratio").mean()))
    deltas = [memkern.delta_layermem([values[i] for values in found.values()]) for i in range(len(context.seeds))]
    rows: list[Row] = [
        {
            "layer": name,
            "layermem": center(values),
            "std": spread(values),
            "delta": None if not place else center(delta[place] for delta in deltas),
        }
        for place, (name, values) in enumerate(found.items())
    ]
    kinds = [name.rpartition(".")[2] for name in found]
    effects = {
        f"convolutions add more than {title}": [
            center(delta[i] for i, kind in enumerate(kinds) if kind == "conv" and i)
            - center(delta[i] for i, kind in enumerate(kinds) if kind == other)
            for delta in deltas
        ]
        for other, title in (("bn", "norms"), ("pool", "pools"))
    }
    note = "The paper's rows `head` and `FC` belong to heads that are dropped here after training."
    return Result(rows, effects, None, [note])


@torch.inference_mode()
def _alignments(
    context: ExperimentContext, encoder: nn.Module, ids: Tensor, places: dict[str, str]
) -> dict[str, Tensor]:
    parts: dict[str, list[Tensor]] = {name: [] for name in places}
    for part in ids.split(16):
        views = memkern.views(
            context.data().images[part].to(context.device),
            n_views=context.preset.n_views,
            transform=context.recipe().views,
            seed=0,
            index=part,
            channels_last=True,
        )
        with Tap(encoder, places, n_views=context.preset.n_views) as tap:
            tap.model(views.flatten(0, 1))
        for name, stats in tap.take().items():
            assert stats.alignment is not None
            parts[name].append(stats.alignment.cpu())
    return {name: torch.cat(listed) for name, listed in parts.items()}


EXPERIMENT = Experiment(
    id="table-18",
    covers=("Table 18",),
    title="LayerMem of ResNet9 with norms, pools and skips as layers",
    inputs="pairs f, g; candidates",
    columns=("layer", "layermem", "std", "delta"),
    findings={
        f"convolutions add more than {title}": f"Convolutions add more LayerMem than {title} do."
        for title in ("norms", "pools")
    },
    published=[{"layer": name, "layermem": value} for name, value in _PAPER.items()],
    run=run,
)
