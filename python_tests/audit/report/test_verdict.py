"""What a report may say of memorization: nothing without a control, and with one the words of `memkern.families`."""

from __future__ import annotations

import re
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

for package in ("pyarrow", "scipy", "jinja2", "safetensors", "PIL"):
    pytest.importorskip(package, reason="memkern[audit] is not installed")

import family_runs  # noqa: E402
from rich.console import Console  # noqa: E402

from memkern.audit.report import report  # noqa: E402
from memkern.audit.report.control import CANNOT_TELL, control_words, headline, sslmem_of_p  # noqa: E402
from memkern.audit.report.terminal import show_run  # noqa: E402
from memkern.audit.report.verdict import Verdict, verdict  # noqa: E402
from memkern.audit.run_folder.arrays import RunArrays, read_arrays  # noqa: E402
from memkern.audit.run_folder.reader import Run  # noqa: E402
from memkern.families import group_test  # noqa: E402


def judged(run: Run) -> tuple[Verdict, RunArrays]:
    data = read_arrays(run)
    return verdict(data, run.output), data


def test_with_a_control_the_headline_is_the_verdict_of_families(tmp_path: Path) -> None:
    found, data = judged(family_runs.write(tmp_path))
    assert data.significance is not None
    assert data.significance.n_memorized
    assert found.level == "memorized"
    assert found.headline == data.significance.verdict
    assert f"{data.significance.n_memorized} of 60 candidates are memorized" in found.headline
    assert found.facts[0][:2] == (str(data.significance.n_memorized), "memorized")
    assert "Control: 100 extra images, which no training saw." in found.sentences
    assert any(f"(conformal) calls {data.significance.n_check}." in sentence for sentence in found.sentences)
    assert any("over images and trainings" in sentence for sentence in found.sentences)


def test_nothing_memorized_says_none(tmp_path: Path) -> None:
    found, _ = judged(family_runs.write(tmp_path, memorized=0.0))
    assert found.level == "none"
    assert found.headline == "0 of 60 candidates are memorized at a false-discovery rate of 5%."
    group = next(sentence for sentence in found.sentences if "As a group" in sentence)
    assert float(re.search(r"p = ([\d.]+)", group)[1]) > 0.05  # type: ignore[index]


@pytest.mark.parametrize("given", [{"n_f": 4, "n_g": 4}, {"n_f": 1, "n_g": 1}], ids=["4 + 4 trainings", "one pair"])
def test_without_a_control_group_a_split_says_nothing(tmp_path: Path, given: dict[str, Any]) -> None:
    run = family_runs.write(tmp_path, control="none", strength=0.3, **given)
    found, _ = judged(run)
    assert (found.level, found.headline) == ("untold", CANNOT_TELL)
    assert "memorized" not in [fact[1] for fact in found.facts]
    page = report(run, images=False)
    assert "are memorized" not in page
    assert "chip called" not in page


def test_random_subsets_are_their_own_control(tmp_path: Path) -> None:
    found, _ = judged(family_runs.write(tmp_path, varying=8))
    assert found.level == "memorized"
    assert any("240 images itself" in sentence for sentence in found.sentences)
    assert any("where 0 is no memorization" in sentence for sentence in found.sentences)


def test_too_few_controls_are_not_none(tmp_path: Path) -> None:
    groups = {"candidate": 60, "extra": 100}
    run = family_runs.write(tmp_path, n_f=1, n_g=1, groups=groups, memorized=0.0)
    found, data = judged(run)
    assert data.significance is not None
    assert found.level == "untold"
    assert "too few control images" in found.headline
    page = report(run, images=False)
    assert "12 of the 60 candidates would have to lie above every control" in page  # 60 / (0.05 * 101) = 11.9
    assert "Naming a single one takes 1,199 control images" in page  # 60 / 0.05 - 1


def test_a_pair_says_why_there_is_no_standard_error(tmp_path: Path) -> None:
    run = family_runs.write(tmp_path, n_f=1, n_g=1)
    page = report(run, images=False)
    assert "There is no standard error of an image: one training with it and one without it" in page
    found, data = judged(run)
    assert data.se is None
    assert any("over images alone; one training in a role has no error" in sentence for sentence in found.sentences)


def test_the_words_of_the_control(tmp_path: Path) -> None:
    significance = read_arrays(family_runs.write(tmp_path, control="shared")).significance
    assert significance is not None
    assert control_words(significance) == "Control: 40 shared images, which every training saw."
    assert control_words(replace(significance, control="none")) == "Control: none, 0 images."
    assert headline(replace(significance, method="none")) == CANNOT_TELL
    assert headline(None) == CANNOT_TELL


def test_p_is_shown_beside_the_difference_it_is_about(tmp_path: Path) -> None:
    """After levels: `sslmem` of a split keeps them, the means in and out that p compares do not."""
    run = family_runs.write(tmp_path)
    data, score = read_arrays(run), sslmem_of_p(read_arrays(run))
    assert score is not None
    assert data.sslmem is not None
    inside, outside = (run.samples[f"{side}/output"].to_numpy() for side in ("a_in", "a_out"))
    assert score[data.scored] == pytest.approx((outside - inside)[data.scored], abs=1e-6)
    assert abs(score - data.sslmem).min() > 1e-3


def test_the_terminal_says_the_same(tmp_path: Path) -> None:
    for name, given in (("a", {}), ("b", {"control": "none"}), ("c", {"varying": 8})):
        run = family_runs.write(tmp_path / name, **given)
        text = StringIO()
        show_run(run, Console(file=text, width=200))
        shown = " ".join(text.getvalue().split())
        significance = run.manifest.significance
        assert significance is not None
        assert headline(significance) in shown
        assert control_words(significance) in shown
        assert ("p: moderated t" in shown) == (name != "b")
        assert ("conformal calls" in shown) == (name == "a")
        assert (" q " in shown) == (name != "b")


def test_the_group_is_tested_as_it_was_drawn(tmp_path: Path) -> None:
    """Within classes here; the p is that of `memkern.families.group_test` over candidates and control alone."""
    found, data = judged(family_runs.write(tmp_path, n_f=1, n_g=1, strength=0.02))
    assert data.sslmem is not None
    assert data.labels is not None
    rows = np.flatnonzero([name in ("candidate", "extra") for name in data.group])
    group = np.array([data.group[row] == "candidate" for row in rows])
    test = group_test(data.sslmem[rows], group, strata=data.labels[rows])
    sentence = next(sentence for sentence in found.sentences if sentence.startswith("As a group"))
    assert f"p = {test.p:.2g} (" in sentence
    assert "images exchanged within classes" in sentence
    assert 0.0001 < test.p < 0.9
