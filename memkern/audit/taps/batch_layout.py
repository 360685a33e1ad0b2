"""Place of the images of a batch in a tensor: told from its shapes for two numbers of images, and checked by values.

```
feature map     [n, C, H, W]            dim 0, one row of an image
sequence first  [T, n, C]               dim 1, one row of an image
windows         [n * windows, T, C]     dim 0, the rows of an image one after another
crops           [crops * n, C]          dim 0, the images in turn
```
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

PROBES = 3
"""Images of the passes that tell in which order the rows of a tensor are."""

SECOND = (0, 0, 1)
"""Which of these the second pass has: no other arrangement of the images than their own looks right for this choice."""

_SAME = 0.01
"""Rows are those of one image if they differ by less than this share of what different images differ by."""


@dataclass(frozen=True)
class BatchLayout:
    """Place of the images in a tensor whose first dimension is not simply the batch.

    Attributes:
        dim: The dimension that grows with the number of images.
        rows: How many rows of the dimension belong to an image, of views as large as those that were looked at.
        images_first: Whether the rows of an image lie next to each other; else the images take turns.
    """

    dim: int = 0
    rows: int = 1
    images_first: bool = True

    @property
    def is_plain(self) -> bool:
        """True if dim 0 is the batch."""
        return self.dim == 0 and self.rows == 1

    def read(self, x: Tensor, images: int | None = None) -> Tensor:
        """Views a tensor with the images in dim 0 and, where an image has several rows, the rows in dim 1.

        Args:
            x: `[…]`, laid out like this.
            images: How many images; `None`: an image has `rows` rows.

        Returns:
            `[images, …]` or `[images, rows, …]`, a view.
        """
        moved = x.movedim(self.dim, 0)
        if self.rows == 1:
            return moved
        count = moved.shape[0] // self.rows if images is None else images
        sizes = (count, -1) if self.images_first else (-1, count)
        rows: Tensor = moved.unflatten(0, sizes)
        return rows if self.images_first else rows.transpose(0, 1)


def layout_of(shape: Sequence[int], images: int, other: Sequence[int] | None, other_images: int) -> BatchLayout | str:
    """Finds the dimension of the images by the shapes of a tensor for two numbers of images.

    Args:
        shape: Shape for `images` images.
        images: How many images.
        other: Shape for `other_images` images; `None` if the model does not take them.
        other_images: Another number of images.

    Returns:
        The layout, the images first; or why there is none.
    """
    told = f"shape {list(shape)} for {images} images"
    if other is None:
        plain = len(shape) > 0 and shape[0] == images
        return BatchLayout() if plain else f"{told}, and the model was not seen with another number of images"
    told = f"{told}, {list(other)} for {other_images}"
    if len(shape) != len(other):
        return f"{told}: the number of dimensions changes"
    growing = [dim for dim, (a, b) in enumerate(zip(shape, other, strict=True)) if a != b]
    if not growing:
        return f"shape {list(shape)} for any number of images: it does not tell one image from another"
    rows = shape[growing[0]] // images
    if len(growing) > 1 or (shape[growing[0]], other[growing[0]]) != (rows * images, rows * other_images):
        return f"{told}: no single dimension holds the images"
    return BatchLayout(growing[0], rows)


def profile(x: Tensor, dim: int) -> Tensor:
    """Sums a tensor with fixed random weights over all dimensions but one: a number by which a row is known.

    Args:
        x: `[…]`.
        dim: The dimension that is kept.

    Returns:
        `[x.shape[dim]]` float64, on the CPU.
    """
    rows = x.detach().movedim(dim, 0).flatten(1)
    generator = torch.Generator().manual_seed(rows.shape[1])
    weights = torch.randn(rows.shape[1], generator=generator).to(rows.device, torch.float32)
    return (rows.to(torch.float32) @ weights).double().cpu()


def images_first(a: Tensor, b: Tensor) -> bool | None:
    """Tells the order of the rows of a tensor from two passes, the second over some of the images of the first.

    Args:
        a: Profile of the rows, `[PROBES * rows]`, for the images 0, 1, 2.
        b: Profile for the images of `SECOND`.

    Returns:
        True if the rows of an image lie next to each other, or all images look alike; False if the images take turns;
        `None` if the rows are in no such order, or depend on the other images.
    """
    order = list(SECOND)
    blocks, turns = (a.view(PROBES, -1), b.view(PROBES, -1)), (a.view(-1, PROBES), b.view(-1, PROBES))
    moved = float((a - b).abs().max())
    if moved <= 1e-6 * float(a.abs().max()):
        return True
    for first, error in ((True, blocks[1] - blocks[0][order]), (False, turns[1] - turns[0][:, order])):
        if float(error.abs().max()) <= _SAME * moved:
            return first
    return None
