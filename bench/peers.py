"""The other ways to compute what memkern computes: eager torch, torch.compile, numpy, NumKong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

Formula = Callable[[Tensor], Tensor]

# ---- alignment of [N, V, D] ---------------------------------------------------------------------------------------


def pair_loop(z: Tensor) -> Tensor:
    total, views = 0, z.shape[1]
    for i in range(views):
        for j in range(i + 1, views):
            total = total + (z[:, i] - z[:, j]).norm(dim=1)
    return total / (views * (views - 1) // 2)


def row_loop(z: Tensor) -> Tensor:
    total, views = 0, z.shape[1]
    for i in range(views - 1):
        total = total + (z[:, i : i + 1] - z[:, i + 1 :]).norm(dim=2).sum(1)
    return total / (views * (views - 1) // 2)


def broadcast(z: Tensor) -> Tensor:
    views = z.shape[1]
    return (z[:, :, None] - z[:, None]).norm(dim=3).sum((1, 2)) / (views * (views - 1))


def broadcast_pairs(z: Tensor) -> Tensor:
    first, second = torch.triu_indices(z.shape[1], z.shape[1], 1, device=z.device)
    return (z[:, first] - z[:, second]).norm(dim=2).mean(1)


def cdist_direct(z: Tensor) -> Tensor:
    views = z.shape[1]
    return torch.cdist(z, z, compute_mode="donot_use_mm_for_euclid_dist").sum((1, 2)) / (views * (views - 1))


def cdist_mm(z: Tensor) -> Tensor:
    views = z.shape[1]
    return torch.cdist(z, z, compute_mode="use_mm_for_euclid_dist").sum((1, 2)) / (views * (views - 1))


def gram(z: Tensor) -> Tensor:
    """From inner products: ||a||^2 + ||b||^2 - 2ab; the rest in float32."""
    products = torch.bmm(z, z.mT).float()
    squares = products.diagonal(dim1=1, dim2=2)
    first, second = torch.triu_indices(z.shape[1], z.shape[1], 1, device=z.device)
    distances = squares[:, first] + squares[:, second] - 2 * products[:, first, second]
    return distances.clamp_min(1e-20).sqrt().mean(1)  # above 0: the derivative of sqrt is infinite there


def unit(formula: Formula) -> Formula:
    return lambda z: formula(torch.nn.functional.normalize(z, dim=2))


def in_float32(formula: Formula) -> Formula:
    return lambda z: formula(z.float())


def numpy_loop(z: Any) -> Any:
    total, views = 0, z.shape[1]
    for i in range(views):
        for j in range(i + 1, views):
            total = total + np.linalg.norm(z[:, i] - z[:, j], axis=1)
    return total / (views * (views - 1) // 2)


def numkong_cdist(z: Any) -> Any:
    """One call per sample: the library has no batch axis."""
    import numkong

    views = z.shape[1]
    each = [np.asarray(numkong.cdist(sample, sample, metric="euclidean")).sum() for sample in z]
    return np.array(each) / (views * (views - 1))


def with_gradient(formula: Formula, z: Tensor) -> Callable[[], Tensor]:
    """Forward and the gradient of the sum over the points, newly allocated as autograd does."""
    leaf = z.detach().requires_grad_()
    ones = torch.ones(len(z), device=z.device)

    def call() -> Tensor:
        return torch.autograd.grad(formula(leaf), leaf, ones.to(torch.float32))[0]

    return call


# ---- torch.compile ------------------------------------------------------------------------------------------------


def compiled(formula: Callable[..., Any]) -> Callable[..., Any]:
    """Static shapes: the fastest code torch.compile makes (it compiles again for every shape)."""
    return torch.compile(formula, fullgraph=True, dynamic=False)


# ---- unit means and selectivity -----------------------------------------------------------------------------------


def means(x: Tensor, unit_dim: int) -> Tensor:
    """In the dtype of ``x``, as users write it."""
    dims = averaged(x, unit_dim)
    return x.mean(dims) if dims else x


def means_float32(x: Tensor, unit_dim: int) -> Tensor:
    dims = averaged(x, unit_dim)
    return x.mean(dims, dtype=torch.float32) if dims else x.float()


def averaged(x: Tensor, unit_dim: int) -> list[int]:
    return [d for d in range(1, x.dim()) if d != unit_dim]


def selectivity_of(means: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    peak, index = means.max(0)
    return peak, index, means.sum(0, dtype=torch.float32) - peak


def numpy_selectivity(means: Any) -> tuple[Any, Any, Any]:
    index = means.argmax(0)
    peak = np.take_along_axis(means, index[None], 0)[0]
    return peak, index, means.sum(0) - peak


# ---- median of the others -----------------------------------------------------------------------------------------


def sorted_scripts(means: Any) -> Any:
    """The procedure of the released scripts: sort every column, drop the last, median."""
    return np.median(np.sort(means, 0)[:-1], 0)


def ranks(points: int) -> tuple[int, int]:
    """The others' two middle places in the sorted column (equal for an odd number of others)."""
    return (points - 2) // 2, (points - 1) // 2


def torch_kthvalue(means: Tensor) -> Tensor:
    low, high = ranks(len(means))
    upper = means.kthvalue(high + 1, 0)[0]
    return upper if low == high else (means.kthvalue(low + 1, 0)[0] + upper) / 2


def torch_median(means: Tensor) -> Tensor:
    """The lower middle of the whole column: the wanted one for even N; else the one below it is needed, too."""
    low, high = ranks(len(means))
    middle = means.median(0)[0]
    return middle if low == high else (means.kthvalue(low + 1, 0)[0] + middle) / 2


def torch_median_transposed(means: Tensor) -> Tensor:
    low, high = ranks(len(means))
    columns = means.T.contiguous()
    middle = columns.median(1)[0]
    return middle if low == high else (columns.kthvalue(low + 1, 1)[0] + middle) / 2


def torch_sort(means: Tensor) -> Tensor:
    low, high = ranks(len(means))
    ordered = means.sort(0)[0]
    return (ordered[low] + ordered[high]) / 2


def numpy_partition(means: Any) -> Any:
    low, high = ranks(len(means))
    ordered = np.partition(means, sorted({low, high}), 0)
    return (ordered[low] + ordered[high]) / 2


def numpy_partition_transposed(means: Any) -> Any:
    low, high = ranks(len(means))
    ordered = np.partition(np.ascontiguousarray(means.T), sorted({low, high}), 1)
    return (ordered[:, low] + ordered[:, high]) / 2
