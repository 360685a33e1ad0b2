"""Sums over the views of each point, read by a tap."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import memkern
from memkern.audit.taps.tap import Tap


@pytest.mark.parametrize("clean_first", [False, True])
@pytest.mark.parametrize("means", [False, True])
def test_view_sums(means: bool, clean_first: bool) -> None:
    """Of the first pass and of one that is made ready; the rest is as without them."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sigmoid())
    for x in torch.randn(2, 15, 3, 8, 8):
        taps = [
            Tap(model, ["0", "1"], n_views=5, clean_first=clean_first, means=means, view_sums=view_sums)
            for view_sums in (True, False)
        ]
        for tap in taps:
            for _ in range(2):
                with torch.no_grad(), tap:
                    output = tap.model(x)
                    got = tap.take()
                views = output.unflatten(0, (3, 5))[:, int(clean_first) :]
                want = memkern.alignment_stats(views)
                assert torch.equal(got["1"].alignment, want.alignment)
                assert (got["1"].unit_means is not None) == means
                if tap is taps[1]:
                    assert got["1"].rows is None
                    assert got["1"].halves is None
                else:
                    assert torch.equal(got["1"].rows, want.rows)
                    assert torch.equal(got["1"].halves, want.halves)
                    assert not torch.equal(got["0"].rows, want.rows)


def test_view_sums_of_an_anchor_are_refused() -> None:
    with pytest.raises(ValueError, match="Expected `pairs` to be 'all' with `view_sums`, got 'anchor'"):
        Tap(nn.Sequential(nn.ReLU()), ["0"], n_views=3, pairs="anchor", view_sums=True)


@pytest.mark.parametrize("distance", ["l1", "cosine", "angular"])
def test_other_distances(distance: str) -> None:
    """Of hooks, of layers that the kernel runs, and of calls that are made ready."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval()
    x = torch.randn(15, 3, 8, 8)
    for means in (True, False):
        tap = Tap(model, "*", n_views=5, means=means, view_sums=True, distance=distance, example=x[:2])
        for _ in range(2):
            with torch.inference_mode(), tap:
                output = tap.model(x)
                got = list(tap.take().values())
            want = memkern.alignment_stats(output.unflatten(0, (3, 5)), distance=distance)
            assert torch.equal(got[-1].alignment, want.alignment)
            assert torch.equal(got[-1].rows, want.rows)
            assert torch.equal(got[-1].halves, want.halves)
