"""Pointwise statistics: layers by torch's own functions in float64, and the layer statistics of each tensor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from memkern.reference.layer_stats import layer_stats

Layer = tuple[str, tuple[Tensor | None, ...], float]
"""Function, (mean, variance, weight, bias) of a batch norm, and its epsilon."""


def pointwise_stats(
    x: Tensor, layers: Sequence[Layer], *, unit_dim: int = 2, pairs: str = "all", normalize: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    """Computes the output of the last layer, and the layer statistics of the input and of what each layer makes.

    Args:
        x: [N, V, ...] activations; dim 0 holds the points, dim 1 the views.
        layers: The layers, run one after the other; what each makes is rounded to the dtype of `x`.
        unit_dim: The dimension of the units.
        pairs: "all", or "anchor" for view 0 against each other view.
        normalize: Whether to bring each flattened view to unit length before the distance.

    Returns:
        output [N, V, ...] of the dtype of `x`, alignment [layers + 1, N] and unit means [layers + 1, N, U] in float64.
    """
    tensors = [x]
    for function, moments, epsilon in layers:
        z = tensors[-1].double().movedim(unit_dim, 1)
        if function == "batch_norm":
            doubles = [None if moment is None else moment.double() for moment in moments]
            z = functional.batch_norm(z, doubles[0], doubles[1], doubles[2], doubles[3], eps=epsilon)
        else:
            z = functional.relu(z) if function == "relu" else functional.gelu(z)
        tensors.append(z.movedim(1, unit_dim).to(x.dtype))
    stats = [layer_stats(each, unit_dim=unit_dim, pairs=pairs, normalize=normalize) for each in tensors]
    return tensors[-1], torch.stack([each[0] for each in stats]), torch.stack([each[1] for each in stats])
