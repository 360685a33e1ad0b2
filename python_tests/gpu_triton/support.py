"""What the Triton checks share. They run on the device named by DEV: "cpu" (Triton's interpreter) or "cuda".

"cuda" is a real GPU, or ttsem, which executes the compiler's own intermediate code for such tensors on any machine.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor

DEVICE = os.environ.get("DEV", "cpu")


def round_as_a_gpu() -> None:
    """Makes Triton's interpreter round to bfloat16; by itself it cuts digits off, which no GPU does."""
    from triton import language as tl
    from triton.runtime import interpreter

    convert = interpreter._convert_float

    def rounded(x: Any, source: Any, target: Any, mode: Any) -> Any:
        if (source, target) == (tl.float32, tl.bfloat16):
            return torch.from_numpy(x.copy()).to(torch.bfloat16).view(torch.uint16).numpy()
        return convert(x, source, target, mode)

    interpreter._convert_float = rounded


if os.environ.get("TRITON_INTERPRET") == "1":
    round_as_a_gpu()


def on_device(x: Tensor) -> Tensor:
    """The same values in the same memory layout on the device under test."""
    return x if DEVICE == "cpu" else moved(x, DEVICE)


def moved(x: Tensor, device: str) -> Tensor:
    """The same values in the same memory layout, gaps and misalignment too, on another device."""
    extent = 1 + sum((size - 1) * stride for size, stride in zip(x.shape, x.stride(), strict=True)) if x.numel() else 0
    offset = x.storage_offset()
    memory = x.as_strided((offset + extent,), (1,), 0).to(device)
    return memory.as_strided(x.shape, x.stride(), offset)


def on_cpu(results: Any) -> Any:
    """Results where they can be compared."""
    return results.cpu() if isinstance(results, Tensor) else type(results)(result.cpu() for result in results)


def shape_name(shape: object) -> str:
    """The id of a test: 2x3x5 for a shape, other parameters as they are."""
    return "x".join(map(str, shape)) if isinstance(shape, tuple) else str(shape)
