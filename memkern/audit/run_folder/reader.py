"""Reads the folder of a finished audit: its manifest at once, its tables and states when they are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from memkern._util.files import read_json, require_regular, sha256
from memkern._util.optional_imports import require
from memkern._util.remote import address_of, fetch, is_remote
from memkern._util.text import first_of, printable
from memkern.audit.run_folder.arrays import RunArrays, read_arrays
from memkern.audit.run_folder.columns import ENCODERS
from memkern.audit.run_folder.plots import plot
from memkern.audit.run_folder.schema import MANIFEST, PLAN, STATE, Manifest
from memkern.errors import RunFolderError

if TYPE_CHECKING:
    import pyarrow
    from matplotlib.figure import Figure

NO_VERDICT = "none, without an encoder that did not see the images, and in audits of memkern 0.2 or earlier"


@dataclass(frozen=True)
class Run:
    """A finished audit.

    Attributes:
        folder: Where it lies.
        manifest: What was measured and how.
    """

    folder: Path
    manifest: Manifest

    @cached_property
    def samples(self) -> pyarrow.Table:
        """Table of the images, one row each, in data order."""
        return self._table("samples")

    @cached_property
    def units(self) -> pyarrow.Table:
        """Table of the units of all layers."""
        return self._table("units")

    @cached_property
    def layers(self) -> pyarrow.Table:
        """Table of the layers, in forward order."""
        return self._table("layers")

    @cached_property
    def encoders(self) -> pyarrow.Table:
        """Table of the encoders; without a row where memkern 0.2 or earlier made the audit."""
        if "encoders.parquet" in self.manifest.files:
            return self._table("encoders")
        arrow = require("pyarrow", "pyarrow")
        return arrow.table({name: arrow.array([], getattr(arrow, kind)()) for name, kind in ENCODERS.items()})

    def arrays(self) -> RunArrays:
        """Reads the tables as typed numpy arrays.

        Returns:
            The images, layers, units and encoders.

        Raises:
            RunFolderError: If a table is missing or damaged.
        """
        return read_arrays(self)

    def plot(self, what: str = "layers") -> Figure:
        """Draws a figure, which notebooks show; nothing of pyplot is touched.

        Args:
            what: "layers": LayerMem of the scored images, of the control, and what the former has beyond the latter,
                layer by layer in forward order, with the standard error where there is one. "groups": SSLMem of the
                images of each group. "units": UnitMem of the units of each layer, of the first encoder. Boxes are
                quartiles.

        Returns:
            The figure; `figure.savefig("layers.pdf")` writes it.

        Raises:
            ArgumentValueError: If `what` is none of them.
            RunFolderError: If "layers" or "groups" is asked for without a reference encoder, or a table is damaged.
            MissingPackageError: If matplotlib is missing.
        """
        return plot(self.arrays(), what)

    @cached_property
    def state(self) -> dict[str, Tensor]:
        """Streaming states, "<layer>/<name>" -> tensor."""
        path = self._own(STATE)
        try:
            state: dict[str, Tensor] = require("safetensors.torch", "safetensors").load_file(path)
        except ImportError:
            raise
        except Exception as error:  # safetensors raises its own kinds
            raise RunFolderError(f"Expected {path} to be a safetensors file, got: {error}") from error
        return state

    @property
    def layer_names(self) -> list[str]:
        """Names of the layers in forward order."""
        return [layer.name for layer in self.manifest.layers]

    @property
    def output(self) -> str:
        """Name of the layer at which SSLMem is measured."""
        return self.manifest.output

    def _repr_html_(self) -> str:
        """Table that notebooks show: a few facts and the verdict."""
        manifest, sure = self.manifest, self.manifest.significance
        facts = {
            "folder": str(self.folder),
            "encoders": first_of([entry.name for entry in manifest.encoders] or [manifest.encoder]),
            "images": str(manifest.data.n_images),
            "layers": str(len(manifest.layers)),
            "output": manifest.output,
            "verdict": NO_VERDICT if sure is None else sure.verdict,
        }
        rows = [f"<tr><th>{name}</th><td>{escape(printable(value))}</td></tr>" for name, value in facts.items()]
        return f"<table>{''.join(rows)}</table>"

    def _table(self, name: str) -> pyarrow.Table:
        return read_table(self._own(f"{name}.parquet"))

    def _own(self, name: str) -> Path:
        """The path of a file, which must be the one that the manifest names."""
        path, known = self.folder / name, self.manifest.files.get(name)
        try:
            digest = sha256(path)
        except FileNotFoundError as error:
            raise RunFolderError(f"Expected {path} beside {MANIFEST}; it is missing: copy the whole folder") from error
        except OSError as error:
            raise RunFolderError(f"Expected {path} to be the file that {MANIFEST} names: {error}") from error
        if known is not None and known != digest:
            raise RunFolderError(
                f"Expected {path} to be the file that {MANIFEST} names, got another: it was edited, damaged, or is of "
                "another audit; copy the whole folder"
            )
        return path


def read_table(path: Path) -> pyarrow.Table:
    """Reads one parquet file as a pyarrow table.

    Args:
        path: The file.

    Returns:
        The table.

    Raises:
        RunFolderError: If the file is missing or damaged.
    """
    parquet = require("pyarrow.parquet", "pyarrow")
    try:
        require_regular(path)
        return parquet.ParquetFile(path).read()
    except FileNotFoundError as error:
        raise RunFolderError(f"Expected {path} beside {MANIFEST}; it is missing: copy the whole folder") from error
    except Exception as error:
        raise RunFolderError(f"Expected {path} to be a parquet file, got: {error}") from error


def read_run(folder: Path | str) -> Run:
    """Opens a finished audit; tables are read when they are asked for.

    Args:
        folder: The RUN folder; one at a remote address is copied first.

    Returns:
        The run.

    Raises:
        RunFolderError: If there is no finished audit in the folder, or a later memkern wrote it.
    """
    folder = fetch(address_of(folder)) if is_remote(folder) else Path(folder)
    path = folder / MANIFEST
    if not folder.is_dir():
        raise RunFolderError(f"Expected {folder} to be the folder of an audit; there is no such folder")
    try:
        manifest = read_json(path)
    except FileNotFoundError as error:
        fix = "finish it with `memkern audit … --resume`" if (folder / PLAN).exists() else "check the path"
        raise RunFolderError(f"Expected a finished audit in {folder}: {MANIFEST} is missing; {fix}") from error
    except (OSError, ValueError) as error:
        raise RunFolderError(f"Expected {path} to be JSON, got: {error}") from error
    return Run(folder, Manifest.from_json(manifest, path))
