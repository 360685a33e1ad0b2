"""Nothing is lost: killed, resumed, split over processes and merged, the final files are the same bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
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


@pytest.mark.field("run", "kills at random moments (KILL, TERM, INT)")
@pytest.mark.xdist_group("audit_worker")
@pytest.mark.timeout(900)  # some twenty processes one after the other: seconds alone, minutes on a busy machine
@pytest.mark.parametrize("name", ["every", "chance", "team2", "team5", "merged", "shared", "hundred"])
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


SLEEPS = """
import os, time
import torch
from audit_helpers import Net

def build():
    def wait(module, given):
        if os.environ.get("RANK") == "1" and len(given[0]) > 2 and not os.path.exists(os.environ["GONE"]):
            open(os.environ["GONE"], "w").write(str(os.getpid()))
            time.sleep(float(os.environ["SECONDS_ASLEEP"]))
    net = Net()
    net.register_forward_pre_hook(wait)
    return net
"""


@pytest.mark.field("run", "torchrun, three processes, one killed or asleep")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("killed", [True, False])
def test_torchrun_with_three_processes_of_which_one_sleeps_or_is_killed(tmp_path: Path, killed: bool) -> None:
    """All end with a sentence within a minute of the death; a sleep longer than that, of a live one, is waited for."""
    given = audit_helpers.options(tmp_path)
    run_audit(replace(given, out=tmp_path / "whole"))
    (tmp_path / "code" / "sleeps.py").write_text(SLEEPS)
    slow = replace(given, encoder=f"py:{tmp_path}/code/sleeps.py:build")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "3", "-m", "memkern"]
    process = subprocess.Popen(
        [*command, *audit_helpers.arguments(slow)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1", "GONE": str(tmp_path / "gone"),
             "SECONDS_ASLEEP": "600" if killed else "70"},
    )  # fmt: skip
    if killed:
        until = time.monotonic() + 100
        while not (tmp_path / "gone").exists() or not (tmp_path / "gone").read_text():
            assert time.monotonic() < until, "nothing began"
            time.sleep(0.1)
        os.kill(int((tmp_path / "gone").read_text()), signal.SIGKILL)
    start = time.monotonic()
    _, errors = process.communicate(timeout=250)
    if killed:
        assert time.monotonic() - start < 60
        assert process.returncode != 0
        said = [line for line in errors.splitlines() if line.startswith("memkern: ")]
        assert said, errors[-2000:]
        assert all("interrupted" in line or "Process 1 of 3" in line for line in said)
        assert run_audit(replace(slow, resume=(given.out / "plan.json").exists())) is not None
    else:
        assert process.returncode == 0, errors[-2000:]
    assert contents(given.out) == contents(tmp_path / "whole")
