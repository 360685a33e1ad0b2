"""How sure an audit is: what the section shows, with numbers by hand."""

from __future__ import annotations

import html.parser
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

for package in ("pyarrow", "scipy", "jinja2", "safetensors"):
    pytest.importorskip(package, reason="memkern[audit] is not installed")

import audit_runs  # noqa: E402
import browser  # noqa: E402
import family_runs  # noqa: E402

from memkern.audit.measure.alignments import output_alignments  # noqa: E402
from memkern.audit.report import certainty_charts as draw  # noqa: E402
from memkern.audit.report import report  # noqa: E402
from memkern.audit.report.charts import NARROW, WIDE, Compared, layers  # noqa: E402
from memkern.audit.report.gallery import Thumbs, error_of, items  # noqa: E402
from memkern.audit.report.section import ReportContext  # noqa: E402
from memkern.audit.report.sections.certainty import RATES, SECTION  # noqa: E402
from memkern.audit.run_folder.arrays import read_arrays  # noqa: E402
from memkern.audit.run_folder.reader import Run, read_run  # noqa: E402

CHARTS = ("heat_map", "volcano", "reliability", "levels", "roc")


def context(run: Run) -> ReportContext:
    return ReportContext(run, read_arrays(run), Thumbs(None))


def section(run: Run) -> Mapping[str, Any]:
    return SECTION.data(context(run))


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return family_runs.write(tmp_path_factory.mktemp("split"))


@pytest.fixture(scope="module")
def varying(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return family_runs.write(tmp_path_factory.mktemp("varying"), varying=8)


def test_there_is_a_chart_of_everything_with_an_alternative(split: Run, varying: Run) -> None:
    for run in (split, varying):
        values = section(run)
        for name in CHARTS:
            assert values[name].count("<svg") == 2, name
            assert all(len(label) > 20 for label in re.findall(r'aria-label="(.*?)"', values[name])), name
        assert values["images"]
        assert values["layers"]
        assert values["encoders"]


def test_a_pair_has_no_picture_of_encoders_and_no_levels_after_all(tmp_path: Path) -> None:
    values = section(family_runs.write(tmp_path, n_f=1, n_g=1))
    assert values["heat_map"] == ""
    assert values["volcano"]
    assert values["roc"]


def test_without_a_control_there_is_no_volcano(tmp_path: Path) -> None:
    run = family_runs.write(tmp_path, control="none")
    values = section(run)
    assert (values["heat_map"], values["volcano"], values["images"]) == ("", "", [])
    assert any("There is no p: no control group" in sentence for sentence in values["sentences"])


def test_old_audits_have_no_such_section(tmp_path: Path) -> None:
    assert not SECTION.shown(context(audit_runs.write(tmp_path, thumbs=False)))


def test_images_are_sorted_by_q(split: Run) -> None:
    rows = section(split)["images"]
    q = split.samples["q"].to_pylist()
    known = sorted(value for value in q if value is not None)
    assert [row.q for row in rows] == known[: len(rows)]
    first = split.samples["id"].to_pylist().index(rows[0].name)
    sample = split.samples.slice(first, 1).to_pylist()[0]
    assert (rows[0].n_in, rows[0].n_out, rows[0].called) == (4, 4, True)
    assert rows[0].error == pytest.approx((sample["se"] ** 2 + sample["se_views"] ** 2) ** 0.5)
    assert rows[0].score == pytest.approx(sample["a_out/output"] - sample["a_in/output"], abs=1e-6)


def test_the_readings_of_all_shards_are_put_together(split: Run, varying: Run) -> None:
    for run in (split, varying):
        found = output_alignments(run, read_arrays(run))
        assert found is not None
        inside = np.where(found.membership == 1, found.values, np.nan)
        if found.fixed:
            by_role = np.array(run.samples["alignment_f/output"])
            roles = np.array(read_arrays(run).encoders["role"])
            assert found.values[:, roles == "f"].mean(1) == pytest.approx(by_role, abs=1e-6)
        else:  # a_in is after levels, which are the same for all images of an encoder
            levels = np.array(read_arrays(run).encoders["level"])
            assert np.nanmean(inside - levels, 1) == pytest.approx(np.array(run.samples["a_in/output"]), abs=1e-5)


def test_the_curve_goes_through_the_rates_of_the_table(split: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[draw.Curve] = []
    monkeypatch.setattr(draw, "roc", lambda curves, *, width: drawn.extend(curves) or "")
    section(split)
    table = split.encoders.to_pylist()
    curves = {curve.encoder: curve for curve in drawn}
    assert sorted(curves) == ["f1", "f2", "f3", "f4"]
    for row in table[:4]:
        curve = curves[row["encoder"]]
        assert curve.auc == pytest.approx(row["auc"])
        for rate, name in ((0.1, "tpr_10"), (0.01, "tpr_01")):
            place = int(np.argmin(abs(curve.fpr - rate)))
            assert curve.fpr[place] == pytest.approx(rate)
            assert curve.tpr[place] == pytest.approx(row[name])
            assert (curve.low[place], curve.high[place]) == pytest.approx((row[f"{name}_lo"], row[f"{name}_hi"]))
        assert curve.fpr.min() == pytest.approx(0.01), "fewer than one of 100 others at a lower rate"
    assert RATES[0] == pytest.approx(0.001)


def test_readings_that_were_lost_cost_the_pictures_that_need_them(tmp_path: Path) -> None:
    run = family_runs.write(tmp_path)
    for path in (run.folder / "readings" / "f1").iterdir():
        path.unlink()
    values = section(read_run(run.folder))
    assert (values["heat_map"], values["roc"]) == ("", "")
    assert values["volcano"]


def test_leaks_are_counted(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    run = family_runs.write(tmp_path)
    table = run.samples
    leaks = pa.array(["x.png", "y.png", *[None] * (len(table) - 2)])
    pq.write_table(
        table.set_column(table.column_names.index("leaked_by"), "leaked_by", leaks), tmp_path / "samples.parquet"
    )
    family_runs.accept_files(tmp_path)
    told = " ".join(section(read_run(tmp_path))["sentences"])
    assert "2 images that an encoder did not see are near copies" in told


def test_sentences_name_method_assumption_and_cost(split: Run) -> None:
    told = " ".join(section(split)["sentences"])
    significance = split.manifest.significance
    assert significance is not None
    assert "moderated t" in told
    assert "independent trainings" in told
    assert f"{significance.n_memorized} of 60 candidates are called" in told
    assert f"calls {significance.n_check}" in told
    assert f"A reliability of 0.8 takes about {np.ceil(significance.encoders_for_08 or 0):.0f} encoders" in told


def test_the_gallery_shows_ratio_error_and_q(split: Run) -> None:
    data = read_arrays(split)
    row = int(data.scored[np.argmax(data.sslmem[data.scored])])  # type: ignore[index]
    item = items(data, np.array([row]), split.manifest, Thumbs(None))[0]
    assert data.sslmem_ratio is not None
    assert (item.ratio, item.called, item.score_name) == (data.sslmem_ratio[row], True, "SSLMem after levels")
    assert item.error == error_of(data)[row] > 0
    page = " ".join(re.sub(r"<[^>]+>", " ", report(split, images=False)).split())
    assert re.search(r"SSLMem after levels \+0\.\d+ ± 0\.\d+ · p &lt;0\.0001 · q &lt;0\.0001", page)
    assert "Highest SSLMem" in page


def test_bands_and_the_line_of_the_control(split: Run) -> None:
    drawn = report(split, images=False)
    assert drawn.count('class="interval"') >= 2 * len(split.layer_names)
    assert "trace control" in drawn
    names, zero = ["a", "b"], np.zeros(2)
    low, high = np.array([0.1, np.nan]), np.array([0.3, np.nan])
    svg = layers(names, zero + 0.2, zero, width=WIDE, against=Compared("control", zero), band=(low, high))
    assert "a: 95% interval +0.1000 to +0.3000" in svg
    assert "b: 95% interval" not in svg
    assert "a: control +0.0000" in svg
    assert 'class="interval"' not in layers(names, zero, zero, width=NARROW)


def test_the_heat_map_by_hand() -> None:
    closer = np.array([[1.0, -1.0, np.nan], [-1.0, 1.0, 0.0]])
    member = np.array([[True, False, False], [False, True, False]])
    svg = draw.heat_map(closer, member, ["f", "g"], 1, "5%", width=WIDE)
    cells = {fill: d.count("M") for d, fill in re.findall(r'<path d="([^"]*)" class="cell" fill="([^"]*)"', svg)}
    assert cells == {draw.SHADES[-1]: 2, draw.SHADES[0]: 2, draw.SHADES[4]: 1}, "the unknown cell is blank"
    assert 'class="threshold"' in svg
    assert "q ≤ 5%" in svg
    assert "no image has q" in draw.heat_map(closer, member, ["f", "g"], 0, "5%", width=NARROW)


def test_the_volcano_by_hand() -> None:
    score, p = np.array([0.0, 0.1, 0.2]), np.array([0.5, 0.01, 1e-40])
    svg = draw.volcano(score, p, np.array([False, True, True]), "5%", "SSLMem", width=WIDE)
    quiet, called = (re.search(rf'<path d="([^"]*)" class="dots {kind}"', svg) for kind in ("quiet", "scored"))
    assert quiet is not None
    assert called is not None
    assert (quiet[1].count("M"), called[1].count("M")) == (1, 2)
    heights = [float(y) for y in re.findall(r"M[\d.]+ ([\d.]+)h0", called[1])]
    assert min(heights) == 22.0, "p below 1e-12 stands at the top"
    assert "dots at the top: 12 and more" in svg
    threshold = re.search(r'M40 ([\d.]+)L[\d.]+ [\d.]+" class="threshold"', svg)
    assert threshold is not None
    assert max(heights) < float(threshold[1]) < float(re.search(r"M[\d.]+ ([\d.]+)h0", quiet[1])[1])  # type: ignore[index]


def test_charts_survive_what_is_missing() -> None:
    nothing = np.array([np.nan, np.nan])
    assert "–" in draw.reliability(["a", "b"], nothing, width=NARROW)
    assert "Levels of 0 trainings" in draw.levels(["a", "b"], ["", ""], nothing, width=WIDE)
    assert "<svg" in draw.heat_map(np.full((2, 1), np.nan), np.zeros((2, 1), bool), ["a", "b"], 0, "5%", width=WIDE)


class Balanced(html.parser.HTMLParser):
    """Elements that are open at the end of a document."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in {"meta", "img", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, tag


def test_hostile_names_of_encoders_and_a_whole_page(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    run = family_runs.write(tmp_path)
    table = run.encoders
    bad = ["<script>alert(1)</script>", *table["encoder"].to_pylist()[1:]]
    pq.write_table(table.set_column(0, "encoder", pa.array(bad)), tmp_path / "encoders.parquet")
    family_runs.accept_files(tmp_path)
    page = report(read_run(tmp_path), images=False)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert not Balanced(page).open


def test_failures_and_peaks_are_named(tmp_path: Path) -> None:
    run = family_runs.write(tmp_path, memorized=0.0)
    told = " ".join(section(run)["sentences"])
    assert run.manifest.significance is not None
    assert any("near zero" in finding for finding in run.manifest.significance.findings)
    assert all(finding in told for finding in run.manifest.significance.findings)
    layers_ = run.layers.to_pylist()
    best = min(layers_, key=lambda row: row["member_peaks_p"])
    assert f"Of the units of {best['layer']}, {best['member_peaks']:.0%} answer most" in told
    assert "the smallest p of 4 layers" in told


@pytest.mark.skipif(browser.PATH is None, reason=browser.REASON)
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_it_whole_in_light_and_dark(split: Run, tmp_path: Path, width: int) -> None:
    from PIL import Image

    page = tmp_path / "report.html"
    page.write_text(report(split, images=False), encoding="utf-8")
    assert browser.visit(page, tmp_path).console() == []
    for scheme in (browser.LIGHT, browser.DARK):
        picture = tmp_path / f"{scheme}.png"
        browser.visit(page, tmp_path, width=width, height=6500, scheme=scheme, picture=picture)
        pixels = np.asarray(Image.open(picture).convert("L"))[:, :width].astype(int)
        edge = pixels[:, width - 8 :]
        assert (abs(edge - edge[0, 0]) < 40).all(), "something sticks out at the right"
        assert (np.median(pixels) > 200) == (scheme == browser.LIGHT)
