"""How alike layers rank the images: numbers by hand, and when there is nothing to say."""

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="memkern[audit] is not installed")
pytest.importorskip("scipy", reason="memkern[audit] is not installed")

import audit_runs

from memkern.audit.report.gallery import Thumbs
from memkern.audit.report.section import ReportContext
from memkern.audit.report.sections.consistency import SECTION
from memkern.audit.run_folder.arrays import read_arrays


def context(run):
    return ReportContext(run, read_arrays(run), Thumbs(None))


def concordance(a, b):
    """Kendall's tau of two lists without ties: pairs in the same order minus pairs in the other one, as a share."""
    signs = [np.sign(a[i] - a[j]) * np.sign(b[i] - b[j]) for i in range(len(a)) for j in range(i)]
    return sum(signs) / len(signs)


def test_neighbors_and_ends_by_hand(tmp_path):
    found = context(audit_runs.write(tmp_path, thumbs=False))
    values = SECTION.data(found)
    scores = [ratio[found.data.scored] for ratio in found.data.ratio.values()]
    assert len(scores[0]) == 30, "the candidates"
    assert values["neighbors"] == pytest.approx(np.mean([concordance(*scores[i : i + 2]) for i in range(3)]))
    assert values["ends"] == pytest.approx(concordance(scores[0], scores[-1]))
    assert (values["k"], values["chance"], values["layers"], values["layers_shown"]) == (3, 0.1, 4, 4)


def test_it_takes_two_layers_ten_images_and_a_reference(tmp_path):
    assert SECTION.shown(context(audit_runs.write(tmp_path / "a", n=20, layers={"x": 2, "y": 2}, thumbs=False)))
    for name, given in (
        ("layer", {"layers": {"x": 2}}), ("images", {"n": 18}), ("reference", {"reference": False}),
    ):  # fmt: skip
        assert not SECTION.shown(context(audit_runs.write(tmp_path / name, thumbs=False, **given))), name
