"""The report of an audit: one HTML file that needs nothing else, no network and no script."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from memkern._util.files import replace_atomically
from memkern._util.optional_imports import require
from memkern._util.registry import records
from memkern.audit.report import sections
from memkern.audit.report.gallery import Thumbs
from memkern.audit.report.section import ReportContext, Section
from memkern.audit.report.text import clean, score, signed, small
from memkern.audit.report.verdict import verdict
from memkern.audit.run_folder.arrays import read_arrays
from memkern.audit.run_folder.reader import Run, read_run

REPORT = "report.html"
MAX_BYTES = 3_000_000
HERE = Path(__file__).parent


class Written(NamedTuple):
    """A section as HTML.

    Attributes:
        name: Anchor of the section.
        title: Heading of the section.
        html: What stands below the heading.
    """

    name: str
    title: str
    html: str


def report(run: Run | Path | str, *, images: bool = True) -> str:
    """Makes the report of a finished audit.

    Every name, label and other text of the audit is escaped, and a content security policy in the file forbids scripts
    and requests.

    Args:
        run: The audit, or its folder.
        images: Whether to show the pictures in `RUN/thumbs`; without, the file holds no pixel of the data.

    Returns:
        The HTML, under 3 MB.

    Raises:
        RunFolderError: If the folder holds no finished audit, or a table is damaged.
        ImportError: If a package of `memkern[audit]` is missing.
    """
    run = run if isinstance(run, Run) else read_run(run)
    jinja = require("jinja2", "jinja2")
    environment = jinja.Environment(
        loader=jinja.FileSystemLoader([HERE, *sections.__path__]),
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja.StrictUndefined,
    )  # fmt: skip
    environment.filters.update(clean=clean, signed=signed, score=score, small=small)
    context = ReportContext(run, read_arrays(run), Thumbs(run.folder if images else None))
    shown = [section for section in records(sections, "SECTION", Section, order="order") if section.shown(context)]
    data = [section.data(context) for section in shown]  # all before any is written: sections share the pictures
    html: str = environment.get_template("page.html.j2").render(
        title=clean(run.manifest.encoder, 80),
        version=run.manifest.versions["memkern"],
        style=(HERE / "style.css").read_text(encoding="utf-8"),
        verdict=verdict(context.data, run.output),
        sections=[
            Written(section.name, section.title, environment.get_template(f"{section.name}.html.j2").render(values))
            for section, values in zip(shown, data, strict=True)
        ],
    )
    return html


def write_report(run: Run | Path | str, *, images: bool = True, out: Path | None = None) -> Path:
    """Writes the report of a finished audit, atomically.

    Args:
        run: The audit, or its folder.
        images: Whether to show the pictures in `RUN/thumbs`; without, the file holds no pixel of the data.
        out: The file; default: `report.html` in the audit's folder.

    Returns:
        The file.

    Raises:
        RunFolderError: If the folder holds no finished audit, or a table is damaged.
        ImportError: If a package of `memkern[audit]` is missing.
        OSError: If the file cannot be written.
    """
    run = run if isinstance(run, Run) else read_run(run)
    html = report(run, images=images)
    path = run.folder / REPORT if out is None else out
    with replace_atomically(path) as part:
        part.write_text(html, encoding="utf-8")
    return path
