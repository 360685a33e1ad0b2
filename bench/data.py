"""Inputs of the benchmarks and their float64 truth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
CHUNK_BYTES = 64 * 2**20  # the float64 copy of one chunk: the truth of a DRAM-size input must not take all memory


def shapes(texts: list[str]) -> list[Any]:
    """Test parameters from texts like "512x10x2048"; a final "*" puts a shape into the quick subset."""
    return [
        pytest.param(text.rstrip("*"), id=text.rstrip("*"), marks=[pytest.mark.quick] if text.endswith("*") else [])
        for text in texts
    ]


def views(points: int, views: int, dims: int, dtype: torch.dtype = torch.float32, *, apart: bool = False) -> Tensor:
    """[N, V, D]: the first half of the points has views 30 % apart, the second half nearly identical ones (1e-3).

    The second half is what memorized points look like; it shows which ways to compute a distance lose their digits.
    With ``apart`` all points are like the first half.
    """
    rng = torch.Generator().manual_seed(points * 1_000_003 + views * 1009 + dims)
    z = torch.randn(points, views, dims, generator=rng)
    half = points if apart else separated(points)
    z[:half].mul_(0.3)
    z[half:].mul_(1e-3)
    z += torch.randn(points, 1, dims, generator=rng)
    return z.to(dtype)


def separated(points: int) -> int:
    """How many points, from the first, have views that are well apart."""
    return (points + 1) // 2


def activations(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Non-negative activations: the absolute value of normal numbers, each (point, unit) with its own level."""
    rng = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, generator=rng).abs_().to(dtype)


def in_layout(text: str, dtype: torch.dtype) -> tuple[str, Tensor, int]:
    """Layout, activations and their unit dimension from a text.

    Texts are "NCHW 64x10x64x56x56", "channels-last 64x10x64x56x56" (sizes in the same order), "tokens 160x4x197x768",
    "views 5000x10x512" or "matrix 5000x2048".
    """
    layout, shape = text.split(" ")
    sizes = [int(size) for size in shape.split("x")]
    if layout == "channels-last":
        points, views, units, height, width = sizes
        return layout, activations(points, views, height, width, units, dtype=dtype).movedim(-1, 2), 2
    return layout, activations(*sizes, dtype=dtype), {"NCHW": 2, "tokens": 3, "views": 2, "matrix": 1}[layout]


def in_chunks(truth: Callable[[Tensor], Any], x: Tensor) -> Any:
    """``truth`` of chunks of the points, put together again: a float64 reference that needs little memory."""
    per_point = max(1, 8 * x.numel() // max(1, x.shape[0]))
    parts = [truth(part) for part in x.split(max(1, CHUNK_BYTES // per_point))]
    if isinstance(parts[0], tuple):
        return tuple(torch.cat(group) for group in zip(*parts, strict=True))
    return torch.cat(parts)


def worst(result: Any, truth: Tensor) -> float:
    """The largest relative error, element by element; infinite if the shapes differ; NaN stays NaN."""
    result = (
        torch.as_tensor(result).double().reshape(-1) if not isinstance(result, Tensor) else result.double().reshape(-1)
    )
    truth = truth.reshape(-1)
    if result.shape != truth.shape:
        return float("inf")
    return float(((result - truth).abs() / truth.abs().clamp_min(1e-30)).max())


def error_of_points(truth: Tensor) -> Callable[[Any], tuple[float, float]]:
    """For one number per point of ``views``: the worst error of all points, and of those with views well apart."""
    half = separated(len(truth))

    def error(result: Any) -> tuple[float, float]:
        result = torch.as_tensor(result)
        if result.shape != truth.shape:
            return float("inf"), float("inf")
        return worst(result, truth), worst(result[:half], truth[:half])

    return error


def error_of_gradient(truth: Tensor) -> Callable[[Any], tuple[float, float]]:
    """For a gradient [N, V, D]: largest error of a point over that point's largest entry; over all, and well apart."""
    half, scale = separated(len(truth)), truth.flatten(1).abs().amax(1).clamp_min(1e-30)

    def error(result: Any) -> tuple[float, float]:
        result = torch.as_tensor(result)
        if result.shape != truth.shape:
            return float("inf"), float("inf")
        each = (result.double() - truth).flatten(1).abs().amax(1) / scale
        return float(each.max()), float(each[:half].max())

    return error


def error_plain(truth: Tensor) -> Callable[[Any], tuple[float, float]]:
    """For any tensor whose entries are all equally easy."""

    def error(result: Any) -> tuple[float, float]:
        value = worst(result, truth)
        return value, value

    return error


def smooth_pictures(count: int, edge: int) -> Tensor:
    """Random images without fine detail, uint8 `[N, 3, edge, edge]`."""
    coarse = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return (torch.nn.functional.interpolate(coarse, size=edge, mode="bicubic").clamp(0, 1) * 255).to(torch.uint8)
