"""Images that the report shows, and what is told of each."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from memkern._util.files import require_regular
from memkern.audit.report.control import after_levels, sslmem_of_p
from memkern.audit.run_folder.arrays import Floats, Ints, RunArrays
from memkern.audit.run_folder.schema import Manifest
from memkern.audit.statistics import largest

MOST, LEAST = 12, 6
"""Images of either end of the ranking."""

MAX_DUPLICATES = 12
"""Pairs of duplicates that are shown."""

MAX_VIEWS = 6
PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Owned:
    """Units of one layer whose peak one image holds.

    Attributes:
        layer: The layer.
        count: How many.
        unit: The one with the largest UnitMem.
        unitmem: Its UnitMem.
    """

    layer: str
    count: int
    unit: int
    unitmem: float


@dataclass(frozen=True)
class Item:
    """Image of the gallery.

    Attributes:
        name: Its id.
        label: Its class, or "".
        score: SSLMem, or `None` without a reference encoder; after levels where p is about that.
        score_name: What to call it.
        ratio: SSLMem as a share, (A_g - A_f) / (A_g + A_f); NaN where undefined.
        error: Standard error of `score` over trainings and views; NaN where there is none.
        p: One-sided p of `score`, the same.
        q: False-discovery rate at which the image is called, the same.
        called: Whether `q` is at most the rate of the audit.
        candidate: Whether it is a candidate.
        owned: Units whose peak it holds, most of a layer first.
        units: How many units these are.
        copies: Ids of its duplicates.
        thumb: The image as a data URI, or "".
        views: Some views of it, the same.
    """

    name: str
    label: str
    score: float | None
    score_name: str
    ratio: float
    error: float
    p: float
    q: float
    called: bool
    candidate: bool
    owned: list[Owned]
    units: int
    copies: list[str]
    thumb: str = ""
    views: list[str] = field(default_factory=list)


def ends(data: RunArrays) -> tuple[Ints, Ints]:
    """Finds the scored images with the highest and lowest SSLMem; without a reference, those with most units.

    An audit writes thumbnails of exactly these (and of duplicates).
    """
    rows = data.scored
    if data.sslmem is None:
        counts = np.array([float(len(owner)) for owner in _owners(data, strong=True)])
        most = largest(counts, MOST)
        return most[counts[most] > 0], np.array([], dtype=np.int64)
    score = data.sslmem[rows]
    most = rows[largest(score, MOST)]
    least = rows[largest(-score, min(LEAST, max(0, len(rows) - len(most))))]
    return most, least


def thumbnail_indices(data: RunArrays, duplicates: Iterable[Sequence[str]] = ()) -> list[int]:
    """Indices of the images whose thumbnails a report can show, in the order of their rows.

    Args:
        data: The tables of an audit.
        duplicates: Pairs as in the manifest: two ids and the kind.

    Returns:
        Values of the column `index`.
    """
    place = {name: row for row, name in enumerate(data.ids)}
    copies = [place[name] for pair in list(duplicates)[:MAX_DUPLICATES] for name in pair[:2] if name in place]
    return [int(data.index[row]) for row in sorted({int(row) for end in ends(data) for row in end} | set(copies))]


def _owners(data: RunArrays, *, strong: bool = False) -> list[list[tuple[str, int]]]:
    """Lists for each image the (layer, position) of units whose peak it holds; `strong`: a layer's top tenth only."""
    row_of = {int(index): row for row, index in enumerate(data.index)}
    found: list[list[tuple[str, int]]] = [[] for _ in data.ids]
    for name, layer in data.units.items():
        alive = np.flatnonzero(np.nan_to_num(layer.unitmem) != 0)  # a dead unit has no peak image
        if strong:
            alive = largest(np.where(layer.signed, np.nan, layer.unitmem), max(1, len(layer.unit) // 10))
        for place in alive:
            row = row_of.get(int(layer.peak_index[place]))
            if row is not None:
                found[row].append((name, int(place)))
    return found


class Thumbs:
    """Thumbnails of a RUN folder as data URIs, within a budget of bytes.

    Args:
        folder: The RUN folder, or `None` to show none.
        budget: Bytes of HTML that all pictures together may take.
    """

    def __init__(self, folder: Path | None, budget: int = 2_200_000) -> None:
        self.folder = None if folder is None else folder / "thumbs"
        self.budget = budget
        self.left_out = 0

    @property
    def shown(self) -> bool:
        """True if the report shows pictures at all."""
        return self.folder is not None

    def get(self, name: str) -> str:
        """Returns the picture of a name, or "" if there is none, it is no PNG, or the budget is spent."""
        if self.folder is None:
            return ""
        try:
            require_regular(self.folder / name)  # a FIFO would be waited for
            raw = (self.folder / name).read_bytes()
        except OSError:
            return ""
        if not raw.startswith(PNG):
            return ""
        uri = "data:image/png;base64," + base64.b64encode(raw).decode("ascii")
        if len(uri) > self.budget:
            self.left_out += 1
            return ""
        self.budget -= len(uri)
        return uri


def error_of(data: RunArrays) -> Floats:
    """Standard error of SSLMem over trainings and, where they are known, views, `[N]`; NaN where there is none."""
    if data.se is None:
        return np.full(len(data.ids), math.nan)
    views = np.zeros(len(data.ids)) if data.se_views is None else np.nan_to_num(data.se_views)
    return np.sqrt(data.se**2 + views**2)


def items(data: RunArrays, rows: Ints, manifest: Manifest, thumbs: Thumbs) -> list[Item]:
    """Lists what the gallery shows of some images.

    Args:
        data: The tables.
        rows: Rows of the images, `[R]`.
        manifest: The audit's manifest, for class names and duplicates.
        thumbs: Where pictures come from.

    Returns:
        One item per row.
    """
    owners, error, score = _owners(data), error_of(data), sslmem_of_p(data)
    ratio = data.ratio.get(manifest.output) if data.sslmem_ratio is None else data.sslmem_ratio
    ratio = np.full(len(data.ids), math.nan) if ratio is None else ratio
    copies: dict[str, list[str]] = {}
    for first, second, *_ in manifest.data.duplicates:
        copies.setdefault(str(first), []).append(str(second))
        copies.setdefault(str(second), []).append(str(first))
    found = []
    for row in rows:
        index = int(data.index[row])
        found.append(
            Item(
                name=data.ids[row],
                label=class_name(manifest, None if data.labels is None else int(data.labels[row])),
                score=None if score is None else float(score[row]),
                score_name="SSLMem after levels" if after_levels(data) else "SSLMem",
                ratio=float(ratio[row]),
                error=float(error[row]),
                p=math.nan if data.p is None else float(data.p[row]),
                q=math.nan if data.q is None else float(data.q[row]),
                called=data.memorized is not None and bool(data.memorized[row]),
                candidate=bool(data.candidate[row]),
                owned=_owned(data, owners[row]),
                units=len(owners[row]),
                copies=copies.get(data.ids[row], []),
                thumb=thumbs.get(f"{index}.png"),
                views=[uri for view in range(MAX_VIEWS) if (uri := thumbs.get(f"{index}-view{view}.png"))],
            )
        )
    return found


def class_name(manifest: Manifest, label: int | None) -> str:
    """Returns the name of a class, its number where names are unknown, "" without a label."""
    if label is None or label < 0:
        return ""
    classes = manifest.data.classes or ()
    return str(classes[label]) if 0 <= label < len(classes) else f"class {label}"


def _owned(data: RunArrays, owner: list[tuple[str, int]]) -> list[Owned]:
    by_layer: dict[str, list[int]] = {}
    for name, place in owner:
        by_layer.setdefault(name, []).append(place)
    found = []
    for name, places in by_layer.items():
        layer = data.units[name]
        best = max(places, key=lambda place: float(layer.unitmem[place]))
        found.append(Owned(name, len(places), int(layer.unit[best]), float(layer.unitmem[best])))
    return sorted(found, key=lambda row: -row.count)
