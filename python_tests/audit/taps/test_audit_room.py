"""The block that the results of a first pass are kept in."""

from __future__ import annotations

import pytest
import torch
from fused_models import batch, made, passed, tap_of

from memkern.audit.taps.room import Kept, Room
from memkern.audit.taps.tap import Tap


def test_what_comes_out_is_what_went_in() -> None:
    room = Room(10)
    results = [torch.rand(2, 3), None, torch.rand(4).double(), torch.rand(3, 1, 1), torch.rand(2), torch.rand(1)]
    inside = room.take_in(results)
    assert inside[0] == Kept(0, (2, 3))
    assert inside[1] is None
    assert inside[2] is results[2]  # of another dtype
    assert inside[3] == Kept(6, (3, 1, 1))
    assert inside[4] is results[4]  # no room
    assert inside[5] == Kept(9, (1,))
    for found, result in zip(room.give_out(inside), results, strict=True):
        assert found is result or torch.equal(found, result)


@pytest.mark.parametrize("fuse", [True, False])
@pytest.mark.parametrize("options", [{}, {"means": False}, {"clean_first": True}], ids=str)
def test_a_first_pass_keeps_all_results_in_it(options: dict[str, bool], fuse: bool) -> None:
    tap = tap_of(made("block"), fuse=fuse, **options)
    first, second = passed(tap, batch())[1], passed(tap, batch())[1]
    places = {value.untyped_storage().data_ptr() for found in first.values() for value in found if value is not None}
    assert len(places) == 1
    for name, found in first.items():
        for one, other in zip(found, second[name], strict=True):
            assert (one is None and other is None) or torch.equal(one, other)


def test_a_pass_whose_layers_are_known_needs_none() -> None:
    tap = tap_of(made("block"))
    passed(tap, batch())
    with tap, torch.inference_mode():
        tap.model(batch())
        assert tap._room is None
        tap.take()


def test_layers_that_nobody_has_looked_up() -> None:
    """Nothing is known of their units, so there is too little room."""
    model = made("block")
    stats = passed(Tap(model, ["conv1", "conv2"], n_views=4), batch())[1]
    want = passed(tap_of(model), batch())[1]
    for name, found in stats.items():
        torch.testing.assert_close(found.unit_means, want[name].unit_means)
