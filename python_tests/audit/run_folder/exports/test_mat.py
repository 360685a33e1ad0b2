"""MATLAB files: names, variables and formats of the released scripts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import audit_helpers
import numpy as np
import pytest

from memkern.audit.pipeline import run_audit


def test_matlab_files(tmp_path: Path) -> None:
    pytest.importorskip("h5py", reason="h5py is not installed")
    import h5py
    from scipy.io import loadmat

    run = run_audit(replace(audit_helpers.options(tmp_path), exports=("mat",), candidates="0:5"))
    assert run is not None
    units = [row for row in run.units.to_pylist() if row["layer"] == "conv"]
    peaks = loadmat(run.folder / "mat" / "maxposition-conv.mat")
    assert peaks["maxposition"].ravel().tolist() == [row["peak_index"] for row in units]
    np.testing.assert_allclose(peaks["selectivity"].ravel(), [row["unitmem"] for row in units])
    classes = loadmat(run.folder / "mat" / "selectivity_class-conv.mat")
    np.testing.assert_allclose(classes["selectivity"].ravel(), [row["classmem"] for row in units])
    scores = np.array(run.samples["sslmem"].to_pylist())
    with (
        h5py.File(run.folder / "mat" / "mostdata.mat") as most,
        h5py.File(run.folder / "mat" / "leastdata.mat") as least,
    ):
        np.testing.assert_array_equal(most["canary "][()], scores[:5])
        np.testing.assert_array_equal(least["extra"][()], scores[5:])
    with h5py.File(run.folder / "mat" / "pos_per_layer-conv.mat") as order:
        ranked = [units[unit]["unitmem"] for unit in order["max"][()]]
        assert ranked == sorted(ranked, reverse=True)
        assert order["min"][()].tolist() == order["max"][()].tolist()[::-1]
