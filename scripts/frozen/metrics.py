"""Metrics, streaming metrics, fused layers, the monitor and the interventions on inputs from a seed."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import memkern
from memkern import audit, transforms

Add = Callable[[str, Callable[[], dict[str, Any]]], None]


def random(*shape: int, seed: int = 0) -> Tensor:
    """Normal float32 values of a seed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def model(kind: str = "maps") -> nn.Module:
    """A small model with batch norms, ReLUs and GELUs, whose moments are not trivial."""
    torch.manual_seed(3)
    if kind == "tokens":
        return nn.Sequential(nn.Linear(9, 12), nn.GELU(), nn.LayerNorm(12), nn.Linear(12, 5), nn.ReLU()).eval()
    made = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.Conv2d(8, 6, 3), nn.BatchNorm2d(6), nn.GELU(),
        nn.Conv2d(6, 6, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4),
    )  # fmt: skip
    for name, value in made.state_dict().items():
        if "running" in name:
            value.copy_(torch.rand_like(value) + 0.4)
    return made.eval()


# ---- fused layers ---------------------------------------------------------------------------------------------------


def fused(add: Add) -> None:
    """What a tap reads and what the tapped model returns, with fusion and without, twice each."""
    settings = itertools.product(("maps", "channels_last", "tokens"), (True, False), ("all", "anchor"), (True, False))
    for kind, fuse, pairs, normalize in settings:

        def run(kind: str = kind, fuse: bool = fuse, pairs: str = pairs, normalize: bool = normalize) -> dict[str, Any]:
            x = random(12, 5, 9) if kind == "tokens" else random(12, 3, 13, 11)
            net = model(kind)
            if kind == "channels_last":
                x, net = x.to(memory_format=torch.channels_last), net.to(memory_format=torch.channels_last)
            results = {}
            options = {"pairs": pairs, "normalize": normalize, "fuse": fuse}
            with torch.inference_mode(), audit.Tap(net, "*", n_views=4, example=x[:4], **options) as tap:
                for turn in range(2):
                    results[f"y{turn}"] = tap.model(x).clone()
                    for name, stats in tap.take().items():
                        results |= {f"{name}.{field}{turn}": getattr(stats, field) for field in stats._fields}
            return results

        add(f"tap/{kind}-{'fused' if fuse else 'apart'}-{pairs}-{'unit' if normalize else 'raw'}", run)


# ---- metrics --------------------------------------------------------------------------------------------------------


def capture(add: Add) -> None:
    """Everything that does not depend on how a kernel is chosen, once."""
    _functions(add)
    _streams(add)
    _draws(add)
    _monitor(add)
    _interventions(add)


def _functions(add: Add) -> None:
    x, labels = random(9, 3, 11, 4, seed=1), torch.arange(9) % 4
    f, g = random(7, 4, 20, seed=2), random(7, 4, 20, seed=3)
    for rest, activation, compat in itertools.product(("mean", "median"), ("raw", "relu", "abs"), (None, "scripts")):
        options = {"view_dim": 1, "rest": rest, "activation": activation, "compat": compat}
        name = f"{rest}-{activation}-{compat}"
        add(f"metrics/unitmem-{name}", lambda o=options: memkern.unitmem_stats(x, **o)._asdict())
        o = {"unit_dim": 2, "rest": rest, "activation": activation, "compat": compat}
        add(f"metrics/classmem-{name}", lambda o=o: memkern.classmem_stats(x, labels, **o)._asdict())
        add(f"metrics/classmem-clean-{name}", lambda o=o: memkern.classmem_stats(x[:, 0], labels)._asdict())
    for scale, pairs, normalize in itertools.product(("none", "ratio", "range"), ("all", "anchor"), (True, False)):
        o = {"scale": scale, "pairs": pairs, "normalize": normalize}
        add(f"metrics/sslmem-{scale}-{pairs}-{normalize}", lambda o=o: {"x": memkern.sslmem(f, g, **o)})
        add(f"metrics/layermem-{scale}-{pairs}-{normalize}", lambda o=o: {"x": memkern.layermem(f, g, **o)})
    leaf = f.clone().requires_grad_()
    add("metrics/alignment", lambda: {"grad": torch.autograd.grad(memkern.alignment(leaf).sum(), leaf)[0]})
    moved = random(4, 5, 9, 3, seed=7).movedim(2, 0)
    for view_dim, unit_dim in ((1, 2), (2, -1), (-1, 1)):
        o = {"view_dim": view_dim, "unit_dim": unit_dim}
        add(f"metrics/layer_stats-{view_dim}-{unit_dim}", lambda o=o: memkern.layer_stats(moved, **o)._asdict())
        add(f"metrics/unit_means-{view_dim}-{unit_dim}", lambda o=o: {"x": memkern.unit_means(moved, **o)})
    for reduction in ("mean", "sum", "none"):
        add(f"metrics/loss-{reduction}", lambda r=reduction: {"x": memkern.alignment_loss(f, reduction=r)})
    add(
        "metrics/numpy",
        lambda: {"x": memkern.unitmem(x.numpy(), view_dim=1), "y": memkern.sslmem(f.numpy(), g.numpy())},
    )
    add("metrics/delta", lambda: {"x": repr(memkern.delta_layermem([0.1, 0.4, math.nan, 0.3]))})


def _streams(add: Add) -> None:
    """Updates in batches, a merge, and the state."""
    x, labels = random(12, 3, 5, seed=4), torch.arange(12) % 4
    ids = torch.randperm(12, generator=torch.Generator().manual_seed(5))

    def used(make: Callable[[], Any], update: Callable[[Any, slice], None]) -> dict[str, Any]:
        first, second = make(), make()
        for metric, rows in ((first, slice(0, 5)), (first, slice(5, 7)), (second, slice(7, 12))):
            update(metric, rows)
        first.merge(second)
        loaded = make()
        loaded.load_state_dict(first.state_dict())
        results = {"compute": loaded.compute(), **{f"state.{k}": v for k, v in first.state_dict().items()}}
        return results | {f"stats.{key}": value for key, value in first.stats()._asdict().items()}

    for rest, activation in itertools.product(("mean", "median"), ("raw", "relu")):
        unit = lambda r=rest, a=activation: memkern.UnitMem(rest=r, activation=a, view_dim=1)  # noqa: E731
        classes = lambda r=rest, a=activation: memkern.ClassMem(rest=r, activation=a)  # noqa: E731
        add(f"streams/unitmem-{rest}-{activation}", lambda m=unit: used(m, lambda u, r: u.update(x[r], ids=ids[r])))
        add(
            f"streams/classmem-{rest}-{activation}",
            lambda m=classes: used(m, lambda u, r: u.update(x[r, 0], labels[r])),
        )
    y = random(12, 3, 5, seed=6)
    for scale in ("none", "ratio", "range"):
        make = lambda s=scale: memkern.LayerMem(scale=s)  # noqa: E731
        add(f"streams/layermem-{scale}", lambda m=make: used(m, lambda u, r: u.update(x[r], y[r], ids=ids[r])))


def _draws(add: Add) -> None:
    """The tables of parameters and masks from which views are made."""
    for preset in transforms.PRESETS:
        options = {"n_views": 4, "seed": 2**40 + 3, "index": [9, 2, 2**33], "image_size": (50, 41)}
        add(f"draws/{preset}", lambda p=preset, o=options: {"x": memkern.view_params(p, **o)})
    masks = {"n_views": 3, "seed": 1, "index": [4, 5], "size": (32, 32)}
    add("draws/masks", lambda: {"x": transforms.view_masks("masking", **masks)})


def _monitor(add: Add) -> None:
    images = (random(10, 3, 16, 16, seed=8).sigmoid() * 255).to(torch.uint8)

    def run(**options: Any) -> dict[str, Any]:
        monitor = audit.Monitor(images, layers="*", transform="simclr", n_views=3, show=None, **options)
        return {name: float(value) for name, value in sorted(monitor.step(model(), 0).items()) if "seconds" not in name}

    reference = copy.deepcopy(model())
    reference[0].weight.data.mul_(1.3)
    add("monitor/alone", run)
    add("monitor/reference", lambda: run(reference=reference, labels=torch.arange(10) % 3, seed=4))


def _interventions(add: Add) -> None:
    x = random(4, 3, 13, 11, seed=9)

    def pruned() -> dict[str, Any]:
        net = model()
        with audit.prune_units(net, {"0": [1, 5], "3": [0]}) as surgery:
            inside = net(x)
        return {"inside": inside, "after": net(x), "changed": repr(surgery.changed)}

    def replaced(parts: str) -> dict[str, Any]:
        net, donor = model(), copy.deepcopy(model())
        for value in donor.parameters():
            value.data.mul_(1.5)
        with audit.replace_layers(net, donor, ["0", "3"], parts=parts) as surgery:
            return {"inside": net(x), "changed": repr(surgery.changed)}

    add("interventions/prune", pruned)
    for parts in ("weight", "all"):
        add(f"interventions/replace-{parts}", lambda p=parts: replaced(p))
