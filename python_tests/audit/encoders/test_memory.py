"""An encoder of an audit holds its weights, and next to nothing besides: neither its file nor what a pass has left."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import ctypes, gc, re, sys, torch
from pathlib import Path
from safetensors.torch import save_file
from memkern.audit.encoders.build import build_encoder
from memkern.audit.encoders.weights import load_weights
from memkern.audit.taps.tap import Tap
from memkern.lab.encoders import resnet9

def held():
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    return 1000 * int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

folder, kept, sizes = Path(sys.argv[1]), [], []
images = torch.rand(20, 3, 32, 32)
for k in range(7):
    encoder = build_encoder("memkern:resnet9")
    save_file(encoder.state_dict(), folder / f"{k}.safetensors")
    load_weights(encoder, str(folder / f"{k}.safetensors"))
    tap = Tap(encoder, resnet9.TAPS, n_views=2)
    kept.append((encoder, tap))
    with torch.no_grad(), tap:
        for _ in range(2):
            encoder(images)
            tap.take()
    del encoder, tap
    sizes.append(held())
weights = sum(x.numel() * x.element_size() for x in kept[0][0].state_dict().values())
print(weights, (sizes[-1] - sizes[1]) / 5)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux' /proc, and glibc's malloc_trim")
def test_an_encoder_more_takes_the_memory_of_its_weights(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    weights, growth = map(float, done.stdout.split())
    assert 0.9 * weights < growth < 1.1 * weights, (weights, growth)
