"""An audit that has begun: what RUN holds until it is complete, and what must be the same for it to go on.

```
plan.json             what is measured; a run that goes on must have the same
images.parquet        the images, one row each: their names, groups, pictures, and who saw them
readings/             what was read of each encoder on each shard; `reading_files.py`
```
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from memkern._util.files import read_json, replace_atomically, sha256, write_json
from memkern._util.optional_imports import require
from memkern.audit.measure.plan import short
from memkern.audit.measure.reading_files import rename_readings, same_encoders
from memkern.audit.run_folder.columns import SAMPLES, Column
from memkern.audit.run_folder.reader import read_run
from memkern.audit.run_folder.schema import MANIFEST, PLAN, Plan, PlanFile
from memkern.errors import PlanError

IMAGES = "images.parquet"


@contextmanager
def clear_disk_errors(folder: Path) -> Iterator[None]:
    """Explains a write to RUN that failed because the disk is full: nothing is lost, and what to do."""
    try:
        yield
    except Exception as error:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        # safetensors reports the system's error as text
        if full or re.search(r"os error (27|28|122)\b|No space left", str(error)):
            raise OSError(
                f"No space left for {folder}; finished shards are kept: make room and run again with --resume"
            ) from error
        raise


def check_out(folder: Path, *, resume: bool, shared: bool) -> None:
    """Requires a folder in which an audit may be begun or gone on with; what audit it holds is not looked at.

    Args:
        folder: The RUN folder.
        resume: Whether to go on with what is there.
        shared: Whether other processes may have begun it.

    Raises:
        PlanError: If the folder holds an audit that was not asked to be resumed, or none that could be, or cannot be
            written.
    """
    begun, complete = (folder / PLAN).exists(), (folder / MANIFEST).exists()
    if folder.exists() and not folder.is_dir():
        raise PlanError(f"Expected --out to be a folder, got the file {folder}")
    if complete and not begun:
        raise PlanError(f"Expected --out to be a new folder, got {folder}, which holds results of another program")
    if resume and not (begun or shared):
        raise PlanError(f"Expected {folder} to hold an audit to --resume, got none there")
    if begun and not (resume or shared):
        held, fix = ("a complete", "") if complete else ("an unfinished", "go on with --resume, or ")
        raise PlanError(f"Expected --out to be a new folder, got {folder} with {held} audit; {fix}choose another")
    there = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        raise PlanError(f"Expected --out to be a folder that can be written, got {folder}; {there} cannot: use another")


def begin(folder: Path, begun: PlanFile, images: Mapping[str, Column]) -> bool:
    """Writes the plan and the list of images, or checks that those that are there are the same.

    An audit to which encoders are added, or of which some are left out, goes on: it is not complete any more. What was
    read of those that are left out stays in the folder until another encoder takes their name.

    Args:
        folder: The RUN folder; made if it is missing.
        begun: The plan, and what else is known.
        images: Columns of the list of images.

    Returns:
        Whether the audit is complete already.

    Raises:
        PlanError: If the folder holds another audit.
        OSError: If a file cannot be written.
    """
    there = read_plan(folder) if (folder / PLAN).exists() else None
    if there is not None:
        check_same(there.plan, begun.plan, folder, other_encoders=True)
    if there is not None and there.plan == begun.plan:
        if (folder / MANIFEST).exists():
            check_manifest(folder, begun.plan)
            return True
        if (folder / IMAGES).exists():
            check_images(folder, there)
            return False
    with clear_disk_errors(folder):
        (folder / MANIFEST).unlink(missing_ok=True)
        if there is not None and there.plan != begun.plan:
            rename_readings(folder, there.plan, begun.plan)
        _write_images(folder, images)
        write_plan(folder, replace(begun, images=sha256(folder / IMAGES)))
    return False


def check_images(folder: Path, begun: PlanFile) -> None:
    """Requires the list of images in a RUN folder to be that of its plan.

    Args:
        folder: The RUN folder.
        begun: What its plan.json holds.

    Raises:
        PlanError: If the list is missing, or another one.
    """
    path = folder / IMAGES
    if not path.exists():
        raise PlanError(f"Expected {path}, the list of images of the plan beside it; it is missing: run with --resume")
    if begun.images != sha256(path):
        raise PlanError(
            f"Expected {path} to be the list of images of the plan beside it, got another file; remove it and go on "
            "with --resume"
        )


def check_manifest(folder: Path, plan: Plan) -> None:
    """Requires the manifest of a RUN folder to be that of its plan.

    Args:
        folder: The RUN folder.
        plan: Its plan.

    Raises:
        PlanError: If the manifest is of another audit.
        RunFolderError: If the manifest is damaged.
    """
    if read_run(folder).manifest.plan != plan:
        raise PlanError(
            f"Expected {folder / MANIFEST} to be of the plan beside it, got that of another audit; remove it and go on "
            "with --resume"
        )


def _write_images(folder: Path, columns: Mapping[str, Column]) -> None:
    """Writes the list of images: id, index, path, label, candidate, group, picture, and `member/<encoder>`."""
    arrow, parquet = require("pyarrow", "pyarrow"), require("pyarrow.parquet", "pyarrow")
    arrays = {
        name: arrow.array(values, type=getattr(arrow, SAMPLES.get(name, "int8"))()) for name, values in columns.items()
    }
    with replace_atomically(folder / IMAGES) as temporary:
        parquet.write_table(arrow.table(arrays), temporary)


def write_plan(folder: Path, begun: PlanFile) -> None:
    """Writes plan.json."""
    write_json(folder / PLAN, begun.to_json())


def read_plan(folder: Path) -> PlanFile:
    """Reads plan.json.

    Args:
        folder: The RUN folder.

    Returns:
        The plan, and what else was known when the audit began.

    Raises:
        PlanError: If there is none, or it is damaged or of a later memkern.
    """
    path = folder / PLAN
    try:
        found = read_json(path)
    except FileNotFoundError as error:
        raise PlanError(f"Expected {folder} to hold an audit's {PLAN}; there is none") from error
    except (OSError, ValueError) as error:
        raise PlanError(f"Expected {path} to be an audit's plan, got: {error}") from error
    if isinstance(found, dict):
        found.setdefault("format", f"{PlanFile.FORMAT}-1")  # memkern 0.1.0 wrote none
    return PlanFile.from_json(found, path)


def check_same(old: Plan, new: Plan, folder: Path, *, other_encoders: bool = False) -> None:
    """Requires two plans to be equal.

    Args:
        old: The plan that the folder holds.
        new: The plan of the audit that shall go on.
        folder: The RUN folder, for the error message.
        other_encoders: Whether the new plan may have more encoders or fewer (of each role one), and other names and
            roles of those that both have.

    Raises:
        PlanError: If a field differs; the message names the first one.
    """
    before, now = old.to_json(), new.to_json()
    may_differ: set[str] = set()
    both = same_encoders(old, new) if other_encoders else {}
    roles = ({each.role for each in plan.encoders} for plan in (old, new))
    longer = len(both) == len(old.encoders)
    if both and (longer or (len(both) == len(new.encoders) and set.issubset(*roles))):
        may_differ = {"encoder", "encoder_file", "weights", "reference", "encoders", "candidates"}
    for name, value in now.items():
        if before[name] != value and name not in may_differ:
            raise PlanError(
                f"Expected `{name}` to be {short(before[name])} like the audit in {folder}, got {short(value)}; "
                "use another --out"
            )
