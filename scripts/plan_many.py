"""Times the plan of an audit of many images whose names are made up and that no file holds; says seconds and memory.

    python scripts/plan_many.py 5000000

Nothing is decoded: this is what an audit costs before its first image, with groups and labels for every image.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from memkern.audit.data.check import ImageCheck
from memkern.audit.data.source import Source
from memkern.audit.measure import images, run_shards
from memkern.audit.measure.prepare import prepare
from memkern.audit.options import Options

GROUPS = ("shared", "candidate", "independent", "extra")


def encoder(seed: int) -> nn.Module:
    """A small encoder."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()


def source(count: int) -> Source:
    """So many images, as a folder of class folders has them; an image is drawn when it is asked for."""

    def load(position: int) -> Tensor:
        return torch.from_numpy(np.random.default_rng(position).integers(0, 256, (3, 32, 32), dtype=np.uint8))

    names = tuple(f"n{row % 1000:08d}/n{row % 1000:08d}_{row}.JPEG" for row in range(count))
    classes = tuple(range(1000))
    labels = tuple(classes[row % 1000] for row in range(count))
    return Source("made up", names, load, "0" * 64, None, labels, tuple(str(label) for label in range(1000)))


def main(count: int) -> None:
    """Plans an audit of `count` images, and prints what it took."""
    made = source(count)
    with tempfile.TemporaryDirectory() as folder:
        groups = Path(folder) / "groups.csv"
        with groups.open("w") as file:
            file.write("id,group\n")
            file.writelines(f"{name},{GROUPS[row % 4]}\n" for row, name in enumerate(made.ids))
        held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        images._looked_at = lambda source, *_: [ImageCheck("", (32, 32))] * count  # type: ignore[assignment]
        options = Options(
            encoder="made up", weights=("f",), reference=("g",), data="made up", out=Path(folder) / "run",
            groups=str(groups), duplicates=False, device="cpu",
        )  # fmt: skip
        start = time.perf_counter()
        ready = prepare(options, encoders=(encoder(1), encoder(2)), source=made)
        planned = time.perf_counter()
        run_shards.begin(ready)
        done = time.perf_counter()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        written = sum(path.stat().st_size for path in (Path(folder) / "run").iterdir())
    print(
        json.dumps({
            "images": count, "seconds_to_plan": round(planned - start, 1), "seconds_to_begin": round(done - planned, 1),
            "mib_at_the_peak": round(peak), "mib_of_the_list_alone": round(held), "bytes_in_run": written,
        })
    )  # fmt: skip


if __name__ == "__main__":
    main(int(sys.argv[1]))
