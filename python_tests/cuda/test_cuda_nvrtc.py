"""The kernels without nvcc (memkern/nvrtc.py): compiled from torch's own wheels, kept, launched by name.

The launchers are those that run on a GPU; a stand-in for the driver runs, under host emulation, the kernels they name.
"""

from __future__ import annotations

import contextlib
import ctypes
import shutil
from enum import IntEnum
from types import SimpleNamespace

import pytest
import torch
from gpu import build, emulated, path, tools

import memkern
from memkern import dispatch, native, nvrtc
from memkern.ops.class_sums import class_sums
from memkern.ops.layer_stats import layer_stats_many
from memkern.ops.median_of_others import median_of_others
from memkern.ops.selectivity import selectivity
from python_tests.helpers import testing

pytestmark = pytest.mark.gpu_ladder

CSRC = build.ROOT / "csrc"


class Status(IntEnum):
    """As cuda-bindings returns it."""

    SUCCESS = 0
    REFUSED = 1


class Driver:
    """The three calls of the CUDA driver that a launch makes, over host emulation."""

    def __init__(self) -> None:
        self.loaded: list[bytes] = []
        self.launches: list[tuple[bytes, int]] = []
        self.said = None

    def cuModuleLoadData(self, code: bytes) -> tuple[Status, bytes]:
        self.loaded.append(code)
        return Status.SUCCESS, code

    def cuModuleGetFunction(self, module: bytes, symbol: bytes) -> tuple[Status, bytes]:
        assert symbol == module
        return Status.SUCCESS, symbol

    def cuLaunchKernel(self, function: bytes, *sizes: int) -> tuple[Status]:
        *sizes, shared, stream, arguments, extra = sizes
        assert shared == extra == 0
        self.launches.append((function, stream))
        grid, block = (ctypes.c_uint32 * 3)(*sizes[:3]), (ctypes.c_uint32 * 3)(*sizes[3:])
        launch = emulated.library().memkern_emulation_launch
        launch.restype = ctypes.c_char_p
        self.said = launch(function, grid, block, ctypes.c_void_p(arguments))
        return (Status.SUCCESS if self.said is None else Status.REFUSED,)


@pytest.fixture
def driver(monkeypatch):
    """``backend="cuda"`` on CPU tensors: launchers by name, the stand-in driver, and no compiler."""
    found = Driver()
    cuda = path.load(build.launchers_by_name())

    def launch_context(x):
        scratch = []

        def allocate(size):
            scratch.append(emulated.scratch_memory(size))
            return scratch[-1].data_ptr()

        return cuda.LaunchContext(0, nvrtc.launcher(0, 77), allocate)

    path.plug_in(monkeypatch)
    monkeypatch.setattr(native, "cuda", lambda: cuda)
    monkeypatch.setattr(native, "cuda_launch_context", launch_context)
    monkeypatch.setattr(nvrtc, "_driver", lambda: found)
    monkeypatch.setattr(nvrtc, "compiled_once", lambda kernel, *_: nvrtc.Compiled(kernel.encode(), kernel.encode()))
    monkeypatch.setattr(torch.cuda, "device", lambda index: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (9, 0))
    nvrtc._loaded.cache_clear()
    yield found
    nvrtc._loaded.cache_clear()


def results(dtype: torch.dtype) -> list[torch.Tensor]:
    """Every op, on inputs that take its several kernels."""
    found = []
    for views, dims in ((3, 24), (10, 40), (12, 16)):
        z = testing.randn(3, views, dims, dtype=dtype).requires_grad_()
        out = memkern.alignment(z, backend="cuda")
        (gradient,) = torch.autograd.grad(out.sum(), z)
        found += [out.detach(), gradient]
    found.append(memkern.alignment(testing.misaligned(testing.randn(2, 3, 21, dtype=dtype)), backend="cuda"))
    maps, tokens = testing.randn(40, 2, 6, 4, 4, dtype=dtype), testing.randn(2, 2, 300, 24, dtype=dtype)
    planes = testing.randn(2, 2, 3, 19, 17, dtype=dtype)
    for x, unit_dim in ((maps, 2), (tokens, 3), (planes, 2), (maps.permute(4, 1, 2, 3, 0), 2)):
        found.append(memkern.unit_means(x, unit_dim=unit_dim, backend="cuda"))
    state = selectivity(maps, unit_dim=2, backend="cuda")
    found += [value for value in state if isinstance(value, torch.Tensor)]
    for stats in layer_stats_many([maps, tokens.movedim(3, 2)], backend="cuda"):
        found += list(stats)
    means = maps.flatten(1).to(native.accumulate_dtype(dtype))
    found.append(median_of_others(means, backend="cuda"))
    found.append(class_sums(means, torch.arange(40) % 3, classes=3, backend="cuda"))
    photos = maps[:, 0, :3].sigmoid().float()
    for images in (photos, (photos * 255).to(torch.uint8)):
        options = {"n_views": 1, "seed": 0, "index": range(40), "transform": "simclr", "backend": "cuda"}
        found += [memkern.views(images, size=size, **options) for size in (5, 70)]
    return found


@pytest.mark.parametrize("dtype", testing.DTYPES)
def test_launches_by_name_give_the_bits_of_direct_ones(dtype, driver, monkeypatch):
    by_name = results(dtype)
    assert len(driver.launches) > 20
    assert {stream for _, stream in driver.launches} == {77}
    assert len(set(driver.loaded)) == len(driver.loaded) == len({kernel for kernel, _ in driver.launches})
    with monkeypatch.context() as patch:
        path.plug_in(patch)
        direct = results(dtype)
    for one, other in zip(by_name, direct, strict=True):
        testing.assert_same_bits(one, other)


def test_a_refused_launch_raises(driver, monkeypatch):
    monkeypatch.setattr(nvrtc, "compiled_once", lambda kernel, *_: nvrtc.Compiled(b"no_such_kernel", b"no_such_kernel"))
    with pytest.raises(RuntimeError, match="memkern: CUDA: REFUSED"):
        memkern.alignment(testing.randn(2, 3, 8), backend="cuda")
    assert driver.said == b"no such kernel"


@pytest.mark.parametrize("by_name", [False, True])
def test_a_launch_goes_to_the_current_stream_of_the_tensors_device(by_name, monkeypatch):
    """And no further than that: nothing here waits, or asks the device for anything."""
    entered, launched = [], []

    def enter(index):
        entered.append(index)
        return contextlib.nullcontext()

    def launch(*arguments):
        launched.append(arguments)
        return (Status.SUCCESS,)

    cuda = SimpleNamespace(by_name=by_name, LaunchContext=lambda *arguments: arguments)
    monkeypatch.setattr(native, "cuda", lambda: cuda)
    monkeypatch.setattr(nvrtc, "_driver", lambda: SimpleNamespace(cuLaunchKernel=launch))
    monkeypatch.setattr(nvrtc, "_loaded", lambda kernel, device: (kernel, device))
    monkeypatch.setattr(torch.cuda, "device", enter)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: SimpleNamespace(cuda_stream=1000 + device.index))
    memory = torch.zeros(64, dtype=torch.uint8)
    x = SimpleNamespace(device=torch.device("cuda", 3), new_empty=lambda size, dtype: memory[:size])
    device, queue, allocate = native.cuda_launch_context(x)
    assert device == 3
    assert allocate(16) == memory.data_ptr()
    if not by_name:
        assert queue == 1003
        return
    queue("kernel", (7, 5, 1), (128, 1, 1), 4096)
    assert entered == [3]
    assert launched == [(("kernel", 3), 7, 5, 1, 128, 1, 1, 0, 1003, 4096, 0)]


# ---- compiling ----------------------------------------------------------------------------------------------------


@pytest.fixture
def compiler() -> None:
    """NVRTC and CUDA's headers; without them the rung fails under CI=true."""
    if reason := nvrtc._without_tools():
        tools.required(reason)


def kernels() -> list[str]:
    """Every instance that a launcher names."""
    names = emulated.library().memkern_emulation_kernels
    names.restype = ctypes.c_char_p
    return names().decode().splitlines()


@pytest.mark.timeout(600)
def test_every_kernel_compiles(compiler, record_property):
    """All at once, to PTX: what makes machine code of it is nvcc's own, and test_cuda_nvcc.py sees that."""
    names = kernels()
    record_property("kernels", len(names))
    assert len(names) > 60
    check(names, nvrtc.compile_kernels(names, "compute_90", CSRC))


@pytest.mark.parametrize("arch", build.ARCHITECTURES)
def test_machine_code_for_every_architecture(arch, compiler):
    """Of a few kernels."""
    names = kernels()[:: len(kernels()) // 4]
    assert len(names) > 3
    check(names, nvrtc.compile_kernels(names, f"sm_{arch}", CSRC))


def check(names: list[str], found: dict[str, nvrtc.Compiled]) -> None:
    assert len({compiled.symbol for compiled in found.values()}) == len(names)
    for name, compiled in found.items():
        assert name.partition("<")[0].encode() in compiled.symbol
        assert compiled.symbol in compiled.code


def test_machine_code_is_compiled_once(compiler, tmp_path, monkeypatch):
    """One file a kernel, named by all that it is made of; a later process reads it."""
    sources, folder = tmp_path / "source", tmp_path / "cache"
    shutil.copytree(CSRC, sources, ignore=shutil.ignore_patterns("cpu", "host"))
    first = nvrtc.compiled_once("finish_means<float>", 90, sources, folder)
    assert first.code[:4] == b"\x7fELF"
    (kept,) = folder.iterdir()

    calls = []

    def counted(names, target, sources):
        calls.append((names, target))
        return {names[0]: nvrtc.Compiled(b"symbol", b"code\nof two lines")}

    monkeypatch.setattr(nvrtc, "compile_kernels", counted)
    assert nvrtc.compiled_once("finish_means<float>", 90, sources, folder) == first
    assert not calls
    for arch in (80, 80):
        assert nvrtc.compiled_once("finish_means<float>", arch, sources, folder) == (b"symbol", b"code\nof two lines")
    assert calls == [(["finish_means<float>"], "sm_80")]
    nvrtc.compiled_once("finish_means<double>", 90, sources, folder)
    (sources / "cuda" / "unit_means.cuh").open("a").write("// edited\n")
    nvrtc._digest.cache_clear()  # a process does not expect its sources to change
    nvrtc.compiled_once("finish_means<float>", 90, sources, folder)
    assert len(calls) == 3
    assert len(list(folder.iterdir())) == 4
    assert kept.exists()


@pytest.mark.parametrize(
    ("kernel", "arch", "says"),
    [("pair_sums<bf16, nothing>", 90, "nothing"), ("add_class_sums", 33, "gpu-architecture")],
)
def test_a_kernel_that_does_not_compile_raises_what_the_compiler_says(kernel, arch, says, compiler, tmp_path):
    with pytest.raises(RuntimeError, match=rf"(?s)NVRTC could not compile .* for sm_{arch}:.*{says}"):
        nvrtc.compiled_once(kernel, arch, CSRC, tmp_path)
    assert not list(tmp_path.iterdir())


# ---- what is said where it cannot run -----------------------------------------------------------------------------


def test_reasons(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert nvrtc.why_not() == "torch finds no usable GPU or driver"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(nvrtc, "SOURCES", tmp_path / "nothing")
    assert "MEMKERN_CUDA=NVRTC" in nvrtc.why_not()
    monkeypatch.setattr(nvrtc, "SOURCES", tmp_path)

    def missing():
        raise ImportError("No module named 'cuda'")

    monkeypatch.setattr(nvrtc, "_nvrtc", missing)
    nvrtc._without_tools.cache_clear()
    assert "No module named 'cuda'" in nvrtc.why_not()
    assert "pip install cuda-bindings" in nvrtc.why_not()
    nvrtc._without_tools.cache_clear()


def test_backends_says_how(driver, monkeypatch):
    monkeypatch.setattr(native, "without_cuda", lambda: "")
    monkeypatch.setenv("TORCH_HOME", "/somewhere")
    assert dispatch._cuda_info().detail.startswith("compiled by NVRTC at first launch, kept in /somewhere/memkern; ")
