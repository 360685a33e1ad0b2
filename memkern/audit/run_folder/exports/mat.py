"""MATLAB files as the released analysis reads them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from memkern._util.files import replace_atomically
from memkern._util.optional_imports import require
from memkern.audit.run_folder.arrays import Floats, Ints, first_encoder
from memkern.audit.run_folder.export import Export
from memkern.audit.run_folder.reader import Run


def write(run: Run) -> list[Path]:
    """Writes `mat/` beside the results, with the names of files and variables of the released scripts.

    `maxposition-<layer>.mat` has `maxposition` (0-based place of the image in the audited list) and `selectivity`
    (UnitMem) of each unit, as `UnitMem_mu_max.py` writes them; `selectivity_class-<layer>.mat` has `selectivity`
    (ClassMem); `pos_per_layer-<layer>.mat` has `max` and `min`, the units in descending and ascending order of UnitMem,
    to prune by; `IDcat.mat` has `ans`, the positions of the candidates; `mostdata.mat` and `leastdata.mat` have
    `canary ` (sic) and `extra`, SSLMem of candidates and of the other images, which `Ttest.py` compares. The scripts
    read the last four with h5py, so those are HDF5 (MATLAB 7.3) and the first are MATLAB 5.

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
    for name in run.layer_names:
        rows = np.flatnonzero(layers == name)
        label = re.sub(r"[^\w.-]", "_", name)
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
    return written


def _mat5(run: Run, name: str, values: Mapping[str, Floats | Ints]) -> Path:
    path = run.folder / "mat" / f"{name}.mat"
    with replace_atomically(path) as part:
        require("scipy.io", "scipy").savemat(part, values)
    return path


def _mat73(run: Run, name: str, values: Mapping[str, Floats | Ints]) -> Path:
    path = run.folder / "mat" / f"{name}.mat"
    with replace_atomically(path) as part, require("h5py", "h5py", extra="").File(part, "w") as file:
        for key, value in values.items():
            file[key] = np.asarray(value)
    return path


EXPORT = Export(
    "mat",
    "write MATLAB files too",
    order=10,
    packages=(("scipy.io", "scipy", "audit"), ("h5py", "h5py", "")),
    write=write,
)
