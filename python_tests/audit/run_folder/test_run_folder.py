"""The RUN folder: what is written comes back, and a damaged or unfinished one is named."""

import math
from pathlib import Path
from typing import Any

import audit_runs
import pytest
import torch

from memkern.errors import RunFolderError

pytest.importorskip("pyarrow", reason="memkern[audit] is not installed")
pytest.importorskip("safetensors", reason="memkern[audit] is not installed")

from memkern.audit.run_folder.columns import SAMPLES, UNITS
from memkern.audit.run_folder.reader import Run, read_run
from memkern.audit.run_folder.writer import write_run


def write(folder: Path) -> Run:
    samples = {
        "id": ["a.png", "b.png"],
        "index": [0, 1],
        "candidate": [True, False],
        "sslmem": torch.tensor([0.5, math.nan]),
        "alignment_f/conv/0": torch.tensor([0.25, 0.5]),
    }
    units = {"layer": ["conv/0"] * 3, "unit": [0, 1, 2], "unitmem": [0.1, 0.2, math.nan]}
    layers = {"layer": ["conv/0"], "order": [0], "units": [3], "delta": [None]}
    manifest = audit_runs.manifest(["a.png", "b.png"], {"conv/0": 3})
    state = {"conv/0/peak": torch.arange(3.0)}
    tables = {"samples": samples, "units": units, "layers": layers, "encoders": {"encoder": ["f"]}}
    return write_run(folder, **tables, state=state, manifest=manifest)


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    run = write(tmp_path / "deep" / "run")
    assert run.samples.column_names == [*SAMPLES, "alignment_f/conv/0"]
    assert run.samples["id"].to_pylist() == ["a.png", "b.png"]
    assert run.samples["path"].to_pylist() == [None, None]
    assert run.samples["candidate"].to_pylist() == [True, False]
    scores = run.samples["sslmem"].to_pylist()
    assert scores[0] == 0.5
    assert math.isnan(scores[1]), "NaN is a value, null is none"
    assert run.units.column_names == list(UNITS)
    assert run.layers["delta"].to_pylist() == [None]
    assert torch.equal(run.state["conv/0/peak"], torch.arange(3.0))
    assert run.layer_names == ["conv/0"]
    assert run.output == "conv/0"
    assert set(run.manifest.files) == {
        "samples.parquet",
        "units.parquet",
        "layers.parquet",
        "encoders.parquet",
        "state.safetensors",
    }


def test_a_run_is_the_same_bytes_each_time(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a"), write(tmp_path / "b")
    assert a.manifest == b.manifest  # with the digests of all files


def test_columns_that_do_not_fit(tmp_path: Path) -> None:
    good: dict[str, Any] = {"samples": {"id": ["a"]}, "units": {"unit": [0]}, "layers": {"layer": ["x"]}, "state": {}}
    good["encoders"] = {"encoder": ["f"]}
    good["manifest"] = audit_runs.manifest(["a"], {"x": 1})
    with pytest.raises(ValueError, match=r"Expected columns among .*, got \[.score.\]"):
        write_run(tmp_path, **{**good, "units": {"score": [1.0]}})
    with pytest.raises(ValueError, match=r"Expected columns of one length, got \[1, 2\]"):
        write_run(tmp_path, **{**good, "units": {"unit": [1], "layer": ["a", "b"]}})
    assert not (tmp_path / "manifest.json").exists(), "an unfinished folder has no manifest"


def test_folders_without_a_finished_audit(tmp_path: Path) -> None:
    def message(folder: Path) -> str:
        with pytest.raises(RunFolderError) as error:
            read_run(folder).samples  # noqa: B018  (reads the table)
        return str(error.value).replace(str(tmp_path), "")

    missing = tmp_path / "no"
    assert message(missing) == "Expected /no to be the folder of an audit; there is no such folder"
    missing.mkdir()
    assert message(missing) == "Expected a finished audit in /no: manifest.json is missing; check the path"
    (missing / "plan.json").write_text("{}")
    wanted = "Expected a finished audit in /no: manifest.json is missing; finish it with `memkern audit … --resume`"
    assert message(missing) == wanted
    (missing / "manifest.json").write_text("{")
    assert message(missing).startswith("Expected /no/manifest.json to be JSON, got: ")
    (missing / "manifest.json").write_text('{"format": "other"}')
    assert message(missing) == "Expected /no/manifest.json to have the format 'memkern-audit-2', got 'other'"
    run = write(tmp_path / "run")
    (run.folder / "samples.parquet").write_bytes(b"PAR1")
    assert message(run.folder).startswith("Expected /run/samples.parquet to be the file that manifest.json names")
    (run.folder / "samples.parquet").unlink()
    assert message(run.folder) == (
        "Expected /run/samples.parquet beside manifest.json; it is missing: copy the whole folder"
    )
