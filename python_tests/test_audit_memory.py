"""The audit's process keeps the memory that activations leave."""

import platform
import subprocess
import sys

import pytest

from memkern.audit.memory import keep_freed_memory

COUNT = """
import resource
import threading
import torch
from memkern.audit.memory import keep_freed_memory

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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_an_activation_takes_the_pages_of_the_last_one() -> None:
    done = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    usual, kept = map(int, done.stdout.split())
    assert kept < usual / 10


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not keep_freed_memory()
