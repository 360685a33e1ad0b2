"""Disks that fill up at any file, folders that cannot be written or vanish; nothing is left behind or grows."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import audit_helpers
import pytest
from audit_helpers import family

from memkern import cli
from memkern._util import files
from memkern.audit.measure import reading_files, run_shards
from memkern.audit.measure.process_group import ProcessGroup
from memkern.audit.pipeline import run_audit
from memkern.errors import MemkernError, PlanError

TABLES = ("samples.parquet", "units.parquet", "layers.parquet", "encoders.parquet", "state.safetensors")


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in TABLES}


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob(".*") if path.name.startswith(".memkern")]


@pytest.mark.field("run", "a full disk, at any file")
@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_disk_that_is_full_at_any_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file of an audit in turn is one for which there is no room; each time the audit is gone on with."""
    given = family(tmp_path, 1, 1, exports=("fiftyone",))
    whole = run_audit(replace(given, out=tmp_path / "whole"))
    assert whole is not None
    original = os.fsync
    room = 0

    def full(handle: int) -> None:
        nonlocal room
        room -= 1
        if room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(handle)

    sentence = f"No space left for {given.out}; finished shards are kept: make room and run again with --resume"
    kept: set[str] = set()
    after = 0  # attempts to write the report and the export
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", full)
        for attempt in range(30):  # room for one file more each time: each phase is one in which the disk was full
            room = after if (given.out / "manifest.json").exists() else attempt
            after += (given.out / "manifest.json").exists()
            if after > 2:
                break
            with pytest.raises(OSError, match=re.escape(sentence)):
                run_audit(replace(given, resume=(given.out / "plan.json").exists()))
            assert not leftovers(tmp_path)
            kept |= {path.name for path in given.out.glob("*.*")}
    assert kept == {"images.parquet", "plan.json", *TABLES, "manifest.json", "report.html"}
    assert run_audit(replace(given, resume=True)) is not None
    assert contents(given.out) == contents(whole.folder)
    assert not leftovers(given.out)


@pytest.mark.field("run", "a read-only `--out`")
def test_a_folder_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = audit_helpers.options(tmp_path, out=tmp_path / "deep" / "down" / "run")
    original = os.access
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path and original(path, mode))
        with pytest.raises(PlanError, match=r"Expected --out to be a folder that can be written, got .*run; "):
            run_audit(given)
    assert not (tmp_path / "deep").exists()
    line = audit_helpers.arguments(
        replace(given, out=Path("/proc/memkern/run"))
    )  # nobody, root included, makes folders
    assert cli.main(line) == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.field("run", "a `--out` that vanishes")
@pytest.mark.parametrize("at", [1, 2])
def test_a_folder_that_vanishes_is_one_sentence(at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = audit_helpers.options(tmp_path)
    original = run_shards.measure_shard

    def vanishes(job: Any, number: int, *rest: Any) -> Any:
        if number == at:
            shutil.rmtree(given.out)
        return original(job, number, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(run_shards, "measure_shard", vanishes)
        with pytest.raises(
            (MemkernError, OSError), match=r"Expected .*run to hold an audit's plan\.json; there is none"
        ):
            run_audit(given)
    shutil.rmtree(given.out)
    assert run_audit(given) is not None


@pytest.mark.field("run", "200 shards leave no handle, thread or file")
@pytest.mark.long
def test_two_hundred_shards_leave_nothing_open(tmp_path: Path) -> None:
    audit_helpers.pictures(tmp_path / "data", 200)
    audit_helpers.weights(tmp_path / "weights")
    given = audit_helpers.options(tmp_path, shard_size=1)

    def held() -> tuple[int, int, set[str], list[Path]]:
        threads = threading.active_count()
        return len(os.listdir("/proc/self/fd")), threads, set(os.listdir(tempfile.gettempdir())), leftovers(tmp_path)

    run_audit(replace(given, out=tmp_path / "warm", shard=(1, 100)))
    before = held()
    assert run_audit(given) is not None
    after = held()
    assert after[:2] == before[:2]
    assert not {name for name in after[2] - before[2] if "memkern" in name}
    assert after[3] == []
    assert len(list((given.out / "readings").rglob("*.safetensors"))) == 400


MEMORY = """
import sys, torch, numpy as np, audit_helpers
from pathlib import Path
from dataclasses import replace
from memkern.audit.data.source import from_arrays
from memkern.audit.pipeline import run_audit
from memkern.audit.process import most_memory
class Drawn:
    def __init__(self, count): self.shape, self.dtype, self.ndim = (count, 3, 64, 64), np.dtype("uint8"), 4
    def __len__(self): return self.shape[0]
    def __getitem__(self, at):
        if isinstance(at, slice): return np.stack([self[i] for i in range(*at.indices(len(self)))])
        return np.random.default_rng(at).integers(0, 256, (3, 64, 64), dtype=np.uint8)
torch.set_num_threads(1)
count, folder = int(sys.argv[1]), Path(sys.argv[2])
given = replace(audit_helpers.options(folder), out=folder / f"run{count}", shard_size=50)
run_audit(given, encoders=(audit_helpers.net(1), audit_helpers.net(2)), source=from_arrays(Drawn(count)))
print(most_memory())
"""


@pytest.mark.field("run", "memory of 2,000 images is that of 200")
@pytest.mark.long
@pytest.mark.timeout(300)
def test_ten_times_the_images_take_the_same_memory(tmp_path: Path) -> None:
    peaks = []
    for count in (200, 2000):
        done = subprocess.run(
            [sys.executable, "-c", MEMORY, str(count), str(tmp_path)], capture_output=True, text=True, timeout=250,
            env={**os.environ, "PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        peaks.append(int(done.stdout.splitlines()[-1]))
    assert peaks[1] < 1.05 * peaks[0], peaks


def test_nothing_of_an_audit_that_failed_is_left_open(tmp_path: Path) -> None:
    given = audit_helpers.options(tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with pytest.raises(MemkernError):
            run_audit(replace(given, candidates="a b"))
    assert len(os.listdir("/proc/self/fd")) == before
    assert not given.out.exists()
    assert ProcessGroup().gather(1) == [1]
    assert not reading_files.folder_of(given.out, "f").exists()
