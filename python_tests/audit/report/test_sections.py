"""Sections of the report: each is a file and its template, and no list names them."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("pyarrow", reason="memkern[audit] is not installed")
pytest.importorskip("jinja2", reason="memkern[audit] is not installed")

import audit_runs

from memkern._util.registry import records
from memkern.audit.report import report, sections
from memkern.audit.report.section import Section

TEMPLATE = '{% from "macros.html.j2" import name %}\n<p>{{ name(first) }} {{ count }}</p>\n'
FOLDER = Path(sections.__file__).parent
NEW = """
from memkern.audit.report.section import Section

SECTION = Section(
    "new", "A <new> section", order=35, data=lambda context: {"first": context.data.ids[0], "count": 2},
    shown=lambda context: context.data.has_candidates,
)
"""


def test_every_section_has_a_template_and_every_template_a_section():
    names = {section.name for section in records(sections, "SECTION", Section, order="order")}
    assert names == {path.stem for path in FOLDER.glob("[!_]*.py")}
    assert names == {path.name.removesuffix(".html.j2") for path in FOLDER.glob("*.j2")}


def test_a_new_section_is_a_file_and_its_template(tmp_path, monkeypatch):
    """It stands where its number says, is linked to, escapes foreign text, and is left out where it has nothing."""
    (tmp_path / "new.py").write_text(NEW)
    (tmp_path / "new.html.j2").write_text(
        '{% from "macros.html.j2" import name %}\n<p>{{ name(first) }} {{ count }}</p>'
    )
    monkeypatch.setattr(sections, "__path__", [*sections.__path__, str(tmp_path)])
    records.cache_clear()
    try:
        text = report(audit_runs.write(tmp_path / "a", ids=[f"<i>{i}" for i in range(60)], thumbs=False))
        without = report(audit_runs.write(tmp_path / "b", name_candidates=False, thumbs=False))
    finally:
        records.cache_clear()
        sys.modules.pop(f"{sections.__name__}.new", None)
    assert '<section id="new">\n<h2>A &lt;new&gt; section</h2>' in text
    assert '<li><a href="#new">New</a></li>' in text
    places = [text.index(f'id="{name}"') for name in ("scope", "layers", "images", "new", "units", "consistency")]
    assert places == sorted(places)
    assert "&lt;i&gt;0</bdi> 2</p>" in text
    assert 'id="new"' not in without
    assert "#new" not in without
