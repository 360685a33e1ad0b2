"""Two families side by side: trainings are what was drawn, where both audits have several."""

from __future__ import annotations

import math

import pytest

for package in ("pyarrow", "scipy", "safetensors"):
    pytest.importorskip(package, reason="memkern[audit] is not installed")

import family_runs  # noqa: E402

from memkern.audit import compare  # noqa: E402
from memkern.audit.run_folder.reader import Run  # noqa: E402
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
    assert found.sslmem is not None
    assert found.sslmem.over == "images"
    assert any("of SSLMem are over images, given these trainings" in note for note in found.notes)


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
