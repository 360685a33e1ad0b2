"""Place of the units of a layer: the dimension that keeps its size when the images change theirs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

_CHANNELS_FIRST = re.compile(r"(1d|2d|3d)$|^GroupNorm|^Unfold$")
_CHANNELS_LAST = re.compile(r"Linear$|LayerNorm$|RMSNorm$|^Embedding$")
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def unit_dimension(
    module: nn.Module,
    shape: Sequence[int],
    known: Mapping[tuple[int, ...], int] | None = None,
    resized: Sequence[int] | None = None,
) -> int:
    """Finds the dimension of the units of an output `[rows, …]`.

    Of the dimensions that keep their size with images of another size, by the kind of the module: convolutions, their
    norms and pools have units in dim 1, linear layers and layer norms in the last one. Other modules (activations,
    whole blocks) inherit from the latest layer with the same shape, or the next one; else `[rows, tokens, units]` has
    them last and everything else in dim 1. If none of these keeps its size, they are in the last dimension that does.

    Args:
        module: The module.
        shape: Shape of its output.
        known: Shape -> dimension of the latest layer with that shape, or of the next one.
        resized: Shape of its output for images of another size; `None` if the model takes one size only.

    Returns:
        The dimension, 1 or more.
    """
    by_kind = _by_kind(module, shape, known or {})
    if resized is None or len(resized) != len(shape):
        return by_kind
    fixed = [dim for dim in range(1, len(shape)) if shape[dim] == resized[dim]]
    return by_kind if by_kind in fixed or not fixed else fixed[-1]


def _by_kind(module: nn.Module, shape: Sequence[int], known: Mapping[tuple[int, ...], int]) -> int:
    own = dimension_of_kind(module, shape)
    return known.get(tuple(shape), 2 if len(shape) == 3 else 1) if own is None else own


def dimension_of_kind(module: nn.Module, shape: Sequence[int]) -> int | None:
    """Finds the dimension of the units of an output `[rows, …]` by the kind of the module alone; `None`: unknown."""
    kind = type(module).__name__
    if len(shape) == 2 or _CHANNELS_FIRST.search(kind):
        return 1
    if not _CHANNELS_LAST.search(kind):
        return None
    weight = getattr(module, "weight", None)
    if "Norm" in kind and isinstance(weight, Tensor) and weight.ndim == 1 and shape[-1] != len(weight) == shape[1]:
        return 1  # a norm of [n, C, H, W] that is called ...LayerNorm
    return 1 if getattr(module, "data_format", "") == "channels_first" else len(shape) - 1


class TokenUnits:
    """Tells layers that mix tokens: their units are tokens, for they run along another dimension than the channels.

    The channels are followed through views by their stride: an MLP-Mixer hands a transposed view of `[n, T, C]` to a
    linear layer, whose last dimension then are the tokens.
    """

    def __init__(self) -> None:
        self._made: dict[int, tuple[int, bool]] = {}  # memory -> stride of the units in it, whether they are tokens
        self._shapes: dict[tuple[int, ...], bool] = {}  # shape -> whether the units of the latest layer are tokens

    def are_tokens(
        self, module: nn.Module, given: tuple[int | None, tuple[int, ...]], made: Tensor, memory: int | None, dim: int
    ) -> bool:
        """Tells whether the units of an output are tokens, and remembers the answer for the layers behind it.

        Args:
            module: The module.
            given: Memory and strides of what the module was given.
            made: The output `[rows, …]`.
            memory: The memory of the output.
            dim: The dimension of the units.

        Returns:
            True if the layer mixes tokens, or runs pointwise behind one that does.
        """
        found = self._shapes.get(tuple(made.shape), False)
        if isinstance(module, nn.LayerNorm):
            found = self._behind(given, dim)
        elif isinstance(module, (nn.Linear, *_CONVOLUTIONS)):
            found = self._behind(given, -1 if isinstance(module, nn.Linear) else 1)
        self._shapes[tuple(made.shape)] = found
        if memory is not None:
            self._made[memory] = made.stride(dim), found
        return found

    def _behind(self, given: tuple[int | None, tuple[int, ...]], axis: int) -> bool:
        """Tells whether a layer that runs along `axis` makes tokens of what it is given."""
        memory, strides = given
        stride, tokens = self._made.get(-1 if memory is None else memory, (-1, False))
        if len(strides) < 3 or stride not in strides[1:]:
            return False  # what lies between is not known
        along_units = strides[axis] == stride
        return tokens if along_units else not tokens
