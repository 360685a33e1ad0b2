"""Oracle for taps: every view passes alone through the model, plain hooks keep what layers make, sums are in float64.

A tensor of a pass with one view belongs to that view as a whole, wherever the dimension of the batch is, so nothing
here knows of batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn

from memkern.audit.taps.hook_points import HookPoint, Layers, find_layers
from memkern.audit.taps.modules import first_tensor, further_tensors, named_layers
from memkern.audit.taps.tap import Tap, TapStats

TOLERANCE = 1e-5
"""Of alignments, and of unit means as a share of the largest activation: some encoders round to float32 inside."""


@dataclass(frozen=True)
class Expected:
    """Statistics of a layer by the oracle.

    Attributes:
        alignment: `[N]`; NaN where a view has nothing but zeros.
        unit_means: `[N, U]`.
        largest: The largest absolute value of all activations.
    """

    alignment: Tensor
    unit_means: Tensor
    largest: float


def expected(model: nn.Module, x: Tensor, points: Sequence[HookPoint], views: int) -> dict[str, Expected]:
    """Computes the statistics of layers from passes with one view each, `x` `[N * views, C, H, W]`."""
    raw: dict[str, list[Tensor]] = {point.name: [] for point in points}
    for row in x:
        for name, tensor in tensors_of(model, row[None], points).items():
            raw[name].append(tensor)
    return {point.name: _statistics(raw[point.name], _unit_dim(point), views) for point in points}


def tensors_of(model: nn.Module, x: Tensor, points: Sequence[HookPoint]) -> dict[str, Tensor]:
    """Runs the model once and copies the tensor of every hook point, float64."""
    calls: dict[str, int] = {}
    found: dict[str, Tensor] = {}
    handles = []

    def keep(name: str, *, is_input: bool, tensors: Sequence[Tensor | None]) -> None:
        for point in points:
            if (point.module, point.call, point.input) == (name, calls[name], is_input):
                tensor = tensors[point.tensor]
                assert tensor is not None
                found[point.name] = tensor.detach().double().clone()

    def before(name: str) -> Any:
        def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
            calls[name] = calls.get(name, -1) + 1
            keep(name, is_input=True, tensors=[first_tensor([*args, *kwargs.values()])])

        return hook

    def after(name: str) -> Any:
        return lambda module, args, output: keep(
            name, is_input=False, tensors=[first_tensor(output), *further_tensors(output)]
        )

    for name, module in named_layers(model).items():
        if name in {point.module for point in points}:
            handles.append(module.register_forward_pre_hook(before(name), with_kwargs=True))
            handles.append(module.register_forward_hook(after(name)))
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    return found


def _unit_dim(point: HookPoint) -> int:
    """The dimension of the units in the tensor as the layer makes it."""
    assert point.unit_dim is not None
    if point.layout is None:
        return point.unit_dim
    place = point.unit_dim - (point.layout.rows > 1)  # among the dimensions with that of the images in front
    return place if place > point.layout.dim else place - 1


def _statistics(tensors: Sequence[Tensor], dim: int, views: int) -> Expected:
    z = torch.stack([each.flatten() for each in tensors])
    z = (z / z.norm(dim=1, keepdim=True)).unflatten(0, (-1, views))
    pairs = [(z[:, i] - z[:, j]).norm(dim=1) for i, j in combinations(range(views), 2)]
    means = torch.stack([each.movedim(dim, 0).flatten(1).mean(1) for each in tensors])
    largest = max(float(each.abs().max()) for each in tensors)
    return Expected(torch.stack(pairs).mean(0), means.unflatten(0, (-1, views)).mean(1), largest)


def wrong(stats: TapStats, want: Expected) -> str:
    """Says what differs; "" if nothing does."""
    assert stats.alignment is not None
    assert stats.unit_means is not None
    aligned, means = stats.alignment.double(), stats.unit_means.double()
    known = want.alignment.isfinite()
    if not torch.allclose(aligned[known], want.alignment[known], rtol=0, atol=TOLERANCE):
        return f"alignment {aligned.tolist()}, expected {want.alignment.tolist()}"
    if means.shape != want.unit_means.shape:
        return f"unit means {list(means.shape)}, expected {list(want.unit_means.shape)}"
    error = float((means - want.unit_means).abs().max())
    return "" if error <= TOLERANCE * want.largest else f"unit means differ by {error}, largest {want.largest}"


def check_layers(model: nn.Module, x: Tensor, layers: str = "*", views: int = 2) -> Layers:
    """Requires the numbers of every layer that is read to agree with the oracle, and reasons for all that are not.

    The model returns with its taps what it returns without.
    """
    model = model.eval()
    found = find_layers(model, x[:2], layers)
    want = expected(model, x, found.hook_points, views)
    with torch.no_grad():
        plain = first_tensor(model(x))
        with Tap(model, found.hook_points, n_views=views) as tap:
            tapped = first_tensor(tap.model(x))
            stats = tap.take()
    assert plain is not None
    assert tapped is not None
    torch.testing.assert_close(tapped, plain, rtol=0, atol=0)
    assert {name: text for name in stats if (text := wrong(stats[name], want[name]))} == {}
    assert len({point.name for point in found.hook_points}) == len(found.hook_points)
    assert all(found.left_out.values())
    return found
