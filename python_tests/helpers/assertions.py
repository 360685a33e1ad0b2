"""Assertions about results that say where, by how much, and how many elements are wrong."""

from __future__ import annotations

import torch
from torch import Tensor

from python_tests.helpers.error_budgets import Expected


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
