"""A finished audit as numpy arrays: what its report and its comparisons read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from memkern._util.text import did_you_mean
from memkern.audit.run_folder.columns import LAYERS
from memkern.audit.run_folder.schema import Manifest
from memkern.audit.run_folder.significance import Significance
from memkern.errors import ArgumentValueError
from memkern.scores import sslmem_score

if TYPE_CHECKING:
    import pyarrow

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
TableColumns = dict[str, list[Any]]
"""Column of a table -> its values; a null is NaN, or `None` among strings."""


class Tables(Protocol):
    """Manifest and tables of an audit, as a `Run` has them."""

    @property
    def manifest(self) -> Manifest:
        """Manifest: what was measured and how."""

    @property
    def layer_names(self) -> list[str]:
        """Names of the layers in forward order."""

    @property
    def samples(self) -> pyarrow.Table:
        """Table of the images."""

    @property
    def units(self) -> pyarrow.Table:
        """Table of the units."""

    @property
    def layers(self) -> pyarrow.Table:
        """Table of the layers."""

    @property
    def encoders(self) -> pyarrow.Table:
        """Table of the encoders."""


@dataclass(frozen=True)
class Units:
    """Columns of the units of one layer of one encoder.

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
    signed: Flags


@dataclass(frozen=True)
class RunArrays:
    """Images, layers and units of an audit as numpy arrays.

    Attributes:
        ids: Id of every image, in data order, `[N]`.
        index: Index of every image, as its views and units name it, `[N]`.
        paths: Path of every image; `None` where there is none.
        labels: Class of every image, `[N]`, -1 of one without a label; `None` without labels.
        candidate: Whether an image is a candidate, `[N]`.
        has_candidates: Whether the audit was told its candidates.
        sslmem: A_g - A_f at the output, `[N]`, or `None` without a reference encoder.
        ratio: Layer -> (A_g - A_f) / (A_g + A_f) of every image, `[N]`; empty without a reference encoder.
        alignment: Layer -> A_f, `[N]`.
        layers: Column of the layer table -> its values, in forward order; a null is NaN, or `None` among strings.
        units: Layer -> its units, of the first encoder whose units are measured.
        group: "shared", "candidate", "independent" or "extra", `[N]`; `None` where that is unknown or varies.
        picture: Picture that an image was cut from, `[N]`; `None` where that is unknown.
        n_in: How many encoders saw an image, `[N]`; `None` where nothing is known of who saw what.
        n_out: How many did not, `[N]`; `None` likewise.
        se: Standard error of SSLMem over trainings, given the views, `[N]`, NaN where an image has none; `None` if no
            image has one. So are the numbers that follow.
        se_views: Standard error of SSLMem over views, `[N]`.
        p: One-sided p that membership lowers the alignment, `[N]`.
        p_check: p by another method, `[N]`.
        q: False-discovery rate at which an image would be called memorized, `[N]`.
        sslmem_ratio: (out - in) / (out + in) of the means over trainings at the output, `[N]`.
        memorized: Whether an image is called memorized, `[N]`, False where it is not scored; `None` where nothing can
            be said.
        peaks_in: Share of an encoder's units at the output that answer most to an image, mean over the encoders that
            saw it, `[N]`.
        peaks_out: Mean over the encoders that did not, `[N]`.
        encoders: Column of the encoder table -> its values; a null is NaN, or `None` among strings.
        significance: What may be said of memorization, and by which method; `None` without encoders that did not see
            an image, and for audits of memkern 0.2 or earlier.
    """

    ids: list[str]
    index: Ints
    paths: list[str | None]
    labels: Ints | None
    candidate: Flags
    has_candidates: bool
    sslmem: Floats | None
    ratio: dict[str, Floats]
    alignment: dict[str, Floats]
    layers: TableColumns
    units: dict[str, Units]
    group: list[str | None]
    picture: list[str | None]
    n_in: Ints | None
    n_out: Ints | None
    se: Floats | None
    se_views: Floats | None
    p: Floats | None
    p_check: Floats | None
    q: Floats | None
    sslmem_ratio: Floats | None
    memorized: Flags | None
    peaks_in: Floats | None
    peaks_out: Floats | None
    encoders: TableColumns
    significance: Significance | None

    @property
    def scored(self) -> Ints:
        """Rows of the images that memorization is reported on, the candidates; all if none were named."""
        return np.flatnonzero(self.candidate) if self.has_candidates else np.arange(len(self.ids))

    @property
    def control(self) -> Ints:
        """Rows of the images that scored ones are compared with; none without a control group, or without roles."""
        name = "none" if self.significance is None else self.significance.control
        return np.flatnonzero([name != "none" and group == name for group in self.group])

    def column(self, name: str) -> Floats:
        """Returns a column of the layer table, `[L]` float64, NaN where it was not measured.

        Args:
            name: A column of numbers of layers.parquet.

        Returns:
            Its values in forward order.

        Raises:
            ArgumentValueError: If the table has no such column of numbers.
        """
        known = [each for each, kind in LAYERS.items() if kind != "string"]
        if name not in known:
            near = did_you_mean(name, known) or f"; its columns of numbers are {', '.join(known)}"
            raise ArgumentValueError(f"Expected `name` to be a column of layers.parquet, got {name!r}{near}")
        return np.array(self.layers.get(name) or [np.nan] * len(self.layers["layer"]), dtype=np.float64)

    def scored_column(self, name: str) -> Floats:
        """Returns the column `layermem` or `delta`, `[L]`, over the scored images: the candidates if they are named."""
        of_candidates = self.column({"layermem": "layermem_candidates", "delta": "delta_candidates"}[name])
        return of_candidates if np.isfinite(of_candidates).any() else self.column(name)


def read_arrays(run: Tables) -> RunArrays:
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
        of_in, of_out = _floats(samples, f"a_in/{name}"), _floats(samples, f"a_out/{name}")
        if of_f is None and of_in is not None and of_out is not None:  # encoders without roles
            ratio[name] = sslmem_score(torch.from_numpy(of_in), torch.from_numpy(of_out), "ratio").numpy()
    labels = samples.column("label")
    candidate = samples.column("candidate").to_pylist()
    return RunArrays(
        ids=[str(value) for value in samples.column("id").to_pylist()],
        index=np.asarray(samples.column("index").to_pylist(), dtype=np.int64),
        paths=samples.column("path").to_pylist(),
        labels=None
        if labels.null_count == len(labels)
        else np.asarray(labels.fill_null(-1).to_pylist(), dtype=np.int64),
        candidate=np.asarray([bool(value) for value in candidate], dtype=bool),
        has_candidates=run.manifest.candidates is not None,
        sslmem=_floats(samples, "sslmem"),
        ratio=ratio,
        alignment=alignment,
        layers=_columns(run.layers),
        units=_units(run),
        group=_texts(samples, "group"),
        picture=_texts(samples, "picture"),
        n_in=_whole(samples, "n_in"),
        n_out=_whole(samples, "n_out"),
        memorized=_flags(samples, "memorized"),
        encoders=_columns(run.encoders),
        significance=run.manifest.significance,
        **{name: _floats(samples, name) for name in SURE},
    )


SURE = ("se", "se_views", "p", "p_check", "q", "sslmem_ratio", "peaks_in", "peaks_out")
"""Columns of the images that have the field of the same name."""


def _known(table: pyarrow.Table, name: str) -> pyarrow.ChunkedArray | None:
    """A column, or `None` if it was not measured."""
    if name not in table.column_names or table.column(name).null_count == len(table):
        return None
    return table.column(name)


def _texts(table: pyarrow.Table, name: str) -> list[str | None]:
    """A column of texts, all `None` if it is missing."""
    texts: list[str | None] = table.column(name).to_pylist() if name in table.column_names else [None] * len(table)
    return texts


def _whole(table: pyarrow.Table, name: str) -> Ints | None:
    column = _known(table, name)
    return None if column is None else np.asarray(column.to_pylist(), dtype=np.int64)


def _flags(table: pyarrow.Table, name: str) -> Flags | None:
    column = _known(table, name)
    return None if column is None else np.asarray([bool(value) for value in column.to_pylist()], dtype=np.bool_)


def _floats(table: pyarrow.Table, name: str) -> Floats | None:
    """A column as float64 with NaN for null, or `None` if it was not measured."""
    column = _known(table, name)
    return None if column is None else np.array(column.to_numpy(zero_copy_only=False), dtype=np.float64)


def _columns(table: pyarrow.Table) -> TableColumns:
    found: TableColumns = {}
    for name in table.column_names:
        values = table.column(name).to_pylist()
        text = any(isinstance(value, str) for value in values)
        found[name] = values if text else [float("nan") if value is None else value for value in values]
    return found


def first_encoder(units: pyarrow.Table) -> pyarrow.Table:
    """Selects from the table of units the rows of the first encoder."""
    if "encoder" not in units.column_names or not len(units) or not units["encoder"][0].is_valid:
        return units  # an audit of memkern 0.2 or earlier, which measured the units of one encoder
    names = units.column("encoder").to_pylist()
    return units.slice(0, next((row for row, name in enumerate(names) if name != names[0]), len(names)))


def _units(run: Tables) -> dict[str, Units]:
    table = first_encoder(run.units)
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
