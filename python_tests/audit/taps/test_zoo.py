"""Every layer of the encoders that users bring: its numbers are those of plain hooks, its units do not see the size."""

from __future__ import annotations

import pytest
import torch
from helpers.plain_hooks import check_layers
from helpers.zoo import QUICK, TIMM, TORCHVISION, TRANSFORMERS, ZOO, build
from torch import Tensor

from memkern.audit.taps.hook_points import NO_FIXED_DIM, TOKENS, Layers, find_layers

VIEWS = 2
CASES = [
    pytest.param(
        *case,
        id=" ".join(case),
        marks=[pytest.mark.field("layers", ": ".join(case)), *([] if case in QUICK else [pytest.mark.long])],
    )
    for case in sorted(ZOO)
]


def images(size: int, count: int = 2 * VIEWS) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 3, size, size, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(("library", "name"), CASES)
def test_every_layer_is_read_right_or_left_out_with_a_reason(library: str, name: str) -> None:
    member = ZOO[library, name]
    model = build(library, name, member.size)
    found = check_layers(model, images(member.size), views=VIEWS)
    print(f"{library} {name}: {len(found.hook_points)} layers read, {len(found.left_out)} left out")
    for layer, reason in found.left_out.items():
        print(f"  {layer}: {reason}")
    if not member.other:
        return
    again = model if not member.sized else build(library, name, member.other)
    assert units(find_layers(again, images(member.other, 2)), found) == units(found, found)


def units(layers: Layers, first: Layers) -> dict[str, int]:
    """Name -> number of units, without layers that are said to have tokens as units, or none of a fixed number."""
    known = {point.name for point in first.hook_points}
    told = {name for name, note in first.notes.items() if note in (TOKENS, NO_FIXED_DIM)}
    return {
        point.name: point.units for point in layers.hook_points if point.name in known - told and len(point.shape) > 1
    }


def test_the_zoo_is_as_large_as_it_is_said_to_be() -> None:
    timm = pytest.importorskip("timm")
    families = {timm.model_entrypoint(name).__module__ for name in TIMM}
    assert len(families) >= 40
    assert len(TORCHVISION) >= 15
    assert len(TRANSFORMERS) >= 20
