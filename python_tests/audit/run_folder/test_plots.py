"""What notebooks show of a finished audit: figures hold the numbers of its tables; the table of facts is escaped."""

from __future__ import annotations

import builtins
import sys
from dataclasses import replace
from pathlib import Path

import audit_runs
import family_runs
import numpy as np
import pytest

for package in ("matplotlib", "pyarrow", "safetensors", "scipy"):
    pytest.importorskip(package, reason="memkern[audit] is not installed")

from memkern.audit.run_folder.plots import plot  # noqa: E402
from memkern.audit.run_folder.reader import Run  # noqa: E402
from memkern.errors import ArgumentValueError, MissingPackageError, RunFolderError  # noqa: E402


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return family_runs.write(tmp_path_factory.mktemp("family") / "run")


def test_layers_are_layermem_of_scored_images_and_control_with_the_error_of_the_excess(family: Run) -> None:
    axes = family.plot("layers").axes[0]
    drawn = {line.get_label(): line.get_ydata() for line in axes.lines}
    table = family.layers.to_pydict()
    assert drawn["candidates"] == pytest.approx(table["layermem_candidates"])
    assert drawn["control"] == pytest.approx(table["layermem_control"])
    (bars,) = axes.containers
    assert bars.get_label() == "excess ± standard error"
    excess, se = np.array(table["layermem_excess"]), np.array(table["se"])
    assert np.isfinite(se).all()
    ends = np.array([segment[:, 1] for segment in bars.lines[2][0].get_segments()])
    np.testing.assert_allclose(ends, np.stack([excess - se, excess + se], 1))
    assert [label.get_text() for label in axes.get_xticklabels()] == family.layer_names


def medians(axes: object) -> list[float]:
    """Of the boxes: of their lines, matplotlib draws those of medians in its second colour."""
    lines = [line for line in axes.lines if line.get_color() == "C1"]  # type: ignore[attr-defined]
    return [float(line.get_ydata()[0]) for line in lines]


def test_groups_are_sslmem_of_each_group(family: Run) -> None:
    axes = family.plot("groups").axes[0]
    samples = family.samples.to_pydict()
    names = ["candidate", "shared", "independent", "extra"]
    of = {name: [s for s, g in zip(samples["sslmem"], samples["group"], strict=True) if g == name] for name in names}
    assert [label.get_text() for label in axes.get_xticklabels()] == [f"{name} ({len(of[name])})" for name in names]
    assert medians(axes) == pytest.approx([float(np.median(values)) for values in of.values()])


def test_images_without_groups_are_candidates_and_others(tmp_path: Path) -> None:
    axes = audit_runs.write(tmp_path / "run").plot("groups").axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["candidate (30)", "others (30)"]


def test_units_are_unitmem_of_each_layer(family: Run) -> None:
    arrays = family.arrays()
    axes = family.plot("units").axes[0]
    assert medians(axes) == pytest.approx([float(np.median(units.unitmem)) for units in arrays.units.values()])
    assert axes.get_title() == ""
    first = next(iter(arrays.units.values()))
    first.unitmem[:2] = (np.nan, -7.0)
    assert plot(arrays, "units").axes[0].get_title() == "2 units without a score from 0 to 1 are left out"


def test_figures_are_shown_by_notebooks_and_pyplot_knows_of_none(tmp_path: Path) -> None:
    names = {"a$b$": 4, "red\x1b[31m": 4, **{f"blocks.{i}.mlp": 2 for i in range(90)}}
    run = audit_runs.write(tmp_path / "run", layers=names)
    for what in ("layers", "units"):
        assert run.plot(what)._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]
    labels = [label.get_text() for label in run.plot().axes[0].get_xticklabels()]
    assert labels[0] == "a$b$"
    assert len(labels) == 46  # every other of 92
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []


def test_what_is_unknown_or_was_not_measured_is_a_sentence(tmp_path: Path) -> None:
    run = audit_runs.write(tmp_path / "run", reference=False)
    with pytest.raises(ArgumentValueError, match=r"Expected what to be .layers., .groups. or .units., got 'images'"):
        run.plot("images")
    for what in ("layers", "groups"):
        with pytest.raises(RunFolderError, match="Expected an audit with a reference encoder, got one without"):
            run.plot(what)
    assert run.plot("units").axes


def test_without_matplotlib_the_extra_is_named(family: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: object, **more: object) -> object:
        if name.startswith("matplotlib"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.delitem(sys.modules, "memkern._util.shown_figure", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingPackageError, match=r"memkern.audit needs matplotlib: pip install 'memkern\[audit\]'"):
        family.plot("units")


def test_the_table_of_a_notebook_has_the_verdict_and_escapes_everything(family: Run, tmp_path: Path) -> None:
    assert family.manifest.significance is not None
    assert f"<th>verdict</th><td>{family.manifest.significance.verdict}</td>" in family._repr_html_()
    bad = "<script>alert('&')</script>"
    run = audit_runs.write(tmp_path / "<b>run", layers={bad: 4}, output=bad)
    html = replace(run, manifest=replace(run.manifest, encoder=bad))._repr_html_()
    assert html.count("&lt;script&gt;alert(&#x27;&amp;&#x27;)&lt;/script&gt;") == 2
    assert "<script" not in html
    assert "<b>" not in html
    assert "<th>images</th><td>60</td>" in html
    assert "<th>verdict</th><td>none, without an encoder that did not see the images" in html
