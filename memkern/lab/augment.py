"""Seeded random views of small images, drawn one by one and applied to the whole batch at once.

Every view is a fixed function of an image and of one row of uniform numbers, so that a view can be made again
from `(seed, image, view)` alone, whatever the batch it is computed in, and the encoders f and g can be shown
the same views.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

N_NUMBERS = 11
"""How many uniform numbers one view consumes."""

_TO_YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))
_MIX = 0x9E3779B97F4A7C15  # odd 64-bit constant of the golden ratio, to spread neighboring ids over the seeds


@dataclass(frozen=True)
class ViewSpec:
    """What a random view does to an image.

    The order is: crop and resize, flip, brightness, contrast, saturation, hue, gray, normalization.
    Torchvision's `ColorJitter` shuffles the four color steps and turns the hue in HSV; here the order is
    fixed and the hue is a rotation of the chroma plane of YIQ, which is linear and costs one matrix product.

    Attributes:
        scale: Smallest and largest share of the image's area that the crop covers.
        ratio: Smallest and largest aspect ratio (width / height) of the crop.
        flip: Probability of a horizontal flip.
        jitter: Probability of the color steps.
        brightness: Largest relative change of the brightness.
        contrast: Largest relative change of the contrast.
        saturation: Largest relative change of the saturation.
        hue: Largest turn of the hue, as a share of the full circle (0.5 is half a circle).
        gray: Probability of dropping the color.
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    jitter: float = 0.8
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    gray: float = 0.2


def numbers_for(ids: Tensor, n_views: int, seed: int) -> Tensor:
    """Draws the uniform numbers of `n_views` views for every image id.

    Args:
        ids: Data set index of each image, integer, shape `[N]`.
        n_views: Number of views per image.
        seed: Seed of the audit; the same seed and id always give the same numbers.

    Returns:
        Uniform numbers in [0, 1), float32, shape `[N, n_views, 11]`.
    """
    rows = []
    for i in ids.tolist():
        generator = torch.Generator().manual_seed((seed * 1_000_003 + i) * _MIX % 2**63)
        rows.append(torch.rand(n_views, N_NUMBERS, generator=generator))
    return torch.stack(rows) if rows else torch.empty(0, n_views, N_NUMBERS)


def apply_views(images: Tensor, numbers: Tensor, spec: ViewSpec) -> Tensor:
    """Makes one view of every image.

    Args:
        images: RGB images, values in [0, 1], float32, shape `[N, 3, H, W]`.
        numbers: Uniform numbers in [0, 1), shape `[N, 11]`.
        spec: What a view does.

    Returns:
        Views of the same size, normalized as (x - 0.5) / 0.5, float32, shape `[N, 3, H, W]`.

    Raises:
        ValueError: If the shapes are not as described.
    """
    n = len(images)
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"Expected `images` to have shape [N, 3, H, W], got {list(images.shape)}")
    if tuple(numbers.shape) != (n, N_NUMBERS):
        raise ValueError(f"Expected `numbers` to have shape [{n}, {N_NUMBERS}], got {list(numbers.shape)}")
    u = numbers.unbind(dim=1)
    x = _crop(images, u[0], u[1], u[2], u[3], u[4] < spec.flip, spec)
    return _color(x, u[5] < spec.jitter, u[6:10], u[10] < spec.gray, spec).sub_(0.5).div_(0.5)


def random_views(images: Tensor, spec: ViewSpec, generator: torch.Generator) -> Tensor:
    """Makes one view of every image with numbers taken from `generator`; see `apply_views`."""
    return apply_views(images, torch.rand(len(images), N_NUMBERS, generator=generator), spec)


def _crop(x: Tensor, area: Tensor, aspect: Tensor, cx: Tensor, cy: Tensor, flip: Tensor, spec: ViewSpec) -> Tensor:
    low, high = spec.scale
    share = low + (high - low) * area
    log_low, log_high = torch.tensor(spec.ratio).log().tolist()
    ratio = torch.exp(log_low + (log_high - log_low) * aspect)
    width = (share * ratio).sqrt().clamp(max=1.0)
    height = (share / ratio).sqrt().clamp(max=1.0)
    theta = torch.zeros(len(x), 2, 3)
    theta[:, 0, 0] = torch.where(flip, -width, width)
    theta[:, 0, 2] = (2 * cx - 1) * (1 - width)
    theta[:, 1, 1] = height
    theta[:, 1, 2] = (2 * cy - 1) * (1 - height)
    grid = functional.affine_grid(theta, list(x.shape), align_corners=False)
    return functional.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _color(x: Tensor, fires: Tensor, u: tuple[Tensor, ...], gray: Tensor, spec: ViewSpec) -> Tensor:
    def factor(number: Tensor, strength: float) -> Tensor:
        change = torch.where(fires, (2 * number - 1) * strength, torch.zeros_like(number))
        return change.view(-1, 1, 1, 1)

    to_yiq = torch.tensor(_TO_YIQ)
    from_yiq = torch.linalg.inv(to_yiq)
    luma = to_yiq[0].view(1, 3, 1, 1)
    x = (x * (1 + factor(u[0], spec.brightness))).clamp(0, 1)
    mean = (x * luma).sum(1, keepdim=True).mean((2, 3), keepdim=True)
    x = (mean + (x - mean) * (1 + factor(u[1], spec.contrast))).clamp(0, 1)
    y = (x * luma).sum(1, keepdim=True)
    x = (y + (x - y) * (1 + factor(u[2], spec.saturation))).clamp(0, 1)
    turn = (2 * torch.pi * factor(u[3], spec.hue)).flatten()
    rotation = torch.zeros(len(x), 3, 3)
    rotation[:, 0, 0] = 1
    rotation[:, 1, 1] = rotation[:, 2, 2] = turn.cos()
    rotation[:, 1, 2] = -turn.sin()
    rotation[:, 2, 1] = turn.sin()
    x = torch.einsum("nij,njhw->nihw", from_yiq @ rotation @ to_yiq, x).clamp(0, 1)
    return torch.where(gray.view(-1, 1, 1, 1), (x * luma).sum(1, keepdim=True).expand_as(x), x)
