"""Linear layers as convolutions of one pixel, where the processor runs these faster."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

ROWS = 4096
"""Of fewer rows torch's own way is as fast, or faster."""


@contextmanager
def faster_linears(model: nn.Module) -> Iterator[None]:
    """Inside the block, `nn.Linear` on many rows runs as a convolution of one pixel, on processors that gain from it.

    torch has MKL multiply matrices in float32, which on AMD's processors runs its code for AVX2, and oneDNN convolve,
    which takes the best instructions that there are. On a Zen 4 the linear layers of ViT-Tiny (192 to 768 features,
    4096 rows and more) take 0.77 to 0.95 of the time so, on a Zen 3 some 0.9. The products are the same and added in
    another order: outputs differ by rounding. All else is left to torch: other dtypes and devices, autograd, few rows,
    classes derived from `nn.Linear`.

    Args:
        model: The model; its modules are as before when the block ends.
    """
    layers = [module for module in model.modules() if type(module) is nn.Linear and "forward" not in module.__dict__]
    if not _gains():
        layers = []
    for layer in layers:
        layer.__dict__["forward"] = _forward(layer)
    try:
        yield
    finally:
        for layer in layers:
            del layer.__dict__["forward"]


def _gains() -> bool:
    """Whether both libraries are here, and the processor is one on which the second is faster."""
    backends = torch.backends
    return backends.mkl.is_available() and backends.mkldnn.is_available() and _is_amd()


@functools.cache
def _is_amd() -> bool:
    information = Path("/proc/cpuinfo")
    return information.exists() and "AuthenticAMD" in information.read_text()[:1000]


def _forward(layer: nn.Linear) -> Callable[[Tensor], Tensor]:
    def forward(input: Tensor) -> Tensor:
        x, weight = input, layer.weight
        if not _is_plain(x) or not _is_plain(weight) or x.numel() < ROWS * x.shape[-1] or torch.is_grad_enabled():
            return nn.Linear.forward(layer, x)
        if torch.is_autocast_enabled("cpu") or x.shape[-1] != weight.shape[1]:
            return nn.Linear.forward(layer, x)
        # Rows as pixels, channels last: nothing is copied. Tokens make an image each (ViT-Tiny: 2 % faster than all
        # rows in one), unless there are few of them (4 tokens: slower than torch's way).
        images = x.shape[0] if x.ndim == 3 and x.shape[1] >= 32 else 1
        pixels = x.view(images, -1, 1, x.shape[-1]).permute(0, 3, 1, 2)
        y = functional.conv2d(pixels, weight[:, :, None, None], layer.bias)
        return y.permute(0, 2, 3, 1).reshape(*x.shape[:-1], -1)

    return forward


def _is_plain(x: Tensor) -> bool:
    return type(x) in (Tensor, nn.Parameter) and x.is_cpu and x.dtype == torch.float32 and x.is_contiguous()
