"""MATLAB files as the released analysis reads them."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from memkern._util.files import replace_atomically, write_csv
from memkern._util.optional_imports import require
from memkern.audit.run_folder.arrays import Floats, Ints, first_encoder
from memkern.audit.run_folder.export import Export
from memkern.audit.run_folder.reader import Run

LONGEST = 180
"""Bytes of a layer's label in a file name; file systems allow 255 for the whole of it."""

BLOCK = 512
"""Bytes before the HDF5 data of a MATLAB 7.3 file."""

HEADER = b"MATLAB 7.3 MAT-file, HDF5 schema 1.00 .".ljust(116) + bytes(8) + b"\x00\x02IM"
"""What tells MATLAB that a file is one of its own: 116 bytes of text, no subsystem data, version 2, little-endian."""


def write(run: Run) -> list[Path]:
    """Writes `mat/` beside the results, with the names of files and variables of the released scripts.

    `maxposition-<layer>.mat` has `maxposition` (0-based place of the image in the audited list) and `selectivity`
    (UnitMem) of each unit, as `UnitMem_mu_max.py` writes them; `selectivity_class-<layer>.mat` has `selectivity`
    (ClassMem); `pos_per_layer-<layer>.mat` has `max` and `min`, the units in descending and ascending order of UnitMem,
    to prune by; `IDcat.mat` has `ans`, the positions of the candidates; `mostdata.mat` and `leastdata.mat` have
    `canary ` (sic) and `extra`, SSLMem of candidates and of the other images, which `Ttest.py` compares. The scripts
    read the last four with h5py, so those are HDF5 (MATLAB 7.3) and the first are MATLAB 5. `layers.csv` says which
    layer is in which files: characters that no file name can have are "_", and where two layers would have one name, or
    too long a one, a digest of the layer's name follows.

    Args:
        run: The audit.

    Returns:
        The files.

    Raises:
        MissingPackageError: If scipy or h5py is missing.
        OSError: If a file cannot be written.
    """
    written: list[Path] = []
    index = np.array(run.samples["index"].to_pylist(), dtype=np.int64)
    place = {int(position): row for row, position in enumerate(index)}
    units = first_encoder(run.units).to_pydict()
    layers = np.array(units["layer"])
    labels = file_labels(run.layer_names)
    write_csv(run.folder / "mat" / "layers.csv", ("layer", "file"), labels.items())
    for name in run.layer_names:
        rows = np.flatnonzero(layers == name)
        label = labels[name]
        score = np.array([units["unitmem"][row] for row in rows], dtype=np.float64)
        peaks = np.array([place[units["peak_index"][row]] for row in rows], dtype=np.int64)
        written.append(_mat5(run, f"maxposition-{label}", {"maxposition": peaks, "selectivity": score}))
        if run.manifest.data.classes is not None:
            classmem = np.array([units["classmem"][row] for row in rows], dtype=np.float64)
            written.append(_mat5(run, f"selectivity_class-{label}", {"selectivity": classmem}))
        order = np.argsort(-np.where(np.isnan(score), -np.inf, score), kind="stable")
        written.append(_mat73(run, f"pos_per_layer-{label}", {"max": order, "min": order[::-1]}))
    candidate = np.array(run.samples["candidate"].to_pylist(), dtype=bool)
    if candidate.any():
        written.append(_mat73(run, "IDcat", {"ans": index[candidate]}))
    if run.manifest.reference is not None and candidate.any():
        score = np.array(run.samples["sslmem"].to_pylist(), dtype=np.float64)
        written.append(_mat73(run, "mostdata", {"canary ": score[candidate]}))
        written.append(_mat73(run, "leastdata", {"extra": score[~candidate]}))
    return [*written, run.folder / "mat" / "layers.csv"]


def file_labels(names: Sequence[str]) -> dict[str, str]:
    """Finds a label for each name that can stand in a file's name, no two alike on any file system.

    Args:
        names: The names, each once.

    Returns:
        Name -> its label: the name itself where it can be.
    """
    plain = {name: re.sub(r"[^\w.-]", "_", name) for name in names}
    taken = Counter(unicodedata.normalize("NFC", label).casefold() for label in plain.values())
    labels = {}
    for name, label in plain.items():
        alone = taken[unicodedata.normalize("NFC", label).casefold()] == 1
        if alone and len(label.encode()) <= LONGEST:
            labels[name] = label
        else:
            short = label.encode()[: LONGEST - 17].decode(errors="ignore")
            labels[name] = f"{short}-{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()[:16]}"
    return labels


def _mat5(run: Run, name: str, values: Mapping[str, Floats | Ints]) -> Path:
    path = run.folder / "mat" / f"{name}.mat"
    with replace_atomically(path) as part:
        require("scipy.io", "scipy").savemat(part, values)
    return path


def _mat73(run: Run, name: str, values: Mapping[str, Floats | Ints]) -> Path:
    path = run.folder / "mat" / f"{name}.mat"
    with replace_atomically(path) as part:
        with require("h5py", "h5py", extra="").File(part, "w", userblock_size=BLOCK) as file:
            for key, value in values.items():
                file[key] = np.asarray(value)
                kind = "double" if file[key].dtype.kind == "f" else str(file[key].dtype)
                file[key].attrs["MATLAB_class"] = np.bytes_(kind)
        with part.open("r+b") as raw:
            raw.write(HEADER)
    return path


EXPORT = Export(
    "mat",
    "write MATLAB files too",
    order=10,
    packages=(("scipy.io", "scipy", "audit"), ("h5py", "h5py", "")),
    write=write,
)
