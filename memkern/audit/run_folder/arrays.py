"""A finished audit as numpy arrays: what its report and its comparisons read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from memkern.audit.run_folder.reader import Run
from memkern.scores import sslmem_score

if TYPE_CHECKING:
    import pyarrow

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Units:
    """Columns of the units of one layer.

    Attributes:
        unit: Numbers of the units, `[U]`.
        unitmem: `[U]`; NaN where undefined.
        classmem: `[U]`, or `None` without labels.
        peak: Largest mean activation over the images, `[U]`.
        peak_index: Index of the image that holds it, `[U]`.
        peak_id: Its id, `[U]`.
        signed: Whether a mean of the unit is negative for some image, `[U]`: its score has no bounds then.
    """

    unit: Ints
    unitmem: Floats
    classmem: Floats | None
    peak: Floats
    peak_index: Ints
    peak_id: list[str]
    signed: NDArray[np.bool_]


@dataclass(frozen=True)
class RunArrays:
    """Images, layers and units of an audit as numpy arrays.

    Attributes:
        ids: Id of every image, in data order, `[N]`.
        index: Index of every image, as its views and units name it, `[N]`.
        paths: Path of every image; `None` where there is none.
        labels: Class of every image, `[N]`, or `None` without labels.
        candidate: Whether an image is a candidate, `[N]`.
        has_candidates: Whether the audit was told its candidates.
        sslmem: A_g - A_f at the output, `[N]`, or `None` without a reference encoder.
        ratio: Layer -> (A_g - A_f) / (A_g + A_f) of every image, `[N]`; empty without a reference encoder.
        alignment: Layer -> A_f, `[N]`.
        layers: Column of the layer table -> its values, in forward order; a null is NaN, or `None` among strings.
        units: Layer -> its units.
    """

    ids: list[str]
    index: Ints
    paths: list[str | None]
    labels: Ints | None
    candidate: NDArray[np.bool_]
    has_candidates: bool
    sslmem: Floats | None
    ratio: dict[str, Floats]
    alignment: dict[str, Floats]
    layers: dict[str, list[Any]]
    units: dict[str, Units]

    @property
    def scored(self) -> Ints:
        """Rows of the images that memorization is reported on: the candidates, or all when none were named."""
        return np.flatnonzero(self.candidate) if self.has_candidates else np.arange(len(self.ids))

    def column(self, name: str) -> Floats:
        """Returns a column of the layer table, `[L]`, NaN where it was not measured."""
        return np.array(self.layers.get(name) or [np.nan] * len(self.layers["layer"]), dtype=np.float64)

    def scored_column(self, name: str) -> Floats:
        """Returns the column `layermem` or `delta`, `[L]`, over the scored images: the candidates if they are named."""
        of_candidates = self.column({"layermem": "layermem_candidates", "delta": "delta_candidates"}[name])
        return of_candidates if np.isfinite(of_candidates).any() else self.column(name)


def read_arrays(run: Run) -> RunArrays:
    """Reads the tables of an audit.

    Args:
        run: The audit.

    Returns:
        Its images, layers and units.

    Raises:
        RunFolderError: If a table is missing or damaged.
    """
    samples = run.samples
    taps = [name.partition("/")[2] for name in samples.column_names if name.startswith("alignment_f/")]
    alignment, ratio = {}, {}
    for name in taps:
        of_f, of_g = _floats(samples, f"alignment_f/{name}"), _floats(samples, f"alignment_g/{name}")
        if of_f is not None:
            alignment[name] = of_f
        if of_f is not None and of_g is not None:
            ratio[name] = sslmem_score(torch.from_numpy(of_f), torch.from_numpy(of_g), "ratio").numpy()
    labels = samples.column("label")
    candidate = samples.column("candidate").to_pylist()
    return RunArrays(
        ids=[str(value) for value in samples.column("id").to_pylist()],
        index=np.asarray(samples.column("index").to_pylist(), dtype=np.int64),
        paths=samples.column("path").to_pylist(),
        labels=None if labels.null_count else np.asarray(labels.to_pylist(), dtype=np.int64),
        candidate=np.asarray([bool(value) for value in candidate], dtype=bool),
        has_candidates=run.manifest.candidates is not None,
        sslmem=_floats(samples, "sslmem"),
        ratio=ratio,
        alignment=alignment,
        layers=_layers(run),
        units=_units(run),
    )


def _floats(table: pyarrow.Table, name: str) -> Floats | None:
    """A column as float64, or `None` if it was not measured."""
    if name not in table.column_names:
        return None
    column = table.column(name)
    if column.null_count == len(column):
        return None
    return np.array(column.to_numpy(zero_copy_only=False), dtype=np.float64)


def _layers(run: Run) -> dict[str, list[Any]]:
    table = run.layers
    found: dict[str, list[Any]] = {}
    for name in table.column_names:
        values = table.column(name).to_pylist()
        text = any(isinstance(value, str) for value in values)
        found[name] = values if text else [float("nan") if value is None else value for value in values]
    return found


def _units(run: Run) -> dict[str, Units]:
    table = run.units
    owner = np.asarray(table.column("layer").to_pylist(), dtype=object)
    unitmem, classmem, peak = (_floats(table, name) for name in ("unitmem", "classmem", "peak"))
    nothing = np.full(len(owner), np.nan)
    unit = np.asarray(table.column("unit").to_pylist(), dtype=np.int64)
    index = np.asarray([-1 if i is None else i for i in table.column("peak_index").to_pylist()], dtype=np.int64)
    ids = table.column("peak_id").to_pylist()
    marked = table.column("signed").to_pylist() if "signed" in table.column_names else [False] * len(owner)
    signed = np.asarray([bool(value) for value in marked], dtype=bool)
    found = {}
    for name in run.layer_names:
        rows = np.flatnonzero(owner == name)
        found[name] = Units(
            unit[rows],
            (nothing if unitmem is None else unitmem)[rows],
            None if classmem is None else classmem[rows],
            (nothing if peak is None else peak)[rows],
            index[rows],
            [str(ids[row]) for row in rows],
            signed[rows],
        )
    return found
