"""Views of images as an encoder takes them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from memkern.audit.run_folder.schema import ViewCall
from memkern.ops.views import views


def draw_views(
    call: ViewCall,
    images: Tensor | Sequence[Tensor],
    index: Tensor,
    *,
    clean: bool = False,
    dtype: torch.dtype = torch.float32,
    channels_last: bool = False,
) -> Tensor:
    """Draws the views of some images as one batch, the rows of an image next to each other.

    Args:
        call: Which views.
        images: `[N, C, H, W]`, or `[C, H, W]` each.
        index: Positions of the images in their list, `[N]` int64: they key the views.
        clean: Whether the image itself, resized and normalized, is the first row of each image.
        dtype: Of the views.
        channels_last: Whether the channels of a pixel are neighbors in memory.

    Returns:
        `[N * (V + clean), C, h, w]`.
    """
    return _drawn(call, images, index, call.n_views, clean, dtype, channels_last)


def draw_clean(
    call: ViewCall,
    images: Tensor | Sequence[Tensor],
    index: Tensor,
    *,
    dtype: torch.dtype = torch.float32,
    channels_last: bool = False,
) -> Tensor:
    """Draws the images themselves, resized and normalized as their views are.

    Args:
        call: The views.
        images: `[N, C, H, W]`, or `[C, H, W]` each.
        index: Positions of the images in their list, `[N]` int64.
        dtype: Of the result.
        channels_last: Whether the channels of a pixel are neighbors in memory.

    Returns:
        `[N, C, h, w]`.
    """
    return _drawn(call, images, index, 0, True, dtype, channels_last)


def _drawn(
    call: ViewCall,
    images: Tensor | Sequence[Tensor],
    index: Tensor,
    n_views: int,
    clean: bool,
    dtype: torch.dtype,
    channels_last: bool,
) -> Tensor:
    drawn: Tensor = views(
        images, n_views=n_views, clean=clean, transform=call.spec, seed=call.seed, index=index, size=call.size,
        dtype=dtype, channels_last=channels_last,
    )  # fmt: skip
    return drawn.flatten(0, 1)
