"""What tests and benches share: every path by name, input makers, memory layouts, error budgets.

A *path* is a backend, and for the CPU kernels an instruction set: "reference", "cpu-avx512", "cpu-avx2", ...

An error budget is derived, never tuned: the error that plain torch makes on the same input in the same accumulating
dtype, times a factor, plus a floor of a few roundings. It grows with size and difficulty of the input by itself.
"""

from __future__ import annotations

import functools
import math
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from memkern import native, reference
from memkern.reference.alignment import pair_distances, pair_indices

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)

# ---- paths --------------------------------------------------------------------------------------------------------


def isas() -> tuple[str, ...]:
    """The instruction sets that the CPU kernels can use on this machine, best first; none without the library."""
    return tuple(native.library().supported_isas()) if native.load()[0] is not None else ()


@contextmanager
def forced_isa(name: str) -> Iterator[None]:
    """Runs the CPU kernels with the named instruction set, and puts back the one before.

    Args:
        name: One of ``isas()``.

    Raises:
        RuntimeError: If this processor or build does not have it.
    """
    library = native.library()
    before = library.isa()
    if not library.select_isa(name):
        raise RuntimeError(f"Expected an instruction set of {', '.join(isas())}, got {name!r}")
    try:
        yield
    finally:
        library.select_isa(before)


def paths() -> dict[str, str]:
    """Every path of this version, and why it cannot run here; an empty reason means that it can."""
    library, reason = native.load()
    if library is None:
        return {"reference": "", "cpu": reason}
    usable = isas()
    lacking = "this processor lacks the instruction set"
    return {"reference": ""} | {f"cpu-{isa}": "" if isa in usable else lacking for isa in library.compiled_isas()}


def running_paths() -> list[str]:
    """The paths that run here."""
    return [name for name, reason in paths().items() if not reason]


@contextmanager
def forced_path(path: str) -> Iterator[str]:
    """Forces the instruction set of a path and yields the name to pass as ``backend``."""
    backend, _, isa = path.partition("-")
    if not isa:
        yield backend
        return
    with forced_isa(isa):
        yield backend


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Runs torch and the CPU kernels with this many threads, and puts back the number before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# ---- inputs -------------------------------------------------------------------------------------------------------


def rng(*key: object) -> torch.Generator:
    """A generator seeded by the text of ``key``: the same numbers on every run, other numbers for every key."""
    return torch.Generator().manual_seed(zlib.crc32(repr(key).encode()))


def randn(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Independent views: standard normal, drawn in float64 and rounded once."""
    return torch.randn(shape, generator=rng("randn", shape), dtype=torch.float64).to(dtype)


def relu_features(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """[N, V, ...]: what an encoder gives; rectified features of a point, each view with 30 % noise."""
    noise = torch.randn(shape, generator=rng("noise", shape), dtype=torch.float64)
    base = torch.randn((shape[0], 1, *shape[2:]), generator=rng("base", shape), dtype=torch.float64)
    return (base + 0.3 * noise).relu().to(dtype)


def near_identical(*shape: int, eps: float, dtype: torch.dtype = torch.float32) -> Tensor:
    """[N, V, ...]: views of one vector, at relative distances of about ``eps``: what memorized points look like."""
    noise = torch.randn(shape, generator=rng("near", shape), dtype=torch.float64)
    base = torch.randn((shape[0], 1, *shape[2:]), generator=rng("base", shape), dtype=torch.float64)
    return (base + eps * noise).to(dtype)


def near_parallel(*shape: int, eps: float, spread: float, dtype: torch.dtype = torch.float32) -> Tensor:
    """[N, V, ...]: nearly one direction, but norms from 1 to 1 + ``spread``: where one-pass normalizing cancels."""
    norms = torch.linspace(1, 1 + spread, shape[1], dtype=torch.float64)
    return (near_identical(*shape, eps=eps, dtype=torch.float64) * norms.view(1, -1, *[1] * (len(shape) - 2))).to(dtype)


# The families of representations that alignment is checked on.
FAMILIES: dict[str, Callable[..., Tensor]] = {
    "randn": randn,
    "relu features": relu_features,
    "identical to 1e-3": lambda *shape, dtype: near_identical(*shape, eps=1e-3, dtype=dtype),
    "identical to 1e-5": lambda *shape, dtype: near_identical(*shape, eps=1e-5, dtype=dtype),
    "parallel to 3e-1, spread 0.5": lambda *shape, dtype: near_parallel(*shape, eps=3e-1, spread=0.5, dtype=dtype),
    "parallel to 1e-1, spread 1": lambda *shape, dtype: near_parallel(*shape, eps=1e-1, spread=1.0, dtype=dtype),
    "parallel to 1e-2, spread 0.1": lambda *shape, dtype: near_parallel(*shape, eps=1e-2, spread=0.1, dtype=dtype),
    "parallel to 1e-3, spread 0.1": lambda *shape, dtype: near_parallel(*shape, eps=1e-3, spread=0.1, dtype=dtype),
    "parallel to 1e-4, spread 1": lambda *shape, dtype: near_parallel(*shape, eps=1e-4, spread=1.0, dtype=dtype),
}

# ---- memory layouts -----------------------------------------------------------------------------------------------
# Each takes a tensor and returns one of equal shape and values in another memory. Memory that belongs to no element is
# NaN, so a kernel that reads it shows.


def in_order(x: Tensor, *order: int) -> Tensor:
    """Lays the dimensions out in memory in this order, outermost first."""
    inverse = sorted(range(x.dim()), key=lambda dim: order[dim])
    return x.permute(order).contiguous().permute(inverse)


def _gap(x: Tensor) -> float:
    """What lies beside the elements: NaN, or the largest byte."""
    return torch.nan if x.is_floating_point() else 255


def misaligned(x: Tensor) -> Tensor:
    """Contiguous, one element past an aligned address, with a NaN before and after."""
    memory = torch.full((x.numel() + 2,), _gap(x), dtype=x.dtype)
    return memory[1:-1].view(x.shape).copy_(x)


def gapped(x: Tensor) -> Tensor:
    """Every second element of the memory's last dimension."""
    memory = torch.full((*x.shape[:-1], 2 * x.shape[-1]), _gap(x), dtype=x.dtype)
    return memory[..., ::2].copy_(x)


def padded(x: Tensor) -> Tensor:
    """Three more rows of the second dimension in memory (views cut out of a larger batch), so points have gaps."""
    memory = torch.full((x.shape[0], x.shape[1] + 3, *x.shape[2:]), _gap(x), dtype=x.dtype)
    return memory[:, 1:-2].copy_(x)


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": Tensor.contiguous,
    "misaligned": misaligned,
    "padded": padded,
    "gapped": gapped,
    "last dim outermost": lambda x: in_order(x, x.dim() - 1, *range(x.dim() - 1)),
    "points innermost": lambda x: in_order(x, *range(1, x.dim()), 0),
    "views outermost": lambda x: in_order(x, 1, 0, *range(2, x.dim())),
    "channels last": lambda x: in_order(x, 0, 1, *range(3, x.dim()), 2) if x.dim() > 2 else x.contiguous(),
    "reversed": lambda x: in_order(x, *reversed(range(x.dim()))),
}

# ---- plain torch --------------------------------------------------------------------------------------------------


def plain_alignment(z: Tensor, *, pairs: str = "all", normalize: bool = True) -> Tensor:
    """Alignment as one would write it in torch, in the dtype of ``z``: normalize, subtract, norm, mean. [N]."""
    z = z.flatten(2)
    if normalize:
        z = torch.nn.functional.normalize(z, dim=2)
    first, second = pair_indices(z.shape[1], pairs)
    return torch.stack([(z[:, i] - z[:, j]).norm(dim=1) for i, j in zip(first, second, strict=True)], 1).mean(1)


def plain_unit_means(x: Tensor, *, unit_dim: int = 1, activation: str = "raw") -> Tensor:
    """Unit means as one would write them in torch, in the dtype of ``x``. [N, U]."""
    x = {"raw": lambda a: a, "relu": torch.relu, "abs": torch.abs}[activation](x)
    averaged = [dim for dim in range(1, x.dim()) if dim != unit_dim]
    return x.mean(averaged) if averaged else x


# ---- error budgets ------------------------------------------------------------------------------------------------

# Another order of summation can be worse than torch's by about this much at the worst element of a small tensor.
FACTOR = 4.0
# Roundings of the accumulating dtype that a formula makes whatever the size (square roots, divisions, casts).
ROUNDINGS = 4.0


def budget(
    dtype: torch.dtype,
    plain: Tensor,
    oracle: Tensor,
    *,
    scale: Tensor | None = None,
    factor: float = FACTOR,
    roundings: float = ROUNDINGS,
    floor: float | Tensor = 0.0,
) -> Tensor:
    """The error that a result may have, element by element: factor x plain torch's own error + floor.

    Plain torch's error is its worst one relative to ``scale``, not that of the same element, which may be 0 by luck.

    Args:
        dtype: The accumulating dtype of the result. If ``plain`` was computed in a coarser one, its error is scaled by
            the ratio of epsilons (a float64 result: plain torch in float32, for nothing is finer than the oracle).
        plain: Plain torch's result, not rounded below float32.
        oracle: The float64 reference of the same input as ``plain``.
        scale: The magnitude that rounding errors are relative to: of a sum, the sum of the magnitudes. Default: the
            magnitude of the oracle.
        factor: How many times plain torch's error is allowed.
        roundings: How many epsilons of ``dtype`` are allowed besides.
        floor: An absolute error that is allowed besides, per element or for all.

    Returns:
        A tolerance per element, float64.
    """
    scale = oracle.abs() if scale is None else scale.double().expand_as(oracle)
    error = (plain.double() - oracle).abs() / scale
    error = error[error.isfinite()]  # where the scale is 0 or something is NaN or infinite, no error is defined
    worst = error.max().item() if error.numel() else 0.0
    epsilon, plain_epsilon = torch.finfo(dtype).eps, torch.finfo(plain.dtype).eps
    relative = factor * worst * epsilon / plain_epsilon + roundings * epsilon
    return torch.where(scale.isfinite(), relative * scale, 0.0) + floor + torch.finfo(dtype).smallest_normal


class Expected(NamedTuple):
    """What a result is compared with.

    Attributes:
        oracle: The float64 reference.
        tolerance: The allowed error per element, before the rounding to the result's dtype.
    """

    oracle: Tensor
    tolerance: Tensor


def expected(
    oracle: Callable[[Tensor], Tensor],
    plain: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    scale: Callable[[Tensor], Tensor] | None = None,
    factor: float = FACTOR,
    roundings: float = ROUNDINGS,
    floor: float | Tensor = 0.0,
) -> Expected:
    """The reference of an input and the budget around it.

    Args:
        oracle: The reference, as a function of the input; float64.
        plain: Plain torch, as a function of the input in float32.
        x: The input of the kernel, of any floating dtype.
        scale: As for ``budget``, as a function of the input in float64.
        factor: As for ``budget``.
        roundings: As for ``budget``.
        floor: As for ``budget``.

    Returns:
        Reference and tolerance.
    """
    with threads(1):  # the same budget on every machine; and small tensors on busy cores are faster so
        coarse, truth = x.float(), oracle(x)
        coarse_truth = truth if x.dtype != torch.float64 else oracle(coarse)
        magnitude = None if scale is None else scale(x.double())
        allowed = budget(
            native.wide(x.dtype),
            plain(coarse),
            coarse_truth,
            scale=magnitude,
            factor=factor,
            roundings=roundings,
            floor=floor,
        )
        return Expected(truth, allowed)


def expected_alignment(z: Tensor, *, pairs: str = "all", normalize: bool = True) -> Expected:
    """The reference of ``alignment`` and the budget around it."""
    options: dict[str, Any] = {"pairs": pairs, "normalize": normalize}
    distances = pair_distances(z, **options)
    # Norms rounded to half an epsilon each make an error of up to an epsilon along the unit vectors, at a right angle
    # to a small distance: nothing beside 1e-4, all that is left of 0.
    epsilon = torch.finfo(native.wide(z.dtype)).eps if normalize else 0.0
    return expected(
        functools.partial(reference.alignment, **options),
        functools.partial(plain_alignment, **options),
        z,
        roundings=ROUNDINGS + walk(distances.shape[1]),  # the distances are added up, too
        floor=(torch.hypot(distances, torch.full_like(distances, epsilon)) - distances).nan_to_num(0.0).mean(1),
    )


def expected_gradient(z: Tensor, upstream: Tensor, *, pairs: str = "all", normalize: bool = True) -> Expected:
    """The reference of the gradient of ``sum(upstream * alignment(z))`` and the budget around it."""
    options: dict[str, Any] = {"pairs": pairs, "normalize": normalize}
    epsilon = torch.finfo(native.wide(z.dtype)).eps

    def plain(z: Tensor) -> Tensor:
        leaf = z.detach().requires_grad_()
        plain_alignment(leaf, **options).backward(upstream.to(leaf.dtype))
        assert leaf.grad is not None
        return leaf.grad

    def scale(z: Tensor) -> Tensor:
        """Each pair adds a unit vector, a difference of unit vectors: it has their error over their distance."""
        flat = z.flatten(2)
        norms = flat.norm(dim=2, keepdim=True).clamp_min(1e-12)
        elements = (flat / norms).abs().clamp_min(flat.shape[2] ** -0.5)
        distances = pair_distances(z, **options)
        error = 1 + (1 / distances.clamp_min(epsilon) if normalize else torch.zeros_like(distances))
        first, second = (torch.tensor(views) for views in pair_indices(z.shape[1], pairs))
        per_view = torch.zeros(z.shape[:2], dtype=z.dtype).index_add(1, first, error).index_add(1, second, error)
        size = upstream.double().abs()[:, None] * per_view / len(first)
        bound: Tensor = size[:, :, None] * elements / (norms if normalize else 1)
        return bound.view(z.shape)

    return expected(functools.partial(reference.alignment_backward, upstream, **options), plain, z, scale=scale)


def expected_unit_means(x: Tensor, *, unit_dim: int = 1, activation: str = "raw") -> Expected:
    """The reference of ``unit_means`` and the budget around it, relative to the mean of the magnitudes."""
    options: dict[str, Any] = {"unit_dim": unit_dim, "activation": activation}
    elements = x[0].numel() // max(x.shape[unit_dim], 1) if len(x) else 0
    return expected(
        functools.partial(reference.unit_means, **options),
        functools.partial(plain_unit_means, **options),
        x,
        scale=functools.partial(reference.unit_means, unit_dim=unit_dim, activation="abs"),
        # float64 has nothing wider to add in
        roundings=ROUNDINGS + (walk(elements) if x.dtype == torch.float64 else 0.0),
    )


def walk(count: int) -> float:
    """Epsilons that adding ``count`` numbers may lose: each addition half of one at most, up or down by chance."""
    return math.sqrt(count) / 4


def assert_within(got: Tensor, want: Expected, dtype: torch.dtype, what: object = "") -> None:
    """Asserts shape, dtype, NaN mask, infinities, then the error of every element; names the worst one.

    Args:
        got: A result.
        want: The reference and its tolerance.
        dtype: The dtype that the result must have; half a unit in its last place is allowed for the last rounding.
        what: Said in the message.

    Raises:
        AssertionError: If anything differs by more than allowed.
    """
    oracle, tolerance = want
    assert got.shape == oracle.shape, f"{what}: shape {list(got.shape)}, expected {list(oracle.shape)}"
    assert got.dtype == dtype, f"{what}: {got.dtype}, expected {dtype}"
    rounded = oracle.to(dtype)
    for name, mask in (("NaN", torch.isnan), ("+inf", torch.isposinf), ("-inf", torch.isneginf)):
        wrong = mask(got) != mask(rounded)
        where = wrong.nonzero()[:1].tolist()
        assert not where, f"{what}: {int(wrong.sum())} elements differ in being {name}, the first at {where}"
    finite = rounded.isfinite()
    last_rounding = oracle.abs() * (torch.finfo(dtype).eps / 2) + torch.finfo(dtype).tiny * torch.finfo(dtype).eps
    excess = torch.where(finite, (got.double() - oracle).abs() - last_rounding - tolerance, -torch.inf)
    if excess.numel() == 0:
        return
    worst = torch.unravel_index(excess.argmax(), excess.shape)
    assert not bool((~(excess <= 0)).any()), (
        f"{what}: at {[int(i) for i in worst]} got {got[worst].item()!r}, expected {oracle[worst].item()!r}, "
        f"error {(got.double() - oracle).abs()[worst].item():.3g} > {(tolerance + last_rounding)[worst].item():.3g}; "
        f"{int((excess > 0).sum())} of {excess.numel()} elements are wrong"
    )


def assert_same_bits(got: Tensor, want: Tensor, what: object = "") -> None:
    """Asserts equality to the last bit; a NaN equals a NaN, 0 and -0 differ."""
    assert got.dtype == want.dtype, f"{what}: {got.dtype} and {want.dtype}"
    assert got.shape == want.shape, f"{what}: shapes {list(got.shape)} and {list(want.shape)}"
    same = (got == want) & (got.signbit() == want.signbit()) | (got.isnan() & want.isnan())
    where = (~same).nonzero()[:1].tolist()
    assert not where, f"{what}: {int((~same).sum())} of {same.numel()} differ, the first at {where}"
