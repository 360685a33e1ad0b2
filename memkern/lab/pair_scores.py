"""Reads encoders on the images of a data set, and scores a pair of them with the assembly of every audit.

Letters in shapes: N images, U units of a layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from memkern._util.optional_imports import require
from memkern.audit.measure.in_memory import Probe, Reading, layer_states, read_encoder
from memkern.audit.measure.scores import LayerScores, RunScores, run_scores
from memkern.audit.run_folder.schema import ViewCall
from memkern.lab.data.packaged import ImageSet
from memkern.lab.data.splits import Split
from memkern.lab.encoders.build import described
from memkern.transforms import ViewSpec

OUTPUT = "output"
"""Name of the layer at which SSLMem is measured, after the layers of the paper."""


def read_images(
    encoder: nn.Module,
    data: ImageSet,
    ids: Tensor,
    views: ViewSpec,
    *,
    n_views: int,
    seed: int = 0,
    activation: str = "raw",
) -> Reading:
    """Reads every layer of an encoder on views of images, and on the images themselves.

    Args:
        encoder: The encoder, a `memkern.lab.encoders.build.Encoder`.
        data: The images.
        ids: Which images, int64 `[N]`; they key the views.
        views: What a view does.
        n_views: Views per image, 2 or more.
        seed: Seed of the views.
        activation: What activations are before they are averaged to means of units: "raw", "relu" or "abs".

    Returns:
        What was read, in the order of `ids`: `alignment` of the layers of the paper and, last, of `OUTPUT`;
        `unit_means` and `clean_means` of these layers, and of those whose units alone are measured.
    """
    network = described(encoder)
    layers = {**network.taps, OUTPUT: network.output}
    # The units of a layer may be measured behind another module than the distance between views is.
    units = {name: f"units of {name}" for name in network.unit_taps}
    modules = {**layers, **{units[name]: module for name, module in network.unit_taps.items()}}
    device = next(encoder.parameters()).device
    found = read_encoder(
        encoder,
        modules,
        Probe(data.images[ids].to(device), ids),
        ViewCall(n_views, "the views of the recipe", views, seed, activation=activation),
        clean="apart",
        batch_size=16,
        channels_last=True,
    )
    source = {**{name: name for name in layers}, **units}
    return Reading(
        {name: found.alignment[name] for name in layers},
        {name: found.unit_means[place] for name, place in source.items()},
        {name: found.clean_means[place] for name, place in source.items()},
    )


@dataclass(frozen=True)
class PairScores:
    """Scores of a pair of encoders, as measured on the four groups of a split.

    Attributes:
        ids: Data set index of every image, shared, candidate, independent and extra in turn, int64 `[N]`.
        labels: Class of every image, int64 `[N]`.
        f: What was read of the encoder that was trained with the candidates, in the order of `ids`.
        g: What was read of the reference encoder.
        run: Every score; UnitMem and ClassMem are those of the units of f over its training images. The images at
            peaks are given by their positions in `ids`.
    """

    ids: Tensor
    labels: Tensor
    f: Reading
    g: Reading
    run: RunScores

    def __getitem__(self, layer: str) -> LayerScores:
        return self.run[layer]

    @property
    def layers(self) -> tuple[LayerScores, ...]:
        """Layers of the paper, without the output."""
        return tuple(layer for layer in self.run.layers if layer.name != OUTPUT)

    @property
    def sslmem(self) -> Tensor:
        """SSLMem of every image, float32 `[N]`."""
        assert self.run.sslmem is not None
        return self.run.sslmem

    def rows(self, group: str) -> Tensor:
        """Returns the positions of a group's images in `ids`, int64 `[n]`."""
        return self.run.groups[group]

    def of(self, group: str) -> Tensor:
        """SSLMem of a group's images, float32."""
        return self.sslmem[self.rows(group)]

    def mean(self, group: str) -> float:
        """Mean SSLMem of a group's images, summed in float32."""
        return float(self.of(group).mean())

    def peak_ids(self, layer: str) -> Tensor:
        """Data set index of the image that each unit of a layer responds to most, int64 `[U]`."""
        return self.ids[self[layer].units.index]

    def ratios(self, layer: str, group: str = "candidate") -> Tensor:
        """SSLMem of a group's images at a layer as a share, (A_g - A_f) / (A_g + A_f), float32."""
        ratio = self[layer].ratio
        assert ratio is not None
        return ratio[self.rows(group)]


def score_pair(
    f: nn.Module,
    g: nn.Module,
    data: ImageSet,
    split: Split,
    views: ViewSpec,
    *,
    n_views: int = 10,
    seed: int = 0,
    activation: str = "raw",
) -> PairScores:
    """Measures SSLMem, LayerMem, UnitMem and ClassMem of a pair on the four groups of its split.

    Args:
        f: The encoder trained with the candidates.
        g: The reference encoder, trained without them.
        data: The images.
        split: The groups.
        views: What a view does; the views of training.
        n_views: Views per image.
        seed: Seed of the views; f and g see the same ones.
        activation: What activations are before they are averaged to means of units: "raw", "relu" or "abs".

    Returns:
        The scores.
    """
    groups = split.groups()
    ids = torch.cat(list(groups.values()))
    rows = dict(zip(groups, torch.arange(len(ids)).split([len(part) for part in groups.values()]), strict=True))
    of_f, of_g = (
        read_images(encoder, data, ids, views, n_views=n_views, seed=seed, activation=activation) for encoder in (f, g)
    )
    trained = torch.cat([rows["shared"], rows["candidate"]])
    # Units report the row of their peak: of images that excite a unit alike, the first one.
    probe = Probe(data.images[ids], torch.arange(len(ids)), data.labels[ids])
    states = layer_states(probe, of_f, of_g, unit_rows=trained)
    run = run_scores(states, output=OUTPUT, groups=rows)
    return PairScores(ids, data.labels[ids], of_f, of_g, run)


@dataclass(frozen=True)
class Separation:
    """Separation of the candidates from another group: how far their SSLMem lies above.

    Attributes:
        group: The other group.
        p: Mann-Whitney p-value of "candidates are larger" (exact for small groups without ties, else asymptotic).
        superiority: Probability that a candidate's score is above one of the other group (0.5: no difference).
        cohens_d: Difference of the means over the pooled standard deviation.
    """

    group: str
    p: float
    superiority: float
    cohens_d: float


def separations(scores: PairScores) -> Iterator[Separation]:
    """Compares the candidates with each other group.

    Args:
        scores: The scores of the pair.

    Yields:
        The separation from the shared, the independent and the extra images.

    Raises:
        ImportError: If scipy is missing.
    """
    for group in ("shared", "independent", "extra"):
        yield separation(scores.of("candidate"), scores.of(group), group)


def separation(candidates: Tensor, others: Tensor, group: str) -> Separation:
    """Compares scores of candidates `[n]` with those of another group `[m]`.

    Args:
        candidates: SSLMem of the candidates, `[n]`.
        others: SSLMem of the other group, `[m]`.
        group: Name of the other group.

    Returns:
        The separation.

    Raises:
        ImportError: If scipy is missing.
    """
    a, b = candidates.double(), others.double()
    result = require("scipy.stats", "scipy", extra="lab").mannwhitneyu(a.numpy(), b.numpy(), alternative="greater")
    variance = ((len(a) - 1) * a.var() + (len(b) - 1) * b.var()) / (len(a) + len(b) - 2)
    d = (a.mean() - b.mean()) / variance.sqrt()
    return Separation(group, float(result.pvalue), float(result.statistic) / (len(a) * len(b)), float(d))
