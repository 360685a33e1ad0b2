"""The four groups of images of a memorization experiment (arXiv:2401.12233)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from memkern.errors import ArgumentValueError

GROUPS = ("shared", "candidate", "independent", "extra")


@dataclass(frozen=True)
class Split:
    """Four disjoint groups of data set indices, int64, one dimension each.

    Attributes:
        shared: Seen by f and by g.
        candidate: Seen by f only; memorization is reported here.
        independent: Seen by g only.
        extra: Seen by neither.
    """

    shared: Tensor
    candidate: Tensor
    independent: Tensor
    extra: Tensor

    @property
    def f(self) -> Tensor:
        """Training set of f: shared, then candidate."""
        return torch.cat([self.shared, self.candidate])

    @property
    def g(self) -> Tensor:
        """Training set of g: shared, then independent; as large as that of f."""
        return torch.cat([self.shared, self.independent])

    def groups(self) -> dict[str, Tensor]:
        """Returns the groups by name, in the order of `GROUPS`."""
        return {name: getattr(self, name) for name in GROUPS}


@dataclass(frozen=True)
class Sizes:
    """Images per class in each group; `candidate` is also the size of the independent group."""

    shared: int
    candidate: int
    extra: int


def make_split(labels: Tensor, sizes: Sizes, seed: int) -> Split:
    """Draws the four groups, the same number from every class.

    Args:
        labels: Class of every image, int64, shape `[N]`.
        sizes: Images per class.
        seed: Seed of the draw.

    Returns:
        The split; each group is ordered by class.

    Raises:
        ArgumentValueError: If a size is below 1 or a class has too few images.
    """
    counts = (sizes.shared, sizes.candidate, sizes.candidate, sizes.extra)
    if min(counts) < 1:
        raise ArgumentValueError(f"Expected every size to be 1 or more, got {sizes}")
    generator = torch.Generator().manual_seed(seed)
    parts: list[list[Tensor]] = [[], [], [], []]
    for label in labels.unique().tolist():
        of_class = torch.nonzero(labels == label).flatten()
        if len(of_class) < sum(counts):
            raise ArgumentValueError(
                f"Expected class {label} to have {sum(counts)} images or more, got {len(of_class)}"
            )
        drawn = of_class[torch.randperm(len(of_class), generator=generator)]
        for part, ids in zip(parts, drawn[: sum(counts)].split(list(counts)), strict=True):
            part.append(ids)
    return Split(*(torch.cat(part) for part in parts))


def make_picture_split(pictures: Tensor, sizes: Sizes, seed: int) -> Split:
    """Draws the four groups by picture: no two groups have images that were cut from the same one.

    Args:
        pictures: The picture that every image was cut from, int64, shape `[N]`.
        sizes: Pictures of each group.
        seed: Seed of the draw.

    Returns:
        The split; candidate and independent are cut, at random, to the images of the smaller of the two, so that f and
        g are trained on equally many.

    Raises:
        ArgumentValueError: If a size is below 1 or there are too few pictures.
    """
    counts = [sizes.shared, sizes.candidate, sizes.candidate, sizes.extra]
    every = pictures.unique()
    if min(counts) < 1 or len(every) < sum(counts):
        raise ArgumentValueError(
            f"Expected sizes of 1 or more pictures, {len(every)} in all at most (candidates twice), got {sizes}"
        )
    generator = torch.Generator().manual_seed(seed)
    drawn = every[torch.randperm(len(every), generator=generator)][: sum(counts)].split(counts)
    parts = [torch.nonzero(torch.isin(pictures, own)).flatten() for own in drawn]
    smaller = min(len(parts[1]), len(parts[2]))
    for group in (1, 2):
        kept = torch.randperm(len(parts[group]), generator=generator)[:smaller]
        parts[group] = parts[group][kept.sort().values]
    return Split(*parts)
