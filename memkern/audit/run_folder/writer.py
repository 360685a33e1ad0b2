"""Writes the folder of a finished audit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from memkern._util.files import replace_atomically, sha256, write_json, write_tensors
from memkern._util.optional_imports import require
from memkern.audit.run_folder.columns import SAMPLES_FAMILIES, TABLES, Column
from memkern.audit.run_folder.reader import Run, read_run
from memkern.audit.run_folder.schema import MANIFEST, STATE, Manifest
from memkern.errors import ArgumentValueError

if TYPE_CHECKING:
    import pyarrow


def write_run(
    folder: Path,
    *,
    samples: Mapping[str, Column],
    units: Mapping[str, Column],
    layers: Mapping[str, Column],
    encoders: Mapping[str, Column],
    state: Mapping[str, Tensor],
    manifest: Manifest,
) -> Run:
    """Writes the files of a finished audit, each atomically, the manifest with their digests last.

    Args:
        folder: The RUN folder; made if it is missing.
        samples: Column -> values, one per image; a column that is left out is null.
        units: Column -> values, one per unit.
        layers: Column -> values, one per layer.
        encoders: Column -> values, one per encoder.
        state: "<layer>/<name>" -> tensor of a streaming state, `[U]`, `[N, U]`, `[C, U]` or 0-d.
        manifest: What `manifest.json` says; its `files` are filled in.

    Returns:
        The run.

    Raises:
        ImportError: If pyarrow or safetensors is missing.
        OSError: If a file cannot be written.
    """
    given = {"samples": samples, "units": units, "layers": layers, "encoders": encoders}
    starts = SAMPLES_FAMILIES.items()
    further = {name: kind for start, kind in starts for name in samples if name.startswith(start)}
    parquet = require("pyarrow.parquet", "pyarrow")
    files = {}
    for table, types in TABLES.items():
        path = folder / f"{table}.parquet"
        with replace_atomically(path) as temporary:
            parquet.write_table(_table(given[table], types | further if table == "samples" else types), temporary)
        files[path.name] = sha256(path)
    whole = {name: value.detach().cpu().contiguous().clone() for name, value in sorted(state.items())}
    write_tensors(folder / STATE, whole, {"format": f"{Manifest.FORMAT}-{Manifest.VERSION}"})
    files[STATE] = sha256(folder / STATE)
    write_json(folder / MANIFEST, replace(manifest, files=files).to_json())
    return read_run(folder)


def _table(columns: Mapping[str, Column], types: Mapping[str, str]) -> pyarrow.Table:
    """A table with exactly the columns of `types`, in their order; those that `columns` lacks are null."""
    arrow = require("pyarrow", "pyarrow")
    unknown = sorted(set(columns) - set(types))
    if unknown:
        raise ArgumentValueError(f"Expected columns among {list(types)}, got {unknown}")
    rows = {len(values) for values in columns.values()}
    if len(rows) != 1:
        raise ArgumentValueError(f"Expected columns of one length, got {sorted(rows)}")
    count = rows.pop()
    arrays = []
    for name, kind in types.items():
        arrow_type = getattr(arrow, kind)()
        values = columns.get(name)
        arrays.append(arrow.nulls(count, arrow_type) if values is None else _array(arrow, values, arrow_type))
    return arrow.table(dict(zip(types, arrays, strict=True)))


def _array(arrow: ModuleType, values: Column, kind: pyarrow.DataType) -> pyarrow.Array:
    """Values as an arrow array; NaN stays NaN (measured, undefined), but in a numpy array it is null."""
    if isinstance(values, Tensor):
        return arrow.array(values.detach().cpu().numpy(), type=kind)
    if isinstance(values, np.ndarray):
        return arrow.array(values, from_pandas=True).cast(kind)
    return arrow.array(list(values), type=kind)
