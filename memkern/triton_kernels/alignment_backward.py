"""The gradient of sum(grad * alignment) with respect to z, from the distances and norms that the forward kept.

With u = z / n, n = max(|z|, 1e-12), and w_vj = grad / (pairs * distance_vj), 0 where the distance is 0:

    gradient of view v = 1/n_v * (sum_j w_vj (u_v - u_j) - radial_v u_v)
    radial_v = <u_v, sum_j w_vj (u_v - u_j)> = sum_j w_vj (1 + distance_vj^2 - |u_j|^2) / 2; 0 where |z_v| < 1e-12
    u_v - u_j = (z_v - z_j) / n + (1/n_v - 1/n) z_v + (1/n - 1/n_j) z_j, n the larger of n_v and n_j:
        differences of near-identical views are taken as they lie, and no term is longer than 2, whatever the norms

so it is, element by element, 1/n_v * sum_j (direct_vj (z_v - z_j) + shift_vj z_j), with what multiplies z_v in
shift_vv. Two launches: the coefficients of each point, then every element of z is read once and every element of the
gradient written once.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from memkern.triton_kernels.launches import setting, vector, warps
from memkern.triton_kernels.memory import (
    accumulate_dtype,
    cdiv,
    on_device_of,
    power_of_two,
    triton_accumulate_dtype,
    view_block,
)

# ---- kernels ------------------------------------------------------------------------------------------------------


@triton.jit
def _coefficients(
    grad,  # [points]
    saved,  # [points, pairs + views if NORMALIZE]
    direct,  # [points, views, views]
    shift,  # [points, views, views]
    inverse,  # [points, views]: 1 / n_v
    views,
    pairs,
    ANCHOR: tl.constexpr,
    NORMALIZE: tl.constexpr,
    WIDE: tl.constexpr,
    ROWS: tl.constexpr,
    VIEWS: tl.constexpr,  # power of two >= views
):
    point = tl.cast(tl.program_id(0), tl.int64)
    saved += point * (pairs + views if NORMALIZE else pairs)
    upstream = tl.load(grad + point).to(tl.float64) / pairs
    j = tl.cast(tl.arange(0, VIEWS), tl.int64)[None, :]
    for row in range(0, views, ROWS):
        v = tl.cast(row + tl.arange(0, ROWS), tl.int64)[:, None]
        there = (v < views) & (j < views)
        low, high = tl.minimum(v, j), tl.maximum(v, j)
        compared = there & (low < high)
        if ANCHOR:
            compared &= low == 0
        at = low * (2 * views - low - 1) // 2 + high - low - 1
        distance = tl.load(saved + at, mask=compared, other=0.0).to(tl.float64)
        # Unit vectors closer than 3e-7 are one direction but for rounding: their quotient may be anything. NaN stays.
        none = distance <= (3e-7 if NORMALIZE else 0.0)
        weight = tl.where(compared & ~none, upstream / distance, 0.0)
        to = point * views * views + v * views + j
        if NORMALIZE:
            norm_v = tl.load(saved + pairs + v, mask=v < views, other=1.0).to(tl.float64)
            norm_j = tl.load(saved + pairs + j, mask=j < views, other=1.0).to(tl.float64)
            inverse_v = 1 / tl.where(norm_v < 1e-12, 1e-12, norm_v)
            inverse_j = 1 / tl.where(norm_j < 1e-12, 1e-12, norm_j)
            length_j = tl.where(norm_j < 1e-12, norm_j / 1e-12, 1.0)
            terms = weight * (1 + distance * distance - length_j * length_j) / 2
            radial = tl.where(norm_v < 1e-12, 0.0, tl.sum(terms, 1, keep_dims=True))
            own = tl.sum(weight * tl.maximum(inverse_v - inverse_j, 0.0), 1, keep_dims=True) - radial * inverse_v
            shifts = tl.where(v == j, own, weight * tl.minimum(inverse_v - inverse_j, 0.0))
            tl.store(inverse + point * views + v, inverse_v.to(WIDE), mask=v < views)
            weight *= tl.minimum(inverse_v, inverse_j)
            tl.store(shift + to, shifts.to(WIDE), mask=there)
        tl.store(direct + to, weight.to(WIDE), mask=there)


@triton.jit
def _combine(
    z,  # [points, views, dims]
    direct,
    shift,
    inverse,
    grad_z,  # [points, views, dims], of the dtype of z
    dims,
    views,
    blocks,
    point_stride,
    view_stride,
    grad_point_stride,
    grad_view_stride,
    ANCHOR: tl.constexpr,
    NORMALIZE: tl.constexpr,
    WIDE: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    program = tl.cast(tl.program_id(0), tl.int64)
    point = program // blocks
    z += point * point_stride
    grad_z += point * grad_point_stride
    d = (program % blocks * BLOCK + tl.arange(0, BLOCK))[None, :]
    for row in range(0, views, ROWS):
        v = tl.cast(row + tl.arange(0, ROWS), tl.int64)[:, None]
        mask = (v < views) & (d < dims)
        own = tl.load(z + v * view_stride + d, mask=mask, other=0.0).to(WIDE)
        total = tl.zeros([ROWS, BLOCK], WIDE)
        for other in range(0, views):
            j = tl.cast(other, tl.int64)
            view = tl.load(z + j * view_stride + d, mask=d < dims, other=0.0).to(WIDE)
            at = (point * views + v) * views + j
            term = tl.load(direct + at, mask=v < views, other=0.0) * (own - view)
            if NORMALIZE:
                term += tl.load(shift + at, mask=v < views, other=0.0) * view
            if ANCHOR:  # a NaN in a view that v is not compared with is none of its business
                term = tl.where((v == 0) | (j == 0) | (v == j), term, 0.0)
            total += term
        if NORMALIZE:
            total *= tl.load(inverse + point * views + v, mask=v < views, other=0.0)
        tl.store(grad_z + v * grad_view_stride + d, total.to(grad_z.dtype.element_ty), mask=mask)


# ---- host ---------------------------------------------------------------------------------------------------------


def alignment_backward(grad: Tensor, z: Tensor, saved: Tensor, anchor: bool, normalize: bool) -> Tensor:
    """The forward of ``torch.ops.memkern.alignment_backward``.

    Args:
        grad: [N], wide.
        z: [N, V, *dims], as the forward read it.
        saved: What the forward kept.
        anchor: As in the forward.
        normalize: As in the forward.

    Returns:
        The gradient, of shape and dtype of ``z``.
    """
    out = torch.empty_like(z)
    if out.numel() == 0:
        return out
    block, dims = view_block(z)
    # The kernel walks the dims of z and of its gradient in one order of memory; empty_like keeps it for dense z.
    in_place = block is z and out.stride()[2:] == z.stride()[2:]
    z = z if in_place else z.contiguous()
    grad_z = out if in_place else torch.empty_like(z)
    points, views = z.shape[:2]
    pairs = views - 1 if anchor else views * (views - 1) // 2
    direct = torch.empty((points, views, views), dtype=accumulate_dtype(z.dtype), device=z.device)
    shift = torch.empty_like(direct) if normalize else direct  # not read without norms
    inverse = torch.empty((points, views), dtype=accumulate_dtype(z.dtype), device=z.device)
    padded = power_of_two(views)
    block_dims = setting("alignment_backward", "lanes") * vector(z.dtype)
    blocks = cdiv(dims, block_dims)
    launch = {"ANCHOR": anchor, "NORMALIZE": normalize, "WIDE": triton_accumulate_dtype(z.dtype)}
    with on_device_of(z):
        _coefficients[(points,)](
            grad.contiguous(), saved, direct, shift, inverse, views, pairs, **launch, VIEWS=padded,
            ROWS=min(padded, max(1, setting("alignment_backward", "coefficients") // padded)),
        )  # fmt: skip
        _combine[(points * blocks,)](
            z, direct, shift, inverse, grad_z, dims, views, blocks, z.stride(0), z.stride(1), grad_z.stride(0),
            grad_z.stride(1), **launch, ROWS=min(padded, setting("alignment_backward", "rows")), BLOCK=block_dims,
            num_warps=warps(setting("alignment_backward", "lanes")),
        )  # fmt: skip
    return out if in_place else out.copy_(grad_z)
