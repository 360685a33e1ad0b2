"""The benchmark of families runs at any size."""

from __future__ import annotations

import numpy as np
import pytest

from bench import bench_families


def test_layers_repeat_without_memory():
    kept = [np.full((2, 3), each, np.float32) for each in (0, 1)]
    layers = bench_families.Layers(kept, 5)
    assert len(layers) == 5
    assert [float(each[0, 0]) for each in layers] == [0, 1, 0, 1, 0]
    assert [float(each[0, 0]) for each in layers[1:4:2]] == [1, 1]
    with pytest.raises(IndexError):
        layers[5]


@pytest.mark.parametrize("design", ["halves", "split"])
def test_both_designs_are_timed(design):
    found = bench_families.measure(design, 400, 6, 2)
    assert found["seconds"] > 0
    assert 0 < found["peak"] < 64
