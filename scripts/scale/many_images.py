"""What an audit of many images costs beside decoding and forward passes: seconds, memory and bytes of plan and end.

    python scripts/scale/many_images.py 5000000
    python scripts/scale/many_images.py 100000 --layers 60 --units 64 --finish

Names are made up, no file holds the images, and nothing is decoded. With `--finish`, one shard is measured for real and
stands for all, and the final files are made; the numbers of docs/scale.md are from here.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from memkern.audit.data.check import ImageCheck
from memkern.audit.data.source import Source
from memkern.audit.measure import images, reading_files, run_shards
from memkern.audit.measure.finalize import finalize
from memkern.audit.measure.prepare import Prepared, prepare
from memkern.audit.measure.shard import measure_shard
from memkern.audit.options import Options
from memkern.audit.process import most_memory

GROUPS = ("shared", "candidate", "independent", "extra")


def encoder(seed: int, layers: int, units: int) -> nn.Module:
    """An encoder of so many layers of so many units."""
    torch.manual_seed(seed)
    pairs = [(nn.Conv2d(units if place else 3, units, 1), nn.ReLU()) for place in range(-(-layers // 2))]
    return nn.Sequential(*[each for pair in pairs for each in pair], nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()


def source(count: int) -> Source:
    """So many images, as a folder of class folders has them; an image is drawn when it is asked for."""

    def load(position: int) -> Tensor:
        return torch.from_numpy(np.random.default_rng(position).integers(0, 256, (3, 32, 32), dtype=np.uint8))

    names = tuple(f"n{row % 1000:08d}/n{row % 1000:08d}_{row}.JPEG" for row in range(count))
    classes = tuple(range(1000))
    labels = tuple(classes[row % 1000] for row in range(count))
    return Source("made up", names, load, "0" * 64, None, labels, tuple(str(label) for label in range(1000)))


def finish(ready: Prepared) -> None:
    """Writes the reading of one shard for all of them, and makes the final files."""
    job, plan = ready.job, ready.begun.plan
    with job.encoders.on_device(range(len(job.encoders))) as modules:
        found = measure_shard(job, 0, modules)
    for number in range(job.n_shards):
        n = len(job.rows(number))
        for each in plan.encoders:
            whole = found[each.name]
            part = replace(
                whole, alignment=whole.alignment[:, :n], halves=whole.halves[..., :n], rows=whole.rows[:n],
            )  # fmt: skip
            reading_files.write_reading(job.options.out, each, number, part)
    start = time.perf_counter()
    finalize([job.options.out], job.options.out)
    print(f"finished in {time.perf_counter() - start:.1f} s")


def size_of(folder: Path) -> int:
    """Bytes of all files of a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main(argv: Sequence[str] | None = None) -> None:
    """Plans an audit, finishes it if asked to, and prints what that took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--units", type=int, default=8)
    parser.add_argument("--keep", default="all")
    parser.add_argument("--finish", action="store_true")
    args = parser.parse_args(argv)
    made = source(args.count)
    with tempfile.TemporaryDirectory() as folder:
        groups = Path(folder) / "groups.csv"
        with groups.open("w") as file:
            file.write("id,group\n")
            file.writelines(f"{name},{GROUPS[row % 4]}\n" for row, name in enumerate(made.ids))
        held = most_memory()
        images._looked_at = lambda *_: [ImageCheck("", (32, 32))] * args.count  # type: ignore[assignment]
        options = Options(
            encoder="made up", weights=("f",), reference=("g",), data="made up", out=Path(folder) / "run",
            groups=str(groups), duplicates=False, device="cpu", keep=args.keep,
        )  # fmt: skip
        encoders = tuple(encoder(seed, args.layers, args.units) for seed in (1, 2))
        start = time.perf_counter()
        ready = prepare(options, encoders=(encoders[0], encoders[1]), source=made)
        planned = time.perf_counter()
        run_shards.begin(ready)
        took = {
            "images": args.count,
            "seconds to plan": round(planned - start, 1),
            "seconds to write the plan": round(time.perf_counter() - planned, 1),
            "MB of the process with the list alone": held // 10**6,
            "MB at the peak": most_memory() // 10**6,
        }
        if args.finish:
            finish(ready)
            took["MB at the peak of the end"] = most_memory() // 10**6
            took["MB of RUN"] = size_of(options.out) // 10**6
            took["MB of the readings in it"] = size_of(options.out / reading_files.FOLDER) // 10**6
    print(json.dumps(took))


if __name__ == "__main__":
    main()
