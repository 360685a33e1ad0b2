"""Checks of what kind of argument came: arrays that are more than their numbers, positions that mean something else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from memkern.errors import ArgumentTypeError


def without_mask(value: object, name: str) -> None:
    """Requires an array without a mask, which torch would drop without a word."""
    kind = type(value).__name__
    if isinstance(value, np.ma.MaskedArray) or kind == "MaskedTensor":
        raise ArgumentTypeError(
            f"Expected `{name}` without a mask, got a {kind}; leave the masked points out, or call .filled(value) of "
            "numpy or .to_tensor(value) of torch first"
        )


def by_name(others: Sequence[object], name: str, otherwise: str) -> None:
    """Requires that no second argument was passed by position, which may be another than it is taken for."""
    if others:
        raise ArgumentTypeError(
            f"Expected one positional argument, got {1 + len(others)}: pass `{name}` by name; labels are not taken, "
            f"{otherwise}"
        )
