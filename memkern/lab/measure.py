"""Measures what an encoder pair memorized, with memkern's metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import memkern
from memkern._util.optional_imports import require
from memkern.audit.taps.tap import Tap, TapStats
from memkern.lab.data.packaged import ImageSet
from memkern.lab.data.splits import Split
from memkern.lab.encoders import build as encoders
from memkern.lab.encoders.resnet9 import TAPS
from memkern.scores import sslmem_score
from memkern.transforms import ViewSpec

ALL_TAPS = {**TAPS, "output": "pool"}
"""The layers of the paper and, last, the encoder's output, at which SSLMem is measured."""


@dataclass(frozen=True)
class Reading:
    """What one encoder did on one list of images.

    Attributes:
        alignment: Tap -> mean distance between the views of each image, `[N]`; the last tap is "output".
        unit_means: Tap -> mean activation of each unit over the views, `[N, U]`.
        clean_means: Tap -> mean activation of each unit on the image itself, `[N, U]`.
    """

    alignment: dict[str, Tensor]
    unit_means: dict[str, Tensor]
    clean_means: dict[str, Tensor]


def read(
    encoder: nn.Module,
    data: ImageSet,
    ids: Tensor,
    spec: ViewSpec,
    *,
    n_views: int,
    seed: int,
    batch: int = 16,
    on_batch: Callable[[int], None] | None = None,
) -> Reading:
    """Runs an encoder on seeded views of images and reduces every layer inside the forward pass.

    The views of an image depend on `(seed, id, view)` alone, so two encoders that are read with the same
    arguments see the same views, whatever the order and the batch size.

    Args:
        encoder: The encoder, an `encoders.Encoder`.
        data: The images.
        ids: Which images, int64, shape `[N]`.
        spec: What a view does.
        n_views: Views per image, 2 or more.
        seed: Seed of the views.
        batch: Images per forward pass.
        on_batch: Called after every batch with its number of images.

    Returns:
        The reading, in the order of `ids`.
    """
    described = encoders.described(encoder)
    layers = {**described.taps, "output": described.output}
    # Units may be measured behind another module than the distance is.
    modules = {**layers, **{f"units of {name}": module for name, module in described.unit_taps.items()}}
    source = {**{name: name for name in layers}, **{name: f"units of {name}" for name in described.unit_taps}}
    viewed: list[dict[str, TapStats]] = []
    clean: list[dict[str, TapStats]] = []
    device = next(encoder.parameters()).device
    with torch.inference_mode():
        for part in ids.split(batch):
            drawn = memkern.views(
                data.images[part].to(device),
                n_views=n_views,
                transform=spec,
                seed=seed,
                index=part,
                clean=True,
                channels_last=True,
            )
            with Tap(encoder, modules, n_views=n_views) as tap:
                tap.model(drawn[:, 1:].flatten(0, 1).to(memory_format=torch.channels_last))
            viewed.append(tap.take())
            with Tap(encoder, modules, n_views=None) as tap:
                tap.model(drawn[:, 0])
            clean.append(tap.take())
            if on_batch is not None:
                on_batch(len(part))
    return Reading(
        {name: _joined(stats[name].alignment for stats in viewed) for name in layers},
        {name: _joined(stats[place].unit_means for stats in viewed) for name, place in source.items()},
        {name: _joined(stats[place].unit_means for stats in clean) for name, place in source.items()},
    )


def _joined(parts: Iterable[Tensor | None]) -> Tensor:
    return torch.cat([part for part in parts if part is not None]).cpu()


@dataclass(frozen=True)
class Comparison:
    """One-sided comparison of the candidates' SSLMem with another group's.

    Attributes:
        group: The other group.
        p: Mann-Whitney p-value of "candidates are larger" (exact for small groups without ties, else
            asymptotic).
        superiority: Probability that a candidate's score is above one of the other group (0.5: no
            difference).
        cohens_d: Difference of the means over the pooled standard deviation.
    """

    group: str
    p: float
    superiority: float
    cohens_d: float


@dataclass(frozen=True)
class Layer:
    """One row of the layer table.

    Attributes:
        name: Tap.
        layermem: Group -> LayerMem, the mean of (A_g - A_f) / (A_g + A_f) (arXiv:2409.19069, Eq. 3).
        delta: LayerMem of the candidates minus that of the row above (Eq. 4); `None` in the first row.
        unitmem: Mean UnitMem of the layer's units in f, over f's training images (Eq. 8).
        classmem: Mean ClassMem of the same units, over the same images without augmentation (Eq. 16).
        dead: Units that are 0 on all of them.
    """

    name: str
    layermem: dict[str, float]
    delta: float | None
    unitmem: float
    classmem: float
    dead: int


@dataclass(frozen=True)
class Audit:
    """All that is measured on a pair.

    Attributes:
        ids: Data set index of every image, shared, candidate, independent and extra in turn, int64, `[N]`.
        group: Name of the group of every image.
        labels: Class of every image, int64, `[N]`.
        alignment_f: Tap -> mean distance between the views under f, `[N]`.
        alignment_g: Tap -> the same under g, `[N]`.
        sslmem: A_g - A_f at the encoder's output, `[N]` (arXiv:2409.19069, Eq. 1).
        means: Group -> mean SSLMem.
        comparisons: Candidates against each other group.
        layers: One row per layer of the paper.
        unitmem: Layer -> UnitMem of every unit of f, `[U]`.
        classmem: Layer -> ClassMem of every unit of f, `[U]`.
        peak_ids: Layer -> data set index of the image that each unit responds to most, int64, `[U]`.
        f: All that was read of f, in the order of `ids`.
        g: All that was read of g.
    """

    ids: Tensor
    group: list[str]
    labels: Tensor
    alignment_f: dict[str, Tensor]
    alignment_g: dict[str, Tensor]
    sslmem: Tensor
    means: dict[str, float]
    comparisons: list[Comparison]
    layers: list[Layer]
    unitmem: dict[str, Tensor]
    classmem: dict[str, Tensor]
    peak_ids: dict[str, Tensor]
    f: Reading
    g: Reading

    def of(self, group: str) -> Tensor:
        """Returns the positions of a group's images, int64."""
        return torch.tensor([i for i, name in enumerate(self.group) if name == group], dtype=torch.long)


def audit_pair(
    f: nn.Module,
    g: nn.Module,
    data: ImageSet,
    split: Split,
    spec: ViewSpec,
    *,
    n_views: int = 10,
    seed: int = 0,
    on_batch: Callable[[int], None] | None = None,
) -> Audit:
    """Measures SSLMem, LayerMem, UnitMem and ClassMem of a pair on the four groups of its split.

    Args:
        f: The encoder trained with the candidates.
        g: The reference encoder, trained without them.
        data: The images.
        split: The groups.
        spec: What a view does; the views of training.
        n_views: Views per image.
        seed: Seed of the views; f and g see the same ones.
        on_batch: Called with the number of images after every batch of either encoder.

    Returns:
        The audit.

    Raises:
        ImportError: If scipy is missing.
    """
    groups = split.groups()
    ids = torch.cat(list(groups.values()))
    group = [name for name, part in groups.items() for _ in part]
    of_f = read(f, data, ids, spec, n_views=n_views, seed=seed, on_batch=on_batch)
    of_g = read(g, data, ids, spec, n_views=n_views, seed=seed, on_batch=on_batch)
    places = {name: torch.tensor([i for i, other in enumerate(group) if other == name]) for name in groups}
    score = sslmem_score(of_f.alignment["output"], of_g.alignment["output"])
    trained = torch.cat([places["shared"], places["candidate"]])
    layers, unitmem, classmem, peak_ids = [], {}, {}, {}
    taps = list(encoders.described(f).taps)
    ratios = {name: sslmem_score(of_f.alignment[name], of_g.alignment[name], "ratio") for name in taps}
    deltas = memkern.delta_layermem([float(ratios[name][places["candidate"]].mean()) for name in taps])
    for name, delta in zip(taps, deltas, strict=True):
        units = memkern.unitmem_stats(of_f.unit_means[name][trained])
        unitmem[name], peak_ids[name] = units.score, ids[trained][units.index]
        classmem[name] = memkern.classmem(of_f.clean_means[name][trained], data.labels[ids[trained]])
        layers.append(
            Layer(
                name,
                {key: float(ratios[name][place].mean()) for key, place in places.items()},
                None if delta != delta else delta,
                float(unitmem[name].mean()),
                float(classmem[name].mean()),
                int(units.n_dead),
            )
        )
    return Audit(
        ids=ids,
        group=group,
        labels=data.labels[ids],
        alignment_f=of_f.alignment,
        alignment_g=of_g.alignment,
        sslmem=score,
        means={name: float(score[place].mean()) for name, place in places.items()},
        comparisons=[_compare(score, places, name) for name in ("shared", "independent", "extra")],
        layers=layers,
        unitmem=unitmem,
        classmem=classmem,
        peak_ids=peak_ids,
        f=of_f,
        g=of_g,
    )


def _compare(score: Tensor, places: dict[str, Tensor], group: str) -> Comparison:
    stats = require("scipy.stats", "scipy", extra="lab")
    a, b = score[places["candidate"]].double(), score[places[group]].double()
    result = stats.mannwhitneyu(a.numpy(), b.numpy(), alternative="greater")
    variance = ((len(a) - 1) * a.var() + (len(b) - 1) * b.var()) / (len(a) + len(b) - 2)
    d = (a.mean() - b.mean()) / variance.sqrt()
    return Comparison(group, float(result.pvalue), float(result.statistic) / (len(a) * len(b)), float(d))
