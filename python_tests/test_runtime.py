"""The process: one OpenMP runtime, threads that obey, forks, Python threads, the forced instruction set."""

import multiprocessing
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

import memkern
from memkern import native
from python_tests.helpers import testing
from python_tests.helpers.testing import assert_same_bits, randn, relu_features

if native.load()[0] is None:
    pytest.skip(f"no compiled library: {native.load()[1]}", allow_module_level=True)
LINUX = sys.platform == "linux"
# Enough elements that the work is split over threads, several times over.
BIG = (96, 3, 32, 8, 8)


def run(code, *flags, **environment):
    """Runs Python code in a process of its own; returns what it printed and its errors."""
    env = {key: value for key, value in os.environ.items() if key != "MEMKERN_ISA"} | environment
    return subprocess.run([sys.executable, *flags, "-c", code], capture_output=True, text=True, env=env, timeout=120)


def everything(x):
    """Every kernel once."""
    means = memkern.unit_means(x, view_dim=1, backend="cpu")
    leaf = x.clone().requires_grad_()
    memkern.alignment(leaf, backend="cpu").sum().backward()
    return [
        memkern.alignment(x, backend="cpu"),
        leaf.grad,
        means,
        *memkern.layer_stats(x, backend="cpu"),
        *memkern.unitmem_stats(x, view_dim=1, backend="cpu")[:4],
        memkern.unitmem(means, rest="median", backend="cpu"),
        memkern.classmem(means, torch.arange(len(x)) % 7, backend="cpu"),
    ]


# ---- one OpenMP runtime ---------------------------------------------------------------------------------------------


@pytest.mark.skipif(not LINUX, reason="reads /proc/self/maps")
@pytest.mark.parametrize("first", ["import torch, memkern", "import memkern, torch", "import numpy, memkern, torch"])
def test_one_openmp_runtime(first):
    code = f"""
import re
{first}
memkern.unitmem(torch.rand(64, 32, 16, 16), backend="cpu")
torch.rand(1000, 1000).sum()
mapped = re.findall("(/.*)", open("/proc/self/maps").read())
print({{path for path in mapped if re.search("lib([gi]?omp|iomp5)[^/]*$", path)}})
"""
    done = run(code)
    assert done.returncode == 0, done.stderr
    assert len(eval(done.stdout)) == 1, done.stdout


@pytest.mark.skipif(not LINUX, reason="counts threads in /proc/self/task")
def test_the_number_of_threads_is_obeyed():
    """With one thread asked for, no thread is started; with two, torch's pool is used and not a second one."""
    code = """
import os, torch, memkern
memkern.backends()
x = torch.rand(256, 4, 64, 16, 16)
torch.set_num_threads(1)
before = len(os.listdir("/proc/self/task"))
memkern.layer_stats(x, backend="cpu"); memkern.unitmem(x, view_dim=1, backend="cpu")
one = len(os.listdir("/proc/self/task"))
torch.set_num_threads(2)
memkern.layer_stats(x, backend="cpu"); memkern.unitmem(x, view_dim=1, backend="cpu")
two = len(os.listdir("/proc/self/task"))
x.sum(); torch.add(x, x)
print(one - before, two - before, len(os.listdir("/proc/self/task")) - before)
"""
    done = run(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["0", "1", "1"]


@pytest.mark.parametrize("dtype", testing.DTYPES, ids=str)
def test_the_same_bits_for_any_number_of_threads(dtype):
    x = relu_features(*BIG, dtype=dtype)
    with testing.threads(1):
        want = everything(x)
    for count in (2, 3, 8):
        with testing.threads(count):
            for place, (got, one) in enumerate(zip(everything(x), want, strict=True)):
                assert_same_bits(got, one, f"{count} threads, result {place}")


# ---- forks and Python threads ---------------------------------------------------------------------------------------


class Layer(torch.utils.data.Dataset):
    """Each item is measured by the worker that loads it."""

    def __init__(self, x):
        self.x = x

    def __len__(self):
        return 4

    def __getitem__(self, _):
        torch.set_num_threads(2)  # workers start with 1; ask for the pool that does not survive a fork
        return memkern.alignment(self.x, backend="cpu"), memkern.unit_means(self.x, view_dim=1, backend="cpu")


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system does not fork")
@pytest.mark.timeout(120)
def test_dataloader_workers_after_the_parent_used_the_pool():
    x = randn(*BIG)
    with testing.threads(2):
        want = memkern.alignment(x, backend="cpu"), memkern.unit_means(x, view_dim=1, backend="cpu")
        loader = torch.utils.data.DataLoader(
            Layer(x), batch_size=None, num_workers=2, multiprocessing_context="fork", timeout=60
        )
        for got in loader:
            assert_same_bits(got[0], want[0])
            assert_same_bits(got[1], want[1])
        assert_same_bits(memkern.alignment(x, backend="cpu"), want[0])  # and the parent's pool still works


@pytest.mark.timeout(120)
def test_several_python_threads_at_once():
    inputs = [relu_features(40 + n, 3, 16, 6, 6) for n in range(4)]
    wanted = [everything(x) for x in inputs]
    wrong, start = [], threading.Barrier(len(inputs))

    def work(x, want):
        try:
            start.wait()
            for _ in range(5):
                for got, one in zip(everything(x), want, strict=True):
                    assert_same_bits(got, one)
        except BaseException as error:
            wrong.append(error)

    workers = [threading.Thread(target=work, args=pair) for pair in zip(inputs, wanted, strict=True)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_kernels_run_without_the_interpreter_lock():
    """A second Python thread makes progress while one kernel runs."""
    # 4032 distances of 65536 numbers: some hundred milliseconds. The compiled function is called directly, for torch's
    # own functions around it give the lock back, too.
    x, out = torch.rand(2, 64, 65536), torch.empty(2)
    fields = native.compared_views(x, anchor=False, normalize=False)[1]
    kernel = native.library().alignment
    ticks, stop, started = [0], threading.Event(), threading.Event()

    def tick():
        while not stop.is_set():
            ticks[0] += 1
            started.set()
            time.sleep(0)  # gives the lock back, so that the first thread can go on at once

    other = threading.Thread(target=tick)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(30.0)  # a thread that holds the lock is not asked to let go
    try:
        other.start()
        started.wait()
        before = ticks[0]
        nothing = dict.fromkeys(("saved", "rows", "halves", "errors"), 0)
        kernel(1, z=x.data_ptr(), **fields, alignment=out.data_ptr(), **nothing)
        after = ticks[0]
    finally:
        stop.set()
        other.join()
        sys.setswitchinterval(interval)
    assert after > before
    assert_same_bits(out, memkern.alignment(x, normalize=False, backend="cpu"))


# ---- the instruction set --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("isa", native.library().compiled_isas())
def test_the_environment_variable_forces_an_instruction_set(isa):
    if isa not in testing.isas():
        pytest.skip(f"this processor lacks {isa}")
    done = run("import memkern; print(memkern.native.library().isa()); print(memkern.backends()[1])", MEMKERN_ISA=isa)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == isa
    assert f"{isa} of " in lines[1]
    assert "forced by MEMKERN_ISA" in lines[1]


def test_an_unknown_instruction_set_is_a_clear_error():
    done = run("import memkern, torch; memkern.unitmem(torch.ones(2, 3))", MEMKERN_ISA="avx1024")
    assert done.returncode == 1
    supported = ", ".join(testing.isas())
    text = (
        f"memkern.errors.BackendError: Expected MEMKERN_ISA to be one of {supported} on this processor, got 'avx1024'"
    )
    assert done.stderr.splitlines()[-1] == text


def test_the_best_instruction_set_is_the_default():
    done = run("import memkern; print(memkern.native.library().isa())", MEMKERN_ISA="")
    assert done.stdout.strip() == testing.isas()[0]


def test_backends_says_what_runs_and_why_the_others_do_not():
    found = memkern.backends()
    assert [info.name for info in found] == ["reference", "cpu", "triton", "cuda"]
    for info in found:
        assert info.detail
    text = repr(found)
    assert len(text.splitlines()) == 5
    assert native.library().isa() in text
    assert re.search(rf"{torch.get_num_threads()} threads", text)


def test_the_library_links_to_nothing_of_torch_or_python():
    done = subprocess.run(["ldd", native.library().__file__], capture_output=True, text=True) if LINUX else None
    if done is None or done.returncode:
        pytest.skip("needs ldd")
    assert not re.search(r"libtorch|libc10|libpython", done.stdout), done.stdout
    if native.library().cuda is None:  # machine code of GPUs is large
        assert Path(native.library().__file__).stat().st_size < 8 * 2**20
