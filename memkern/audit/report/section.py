"""Sections of the report: the record that each file of `memkern.audit.report.sections` binds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from memkern.audit.report.gallery import Thumbs
from memkern.audit.run_folder.arrays import RunArrays
from memkern.audit.run_folder.reader import Run


@dataclass(frozen=True)
class ReportContext:
    """Audit that a section tells of: its run, tables and pictures.

    Attributes:
        run: The audit.
        data: Its tables.
        thumbs: Its pictures, within a budget of bytes that all sections share.
    """

    run: Run
    data: RunArrays
    thumbs: Thumbs

    @property
    def has_classes(self) -> bool:
        """True if ClassMem was measured."""
        return any(layer.classmem is not None for layer in self.data.units.values())


def _always(context: ReportContext) -> bool:
    return True


@dataclass(frozen=True)
class Section:
    """A section of the report.

    Its template is the file `<name>.html.j2` beside the file that binds the record. It writes what stands between the
    section's heading and its end, and sees what `data` returns and the filters of `memkern.audit.report`, nothing else.
    Every section's `data` is called before the first template is rendered.

    Attributes:
        name: The name of the file, the anchor of the section and, capitalized, the link to it.
        title: The heading.
        order: Where the section stands: sections are sorted by this number.
        data: From what the report is made of to the variables of the template.
        shown: Whether there is something to say; by default always.
    """

    name: str
    title: str
    order: int
    data: Callable[[ReportContext], Mapping[str, object]]
    shown: Callable[[ReportContext], bool] = _always
