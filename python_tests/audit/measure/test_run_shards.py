"""Nothing is lost: interrupted and resumed, split and merged, refused by name; killed: test_killed.py."""

from __future__ import annotations

import errno
import json
import resource
from dataclasses import replace
from pathlib import Path
from typing import Any

import audit_helpers
import pytest
import torch

from memkern import cli
from memkern.audit import pipeline
from memkern.audit.measure import reading_files, run_shards
from memkern.audit.measure.encoder_readings import EncoderReadings
from memkern.audit.measure.job import Job
from memkern.audit.measure.process_group import ProcessGroup
from memkern.audit.options import Options
from memkern.audit.pipeline import merge_runs, run_audit
from memkern.errors import PlanError, ProcessError

# ---- resuming -------------------------------------------------------------------------------------------------------


def stopped(given: Options, monkeypatch: pytest.MonkeyPatch, after: int = 1) -> None:
    """Leaves an audit interrupted after some shards."""
    original = run_shards.measure_shard

    def interrupted(job: Job, number: int, encoders: Any, step: Any = None) -> dict[str, EncoderReadings]:
        if number == after:
            raise KeyboardInterrupt
        return original(job, number, encoders, step)

    with monkeypatch.context() as patch:
        patch.setattr(run_shards, "measure_shard", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_audit(given)


def message(given: Options) -> str:
    with pytest.raises((ValueError, OSError, RuntimeError)) as error:
        run_audit(given)
    return str(error.value).replace(str(given.out), "RUN")


def test_interrupted_and_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = audit_helpers.options(tmp_path)
    line = audit_helpers.arguments(given)
    original = run_shards.measure_shard
    done: list[int] = []

    def interrupted(job: Job, number: int, encoders: Any, step: Any = None) -> dict[str, EncoderReadings]:
        if number == 2 and not done.count(2):
            done.append(2)
            raise KeyboardInterrupt
        done.append(number)
        return original(job, number, encoders, step)

    monkeypatch.setattr(run_shards, "measure_shard", interrupted)
    assert cli.main(line) == 130
    assert capsys.readouterr().err == "memkern: interrupted; go on with --resume\n"
    assert cli.main(line) == 1
    wanted = f"Expected --out to be a new folder, got {given.out} with an unfinished audit; go on with --resume, or"
    assert capsys.readouterr().err == f"memkern: error: {wanted} choose another\n"
    assert cli.main([*line, "--resume"]) == 0
    assert done == [0, 1, 2, 2], "only the interrupted shard was done again"
    assert "2 of 3 shards are done already." in capsys.readouterr().out
    assert cli.main([*line, "--resume"]) == 0
    assert "is complete already." in capsys.readouterr().out
    assert message(given) == "Expected --out to be a new folder, got RUN with a complete audit; choose another"


@pytest.mark.parametrize(
    ("changes", "field", "before", "now"),
    [
        ({"seed": 1}, "seed", "0", "1"),
        ({"views": 4}, "views", "3", "4"),
        ({"batch_size": 3}, "batch_size", "2", "3"),
        ({"shard_size": 6}, "shard_size", "5", "6"),
        ({"pairs": "anchor"}, "pairs", '"all"', '"anchor"'),
        ({"normalize": False}, "normalize", "true", "false"),
        ({"median": True}, "median", "false", "true"),
        ({"precision": "bf16"}, "precision", '"fp32"', '"bf16"'),
        ({"reference": None}, "reference", None, "null"),
        ({"candidates": "0:2"}, "candidates", "null", None),
        ({"labels": "none"}, "labels", None, "null"),
        ({"transform": "weak"}, "transform", None, None),
        ({"layers": "conv"}, "layers", None, None),
        ({"output": "relu"}, "output", '"output"', '"relu"'),
    ],
)
def test_a_changed_option_is_refused_by_name(
    begun: Options, changes: dict[str, Any], field: str, before: str | None, now: str | None
) -> None:
    text = message(replace(begun, resume=True, **changes))
    assert text.startswith(f"Expected `{field}` to be "), text
    assert text.endswith("; use another --out")
    if before is not None:
        assert f"to be {before} like the audit in RUN" in text
    if now is not None:
        assert f"got {now};" in text


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Options:
    given = audit_helpers.options(tmp_path_factory.mktemp("begun"))
    with pytest.MonkeyPatch.context() as patch:
        stopped(given, patch)
    return given


def test_changed_files_are_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = audit_helpers.options(tmp_path)
    stopped(given, monkeypatch)
    again = replace(given, resume=True)
    code = Path(given.encoder.removeprefix("py:").removesuffix(":build"))
    for path, field in (
        (Path(given.weights[0]), "weights"),
        (Path(given.reference[0]), "reference"),
        (code, "encoder_file"),
        (tmp_path / "data" / "class0" / "00.png", "data"),
    ):
        before = path.read_bytes()
        if path.suffix == ".safetensors":
            audit_helpers.weights(path.parent, **{path.stem: 9})
        elif path.suffix == ".png":
            path.write_bytes(before + b"\0")
        else:
            path.write_bytes(before + b"\n")
        assert message(again).startswith(f"Expected `{field}` to be "), field
        path.write_bytes(before)
    new = tmp_path / "data" / "class0" / "zz.png"
    new.write_bytes((tmp_path / "data" / "class0" / "00.png").read_bytes())
    assert message(again).startswith("Expected `data` to be ")
    new.unlink()
    path = given.out / "plan.json"
    held = json.loads(path.read_text())
    assert "sha256" in held
    path.write_text(json.dumps({**held, "plan": {**held["plan"], "torch": "1.0"}}))
    assert message(again) == (
        "Expected RUN/plan.json to be as memkern wrote it, got one that its own digest does not fit: it was edited or "
        "damaged; restore it"
    )
    del held["sha256"]  # as memkern 0.3 wrote it
    path.write_text(json.dumps({**held, "plan": {**held["plan"], "torch": "1.0"}}))
    assert message(again).startswith('Expected `torch` to be "1.0" like the audit in RUN, got ')
    del held["plan"]["torch"]
    path.write_text(json.dumps(held))
    assert message(again) == "`plan` of RUN/plan.json lacks `torch`, which every Plan has"


def test_folders_that_hold_something_else(tmp_path: Path) -> None:
    given = audit_helpers.options(tmp_path)
    assert message(replace(given, resume=True)) == "Expected RUN to hold an audit to --resume, got none there"
    given.out.write_text("")
    assert message(given) == "Expected --out to be a folder, got the file RUN"
    given.out.unlink()
    given.out.mkdir()
    (given.out / "manifest.json").write_text("{}")
    wanted = "Expected --out to be a new folder, got RUN, which holds results of another program"
    assert message(given) == wanted
    (given.out / "manifest.json").unlink()
    (given.out / "plan.json").write_text("{")
    assert message(replace(given, resume=True)).startswith("Expected RUN/plan.json to be an audit's plan, got: ")


def test_a_damaged_shard_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = audit_helpers.options(tmp_path)
    stopped(given, monkeypatch, 2)
    reading_files.path_of(given.out, "f", 1).write_bytes(b"half")
    text = message(replace(given, resume=True))
    assert text.startswith("Expected RUN/readings/f/00001.safetensors to be a reading, got: ")
    assert text.endswith("; remove it and go on with --resume")
    reading_files.path_of(given.out, "f", 1).unlink()
    assert run_audit(replace(given, resume=True)) is not None


# ---- a full disk ----------------------------------------------------------------------------------------------------


def test_a_full_disk_is_said_and_keeps_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = audit_helpers.options(tmp_path)
    wanted = "No space left for RUN; finished shards are kept: make room and run again with --resume"
    original = run_shards.measure_shard

    def fills(job: Job, number: int, encoders: Any, step: Any = None) -> dict[str, EncoderReadings]:
        shard = original(job, number, encoders, step)
        if number == 1:  # no file may grow beyond this: the system's own error for the next one
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
        return shard

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with monkeypatch.context() as patch:
        patch.setattr(run_shards, "measure_shard", fills)
        try:
            assert message(given) == wanted
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    kept = sorted(path.relative_to(given.out / "readings") for path in (given.out / "readings").rglob("*.*"))
    assert kept == [Path("f/00000.safetensors"), Path("g/00000.safetensors")]

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    from pyarrow import parquet

    with monkeypatch.context() as patch:
        patch.setattr(parquet, "write_table", full)
        assert message(replace(given, resume=True)) == wanted
    assert not (given.out / "manifest.json").exists()
    assert run_audit(replace(given, resume=True)) is not None


# ---- parts ----------------------------------------------------------------------------------------------------------


def test_merge_names_what_is_missing_or_different(tmp_path: Path) -> None:
    given = audit_helpers.options(tmp_path)
    one = replace(given, out=tmp_path / "one", shard=(1, 2))
    other = replace(given, out=tmp_path / "other", shard=(2, 2), seed=5)
    said: list[str] = []
    assert run_audit(one, log=said.append) is None
    assert said[-1] == "Part 1 of 2 is done; `memkern merge RUN… --out RUN` puts the parts together."
    run_audit(other)
    with pytest.raises(PlanError, match=r"Expected f on all 3 shards in .*; missing: 1; run the part that has them"):
        merge_runs([one.out], tmp_path / "merged")
    with pytest.raises(PlanError, match=r"Expected `seed` to be 5 like the audit in .*other, got 0"):
        merge_runs([one.out, other.out], tmp_path / "merged")
    with pytest.raises(PlanError, match=r"to hold an audit's plan\.json; there is none"):
        merge_runs([tmp_path / "none"], tmp_path / "merged")
    assert not (tmp_path / "merged").exists()
    assert cli.main(["merge", str(one.out), "--out", str(one.out)]) == 1


def test_parts_leave_no_file_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Parts name the exports that were asked of them; merging makes these, and says how to come by pictures."""
    pytest.importorskip("h5py", reason="h5py is not installed")
    given = replace(audit_helpers.options(tmp_path), images=True)
    whole = [*audit_helpers.arguments(given), "--mat", "--fiftyone"]
    for part in ("1/2", "2/2"):
        assert cli.main([*whole, "--shard", part]) == 0
        assert "`memkern merge RUN… --out RUN --mat --fiftyone`" in capsys.readouterr().out
    merged = tmp_path / "merged"
    assert cli.main(["merge", str(given.out), "--out", str(merged), "--mat", "--fiftyone"]) == 0
    assert "no pictures; a part's command with --out RUN --resume, without --shard, adds" in capsys.readouterr().out
    assert (merged / "fiftyone.json").exists()
    assert (merged / "mat" / "maxposition-conv.mat").exists()
    assert "data:image" not in (merged / "report.html").read_text()
    at = whole.index("--out")
    assert cli.main([*whole[:at], "--out", str(merged), *whole[at + 2 :], "--resume"]) == 0
    assert "data:image" in (merged / "report.html").read_text()
    assert (merged / "thumbs").exists()


def test_each_process_takes_a_gpu_of_its_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.distributed, "get_node_local_rank", lambda rank: rank)
    assert [ProcessGroup(rank, 4).device("auto") for rank in range(4)] == ["cuda:0", "cuda:1"] * 2
    assert ProcessGroup(1, 2).device("cuda:5") == "cuda:5"
    assert ProcessGroup().device("cuda") == "cuda"


def test_an_error_in_one_process_is_an_error_in_all() -> None:
    def fails() -> None:
        raise ValueError("mine")

    class Two(ProcessGroup):
        def gather(self, value: Any) -> list[Any]:
            return [value, "disk on fire"]

    with pytest.raises(ProcessError, match="Process 1 of 2 failed: disk on fire"):
        Two(0, 2).run_together(lambda: None)
    with pytest.raises(ValueError, match="mine"):
        Two(0, 2).run_together(fails)


def test_shards_alone_make_the_final_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last step needs neither encoder nor images."""
    given = audit_helpers.options(tmp_path)

    def interrupted(folders: list[Path], out: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "finalize", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_audit(given)
    (tmp_path / "data").rename(tmp_path / "gone")
    assert merge_runs([given.out], tmp_path / "elsewhere").manifest.complete
