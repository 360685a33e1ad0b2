"""Sizes, false discoveries, coverage and power where the truth is known: the tables of docs/families.md, of fewer runs.

Bounds are what is promised (sizes of 4 to 6 %, false discoveries at most nominal, the power that the docs give), and
three standard errors of the runs on top.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import simulate_families
from family_cases import random_rows, simulate, split_groups
from family_simulation import images, means

from memkern import families
from memkern.errors import DataError

ROWS = {row.name: row for row in images.rows()}
CHECKS = {check.name: check for check in means.checks()}

# runs, and the power at q <= 0.05 (a figure of two decimals); a conformal p of few controls cannot be 0.05
FAST = {
    "halves, K = 4, levels of 0.06": (20, 0.30),
    "halves, K = 8, levels of 0.06": (20, 0.55),
    "halves, K = 16, levels of 0.01": (6, 0.74),
    "halves, K = 8, levels of 0.06 left in": (20, 0.12),
    "halves, K = 4, unequal noise 0.5": (20, 0.23),
    "halves, K = 8, t noise, 5 degrees": (20, 0.54),
    "halves, K = 8, 30 % unknown": (20, 0.41),
    "leave one out, K = 8": (20, 0.27),
    "f/g 2 + 2, 30 controls": (60, 0.28),
    "f/g 4 + 4, 100 controls, pictures of 30": (40, 0.54),
    "f/g 4 + 4, 1000 controls, conformal": (40, 0.55),
    "one pair, 1000 controls": (60, 0.11),
}


@pytest.mark.parametrize("name", FAST)
def test_sizes_false_discoveries_and_power(name):
    row, (runs, power) = ROWS[name], FAST[name]
    found = images.outcome(row, runs)
    # p-values of a family share its levels and its controls, so the spread between runs counts, not the binomial alone
    chance = 3 * max(found.errors[0], np.sqrt(0.05 * 0.95 / (0.7 * row.images * runs)))
    assert 0.04 - chance <= found.values[0] <= 0.06 + chance
    for place, rate in ((1, 0.05), (3, 0.10)):
        assert found.values[place] <= rate + 3 * found.errors[place]
    rounding, figure = 0.005, np.sqrt(2)  # the figure is of as many runs or more
    assert abs(found.values[2] - power) <= rounding + 3 * figure * found.errors[2]


def test_what_is_refused_would_be_wrong():
    """The figures of the docs: encoders that count twice, and a size that the levels of f and g decide."""
    twice = images.outcome(ROWS["refused: halves, 4 encoders entered twice"], 5)
    assert twice.values[0] == pytest.approx(0.20, abs=0.02)
    assert twice.values[1] == pytest.approx(0.31, abs=0.05)
    alone = images.outcome(ROWS["refused: f/g 2 + 2 without control"], 200)
    assert alone.errors[0] * np.sqrt(200) > 0.1, "the size moves from one family to the next"


@pytest.mark.parametrize(
    "name",
    [
        "nothing memorized: one pair, 300 candidates, 1000 controls",
        "nothing memorized: f/g 2 + 2, 300 candidates, 100 controls",
        "nothing memorized: halves, K = 8",
    ],
)
def test_nothing_memorized_calls_an_image_in_few_families(name):
    runs = 80
    found = images.outcome(ROWS[name], runs)
    assert found.values[6] <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / runs)


@pytest.mark.parametrize("candidates", ["f/g 4 + 4, 300 controls in 30 other pictures", "f/g 2 + 2, 30 controls"])
def test_without_its_control_a_split_gives_no_p(candidates):
    """What a t would be there: a size of .07 on average, but one of .19 more or less from family to family."""
    row = ROWS[candidates]
    membership = families.membership_of_groups(split_groups(row.images, row.controls), n_f=row.n_in, n_g=row.n_out)
    few = np.concatenate([np.arange(row.images), row.images + np.arange(row.controls) % 3])
    alignment, _ = simulate(membership, np.random.default_rng(0))
    for design in (families.design(membership, control="none"), families.design(membership, pictures=few)):
        assert np.isnan(families.image_scores(alignment, design).p).all()


@pytest.mark.parametrize("design", ["LayerMem, halves, K = 4", "excess, f/g 2 + 2", "excess, f/g 4 + 4"])
def test_layermem_and_its_excess_cover_zero(design):
    (name,) = (each for each in CHECKS if each.startswith(f"{design}: the 95 %"))
    runs = 60
    covered, estimates, errors = means.found_in(CHECKS[name], runs)[0].T
    assert covered.mean() >= 0.93 - 3 * np.sqrt(0.05 * 0.95 / runs)
    assert abs(estimates.mean()) <= 3 * estimates.std(ddof=1) / np.sqrt(runs)
    assert errors.mean() >= estimates.std(ddof=1) * (1 - 3 / np.sqrt(2 * runs))


@pytest.mark.parametrize("count", [4, 8])
def test_groups_chosen_by_other_encoders_select_no_noise(count):
    (name,) = (each for each in CHECKS if each.startswith("top minus least") and f"K = {count}:" in each)
    crossed, same = means.found_in(CHECKS[name], 30)[0].T
    error = crossed.std(ddof=1) / np.sqrt(30)
    assert abs(crossed.mean()) <= 3 * error
    assert same.mean() > 20 * error  # the same encoders choose and measure


def test_views_alone_leave_the_noise_of_trainings_in_the_choice():
    crossed, same = means.found_in(CHECKS["the same of a pair: by halves of the views (by the same)"], 20)[0].T
    assert 0.05 < crossed.mean() < same.mean()


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


@pytest.mark.parametrize("name", [name for name in CHECKS if "area" in name])
def test_intervals_of_areas_cover(name):
    runs = 150
    covered = means.found_in(CHECKS[name], runs)[0].mean()
    assert covered >= 0.95 - 3 * np.sqrt(0.05 * 0.95 / runs)


def test_the_script_prints_the_rows_that_are_named(capsys):
    simulate_families.main(["halves, K = 4, levels of 0", "share*nothing*", "--runs", "2"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("| halves, K = 4, levels of 0 | 2 | 0.0")
    assert lines[3] == lines[-1] == ""
    assert lines[-2].startswith(
        "| share of member_peaks with p <= .05, one encoder of 60 images and 256 units: nothing"
    )
    assert len(lines) == 8
    simulate_families.main(["--list"])
    assert capsys.readouterr().out.splitlines() == [*ROWS, *CHECKS]
    for wrong in (["no such row"], ["--runs", "1"]):
        with pytest.raises(SystemExit):
            simulate_families.main(wrong)


def test_the_docs_have_every_row_of_the_script():
    page = (Path(__file__).parents[2] / "docs" / "families.md").read_text()
    heads = [each.splitlines()[0] for each in (images.HEAD, images.HEAD_NOTHING, means.HEAD)]
    shown = []
    for table in page.split("\n\n"):
        if table.splitlines()[0] in heads:
            shown += [line.removeprefix("| ").split(" | ")[0] for line in table.splitlines()[2:]]
    assert shown == [*ROWS, *CHECKS]


def test_rows_are_the_same_whichever_others_run():
    row = ROWS["one pair, 100 controls, 2 decimals"]
    first = images.simulated(row, 3)
    images.simulated(row, 0)
    assert images.simulated(row, 3) == first
