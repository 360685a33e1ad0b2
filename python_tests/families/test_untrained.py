"""Untrained encoders memorized nothing, and come out clean."""

from __future__ import annotations

import numpy as np
import pytest
import untrained_encoders
from untrained_encoders import ARCHITECTURES, Seed, of_seed, within


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_few_pairs_call_nothing(architecture):
    """The share of 4 pairs: its error is that of 100 candidates against a quantile of 400 controls."""
    seeds = [of_seed([architecture], seed, 100, 400)[architecture] for seed in range(4)]
    error = np.sqrt(0.05 * 0.95 * (1 / 100 + 1 / 400) / len(seeds))
    assert abs(np.mean([each.share for each in seeds]) - 0.05) <= 3 * error
    assert sum(each.called for each in seeds) <= 1  # two of four have a chance of .014
    assert all(each.silent for each in seeds)


def test_encoders_differ_and_views_are_of_use():
    """A check of the check: the alignments vary between images, encoders and seeds."""
    views = np.random.default_rng(0).random((6, 4, 3, 32, 32)).astype(np.float32)
    for name in ARCHITECTURES:
        found = untrained_encoders.alignments(name, untrained_encoders.torch.from_numpy(views), 0)
        other = untrained_encoders.alignments(name, untrained_encoders.torch.from_numpy(views), 1)
        assert len(np.unique(np.concatenate([found.numpy(), other.numpy()]))) == 24, name
        assert (found > 1e-4).all(), name


@pytest.mark.parametrize(
    ("seeds", "clean"),
    [
        ([Seed(0.05, False, True)] * 200, True),
        ([Seed(0.05, True, True)] * 19 + [Seed(0.05, False, True)] * 181, True),  # 10 and three standard errors of 3.1
        ([Seed(0.05, True, True)] * 20 + [Seed(0.05, False, True)] * 180, False),
        ([Seed(0.08, False, True)] * 200, False),
        ([Seed(0.02, False, True)] * 200, False),
        ([Seed(0.05, False, True)] * 199 + [Seed(0.05, False, False)], False),
    ],
)
def test_what_counts_as_clean(seeds, clean):
    assert within(seeds) == clean


@pytest.mark.long
def test_many_pairs_stay_within_the_bounds(capsys):
    assert untrained_encoders.main(["--seeds", "60"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2 + len(ARCHITECTURES)
