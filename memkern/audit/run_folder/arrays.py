"""A finished audit as numpy arrays: what its report and its comparisons read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from memkern.audit.run_folder.reader import Run, read_table
from memkern.audit.run_folder.schema import Significance
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
        group: Group of every image, `[N]`; `None` where unknown.
        n_in: How many encoders saw each image, `[N]`, or `None` where memberships are unknown.
        n_out: How many did not, `[N]`.
        sslmem_ratio: (A_out - A_in) / (A_out + A_in) at the output, `[N]`.
        se: Standard error of `sslmem` over trainings, `[N]`.
        se_views: Over views, `[N]`.
        p: One-sided p of `sslmem`, `[N]`.
        p_check: The same by a method that assumes less, `[N]`.
        q: False-discovery rate at which an image is called, `[N]`.
        memorized: Whether `q` is at most the rate of the audit, `[N]`.
        peaks_in: Share of the live units of encoders that saw an image which peak at it, `[N]`.
        peaks_out: The same of encoders that did not, `[N]`.
        encoders: Column of encoders.parquet -> its values; empty without the table.
        significance: What may be said about memorization.
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
    group: list[str | None]
    n_in: Ints | None
    n_out: Ints | None
    sslmem_ratio: Floats | None
    se: Floats | None
    se_views: Floats | None
    p: Floats | None
    p_check: Floats | None
    q: Floats | None
    memorized: NDArray[np.bool_] | None
    peaks_in: Floats | None
    peaks_out: Floats | None
    encoders: dict[str, list[Any]]
    significance: Significance | None

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
    for name in [name.partition("/")[2] for name in samples.column_names if name.startswith("a_in/")]:
        of_in, of_out = _floats(samples, f"a_in/{name}"), _floats(samples, f"a_out/{name}")
        if name not in ratio and of_in is not None and of_out is not None:
            ratio[name] = sslmem_score(torch.from_numpy(of_in), torch.from_numpy(of_out), "ratio").numpy()
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
        group=samples.column("group").to_pylist() if "group" in samples.column_names else [None] * len(samples),
        n_in=_counts(samples, "n_in"),
        n_out=_counts(samples, "n_out"),
        memorized=_flags(samples, "memorized"),
        encoders=_encoders(run),
        significance=run.manifest.significance,
        **{name: _floats(samples, name) for name in FAMILY},
    )


FAMILY = ("sslmem_ratio", "se", "se_views", "p", "p_check", "q", "peaks_in", "peaks_out")


def _counts(table: pyarrow.Table, name: str) -> Ints | None:
    values = _floats(table, name)
    return None if values is None else np.nan_to_num(values).astype(np.int64)


def _flags(table: pyarrow.Table, name: str) -> NDArray[np.bool_] | None:
    if name not in table.column_names or table.column(name).null_count == len(table):
        return None
    return np.array([bool(value) for value in table.column(name).to_pylist()])


def _encoders(run: Run) -> dict[str, list[Any]]:
    path = run.folder / "encoders.parquet"
    return read_table(path).to_pydict() if path.exists() else {}


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
