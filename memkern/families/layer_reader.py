"""Alignments as they are given: one layer `[N, K]` or a stack `[L, N, K]`, read and checked layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from memkern.errors import ArgumentTypeError, ArgumentValueError, NanError
from memkern.families.cells import UNKNOWN, Floats
from memkern.families.design import Design

Layer: TypeAlias = NDArray[np.floating] | torch.Tensor
Alignment: TypeAlias = Layer | Sequence[Layer]
"""`[N, K]`, `[L, N, K]` (a memory map is read a layer at a time) or a sequence of `[N, K]`."""


def as_stack(alignment: Alignment) -> Sequence[Layer] | Layer:
    """The alignments as something whose entry l is layer l; nothing is copied.

    Args:
        alignment: `[N, K]` of one layer, `[L, N, K]`, or a sequence of layers.

    Returns:
        The layers, an array with a first axis or the sequence itself.

    Raises:
        ArgumentTypeError: If the alignments are neither an array, a tensor nor a sequence of them.
        ArgumentValueError: If there is no layer, or an array has not two or three dimensions.
    """
    if isinstance(alignment, np.ndarray | torch.Tensor):
        if alignment.ndim not in (2, 3):
            shape = list(alignment.shape)
            raise ArgumentValueError(f"Expected `alignment` to have shape [N, K] or [L, N, K], got {shape}")
        alignment = alignment[None] if alignment.ndim == 2 else alignment
    elif not isinstance(alignment, Sequence) or isinstance(alignment, str):
        raise ArgumentTypeError(
            f"Expected `alignment` to be an array [N, K] or [L, N, K], or a sequence of [N, K], got {type(alignment)}"
        )
    if len(alignment) == 0:
        raise ArgumentValueError("Expected `alignment` to hold at least one layer, got none")
    return alignment


def output_of(stack: Sequence[Layer] | Layer, output: int) -> int:
    """The place of the output layer, counted from 0.

    Args:
        stack: The layers.
        output: The place as the caller gave it; negative ones count from the end.

    Returns:
        The place, 0 or more.

    Raises:
        ArgumentValueError: If there is no such layer.
    """
    if not -len(stack) <= output < len(stack):
        raise ArgumentValueError(f"Expected `output` to name one of {len(stack)} layers, got {output}")
    return output % len(stack)


def read_layer(stack: Sequence[Layer] | Layer, number: int, design: Design) -> Floats:
    """Reads one layer `[N, K]` in float64, with 0 at unknown entries, which enter nothing.

    Args:
        stack: The layers.
        number: Which layer.
        design: Who saw which image.

    Returns:
        `[N, K]` float64.

    Raises:
        ArgumentTypeError: If the layer does not hold floating-point numbers.
        ArgumentValueError: If its shape is not that of the membership.
        NanError: If a known entry is not finite.
    """
    layer = stack[number]
    values = layer.detach().cpu().numpy() if isinstance(layer, torch.Tensor) else np.asarray(layer)
    if values.dtype.kind != "f":
        raise ArgumentTypeError(f"Expected `alignment` to hold floating-point numbers, got {values.dtype}")
    if values.shape != design.membership.shape:
        shape, given = list(design.membership.shape), list(values.shape)
        raise ArgumentValueError(f"Expected layer {number} of `alignment` to have shape {shape} [N, K], got {given}")
    read = values.astype(np.float64)  # a copy: the caller's numbers stay
    read[design.membership == UNKNOWN] = 0.0
    if not np.isfinite(read).all():
        image, encoder = np.argwhere(~np.isfinite(read))[0]
        raise NanError(
            f"Expected finite alignments, got {read[image, encoder]} in layer {number} for image {image} and encoder "
            f"{design.encoders[encoder]}: mark the entry unknown (-1) or leave the encoder out"
        )
    return read
