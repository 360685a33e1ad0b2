"""The audit's process keeps the memory that activations leave, and takes it in huge pages."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from memkern.audit.process import keep_freed_memory

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
