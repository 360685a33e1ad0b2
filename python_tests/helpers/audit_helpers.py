"""Tiny images, encoders and audits for the tests of memkern.audit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from memkern.audit.options import Options

for package in ("pyarrow", "safetensors", "rich", "PIL", "imagehash", "scipy"):
    pytest.importorskip(package, reason="memkern[audit] is not installed")


class Net(nn.Module):
    """Two convolutions with an in-place ReLU between and a pooled output: `[N, 3, 8, 8]` -> `[N, 6]`."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, stride=2)
        self.relu = nn.ReLU(inplace=True)
        self.deep = nn.Conv2d(width, 6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.deep(self.relu(self.conv(x))).mean((2, 3))


def net(seed: int = 0, **arguments: Any) -> Net:
    torch.manual_seed(seed)
    return Net(**arguments).eval()


BUILD = "from audit_helpers import Net as build\n"


def pictures(folder: Path, count: int = 12, classes: int = 3, size: int = 8) -> Path:
    """PNG files in one folder per class, smooth enough to be told from noise."""
    from PIL import Image

    random = np.random.default_rng(0)
    for number in range(count):
        path = folder / f"class{number % classes}" / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(random.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        coarse.resize((size, size), Image.Resampling.BICUBIC).save(path)
    return folder


def weights(folder: Path, **seeds: int) -> dict[str, str]:
    """Safetensors files of `Net` by name of the role."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for role, seed in (seeds or {"f": 1, "g": 2}).items():
        files[role] = str(folder / f"{role}.safetensors")
        save_file(net(seed).state_dict(), files[role])
    return files


def encoder_file(folder: Path) -> str:
    """`py:FILE.py:build` that builds `Net`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "encoder.py"
    path.write_text(BUILD)
    return f"py:{path}:build"


def options(folder: Path, **changes: Any) -> Options:
    """Options of a small audit of `Net` over `pictures`; files are made where they are missing."""
    if not (folder / "data").exists():
        pictures(folder / "data")
        weights(folder / "weights")
    given: dict[str, Any] = {
        "encoder": encoder_file(folder / "code"),
        "weights": str(folder / "weights" / "f.safetensors"),
        "reference": str(folder / "weights" / "g.safetensors"),
        "data": str(folder / "data"),
        "out": folder / "run",
        "views": 3,
        "batch_size": 2,
        "shard_size": 5,
        "workers": 1,
        "images": False,
    }
    return Options(**{**given, **changes})


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of the tables and states of a finished audit."""
    names = ("samples.parquet", "units.parquet", "layers.parquet", "state.safetensors")
    return {name: (folder / name).read_bytes() for name in names}


GROUPS = ("shared", "candidate", "independent", "extra")


def family(folder: Path, f: int, g: int, **changes: Any) -> Options:
    """Options of F and G trainings of `Net` over twelve images, three of each group."""
    given = options(folder)
    seeds = {f"f{k}": 10 + k for k in range(f)} | {f"g{k}": 20 + k for k in range(g)}
    files = weights(folder / "family", **seeds)
    names = sorted(path.relative_to(folder / "data").as_posix() for path in (folder / "data").rglob("*.png"))
    lines = [f"{name},{GROUPS[k % 4]},p{k // 4}" for k, name in enumerate(names)]
    (folder / "groups.csv").write_text("\n".join(["id,group,picture", *lines]) + "\n")
    of_f, of_g = (tuple(file for role, file in files.items() if role[0] == each) for each in "fg")
    return replace(given, weights=of_f, reference=of_g, groups=str(folder / "groups.csv"), **changes)


def listed(folder: Path, members: Sequence[str], **changes: Any) -> Options:
    """Options of listed encoders, each trained on the images of a range."""
    given = options(folder)
    files = weights(folder / "listed", **{f"e{k}": 30 + k for k in range(len(members))})
    lines = [f"{name},{given.encoder},{files[name]},{each}" for name, each in zip(files, members, strict=True)]
    path = folder / f"encoders{len(members)}.csv"
    path.write_text("\n".join(["name,encoder,weights,members", *lines]) + "\n")
    return replace(given, encoder="", weights=(), reference=(), encoders=str(path), **changes)


def arguments(given: Options) -> list[str]:
    """The command line of these options."""
    line = ["audit", *([given.encoder] if given.encoder else []), "--data", given.data, "--out", str(given.out)]
    for name in ("weights", "reference"):
        line += [f"--{name}", *getattr(given, name)] if getattr(given, name) else []
    for name in ("groups", "encoders"):
        line += [f"--{name}", getattr(given, name)] if getattr(given, name) else []
    for name in ("views", "batch_size", "shard_size", "workers", "seed", "layers", "pairs"):
        line += [f"--{name.replace('_', '-')}", str(getattr(given, name))]
    return line if given.images else [*line, "--no-images"]
