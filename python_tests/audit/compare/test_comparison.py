"""Comparing two audits: hand-worked statistics, refusals that name the field, text and JSON."""

import json
import math

import numpy as np
import pytest

from memkern.errors import CompareError

pytest.importorskip("pyarrow", reason="memkern[audit] is not installed")
pytest.importorskip("scipy", reason="memkern[audit] is not installed")

import audit_runs

from memkern import cli
from memkern.audit import compare as compare_runs
from memkern.audit.statistics import (
    TrainingMean,
    cohens_d,
    holm,
    interval,
    kendall,
    largest,
    overlap,
    paired_p,
    resampled_means,
    welch_interval,
)


def compare(a, b, **options):
    """With fewer resamples than by default, for speed."""
    return compare_runs(a, b, **{"resamples": 200, **options})


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A: memorizes strongly; B: half as much."""
    root = tmp_path_factory.mktemp("runs")
    audit_runs.write(root / "a", seed=1, thumbs=False)
    audit_runs.write(root / "b", seed=2, strength=0.15, thumbs=False)
    return root


# ---- statistics by hand ---------------------------------------------------------------------------------------------


def test_holm_by_hand():
    # 0.01 * 4, then max(0.04, 0.02 * 3), then 0.03 * 2 (below), then 0.9 * 1
    assert holm(np.array([0.9, 0.02, 0.01, 0.03])) == pytest.approx([0.9, 0.06, 0.04, 0.06])
    assert holm(np.array([0.6, 0.7])).tolist() == [1.0, 1.0]
    corrected = holm(np.array([0.01, math.nan, 0.2]))
    assert corrected[[0, 2]] == pytest.approx([0.02, 0.2]), "what was not tested does not count"
    assert math.isnan(corrected[1])
    assert len(holm(np.array([]))) == 0


def test_effect_size_by_hand():
    a, b = np.array([1.0, 2.0, 3.0]), np.array([2.0, 6.0])
    assert cohens_d(a, b) == pytest.approx(2 / math.sqrt(4.5))  # means 2 and 4, variances 1 and 8
    for undefined in ((a[:1], b), (np.array([1, math.nan, 2]), b), (a * 0, b * 0)):
        assert math.isnan(cohens_d(*undefined))


def test_welch_over_trainings_is_that_of_scipy():
    """A mean over trainings, its error and degrees: of two samples that is Welch's test."""
    from scipy import stats

    a, b = np.array([1.0, 2.0, 3.5]), np.array([2.0, 6.0, 3.0, 4.5])
    means = [TrainingMean(x.mean(), x.std(ddof=1) / math.sqrt(len(x)), len(x) - 1) for x in (a, b)]
    low, high, p = welch_interval(*means, "greater", 0.9)
    known = stats.ttest_ind(b, a, equal_var=False, alternative="greater")
    assert p == pytest.approx(known.pvalue)
    two_sided = stats.ttest_ind(b, a, equal_var=False).confidence_interval(0.9)
    assert (low, high) == pytest.approx((two_sided.low, two_sided.high))
    assert welch_interval(*means, "less", 0.9)[2] == pytest.approx(1 - known.pvalue)
    for se, degrees in ((math.nan, 2), (0.1, 0)):
        undefined = welch_interval(TrainingMean(0.0, se, degrees), means[1], "less", 0.9)
        assert all(math.isnan(value) for value in undefined)


def test_exchange_within_images_by_hand():
    """Three images, all lower in B: 1 of the 8 exchanges is as low as what was seen."""
    down = np.array([[-1.0, 1.0], [-2.0, 0.5], [-0.5, -3.0]])
    p = paired_p(down, "less", draws=39_999)
    exact = [1 / 8, 3 / 8]  # second column: sums of +-1 +-.5 +-3 that are at most -1.5: -4.5, -3.5, -2.5, -1.5
    exact[1] = 4 / 8
    assert p == pytest.approx(exact, abs=5 * math.sqrt(0.25 / 40_000))
    assert np.array_equal(p, paired_p(down, "less", draws=39_999)), "seeded"
    assert paired_p(-down, "greater", draws=999) == pytest.approx(paired_p(down, "less", draws=999))
    assert paired_p(np.zeros((5, 1)), "less").tolist() == [1.0]
    assert math.isnan(paired_p(np.array([[math.nan], [1.0]]), "less")[0])


def test_exchange_within_images_is_the_group_test_with_images_as_strata():
    from memkern.families import group_test

    rng = np.random.default_rng(4)
    a, b = rng.normal(size=25), rng.normal(0.4, 1, size=25)
    whole = group_test(np.concatenate([a, b]), np.arange(50) >= 25, strata=np.tile(np.arange(25), 2))
    assert paired_p((b - a)[:, None], "greater")[0] == pytest.approx(whole.p, abs=5 * math.sqrt(whole.p / 9999) + 1e-3)


def test_kendall_and_overlap_by_hand():
    assert kendall(np.array([1.0, 2, 3]), np.array([1.0, 3, 2])) == pytest.approx(1 / 3)  # 2 pairs agree, 1 does not
    assert kendall(np.array([1.0, math.nan, 3]), np.array([5.0, 0, 4])) == -1.0
    assert math.isnan(kendall(np.array([1.0, 1]), np.array([1.0, 2])))
    assert largest(np.array([5.0, math.nan, 7, 7, 1]), 3).tolist() == [2, 3, 0]
    assert overlap(np.array([4.0, 3, 2, 1]), np.array([4.0, 1, 3, 2]), 2) == 0.5


def test_the_bootstrap_is_seeded_and_has_the_right_width():
    values = np.random.default_rng(0).standard_normal((400, 2))
    means = resampled_means(values, resamples=2000, seed=3)
    assert np.array_equal(means, resampled_means(values, resamples=2000, seed=3))
    # standard error of a mean is sd / sqrt(n); that of the estimated one with 2,000 resamples is 1/sqrt(4,000) of it
    assert means.std(0) == pytest.approx(values.std(0) / 20, rel=5 / math.sqrt(4000))
    low, high = interval(means)
    assert ((low < values.mean(0)) & (values.mean(0) < high)).all()
    assert high - low == pytest.approx(2 * 1.96 * values.std(0) / 20, rel=0.1)


# ---- two runs -------------------------------------------------------------------------------------------------------


def test_less_memorization_is_found(folders):
    found = compare(folders / "a", folders / "b")
    assert found.n_images == 30
    assert [layer.name for layer in found.layers] == list(audit_runs.LAYERS)
    last = found.layers[-1].layermem
    assert last.b - last.a == pytest.approx(last.difference)
    assert last.low < last.difference < last.high < 0
    assert last.p <= last.p_holm < 0.01
    assert last.d < -0.5
    assert found.sslmem.p == found.sslmem.p_holm, "one test needs no correction"
    assert found.images.k == 3
    assert found.images.chance == pytest.approx(0.1)
    assert found.images.tau > 0.5
    changes = [abs(change.b - change.a) for change in found.changed]
    assert changes == sorted(changes, reverse=True)
    assert len(changes) == 10
    assert compare(folders / "a", folders / "b").to_dict() == found.to_dict(), "the same numbers every time"
    other_way = compare(folders / "b", folders / "a", alternative="greater")
    assert other_way.layers[-1].layermem.p_holm == pytest.approx(last.p_holm)


def test_the_means_are_those_of_the_layer_table(folders):
    from memkern.audit.run_folder.reader import read_run

    found = compare(folders / "a", folders / "b")
    table = read_run(folders / "a").layers
    for row, layer in enumerate(found.layers):  # the sample table holds float32 alignments
        assert layer.layermem.a == pytest.approx(table["layermem"][row].as_py(), abs=1e-6)
        assert layer.unitmem.a == pytest.approx(table["unitmem_mean"][row].as_py(), abs=1e-6)


def test_a_run_does_not_differ_from_itself(folders):
    found = compare(folders / "a", folders / "a")
    assert found.changed == []
    assert found.images.tau == pytest.approx(1.0)
    assert found.images.overlap == 1.0
    assert all(layer.layermem.difference == layer.layermem.low == layer.layermem.high == 0 for layer in found.layers)
    assert "Both audits are of the same weights." in found.notes


def test_without_reference_only_units_are_compared(folders, tmp_path):
    b = audit_runs.write(tmp_path / "b", seed=2, reference=False, labels=False, thumbs=False)
    found = compare(folders / "a", b)
    assert found.sslmem is None
    assert found.images is None
    assert all(layer.layermem is None and layer.images is None for layer in found.layers)
    assert math.isnan(found.layers[0].unitmem.p), "the units of one training are no sample"
    assert found.layers[0].unitmem.over == "units"
    assert found.layers[0].unitmem.low < found.layers[0].unitmem.high
    assert "reference encoder in both" in found.notes[0]
    assert "LayerMem\n" not in str(found)


def test_layers_that_only_one_run_has(folders, tmp_path):
    b = audit_runs.write(tmp_path / "b", layers={"conv1": 8, "conv2": 5, "mixer": 4}, thumbs=False)
    found = compare(folders / "a", b)
    assert [layer.name for layer in found.layers] == ["conv1", "conv2"]
    assert found.only_a == ["conv3", "output"]
    assert found.only_b == ["mixer"]
    assert found.layers[1].units is None, "another number of units: no ranking to compare"
    assert any("'output' in A and at 'mixer' in B" in note for note in found.notes)
    none = compare(folders / "a", audit_runs.write(tmp_path / "c", layers={"x": 2}, thumbs=False))
    assert none.layers == []
    assert none.sslmem is not None


BASE = {"n_views": 4, "transform": "simclr", "spec": {"flip": 0.5, "scale": [0.08, 1.0]}, "seed": 0, "size": [32, 32],
        "pairs": "all", "normalize": True}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"views": {**BASE, "seed": 7}}, r"the same views.seed, got 0 in .* and 7"),
        ({"views": {**BASE, "n_views": 5}}, "the same views.n_views"),
        ({"views": {**BASE, "spec": {"flip": 0.5, "scale": [0.2, 1.0]}}}, "the same views.spec.scale"),
        ({"views": {**BASE, "pairs": "anchor"}}, "the same views.pairs"),
        ({"views": {**BASE, "normalize": False}}, "the same views.normalize"),
        ({"candidates": {"n": 30, "sha256": "e" * 64}}, "the same candidates.sha256"),
        ({"candidates": None}, "the same candidates, got"),
        ({"data": {"n_images": 60, "list_sha256": "f" * 64}}, "the same data.list_sha256"),
        ({"options": {"median": True}}, "the same options.median"),
    ],
    ids=lambda value: "" if isinstance(value, dict) else value,
)
def test_what_differs_is_named(folders, tmp_path, changes, field):
    audit_runs.write(tmp_path, thumbs=False, **changes)
    with pytest.raises(CompareError, match=field):
        compare(folders / "a", tmp_path)


def test_the_images_themselves_are_checked(folders, tmp_path):
    ids = [f"{i}.png" for i in range(60)]
    audit_runs.write(tmp_path, ids=ids, thumbs=False)
    with pytest.raises(CompareError, match=r"samples\.id differs first in row 0"):
        compare(folders / "a", tmp_path)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"alternative": "two"}, "less"), ({"level": 1.0}, "level"), ({"resamples": 9}, "resamples"), ({"top": 31}, "30")],
)
def test_options_out_of_bounds(folders, options, words):
    with pytest.raises(ValueError, match=words):
        compare(folders / "a", folders / "b", **options)


# ---- the command ----------------------------------------------------------------------------------------------------


def test_the_command_prints_tables_that_fit(folders, capsys):
    assert cli.main(["compare", str(folders / "a"), str(folders / "b")]) == 0
    out = capsys.readouterr().out
    for words in (
        "SSLMem",
        "LayerMem",
        "mean UnitMem",
        "units that changed most",
        "interval",
        "p (Holm)",
        "tests: B less",
    ):
        assert words in out
    body = [line for line in out.splitlines() if line.startswith("  ")]
    assert max(map(len, body)) <= 110


def test_json_is_json(folders, capsys, tmp_path):
    out = tmp_path / "new" / "c.json"
    assert cli.main(["compare", str(folders / "a"), str(folders / "b"), "--json", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert json.loads(printed) == json.loads(out.read_text(), parse_constant=pytest.fail)
    assert json.loads(printed)["layers"][0]["name"] == "conv1"


def test_errors_are_one_line(folders, capsys, tmp_path):
    assert cli.main(["compare", str(folders / "a"), str(tmp_path)]) == 1
    assert "manifest.json is missing" in capsys.readouterr().err


def test_a_hostile_name_does_not_repaint_the_terminal(folders, tmp_path):
    ids = [f"\x1b[31m\u202e{i}\n" for i in range(60)]
    a, b = (audit_runs.write(tmp_path / str(i), seed=i, ids=ids, thumbs=False) for i in (1, 2))
    text = str(compare(a, b))
    assert "\x1b" not in text
    assert "\u202e" not in text
