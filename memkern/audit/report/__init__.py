"""The report of an audit: one HTML file that needs nothing else, no network and no script."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

from memkern._util.files import replace_atomically
from memkern._util.optional_imports import require
from memkern.audit.run_folder.store import Run, read_run

REPORT = "report.html"
MAX_BYTES = 3_000_000


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
    from memkern.audit.report.content import content  # after jinja2: its absence is the first thing to say

    folder = files(__package__ or __name__)
    environment = jinja.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja.StrictUndefined
    )
    environment.filters.update(_filters())
    template = environment.from_string((folder / "template.html.j2").read_text(encoding="utf-8"))
    style = (folder / "style.css").read_text(encoding="utf-8")
    html: str = template.render(**content(run, images=images), style=style)
    return html


def write_report(run: Run | Path | str, *, images: bool = True, out: Path | None = None) -> Path:
    """Writes the report of a finished audit, atomically.

    Args:
        run: The audit, or its folder.
        images: As for `report`.
        out: The file; default: `report.html` in the audit's folder.

    Returns:
        The file.

    Raises:
        RunFolderError: As for `report`.
        ImportError: As for `report`.
        OSError: If the file cannot be written.
    """
    run = run if isinstance(run, Run) else read_run(run)
    html = report(run, images=images)
    path = run.folder / REPORT if out is None else out
    with replace_atomically(path) as part:
        part.write_text(html, encoding="utf-8")
    return path


def _filters() -> dict[str, Any]:
    from markupsafe import Markup

    from memkern.audit.report.gallery import class_name
    from memkern.audit.report.svg import clean
    from memkern.audit.report.verdict import signed

    def score(value: float, digits: int = 3) -> str:
        return signed(value, digits).removeprefix("+")

    return {"clean": clean, "signed": signed, "score": score, "svg": Markup, "class_name": class_name}
