"""Two families side by side: trainings are what was drawn, where both audits have several."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

for package in ("pyarrow", "scipy", "safetensors"):
    pytest.importorskip(package, reason="memkern[audit] is not installed")

import family_runs  # noqa: E402
from family_cases import mean_of, regression  # noqa: E402

from memkern.audit import compare  # noqa: E402
from memkern.audit.run_folder.reader import Run  # noqa: E402
from memkern.audit.run_folder.schema import EncoderEntry  # noqa: E402
from memkern.audit.statistics import TrainingMean, welch_interval  # noqa: E402
from memkern.errors import CompareError  # noqa: E402


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    root = tmp_path_factory.mktemp("families")
    return {
        "a": family_runs.write(root / "a", n_f=3, n_g=2, seed=1),
        "b": family_runs.write(root / "b", n_f=2, n_g=2, seed=2, strength=0.04),
        "pair": family_runs.write(root / "pair", n_f=1, n_g=1, seed=3),
        "x": family_runs.write(root / "x", varying=8, seed=4),
        "y": family_runs.write(root / "y", varying=8, seed=5, strength=0.04),
        "shared": family_runs.write(root / "shared", n_f=2, n_g=2, seed=2, control="shared"),
    }


def test_trainings_are_the_unit(runs: dict[str, Run]) -> None:
    found = compare(runs["a"], runs["b"], resamples=200)
    assert [layer.name for layer in found.layers] == runs["a"].layer_names
    for row, layer in enumerate(found.layers):
        means = []
        for name, degrees in (("a", 3), ("b", 2)):  # 3 + 2 and 2 + 2 trainings of two roles
            table = runs[name].layers.to_pylist()[row]
            means.append(TrainingMean(table["layermem_excess"], table["se_encoders"], degrees))
        assert layer.layermem is not None
        assert layer.layermem.over == "trainings"
        assert (layer.layermem.a, layer.layermem.b) == (means[0].value, means[1].value)
        known = welch_interval(means[0], means[1], "less", 0.95)
        assert (layer.layermem.low, layer.layermem.high, layer.layermem.p) == pytest.approx(known)
        assert layer.layermem.p_holm >= layer.layermem.p
        assert layer.unitmem.over == "trainings"
        assert layer.units is None, "units of several trainings are not aligned"
    assert found.layers[-1].layermem is not None
    assert found.layers[-1].layermem.high < 0
    assert found.changed == []
    assert "A has 3 f and 2 g trainings, B 2 f and 2 g." in found.notes
    assert "over trainings by Welch's t" in str(found)
    assert not any("given these trainings" in note for note in found.notes)


def test_sslmem_is_a_difference_of_two_means_over_trainings(runs: dict[str, Run]) -> None:
    """With one number a training, the error is that of the mean of the g's minus the mean of the f's, by hand."""
    found = compare(runs["a"], runs["b"], resamples=200).sslmem
    assert found is not None
    assert found.over == "trainings"
    means = []
    for run in (runs["a"], runs["b"]):
        group = np.array(run.samples["group"].to_pylist())
        each: dict[str, list[float]] = {"f": [], "g": []}
        for row in run.encoders.to_pylist():
            shards = [read_reading_alignment(run, row["encoder"], shard) for shard in (0, 1)]
            alignment = np.concatenate(shards)
            each[row["role"]].append(alignment[group == "candidate"].mean() - alignment[group == "extra"].mean())
        f, g = (np.array(each[role]) for role in "fg")
        squares = f.var(ddof=1) / len(f), g.var(ddof=1) / len(g)
        degrees = sum(squares) ** 2 / (squares[0] ** 2 / (len(f) - 1) + squares[1] ** 2 / (len(g) - 1))
        means.append(TrainingMean(g.mean() - f.mean(), math.sqrt(sum(squares)), degrees))
        sslmem = np.array(run.samples["sslmem"])
        assert means[-1].value == pytest.approx(
            sslmem[group == "candidate"].mean() - sslmem[group == "extra"].mean(), abs=1e-6
        )
    assert (found.a, found.b) == pytest.approx((means[0].value, means[1].value))
    assert (found.low, found.high, found.p) == pytest.approx(welch_interval(means[0], means[1], "less", 0.95))


def read_reading_alignment(run: Run, encoder: str, shard: int) -> np.ndarray:
    from safetensors.numpy import load_file

    return load_file(run.folder / "readings" / encoder / f"{shard:05d}.safetensors")["alignment"][-1].astype(float)


def test_one_training_has_no_error(runs: dict[str, Run]) -> None:
    found = compare(runs["a"], runs["pair"], resamples=200)
    assert any(note.startswith("One training has no error") for note in found.notes)
    for layer in found.layers:
        assert layer.layermem is not None
        assert layer.layermem.over == "images"
        assert layer.layermem.low < layer.layermem.difference < layer.layermem.high
        assert math.isnan(layer.unitmem.p)
    assert "bootstrap" in str(found)


def test_random_subsets_are_compared(runs: dict[str, Run]) -> None:
    found = compare(runs["x"], runs["y"], resamples=200)
    assert found.n_images == 240
    assert all(layer.layermem is not None and layer.layermem.over == "trainings" for layer in found.layers)
    assert found.layers[-1].layermem is not None
    assert found.layers[-1].layermem.high < 0
    assert not any("candidates" in note for note in found.notes)
    assert not any("over images" in note for note in found.notes)


def mean_sslmem(alignment: np.ndarray, seen: np.ndarray) -> float:
    """Mean over images of the mean out minus the mean in, after levels by regression; images with both sides alone."""
    both = (seen == 1).any(1) & (seen == 0).any(1)
    after = alignment - regression(alignment, seen)[0]
    return float((mean_of(after, seen, 0) - mean_of(after, seen, 1))[both].mean())


def test_sslmem_of_random_subsets_is_jackknifed_over_trainings(runs: dict[str, Run]) -> None:
    found = compare(runs["x"], runs["y"], resamples=200).sslmem
    assert found is not None
    assert found.over == "trainings"
    means = []
    for run in (runs["x"], runs["y"]):
        names = [row["encoder"] for row in run.encoders.to_pylist()]
        values = [np.concatenate([read_reading_alignment(run, name, shard) for shard in (0, 1)]) for name in names]
        alignment, seen = np.stack(values, 1), np.stack([run.samples[f"member/{name}"] for name in names], 1)
        rest = [np.delete(np.arange(8), k) for k in range(8)]
        without = np.array([mean_sslmem(alignment[:, others], seen[:, others]) for others in rest])
        se = math.sqrt(7 / 8 * ((without - without.mean()) ** 2).sum())
        means.append(TrainingMean(mean_sslmem(alignment, seen), se, 7))
    assert (found.a, found.b) == pytest.approx((means[0].value, means[1].value), rel=1e-10)
    known = welch_interval(means[0], means[1], "less", 0.95)
    assert (found.low, found.high, found.p) == pytest.approx(known, rel=1e-9)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ("shared", "significance.control, got 'extra' in .* and 'shared'"),
        ("x", "the same candidates|significance.design"),
    ],
)
def test_other_designs_are_refused(runs: dict[str, Run], other: str, words: str) -> None:
    with pytest.raises(CompareError, match=words):
        compare(runs["b"], runs[other], resamples=200)


def with_references(run: Run, digests: list[str]) -> Run:
    """The run with one f and these g's in its manifest."""
    file = run.manifest.weights.f
    listed = [EncoderEntry("f1", "f", "memkern:resnet9", file, None)]
    weights = [replace(file, sha256=digest) for digest in digests]
    listed += [EncoderEntry(f"g{k}", "g", "memkern:resnet9", each, None) for k, each in enumerate(weights)]
    return Run(run.folder, replace(run.manifest, encoders=tuple(listed)))


@pytest.mark.parametrize(("other", "differ"), [(["d1", "d2"], False), (["d2", "d1"], False), (["d1", "d3"], True)])
def test_references_of_all_trainings_are_compared(runs: dict[str, Run], other: list[str], differ: bool) -> None:
    a, b = with_references(runs["a"], ["d1", "d2"]), with_references(runs["b"], other)
    told = compare(a, b, resamples=200).notes
    assert any("reference encoders differ" in note for note in told) == differ


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (["d1", "d2"], "2 of the trainings are in both"),
        (["d2", "d3"], "1 of the trainings is in both"),
        (["d3", "d4"], None),
    ],
)
def test_trainings_that_both_audits_have_are_told(runs: dict[str, Run], other: list[str], words: str | None) -> None:
    def with_digests(run: Run, of_f: str, of_g: list[str]) -> Run:
        run = with_references(run, of_g)
        first = run.manifest.encoders[0]
        own = replace(first, weights=replace(first.weights, sha256=of_f))
        return Run(run.folder, replace(run.manifest, encoders=(own, *run.manifest.encoders[1:])))

    told = compare(
        with_digests(runs["a"], "fa", ["d1", "d2"]), with_digests(runs["b"], "fb", other), resamples=200
    ).notes
    found = [note for note in told if "in both audits" in note]
    assert len(found) == (words is not None)
    assert all(note.startswith(words) for note in found)
