"""CUDA kernels without nvcc: NVRTC, from the wheels that torch brings, compiles each at its first launch.

Builds with ``MEMKERN_CUDA=NVRTC`` use this module. Their compiled library holds the launchers alone, the very same that
decide grids and arguments elsewhere. A launch names a kernel; this module compiles that one for the GPU at hand, keeps
the machine code in a folder, and launches it through the driver. Nothing is imported or compiled before a launch.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch

# The kernels' source, as the build has put it beside the library.
SOURCES = Path(__file__).with_name("cuda_source")
# NVRTC brings no standard headers; of these, the kernels use the names below.
CSTDINT = """#pragma once
using int8_t = signed char; using int16_t = short; using int32_t = int; using int64_t = long long;
using uint8_t = unsigned char; using uint16_t = unsigned short; using uint32_t = unsigned;
using uint64_t = unsigned long long; using uintptr_t = unsigned long long;
"""

Launch = Callable[[str, tuple[int, int, int], tuple[int, int, int], int], None]


class Compiled(NamedTuple):
    """Machine code of one kernel.

    Attributes:
        symbol: The kernel's name in the machine code.
        code: A cubin, or PTX.
    """

    symbol: bytes
    code: bytes


def why_not() -> str:
    """Explains why kernels cannot be compiled and launched here; empty if they can."""
    if not torch.cuda.is_available():
        return "torch finds no usable GPU or driver"
    if not SOURCES.is_dir():
        return f"the kernels' source is missing, expected at {SOURCES}; build with `CMAKE_ARGS=-DMEMKERN_CUDA=NVRTC`"
    return _without_tools()


def cache_folder() -> Path:
    """Returns the folder of machine code: ``memkern`` in torch's cache, ``$TORCH_HOME`` or ``~/.cache/torch``."""
    return Path(torch.hub.get_dir()).parent / "memkern"


def launcher(device: int, stream: int) -> Launch:
    """Makes the function that launches kernels on a stream of a device.

    Args:
        device: The index of the device.
        stream: The address of the stream.

    Returns:
        A function of the kernel's name, its grid and block, and the address of the addresses of its arguments.
    """

    def launch(kernel: str, grid: tuple[int, int, int], block: tuple[int, int, int], arguments: int) -> None:
        with torch.cuda.device(device):
            _checked(_driver().cuLaunchKernel(_loaded(kernel, device), *grid, *block, 0, stream, arguments, 0))

    return launch


@functools.cache
def _loaded(kernel: str, device: int) -> object:
    """Loads a kernel on the current device, which is `device`."""
    major, minor = torch.cuda.get_device_capability(device)
    compiled = compiled_once(kernel, 10 * major + minor, SOURCES, cache_folder())
    module = _checked(_driver().cuModuleLoadData(compiled.code))
    return _checked(_driver().cuModuleGetFunction(module, compiled.symbol))


def compiled_once(kernel: str, arch: int, sources: Path, folder: Path) -> Compiled:
    """Returns the machine code of a kernel, from ``folder`` if it was compiled before.

    Args:
        kernel: Name of the kernel, such as "pair_sums<float, 10>".
        arch: The compute capability times ten.
        sources: The folder of ``ops.h`` and ``cuda/``.
        folder: Where machine code is kept; one file for each kernel, named by a hash of all that it was made of.

    Returns:
        The machine code.

    Raises:
        RuntimeError: If NVRTC refuses; the message is its log.
    """
    made_of = (kernel, arch, _checked(_nvrtc().nvrtcVersion()), _digest(sources))
    path = folder / (hashlib.sha256(repr(made_of).encode()).hexdigest()[:32] + ".cubin")
    if path.exists():
        return Compiled(*path.read_bytes().split(b"\n", 1))
    compiled = compile_kernels([kernel], f"sm_{arch}", sources)
    folder.mkdir(parents=True, exist_ok=True)
    # Another process may compile the same kernel: a file that has its name is whole.
    with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
        file.write(compiled[kernel].symbol + b"\n" + compiled[kernel].code)
    os.replace(file.name, path)
    return compiled[kernel]


def compile_kernels(kernels: list[str], target: str, sources: Path) -> dict[str, Compiled]:
    """Compiles some kernels in one go.

    Args:
        kernels: Names of the kernels.
        target: "sm_90" for machine code; "compute_90" for PTX, which compiles faster.
        sources: The folder of ``ops.h`` and ``cuda/``.

    Returns:
        By kernel its symbol, and the machine code of all.

    Raises:
        RuntimeError: If NVRTC refuses; the message is its log.
    """
    nvrtc = _nvrtc()
    includes = [f'#include "cuda/{path.name}"\n' for path in sorted((sources / "cuda").glob("*.cuh"))]
    text = "".join(includes) + "using namespace memkern;\n"  # so that names below need no namespace
    program = _checked(nvrtc.nvrtcCreateProgram(text.encode(), b"memkern.cu", 1, [CSTDINT.encode()], [b"cstdint"]))
    for kernel in kernels:
        _checked(nvrtc.nvrtcAddNameExpression(program, kernel.encode()))
    options = [f"--gpu-architecture={target}", f"-I{sources}", f"-I{_headers()}", "--std=c++17", "-default-device"]
    (status,) = nvrtc.nvrtcCompileProgram(program, len(options), [option.encode() for option in options])
    if int(status):
        log = b" " * _checked(nvrtc.nvrtcGetProgramLogSize(program))
        nvrtc.nvrtcGetProgramLog(program, log)
        said = log.decode(errors="replace").strip("\0 \n") or str(status)
        raise RuntimeError(f"memkern: NVRTC could not compile {', '.join(kernels)} for {target}:\n{said}")
    kind = "CUBIN" if target.startswith("sm_") else "PTX"
    code = b" " * _checked(getattr(nvrtc, f"nvrtcGet{kind}Size")(program))
    _checked(getattr(nvrtc, f"nvrtcGet{kind}")(program, code))
    found = {kernel: _checked(nvrtc.nvrtcGetLoweredName(program, kernel.encode())) for kernel in kernels}
    _checked(nvrtc.nvrtcDestroyProgram(program))
    return {kernel: Compiled(bytes(symbol), code) for kernel, symbol in found.items()}


@functools.cache
def _digest(sources: Path) -> str:
    paths = sorted(path for path in sources.rglob("*") if path.suffix in (".h", ".cuh"))
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in paths)).hexdigest()


def _nvrtc() -> ModuleType:
    return importlib.import_module("cuda.bindings.nvrtc")


def _driver() -> ModuleType:
    return importlib.import_module("cuda.bindings.driver")


@functools.cache
def _without_tools() -> str:
    """Names the part of NVRTC that is missing; empty if none is."""
    try:
        _checked(_nvrtc().nvrtcVersion())
        _headers()
    except (ImportError, OSError, RuntimeError) as error:
        return f"NVRTC is missing ({error}); `pip install cuda-bindings` of torch's CUDA release brings it"
    return ""


@functools.cache
def _headers() -> Path:
    """Finds CUDA's own headers, of the wheels that torch brings.

    Raises:
        RuntimeError: If the wheels hold no headers.
    """
    spec = importlib.util.find_spec("nvidia")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for wheel in (f"cu{(torch.version.cuda or '').split('.')[0]}", "cuda_runtime"):
            if (Path(folder) / wheel / "include" / "cuda_fp16.h").exists():
                return Path(folder) / wheel / "include"
    raise RuntimeError("cuda_fp16.h is not in torch's wheels")


def _checked(returned: tuple[Any, ...]) -> Any:
    """Returns the value of a call into CUDA.

    Raises:
        RuntimeError: If the call failed.
    """
    status, *values = returned
    if int(status):
        raise RuntimeError(f"memkern: CUDA: {status.name}")
    return values[0] if values else None
