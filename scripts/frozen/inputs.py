"""Images, encoders and weights for small audits, made from seeds in the folder of the process."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

VIT = "timm:vit_tiny_patch16_224?img_size=32&patch_size=8&depth=2&embed_dim=48&num_heads=3"

ENCODER = '''"""A small encoder with what an audit reads: convolutions, norms, ReLU in place, GELU, a skip, a head."""

import os
import signal
from pathlib import Path

from torch import nn


class Net(nn.Module):
    def __init__(self, width=6):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, stride=2, padding=1)
        self.norm1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(width)
        self.gelu = nn.GELU()
        self.conv3 = nn.Conv2d(width, 10, 3, stride=2)
        self.head = nn.Linear(10, 7)

    def forward(self, x):
        stop = os.environ.get("FROZEN_STOP")  # a RUN folder: interrupt the audit after its first shard
        if stop and next(Path(stop).rglob("*.safetensors"), None):
            signal.raise_signal(signal.SIGTERM)
        x = self.relu(self.norm1(self.conv1(x)))
        x = x + self.gelu(self.norm2(self.conv2(x)))
        return self.head(self.conv3(x).relu().mean((2, 3)))


def build(**arguments):
    return Net(**arguments)
'''


def make(checkout: Path) -> None:
    """Writes `data/` (three classes, one copy), `damaged/`, `candidates.txt`, `net.py` and `*.safetensors`."""
    images(Path("data"), 24)
    shutil.copyfile("data/cats/00.png", "data/cats/copy.png")
    images(Path("damaged"), 8)
    Path("damaged/dogs/01.png").write_bytes(b"no picture")
    Path("candidates.txt").write_text("".join(f"{name}\n" for name in sorted(_names(12))))
    Path("net.py").write_text(ENCODER)
    weights(Path("net.py"))
    for role in "fg":  # the pair that ships, a ResNet9
        (file,) = (checkout / "memkern" / "lab").rglob(f"{role}.safetensors")
        shutil.copyfile(file, f"shipped-{role}.safetensors")
    _vit()


def _names(count: int) -> list[str]:
    return [f"{('cats', 'dogs', 'ships')[number % 3]}/{number:02d}.png" for number in range(count)]


def images(folder: Path, count: int, size: int = 32) -> None:
    """PNG files in one folder per class, smooth enough to be told from noise; every fifth is larger."""
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(count)
    for number, name in enumerate(_names(count)):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(random.integers(0, 256, (5, 5, 3), dtype=np.uint8))
        shape = (size + 8, size + 4) if number % 5 == 4 else (size, size)
        coarse.resize(shape, Image.Resampling.BICUBIC).save(path)


def weights(file: Path) -> None:
    """Writes `net-f`, `net-g` and `net-h.safetensors` for the encoder in `file`, norms with moments of their own."""
    import runpy

    import torch

    for seed, role in ((1, "f"), (2, "g"), (5, "h")):
        torch.manual_seed(seed)
        model = runpy.run_path(str(file))["build"]()
        for name, value in model.state_dict().items():
            if "norm" in name and value.dtype.is_floating_point:
                value.copy_(torch.rand_like(value) + 0.5 if "var" in name else torch.randn_like(value) / 3 + 0.2)
        _save(model, f"net-{role}")


def _vit() -> None:
    try:
        import timm
    except ImportError:
        return
    import torch

    name, _, rest = VIT.removeprefix("timm:").partition("?")
    arguments = {key: int(value) for key, value in (each.split("=") for each in rest.split("&"))}
    for seed, role in ((3, "f"), (4, "g")):
        torch.manual_seed(seed)
        _save(timm.create_model(name, pretrained=False, num_classes=0, **arguments), f"vit-{role}")


def _save(model: Any, name: str) -> None:
    from safetensors.torch import save_file

    save_file(model.state_dict(), f"{name}.safetensors")
