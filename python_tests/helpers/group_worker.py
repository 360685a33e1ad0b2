"""Audits by several forked processes that disagree, fail or die; started once by test_process_group.py.

    python group_worker.py FOLDER

Prints one line of JSON: scenario -> for each process its exit code and what it raised, and the seconds until all ended.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import audit_helpers
import imagehash  # noqa: F401  (this and the next: imported once here, not by every process)
import jinja2  # noqa: F401
import numpy as np
import pyarrow.parquet  # noqa: F401
import safetensors.torch  # noqa: F401
import scipy.stats  # noqa: F401
import torch
from audit_worker import ended, forked
from PIL import Image

from memkern.audit.measure import liveness, run_shards
from memkern.audit.options import Options
from memkern.audit.pipeline import run_audit

Prepare = Callable[[int], Options]


def together(folder: Path, name: str, size: int, options: Prepare) -> dict[str, Any]:
    """As many processes, each with options of its own."""
    store = folder / f"{name}.store"

    def work(rank: int) -> None:
        liveness.BEAT, liveness.DEAD = 0.05, 1.5
        where = torch.distributed.FileStore(str(store), size)
        torch.distributed.init_process_group("gloo", store=where, rank=rank, world_size=size)
        said = ""
        try:
            run_audit(replace(options(rank), out=folder / f"{name}-run"))
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
        (folder / f"{name}.{rank}").write_text(said)

    start = time.monotonic()
    pids = [forked(lambda rank=rank: work(rank)) for rank in range(size)]
    codes = [ended(pid) for pid in pids]
    said = [path.read_text() if path.exists() else "" for path in (folder / f"{name}.{rank}" for rank in range(size))]
    return {"codes": codes, "said": said, "seconds": time.monotonic() - start}


def in_shard(rank: int, shard: int, act: Callable[[], object]) -> None:
    """Has a process do something when it comes to a shard."""
    if int(torch.distributed.get_rank()) != rank:
        return
    original = run_shards.measure_shard

    def acting(job: Any, number: int, *rest: Any) -> Any:
        if number == shard:
            act()
        return original(job, number, *rest)

    run_shards.measure_shard = acting


def fail() -> None:
    raise OSError("disk on fire")


def main(folder: Path) -> None:
    given = audit_helpers.options(folder)
    torch.set_num_threads(1)
    other = audit_helpers.options(folder / "other")
    audit_helpers.weights(folder / "other" / "weights", f=7, g=2)
    inverted = folder / "inverted"
    for path in (folder / "data").rglob("*.png"):  # the same names and sizes in bytes, other pixels
        for at, invert in ((folder / "bmp", False), (inverted, True)):
            place = (at / path.relative_to(folder / "data")).with_suffix(".bmp")
            place.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.asarray(Image.open(path))
            Image.fromarray(255 - pixels if invert else pixels).save(place)
    shutil.copytree(folder / "bmp", folder / "one")
    shutil.copy(inverted / "class0" / "03.bmp", folder / "one" / "class0" / "03.bmp")

    def of_rank(*each: Options) -> Prepare:
        return lambda rank: each[min(rank, len(each) - 1)]

    def acting(rank: int, act: Callable[[], object]) -> Prepare:
        def make(own: int) -> Options:
            in_shard(rank, rank, act)
            return given

        return make

    bmp = replace(given, data=str(folder / "bmp"))
    scenarios: dict[str, tuple[int, Prepare]] = {
        "alike": (2, of_rank(given)),
        "weights": (2, of_rank(given, replace(given, weights=other.weights))),
        "seed": (2, of_rank(given, replace(given, seed=1))),
        "pixels": (2, of_rank(bmp, replace(bmp, data=str(inverted)))),
        "one image": (2, of_rank(bmp, replace(bmp, data=str(folder / "one")))),
        "images": (2, of_rank(given, replace(given, data=str(folder / "data" / "class0")))),
        "slow": (2, acting(1, lambda: time.sleep(3.0))),
        "fails": (3, acting(1, fail)),
        "killed": (3, acting(1, lambda: os.kill(os.getpid(), signal.SIGKILL))),
    }
    found = {}
    for name, (size, options) in scenarios.items():
        found[name] = together(folder, name, size, options)
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
