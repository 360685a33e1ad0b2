"""Sizes, false discoveries, coverage and power where the truth is known; the table of docs/families.md at its smallest.

Every row holds 15,000 images and more that are not memorized, so that a size has a standard error of about 0.002.
Run as a script, the file writes the rows of the table of docs/families.md, of eight times as many runs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from family_cases import AS_IS, World, random_rows, simulate, split_groups

from memkern import families
from memkern.errors import DataError


@dataclass(frozen=True)
class Row:
    """One design of the table: how often it is simulated and what must come out."""

    n_in: int  # encoders in (f)
    n_out: int  # encoders out (g)
    controls: int  # 0: a varying design
    runs: int
    power: tuple[float, float]
    level: str = "auto"
    world: World = AS_IS


TABLE = {
    "halves, K = 4": Row(2, 2, 0, 25, (0.24, 0.37)),
    "halves, K = 8": Row(4, 4, 0, 25, (0.49, 0.61)),
    "halves, K = 16": Row(8, 8, 0, 25, (0.69, 0.81)),
    "halves, K = 8, levels left in": Row(4, 4, 0, 25, (0.03, 0.25), level="none"),
    "halves, K = 4, unequal noise": Row(2, 2, 0, 25, (0.15, 0.36), world=World(unequal=0.5)),
    "leave one out, K = 8": Row(7, 1, 0, 25, (0.2, 0.36)),
    "f/g 2 + 2, 100 controls": Row(2, 2, 100, 80, (0.21, 0.37)),
    "f/g 4 + 4, 30 controls": Row(4, 4, 30, 80, (0.46, 0.64)),
    "one pair, 1000 controls": Row(1, 1, 1000, 80, (0.04, 0.18)),
}


def simulated(row: Row, run: int) -> tuple[float, ...]:
    """Share of unmemorized images with p <= 0.05; at q <= 0.05, then 0.10: false-discovery proportion and power."""
    rng = np.random.default_rng(run)
    if row.controls:
        membership = families.membership_of_groups(split_groups(300, row.controls), n_f=row.n_in, n_g=row.n_out)
    else:
        membership = random_rows(rng, 1000, row.n_in + row.n_out, row.n_in)
    design = families.design(membership)
    alignment, memorized = simulate(membership, rng, row.world, design.scored)
    found = families.image_scores(alignment, design, level=row.level)
    null = design.scored & (memorized == 0)
    values = [(found.p[0, null] <= 0.05).mean()]
    for rate in (0.05, 0.10):
        called = found.q[0] <= rate
        values += [(called & null).sum() / max(called.sum(), 1), called[memorized > 0].mean()]
    return tuple(map(float, values))


@pytest.mark.parametrize("name", TABLE)
def test_sizes_false_discoveries_and_power(name):
    row = TABLE[name]
    size, false, power, false_10, _ = np.mean([simulated(row, run) for run in range(row.runs)], 0)
    assert 0.04 <= size <= 0.06
    assert false <= 0.05
    assert false_10 <= 0.10
    assert row.power[0] <= power <= row.power[1]


def test_layermem_covers_zero_and_groups_do_not_select_noise():
    """Nothing is memorized: images of one picture share their noise within an encoder."""
    covered, gaps = [], []
    for run in range(80):
        rng = np.random.default_rng(run)
        membership, pictures = random_rows(rng, 300, 8, 4), np.arange(300) // 10
        alignment, _ = simulate(membership, rng, World(share=0.0))
        alignment += 0.03 * rng.normal(size=(30, 8))[pictures]
        found = families.layer_scores(alignment, families.design(membership, pictures=pictures), splits=3)
        covered.append(found.low[0] <= 0 <= found.high[0])
        gaps.append(found.top[0] - found.least[0])
    assert np.mean(covered) >= 0.93
    assert abs(np.mean(gaps)) < 0.006


def test_reliability_is_the_squared_correlation_with_the_truth():
    rng = np.random.default_rng(0)
    membership = random_rows(rng, 4000, 8, 4)
    alignment, memorized = simulate(membership, rng)
    found = families.image_scores(alignment, families.design(membership))
    truth = np.corrcoef(found.sslmem[0], memorized)[0, 1] ** 2
    assert found.reliability[0] == pytest.approx(truth, abs=0.04)
    assert found.encoders_for_08[0] == pytest.approx(8 * 4 * (1 - found.reliability[0]) / found.reliability[0])


def test_encoders_entered_twice_would_call_too_much_and_are_refused():
    rng = np.random.default_rng(0)
    membership = np.repeat(random_rows(rng, 300, 4, 2), 2, axis=1)
    alignment = np.repeat(simulate(membership[:, ::2], rng)[0], 2, axis=1)
    alignment += 1e-4 * rng.normal(size=alignment.shape)
    with pytest.raises(DataError, match="4 such pairs"):
        families.image_scores(alignment, families.design(membership))


if __name__ == "__main__":
    for title, each in TABLE.items():
        found = np.mean([simulated(each, run) for run in range(8 * each.runs)], 0)
        size, false, power, false_10, power_10 = found
        print(f"| {title} | {size:.3f} | {false:.3f} ({false_10:.3f}) | {power:.2f} ({power_10:.2f}) |")
