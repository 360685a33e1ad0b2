"""The audit's process keeps the memory that activations leave, and takes it in huge pages."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from memkern.audit.process import keep_freed_memory, return_freed_memory, set_aside_small_blocks

COUNT = """
import resource
import threading
import torch
from memkern.audit.process import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(16 << 20)  # 64 MB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

first = faults()
assert keep_freed_memory()
faults()
print(first, faults())
# more than an arena of another thread can hold
thread = threading.Thread(target=lambda: torch.ones(64 << 20))
thread.start()
thread.join()
"""


HOLD = """
import memkern
from memkern.audit.process import keep_freed_memory, most_memory, use_huge_pages

use_huge_pages()
assert keep_freed_memory()
import torch

kept = []
for i in range(30):
    activation = torch.ones(10 << 20)  # 40 MB
    kept.append([torch.ones(50) for _ in range(5)])
    other = torch.ones((10 << 20) - 1000 * i)
    del activation
    kept.append(torch.ones(1000))
    del other
    if i == 0:
        first = most_memory()
print(most_memory() - first)
"""
# as before any audit ran in the process of the tests
USUAL = {name: value for name, value in os.environ.items() if name != "THP_MEM_ALLOC_ENABLE"}
HUGE = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_an_activation_takes_the_pages_of_the_last_one() -> None:
    done = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True, env=USUAL)
    assert done.returncode == 0, done.stderr
    usual, kept = map(int, done.stdout.split())
    assert kept < usual / 10


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_small_blocks_do_not_drive_the_large_ones_apart() -> None:
    """Without huge pages it is a matter of chance whether this grows by 1.5 GB."""
    done = subprocess.run([sys.executable, "-c", HOLD], capture_output=True, text=True, env=USUAL)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 4 * 40 * 2**20


COMMAND = """
import resource
from memkern import cli
from memkern.audit import pipeline as run

def faults(*args, **kwargs):
    import torch
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(16 << 20)  # 64 MB
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    raise KeyboardInterrupt

run.dry_run = faults
cli.main("audit memkern:resnet9 --weights f --data d --out o --dry-run".split())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
@pytest.mark.skipif(not HUGE.exists() or "[never]" in HUGE.read_text(), reason="the system has no huge pages to give")
def test_the_command_has_its_activations_on_huge_pages() -> None:
    done = subprocess.run([sys.executable, "-c", COMMAND], capture_output=True, text=True, env=USUAL)
    # 16384 pages of 4 KB, or 32 and some of the import of torch's parts
    assert int(done.stdout) < 4000, done.stderr


RETURN = """
from memkern.audit.measure import prepare
from memkern.audit.data.source import from_arrays
from memkern.audit.encoders.build import build_encoder
from memkern.audit.process import keep_freed_memory, use_huge_pages
from memkern.audit.options import Options

use_huge_pages()
assert keep_freed_memory()
import torch

def held():
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) * 1024

def plan(*args):
    left = torch.ones(64 << 20)  # 256 MB
    left.sum()
    after = torch.ones(1000)  # without it, the end of the heap would be free
    kept.append(after)
    return usual(*args)

kept, usual, prepare._plan = [], prepare._plan, plan
options = Options(
    encoder="memkern:resnet9", weights="", data="", out="run", duplicates=False, labels="none", images=False
)
encoder, images = build_encoder(options.encoder), from_arrays(torch.rand(2, 3, 32, 32))
before = held()
prepare.prepare(options, encoders=(encoder, None), source=images)
print(held() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_the_passes_begin_without_what_the_preparation_left() -> None:
    done = subprocess.run([sys.executable, "-c", RETURN], capture_output=True, text=True, env=USUAL)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 200 * 2**20


ASIDE = """
import ctypes
import torch
from memkern.audit.measure import prepare
from memkern.audit.data.source import from_arrays
from memkern.audit.encoders.build import build_encoder
from memkern.audit.process import keep_freed_memory
from memkern.audit.options import Options

assert keep_freed_memory()
options = Options(
    encoder="memkern:resnet9", weights="", data="", out="run", duplicates=False, labels="none", images=False
)
encoder, images = build_encoder(options.encoder), from_arrays(torch.rand(2, 3, 32, 32))
prepare.prepare(options, encoders=(encoder, None), source=images)
library = ctypes.CDLL(None)
library.malloc.restype = library.memalign.restype = ctypes.c_void_p
library.free.argtypes = [ctypes.c_void_p]
hole = library.memalign(4096, 64 << 20)
after = library.malloc(2000)  # the hole is not the end of the heap
library.free(hole)
activation = library.memalign(4096, 30 << 20)
assert hole - 4096 <= activation < hole + (64 << 20)
small = [library.malloc(size) for size in range(24, 1025, 16) for _ in range(500)]
print(sum(hole <= block < hole + (64 << 20) for block in small))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_small_blocks_do_not_lie_beside_activations() -> None:
    done = subprocess.run([sys.executable, "-c", ASIDE], capture_output=True, text=True, env=USUAL)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == 0


PARENT = """
import subprocess
import sys

large = b"x" * 2**30
child = "from memkern.audit.process import most_memory; print(most_memory()); b = b'x' * 2**28; print(most_memory())"
print(subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, check=True).stdout)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the peak of a process from its parent's")
def test_the_peak_is_that_of_the_process_and_not_of_its_parent() -> None:
    done = subprocess.run([sys.executable, "-c", PARENT], capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert 2**26 < before < 2**30  # torch takes a quarter of a GiB
    assert after >= before + 2**28 - 2**20


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not keep_freed_memory()
    assert not return_freed_memory()
    set_aside_small_blocks.cache_clear()
    assert not set_aside_small_blocks()
    set_aside_small_blocks.cache_clear()
