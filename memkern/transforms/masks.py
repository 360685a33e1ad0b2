"""Patches that a masked view hides."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memkern.checks import views as checks
from memkern.checks.values import IntsLike
from memkern.transforms import philox
from memkern.transforms.params import MASK_BLOCK
from memkern.transforms.presets import named
from memkern.transforms.spec import ViewSpec


def view_masks(
    transform: str | ViewSpec,
    *,
    n_views: int,
    seed: int,
    index: IntsLike,
    size: int | tuple[int, int],
    first_view: int = 0,
) -> Tensor:
    """Draws which patches each view hides: the share ``mask`` of them, without replacement.

    Args:
        transform: A ``ViewSpec`` or the name of a preset.
        n_views: How many views of each image.
        seed: Seed, a whole number in [0, 2**64); with that of ``view_params`` the masks belong to its views.
        index: Dataset index of each image, ``[N]``, each in [0, 2**63).
        size: Height and width of a view; multiples of the patch.
        first_view: View index of the first view.

    Returns:
        ``[N, n_views, height / patch, width / patch]`` bool, True: hidden.

    Raises:
        TypeError: If an argument is of another kind.
        ValueError: If an argument is out of bounds.
    """
    spec = named(transform)
    checks.seed(seed)
    ids = checks.indices(index)
    height, width = checks.height_width(size, "size")
    return torch.from_numpy(draw_masks(spec, n_views, seed, ids, (height, width), first_view))


def draw_masks(
    spec: ViewSpec, n_views: int, seed: int, ids: NDArray[np.uint64], size: tuple[int, int], first_view: int
) -> NDArray[np.bool_]:
    """Draws the masks of checked arguments, ids ``[N]``: ``[N, n_views, height / patch, width / patch]``."""
    checks.whole_patches(size, spec.patch)
    rows, columns = size[0] // spec.patch, size[1] // spec.patch
    patches = rows * columns
    views = np.arange(first_view, first_view + n_views, dtype=np.uint64)[:, None]
    blocks = np.arange(MASK_BLOCK, MASK_BLOCK + (patches + 3) // 4, dtype=np.uint64)
    low, high = (ids & np.uint64(0xFFFFFFFF))[:, None, None], (ids >> np.uint64(32))[:, None, None]
    words = np.stack(philox.words((low, high, views, blocks), seed), axis=-1)
    words = words.reshape(len(ids), n_views, 4 * len(blocks))
    # The patches with the smallest words are hidden: a random subset; equal words (2**-32) leave the earlier patch.
    ranks = words[:, :, :patches].argsort(axis=-1, kind="stable").argsort(axis=-1, kind="stable")
    return (ranks < round(spec.mask * patches)).reshape(len(ids), n_views, rows, columns)
