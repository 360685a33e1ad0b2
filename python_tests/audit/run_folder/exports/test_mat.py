"""MATLAB files: names, variables and formats of the released scripts."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import audit_helpers
import numpy as np
import pytest
from torch import Tensor, nn

from memkern.audit.pipeline import run_audit
from memkern.audit.run_folder.exports.mat import file_labels


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


class Named(nn.Module):
    """Layers whose names are no file names, or one name to a file system."""

    NAMES = ("x y", "x:y", "Conv", "conv", "n" * 300, "n" * 299 + "m", "größe", "..")

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Conv2d(3, 2, 1)
        for name in self.NAMES:
            self._modules[name] = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        for name in self.NAMES:
            x = self._modules[name](x)  # type: ignore[misc]
        return self.last(x).mean((2, 3))


def test_every_layer_has_files_of_its_own(tmp_path: Path) -> None:
    pytest.importorskip("h5py", reason="h5py is not installed")
    from scipy.io import loadmat

    run = run_audit(audit_helpers.options(tmp_path, exports=("mat",), reference=None), encoders=(Named().eval(), None))
    assert run is not None
    with (run.folder / "mat" / "layers.csv").open(newline="") as file:
        head, *rows = csv.reader(file)
    labels = dict(rows)
    assert head == ["layer", "file"]
    assert list(labels) == run.layer_names
    assert len(run.layer_names) > len(Named.NAMES)
    assert len({label.casefold() for label in labels.values()}) == len(labels), "on every file system"
    for layer, label in labels.items():
        assert len(f"selectivity_class-{label}.mat".encode()) <= 255
        wanted = [row["unitmem"] for row in run.units.to_pylist() if row["layer"] == layer]
        found = loadmat(run.folder / "mat" / f"maxposition-{label}.mat")["selectivity"].ravel()
        np.testing.assert_allclose(found, wanted)


@pytest.mark.parametrize("names", [["conv", "layer1.0.conv2"], ["übung"]])
def test_a_name_that_can_be_one_of_a_file_stays(names: list[str]) -> None:
    assert file_labels(names) == {name: name for name in names}


def test_other_programs_know_what_is_matlab_7_3(tmp_path: Path) -> None:
    """The header by MathWorks' description of it, and scipy, which tells 7.3 from other files by it."""
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    from scipy.io import loadmat, matlab

    run = run_audit(replace(audit_helpers.options(tmp_path), exports=("mat",), candidates="0:5"))
    assert run is not None
    for name in ("IDcat", "mostdata", "leastdata", "pos_per_layer-conv"):
        path = run.folder / "mat" / f"{name}.mat"
        raw = path.read_bytes()
        assert raw.startswith(b"MATLAB 7.3 MAT-file")
        assert raw[124:128] == b"\x00\x02IM"
        assert raw[512:520] == b"\x89HDF\r\n\x1a\n"
        with path.open("rb") as file:
            assert matlab.matfile_version(file) == (2, 0)
        with pytest.raises(NotImplementedError, match=r"v7\.3"):
            loadmat(path)
        with h5py.File(path) as file:
            assert {each.attrs["MATLAB_class"] for each in file.values()} <= {b"double", b"int64"}
