"""Nothing is lost: killed, resumed, split over processes and merged, the final files are the same bytes."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import audit_helpers
import pytest

from memkern.audit.pipeline import run_audit

pytestmark = pytest.mark.long

FILES = ("samples.parquet", "units.parquet", "layers.parquet", "state.safetensors")


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("worker")
    script = Path(__file__).parents[1] / "helpers" / "audit_worker.py"
    done = subprocess.run([sys.executable, str(script), str(folder)], capture_output=True, text=True, timeout=880)
    assert done.returncode == 0, done.stderr[-3000:]
    print(done.stdout)
    return folder


@pytest.mark.xdist_group("audit_worker")
@pytest.mark.timeout(900)  # some twenty processes one after the other: seconds alone, minutes on a busy machine
@pytest.mark.parametrize("name", ["every", "chance", "team2", "team5", "merged", "shared"])
def test_the_final_files_are_those_of_an_uninterrupted_run(worker: Path, name: str) -> None:
    assert contents(worker / name) == contents(worker / "whole")
    assert len(list((worker / name / "readings").glob("*/*"))) == 9, "three encoders on three shards"
    left = {path.name for path in (worker / name).iterdir() if path.name.startswith(".")}
    assert not left | {path.name for path in (worker / name).iterdir()} & {"images.parquet"}


def test_torchrun(tmp_path: Path) -> None:
    given = audit_helpers.options(tmp_path)
    whole = run_audit(replace(given, out=tmp_path / "whole"))
    assert whole is not None
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "memkern"]
    done = subprocess.run(
        [*command, *audit_helpers.arguments(given)], capture_output=True, text=True, timeout=250, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert contents(given.out) == contents(tmp_path / "whole")
    assert done.stdout.count("results are in") == 1
