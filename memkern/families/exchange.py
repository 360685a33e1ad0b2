"""Exchanges of a permutation test: images or whole pictures, and within which strata."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from memkern.errors import ArgumentValueError
from memkern.families.cells import Flags, Ints


@dataclass(frozen=True)
class Exchange:
    """Images or pictures to exchange if the label of a group means nothing; the arguments of `group_test`.

    Attributes:
        strata: `[N]`, number of the stratum that an image stays in; None: one stratum.
        pictures: `[N]`, number of the picture that moves as a whole; None: images move on their own.
        within: What the strata are: "picture", "label", "folder", or "" for one stratum.
    """

    strata: Ints | None
    pictures: Ints | None
    within: str


def exchange_of_group(
    group: ArrayLike,
    *,
    pictures: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    folders: ArrayLike | None = None,
) -> Exchange:
    """Finds how a group was drawn from where its images lie.

    If some picture has images in the group and out of it, the group was drawn within pictures, and labels are exchanged
    within them. If pictures of several images are each in or out as a whole, whole pictures were drawn, and pictures
    are exchanged: images of one picture resemble one another. Beyond that, exchanges stay within the first of label and
    folder that has images in the group and out of it under one name; names that tell the group itself are no strata.

    Args:
        group: `[N]` bool.
        pictures: `[N]`, whatever names the picture of an image.
        labels: `[N]`, whatever names the class.
        folders: `[N]`, whatever names the folder.

    Returns:
        What is exchanged, and within what.

    Raises:
        ArgumentValueError: If a shape is not that of `group`.

    Example:
        >>> group = [True, True, False, False]
        >>> exchange_of_group(group, pictures=["a", "a", "b", "b"]).pictures.tolist()
        [0, 0, 1, 1]
        >>> exchange_of_group(group, labels=["cat", "dog", "cat", "dog"]).within
        'label'
    """
    treated = np.asarray(group, dtype=np.bool_)
    picture = None if pictures is None else numbered(pictures, len(treated), "pictures")
    whole: Ints | None = None
    if picture is not None and picture.size and picture.max() + 1 < len(picture):
        if _mixed(picture, treated):
            return Exchange(picture, None, "picture")
        whole = picture
    for name, given in (("label", labels), ("folder", folders)):
        if given is None:
            continue
        stratum = numbered(given, len(treated), f"{name}s")
        apart = whole is not None and _splits(whole, stratum)
        if _mixed(stratum, treated) and not apart:
            return Exchange(stratum, whole, name)
    return Exchange(None, whole, "")


def numbered(given: ArrayLike, count: int, name: str) -> Ints:
    """Numbers whatever names strata or pictures, from 0 without gaps: `[N]`; raises if there are not N names."""
    listed = np.asarray(given)
    if listed.shape != (count,):
        raise ArgumentValueError(f"Expected `{name}` to have shape [{count}] [N], got {list(listed.shape)}")
    return np.unique(listed, return_inverse=True)[1].astype(np.int64)


def _mixed(stratum: Ints, treated: Flags) -> bool:
    """True if some stratum has images in the group and images out of it."""
    inside = np.bincount(stratum, treated)
    return bool(((inside > 0) & (inside < np.bincount(stratum))).any())


def _splits(picture: Ints, stratum: Ints) -> bool:
    """True if the images of some picture lie in several strata."""
    own = np.zeros(int(picture.max()) + 1, dtype=np.int64)
    own[picture] = stratum
    return bool((own[picture] != stratum).any())
