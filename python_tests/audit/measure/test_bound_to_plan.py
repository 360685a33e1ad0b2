"""Every file of a RUN folder is bound to its plan: what is of another audit, or was edited, is refused by name."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import audit_helpers
import numpy as np
import pyarrow as pa
import pytest
import torch
from audit_helpers import family
from pyarrow import parquet
from safetensors import safe_open
from safetensors.torch import save_file

from memkern.audit import read_run
from memkern.audit.measure import reading_files, run_shards
from memkern.audit.measure.begun import IMAGES, read_plan
from memkern.audit.measure.job import Job
from memkern.audit.measure.prepare import prepare
from memkern.audit.options import Options
from memkern.audit.pipeline import merge_runs, run_audit
from memkern.errors import DataError, MemkernError, PlanError, RunFolderError


def parts(folder: Path, **changes: Any) -> tuple[Options, Options]:
    given = audit_helpers.options(folder, **changes)
    found = tuple(replace(given, out=given.out.with_name(f"{given.out.name}{i}"), shard=(i, 2)) for i in (1, 2))
    for part in found:
        run_audit(part)
    return found[0], found[1]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Options, Options]]:
    """The parts of an audit, and of others that differ in one thing each."""
    root = tmp_path_factory.mktemp("made")
    of = {"same": {}, "seed": {"seed": 3}, "views": {"views": 4}, "labels": {"labels": "none"}}
    found = {name: parts(root, out=root / name, **changes) for name, changes in of.items()}
    audit_helpers.weights(root / "weights", f=8)
    found["weights"] = parts(root, out=root / "weights-run")
    audit_helpers.weights(root / "weights", f=1)
    other = root / "other"
    audit_helpers.options(other)
    shutil.copytree(root / "weights", other / "weights", dirs_exist_ok=True)
    for path in sorted((other / "data").rglob("*.png")):  # other pixels under the same names
        from PIL import Image

        Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    found["pixels"] = parts(root, out=root / "pixels", data=str(other / "data"))
    return found


@pytest.mark.field("run", "files of another audit in a RUN folder: refused")
@pytest.mark.parametrize("other", ["seed", "views", "labels", "weights", "pixels"])
@pytest.mark.parametrize("file", ["readings/f/00000.safetensors", IMAGES, "plan.json"])
def test_a_file_of_another_audit_is_refused_by_name(
    made: dict[str, tuple[Options, Options]], other: str, file: str, tmp_path: Path
) -> None:
    one, two = made["same"]
    same_images = other in ("seed", "views", "weights", "pixels") and file == IMAGES
    shutil.copytree(one.out, tmp_path / "mixed")
    shutil.copy(made[other][0].out / file, tmp_path / "mixed" / file)
    if same_images and other != "pixels":
        merge_runs([tmp_path / "mixed", two.out], tmp_path / "out")  # the list of images is the same
        return
    with pytest.raises(PlanError) as error:
        merge_runs([tmp_path / "mixed", two.out], tmp_path / "out")
    named = str(tmp_path / "mixed" / file) if file != "plan.json" else "like the audit in"
    assert named in str(error.value) or str(tmp_path / "mixed") in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_reading_under_another_number_or_encoder_is_refused(
    made: dict[str, tuple[Options, Options]], tmp_path: Path
) -> None:
    one, two = made["same"]
    shutil.copytree(one.out, tmp_path / "mixed")
    first = tmp_path / "mixed" / "readings" / "f" / "00000.safetensors"
    shutil.copy(first, first.with_name("00001.safetensors"))
    with pytest.raises(PlanError, match=r"00001\.safetensors to be what was read of f on shard 1 in this audit"):
        merge_runs([tmp_path / "mixed", two.out], tmp_path / "out")
    first.with_name("00001.safetensors").unlink()
    shutil.copy(tmp_path / "mixed" / "readings" / "g" / "00000.safetensors", first)
    with pytest.raises(PlanError, match=r"Expected f on all 3 shards in .*; missing: 0; "):
        merge_runs([tmp_path / "mixed", two.out], tmp_path / "out")


def test_a_reading_with_a_number_changed_is_refused(made: dict[str, tuple[Options, Options]], tmp_path: Path) -> None:
    one, two = made["same"]
    shutil.copytree(one.out, tmp_path / "mixed")
    path = reading_files.path_of(tmp_path / "mixed", "f", 0)
    with safe_open(path, "pt") as file:
        held, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    held["alignment"] = held["alignment"] + 1e-3
    save_file(held, path, metadata)
    with pytest.raises(PlanError, match=r"Expected .*00000\.safetensors to be as it was written"):
        merge_runs([tmp_path / "mixed", two.out], tmp_path / "out")


@pytest.mark.field("run", "tables, manifests and readings that were edited: refused")
@pytest.mark.parametrize("table", ["samples", "units", "layers", "encoders"])
def test_an_edited_table_is_refused(table: str, tmp_path: Path) -> None:
    run = run_audit(audit_helpers.options(tmp_path))
    assert run is not None
    path = run.folder / f"{table}.parquet"
    parquet.write_table(parquet.ParquetFile(path).read().slice(1), path)
    with pytest.raises(RunFolderError, match=rf"Expected .*{table}\.parquet to be the file that manifest\.json names"):
        getattr(read_run(run.folder), table)


def test_an_edited_manifest_is_refused(tmp_path: Path) -> None:
    given = audit_helpers.options(tmp_path)
    run_audit(given)
    path = given.out / "manifest.json"
    before = path.read_text()
    path.write_text(before.replace('"n_listed": 12', '"n_listed": 13'))
    with pytest.raises(RunFolderError, match=r"manifest\.json to be as memkern wrote it"):
        read_run(given.out)
    path.write_text(before[: len(before) // 2])
    with pytest.raises(RunFolderError, match=r"manifest\.json to be JSON, got: "):
        read_run(given.out)
    other = replace(given, out=tmp_path / "other", seed=4)
    run_audit(other)
    shutil.copy(other.out / "manifest.json", path)
    with pytest.raises(PlanError, match=r"manifest\.json to be of the plan beside it, got that of another audit"):
        run_audit(replace(given, resume=True))


# ---- pixels that change ----------------------------------------------------------------------------------------------


def invert(path: Path) -> None:
    from PIL import Image

    Image.fromarray(255 - np.asarray(Image.open(path))).save(path)


@pytest.mark.field("run", "pixels that change before or during the work")
def test_pixels_that_changed_before_it_goes_on_are_found(tmp_path: Path) -> None:
    """Files of one size whatever they show: the list of images tells nothing."""
    from PIL import Image

    given = audit_helpers.options(tmp_path, data=str(tmp_path / "bmp"))
    (tmp_path / "bmp").mkdir()
    for path in (tmp_path / "data").rglob("*.png"):
        Image.open(path).save(tmp_path / "bmp" / f"{path.stem}.bmp")
    run_audit(replace(given, shard=(1, 2)))
    invert(tmp_path / "bmp" / "11.bmp")
    with pytest.raises(PlanError, match="Expected `contents` to be "):
        run_audit(replace(given, resume=True))


def test_pixels_that_change_during_the_work_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = audit_helpers.options(tmp_path)
    original = run_shards.measure_shard

    def changes(job: Job, number: int, *rest: Any) -> Any:
        if number == 1:
            invert(Path(job.source.paths[6]))  # type: ignore[index]
        return original(job, number, *rest)

    monkeypatch.setattr(run_shards, "measure_shard", changes)
    with pytest.raises(DataError, match=r"to have the pixels that it had when it was looked at, got others"):
        run_audit(given)


def test_encoders_that_read_other_pixels_are_not_compared(tmp_path: Path) -> None:
    """Where images were not looked at before, their digests are in the readings alone."""
    given = audit_helpers.options(tmp_path)
    ready = prepare(given)
    plan = replace(ready.begun.plan, contents=None)
    ready = replace(ready, job=replace(ready.job, contents=None), begun=replace(ready.begun, plan=plan))
    run_shards.begin(ready)

    def read(name: str) -> None:
        place = ready.job.encoders.names.index(name)
        with ready.job.encoders.on_device([place]) as modules:
            for number in range(3):
                found = run_shards.measure_shard(ready.job, number, modules)
                reading_files.write_reading(given.out, plan.encoders[place], number, found[name])

    read("f")
    invert(Path(ready.job.source.paths[6]))  # type: ignore[index]
    read("g")
    with pytest.raises(
        PlanError, match=r"Expected f and g to be read on the same images, got other pixels on shard 1:"
    ):
        merge_runs([given.out], given.out)


# ---- one digest, two layers ------------------------------------------------------------------------------------------


def test_the_digest_of_a_reading_holds_what_decides_it_and_no_more(tmp_path: Path) -> None:
    def digests(given: Options) -> dict[str, str]:
        return {each.weights: each.readings for each in prepare(given).begun.plan.encoders}

    given = family(tmp_path, 2, 1)
    before = digests(given)
    longer = digests(family(tmp_path, 2, 2))
    assert {key: longer[key] for key in before} == before, "another encoder changes none"
    assert digests(replace(given, fdr=0.2, level="none", workers=2)) == before
    others: list[Callable[[], Options]] = [
        lambda: replace(given, seed=1), lambda: replace(given, views=5), lambda: replace(given, transform="weak"),
        lambda: replace(given, size=9), lambda: replace(given, pairs="anchor"), lambda: replace(given, median=True),
        lambda: replace(given, distance="cosine"), lambda: replace(given, batch_size=3),
        lambda: replace(given, shard_size=4), lambda: replace(given, layers="conv"),
        lambda: replace(given, labels="none"), lambda: replace(given, output="relu"),
        lambda: replace(given, normalize=False),
    ]  # fmt: skip
    for make in others:
        assert not set(digests(make()).values()) & set(before.values()), make()


def test_weights_in_memory_are_known_by_their_bytes(tmp_path: Path) -> None:
    """Two encoders whose tensors have equal sums are two encoders."""
    given = audit_helpers.options(tmp_path, encoder="in memory", weights="f", reference=None)
    one, other = audit_helpers.net(1), audit_helpers.net(1)
    with torch.no_grad():
        other.conv.weight.copy_(one.conv.weight.flip(0))
    made = [prepare(given, encoders=(each, None)) for each in (one, other)]
    plans = [each.begun.plan for each in made]
    assert plans[0].weights != plans[1].weights


# ---- files of others -------------------------------------------------------------------------------------------------


def test_files_of_others_stay(tmp_path: Path) -> None:
    given = family(tmp_path, 2, 1)
    given.out.mkdir()
    mine = [".notes.part.txt", "notes.txt", ".hidden"]
    for name in mine:
        (given.out / name).write_text("mine")
    run_audit(given)
    theirs = given.out / "readings" / "f1" / "notes.txt"
    theirs.write_text("mine")
    left = given.out / "readings" / "f1" / ".memkern.part.0123456789abcdef.safetensors"
    left.write_text("half")
    run_audit(replace(given, weights=given.weights[::-1], resume=True))
    assert [(given.out / name).read_text() for name in mine] == ["mine"] * 3
    assert theirs.read_text() == "mine"
    assert not list(given.out.rglob(".memkern*"))


@pytest.mark.field("run", "the user's umask")
@pytest.mark.parametrize("umask", [0o077, 0o002])
def test_the_users_umask_holds(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        given = audit_helpers.options(tmp_path, exports=("fiftyone",), images=True)
        run_audit(given)
    finally:
        os.umask(before)
    files = [path for path in given.out.rglob("*") if path.is_file()]
    assert len(files) > 10
    wrong = {str(path.relative_to(given.out)): oct(path.stat().st_mode) for path in files
             if path.stat().st_mode & 0o777 != 0o666 & ~umask}  # fmt: skip
    assert not wrong


FILES = ["plan.json", IMAGES, "readings/f/00000.safetensors"]
FINISHED = ["manifest.json", "samples.parquet", "units.parquet", "layers.parquet", "state.safetensors", "thumbs/0.png"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Options]:
    """A finished audit, and one of which half is done."""
    given = audit_helpers.options(tmp_path_factory.mktemp("finished"), images=True)
    half = replace(given, out=given.out.with_name("half"))
    run_audit(given)
    run_audit(replace(half, shard=(1, 2)))
    return {True: given, False: half}


@pytest.mark.field("run", "FIFOs and devices in a RUN folder")
@pytest.mark.timeout(60)
@pytest.mark.parametrize("file", [*FILES, *FINISHED])
def test_a_fifo_is_never_waited_for(finished: dict[bool, Options], file: str, tmp_path: Path) -> None:
    from memkern.audit import write_report

    given = replace(finished[file in FINISHED], out=tmp_path / "run")
    shutil.copytree(finished[file in FINISHED].out, given.out)
    path = given.out / file
    assert path.exists()
    path.unlink()
    os.mkfifo(path)
    if file == "thumbs/0.png":
        write_report(given.out)
        return

    def read() -> object:
        if file == "state.safetensors":
            return read_run(given.out).state
        return write_report(given.out) if file in FINISHED else run_audit(replace(given, resume=True))

    with pytest.raises((MemkernError, OSError), match=r"Expected .*") as error:
        read()
    assert str(path) in str(error.value)


def test_a_device_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    from memkern.audit import write_report

    given = audit_helpers.options(tmp_path)
    run_audit(given)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match=r"fifo to be a file, got a FIFO"):
        write_report(given.out, out=tmp_path / "fifo")


@pytest.mark.field("run", "half-written RUN folders")
def test_a_begun_folder_with_half_a_plan_is_one_sentence(tmp_path: Path) -> None:
    given = audit_helpers.options(tmp_path)
    run_audit(replace(given, shard=(1, 2)))
    whole = (given.out / "plan.json").read_text()
    (given.out / "plan.json").write_text(whole[:100])
    with pytest.raises(PlanError, match=r"plan\.json to be an audit's plan, got: "):
        run_audit(replace(given, resume=True))
    held = json.loads(whole)
    held["plan"]["seed"] = 1
    (given.out / "plan.json").write_text(json.dumps(held))
    with pytest.raises(PlanError, match=r"plan\.json to be as memkern wrote it"):
        merge_runs([given.out], tmp_path / "merged")
    (given.out / "plan.json").write_text(whole)
    table = parquet.ParquetFile(given.out / IMAGES).read()
    flipped = table.set_column(4, "candidate", pa.array([True] * len(table)))
    parquet.write_table(flipped, given.out / IMAGES)
    with pytest.raises(PlanError, match=r"images\.parquet to be the list of images of the plan beside it"):
        run_audit(replace(given, resume=True))
    (given.out / IMAGES).unlink()
    assert run_audit(replace(given, resume=True)) is not None
    assert read_plan(given.out).images
