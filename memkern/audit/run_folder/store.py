"""The folder of an audit, RUN: what is written at its end, and the reader that reports and comparisons use.

```
manifest.json      what was measured and how; written last, so a folder with one is complete
samples.parquet    one row per image, in data order
units.parquet      one row per unit of every layer, layers in forward order
layers.parquet     one row per layer, in forward order
state.safetensors  the streaming states, "<layer>/<name>"
```

`docs/audit.md` documents every column. Tables are pyarrow's; a column that was not measured (no reference encoder, no
labels, no candidates) is there and null.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from memkern._util.files import read_json, replace_atomically, sha256, write_json
from memkern._util.optional_imports import require
from memkern.errors import RunFolderError

FORMAT = "memkern-audit-1"
MANIFEST = "manifest.json"
STATE = "state.safetensors"

SAMPLES = {
    "id": "string",
    "index": "int64",
    "path": "string",
    "label": "int64",
    "candidate": "bool_",
    "sslmem": "float32",
}
"""Columns of samples.parquet and their types; `alignment_f/<layer>` and `alignment_g/<layer>`, float32, follow."""

UNITS = {
    "layer": "string",
    "unit": "int64",
    "unitmem": "float32",
    "classmem": "float32",
    "peak": "float32",
    "rest": "float32",
    "peak_id": "string",
    "peak_index": "int64",
    "peak_class": "int64",
    "signed": "bool_",
}
"""Columns of units.parquet."""

LAYERS = {
    "layer": "string",
    "order": "int64",
    "units": "int64",
    "kind": "string",
    "block": "int64",
    "alignment_f": "float64",
    "alignment_g": "float64",
    "layermem": "float64",
    "layermem_range": "float64",
    "delta": "float64",
    "layermem_top50": "float64",
    "layermem_least50": "float64",
    "layermem_candidates": "float64",
    "delta_candidates": "float64",
    "layermem_others": "float64",
    "delta_sublayer": "float64",
    "delta_block": "float64",
    "unitmem_mean": "float64",
    "unitmem_max": "float64",
    "classmem_mean": "float64",
    "dead": "int64",
    "signed": "int64",
    "undefined": "int64",
}
"""Columns of layers.parquet."""


@dataclass(frozen=True)
class Run:
    """A finished audit.

    Attributes:
        folder: Where it lies.
        manifest: What was measured and how.
    """

    folder: Path
    manifest: dict[str, Any]

    @cached_property
    def samples(self) -> Any:
        """The pyarrow table of the images, one row each, in data order."""
        return self._table("samples")

    @cached_property
    def units(self) -> Any:
        """The pyarrow table of the units of all layers."""
        return self._table("units")

    @cached_property
    def layers(self) -> Any:
        """The pyarrow table of the layers, in forward order."""
        return self._table("layers")

    @cached_property
    def state(self) -> dict[str, Tensor]:
        """The streaming states, "<layer>/<name>" -> tensor."""
        path = self.folder / STATE
        try:
            state: dict[str, Tensor] = require("safetensors.torch", "safetensors").load_file(path)
        except ImportError:
            raise
        except Exception as error:  # safetensors raises its own kinds
            raise RunFolderError(f"Expected {path} to be a safetensors file, got: {error}") from error
        return state

    @property
    def layer_names(self) -> list[str]:
        """The layers in forward order."""
        return [str(layer["name"]) for layer in self.manifest["layers"]]

    @property
    def output(self) -> str:
        """The layer at which SSLMem is measured."""
        return str(self.manifest["output"])

    def _table(self, name: str) -> Any:
        return read_table(self.folder / f"{name}.parquet")


def read_table(path: Path) -> Any:
    """Reads one parquet file as a pyarrow table.

    Raises:
        RunFolderError: If it is missing or damaged.
    """
    parquet = require("pyarrow.parquet", "pyarrow")
    try:
        return parquet.ParquetFile(path).read()
    except FileNotFoundError as error:
        raise RunFolderError(f"Expected {path} beside {MANIFEST}; it is missing: copy the whole folder") from error
    except Exception as error:
        raise RunFolderError(f"Expected {path} to be a parquet file, got: {error}") from error


def read_run(folder: Path | str) -> Run:
    """Opens a finished audit; tables are read when they are asked for.

    Args:
        folder: The RUN folder.

    Returns:
        The run.

    Raises:
        RunFolderError: If there is no finished audit in the folder.
    """
    folder = Path(folder)
    path = folder / MANIFEST
    if not folder.is_dir():
        raise RunFolderError(f"Expected {folder} to be the folder of an audit; there is no such folder")
    try:
        manifest = read_json(path)
    except FileNotFoundError as error:
        fix = "finish it with `memkern audit … --resume`" if (folder / "plan.json").exists() else "check the path"
        raise RunFolderError(f"Expected a finished audit in {folder}: {MANIFEST} is missing; {fix}") from error
    except ValueError as error:
        raise RunFolderError(f"Expected {path} to be JSON, got: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        got = manifest.get("format") if isinstance(manifest, dict) else type(manifest).__name__
        raise RunFolderError(f"Expected {path} to have the format {FORMAT!r}, got {got!r}")
    return Run(folder, manifest)


def write_run(
    folder: Path,
    *,
    samples: Mapping[str, Any],
    units: Mapping[str, Any],
    layers: Mapping[str, Any],
    state: Mapping[str, Tensor],
    manifest: Mapping[str, Any],
) -> Run:
    """Writes the files of a finished audit, each atomically, the manifest with their digests last.

    Args:
        folder: The RUN folder; made if it is missing.
        samples: Column -> values, one per image; a column that is left out is null.
        units: The same, one per unit.
        layers: The same, one per layer.
        state: "<layer>/<name>" -> tensor.
        manifest: What `manifest.json` says; "format", "complete" and "files" are added.

    Returns:
        The run.

    Raises:
        ImportError: If pyarrow or safetensors is missing.
        OSError: If a file cannot be written.
    """
    taps = {name: "float32" for name in samples if name.startswith(("alignment_f/", "alignment_g/"))}
    parquet = require("pyarrow.parquet", "pyarrow")
    files = {}
    for name, columns, types in (
        ("samples.parquet", samples, {**SAMPLES, **taps}),
        ("units.parquet", units, UNITS),
        ("layers.parquet", layers, LAYERS),
    ):
        with replace_atomically(folder / name) as part:
            parquet.write_table(_table(columns, types), part)
        files[name] = sha256(folder / name)
    with replace_atomically(folder / STATE) as part:
        whole = {name: value.detach().cpu().contiguous().clone() for name, value in sorted(state.items())}
        require("safetensors.torch", "safetensors").save_file(whole, part, metadata={"format": FORMAT})
    files[STATE] = sha256(folder / STATE)
    write_json(folder / MANIFEST, {"format": FORMAT, "complete": True, **manifest, "files": files})
    return read_run(folder)


def _table(columns: Mapping[str, Any], types: Mapping[str, str]) -> Any:
    """A table with exactly the columns of `types`, in their order; those that `columns` lacks are null."""
    arrow = require("pyarrow", "pyarrow")
    unknown = sorted(set(columns) - set(types))
    if unknown:
        raise ValueError(f"Expected columns among {list(types)}, got {unknown}")
    rows = {len(values) for values in columns.values()}
    if len(rows) != 1:
        raise ValueError(f"Expected columns of one length, got {sorted(rows)}")
    count = rows.pop()
    arrays = []
    for name, kind in types.items():
        arrow_type = getattr(arrow, kind)()
        values = columns.get(name)
        arrays.append(arrow.nulls(count, arrow_type) if values is None else _array(arrow, values, arrow_type))
    return arrow.table(dict(zip(types, arrays, strict=True)))


def _array(arrow: Any, values: Sequence[Any] | Tensor, kind: Any) -> Any:
    """Values as an arrow array; NaN stays NaN (measured, undefined), None is null (not measured)."""
    if isinstance(values, Tensor):
        return arrow.array(values.detach().cpu().numpy(), type=kind)
    return arrow.array(list(values), type=kind)
