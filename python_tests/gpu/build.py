"""Builds csrc/cuda: by a C++ compiler for the CPU (the host emulation, also under sanitizers), and by nvcc.

Objects and libraries lie in build/gpu/, named by a hash of what they are made of, wherever that lies: nothing is built
twice, and a copy of the sources with one file changed is built from that file on.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import subprocess
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gpu import tools

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "csrc" / "cuda"
BUILD = ROOT / "build" / "gpu"
ARCHITECTURES = (80, 86, 90, 100, 120)

COMPILER = os.environ.get("CXX", "g++")
WARNINGS = ["-Wall", "-Wextra", "-Wno-unknown-pragmas", "-Wno-ignored-attributes"]
EMULATED = [COMPILER, "-std=c++17", "-g", "-fPIC", "-fvisibility=hidden", *WARNINGS]
# Of UBSan what kernels can get wrong: all of it takes a third longer to compile.
UNDEFINED = "alignment,bounds,integer-divide-by-zero,shift,signed-integer-overflow"
SANITIZERS = {
    "plain": [],
    "asan": [f"-fsanitize=address,{UNDEFINED}", f"-fno-sanitize-recover={UNDEFINED}"],
    "tsan": ["-fsanitize=thread"],
}
QUICK = ["-O0", "-g1"]
# What takes the least time together, to compile and to run: optimizing what ASan adds to unrolled loops takes minutes,
# and the plain library, 42 s of a processor with -O2 -g, takes 28 s without making the tests that run on it slower.
OPTIMIZATION = {"plain": ["-O1", "-g1"], "asan": QUICK, "tsan": ["-O1", "-g1"]}
SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")
# Both warnings are needed: an array that ptxas could not keep in registers is local memory without being a spill.
NVCC = ["-std=c++17", "-O3", "-Xcompiler", "-fPIC,-fvisibility=hidden", "-Werror", "all-warnings", "-Xptxas",
        "-v,-warn-spills,-warn-lmem-usage,-Werror"]  # fmt: skip
# As cmake/cuda.cmake: PTX for the oldest, made once.
GENCODE = (
    f"-gencode=arch=compute_{ARCHITECTURES[0]},"
    f"code=[{','.join(f'sm_{arch}' for arch in ARCHITECTURES)},compute_{ARCHITECTURES[0]}]"
)


class BuildError(RuntimeError):
    """A compiler refused; the message is its output."""


def op_sources(sources: Path = SOURCES) -> list[Path]:
    """One file per op, and device.cu."""
    return sorted(sources.glob("*.cu"))


def emulated_library(
    mode: str = "plain", sources: Path = SOURCES, stems: tuple[str, ...] = (), *, quick: bool = False
) -> Path:
    """The library of the host emulation.

    Args:
        mode: "plain", "asan" (with UBSan) or "tsan".
        sources: The folder to build instead of csrc/cuda (a copy with a planted fault); ops.h lies above it.
        stems: The ops to build; none named: all.
        quick: Whether it is quickly compiled, for few and small inputs.

    Returns:
        The path of the library.
    """
    flags = [*EMULATED, *(QUICK if quick else OPTIMIZATION[mode]), *SANITIZERS[mode]]
    units = [source for source in op_sources(sources) if not stems or source.stem in stems]
    units += [sources / "host" / "control.cpp"]
    objects = compile_all([(unit, [*flags, "-x", "c++", "-c"]) for unit in units])
    return _made("libmemkern_emulated.so", [*flags, "-shared", *map(str, objects)], digest(objects))


def bindings(kernels: Path) -> Path:
    """A Python module: csrc/bindings_cuda.cpp over a library, emulated or for GPUs."""
    name = f"{kernels.stem}_bindings"
    objects = _binding_objects(name, [])
    link = [COMPILER, "-shared", *map(str, objects), str(kernels), f"-Wl,-rpath,{kernels.parent}"]
    return _made(name + SUFFIX, link, digest(objects) + digest([kernels]))


def launchers_by_name() -> Path:
    """The same over launchers that are built without kernels, for NVRTC (csrc/cuda/nvrtc_launch.h)."""
    name, by_name = "memkern_by_name", ["-DMEMKERN_LAUNCH_BY_NAME", "-O1", "-g1", "-c"]
    objects = compile_all([(unit, [*EMULATED, *by_name, "-x", "c++"]) for unit in op_sources()])
    objects += _binding_objects(name, by_name)
    return _made(name + SUFFIX, [COMPILER, "-shared", *map(str, objects)], digest(objects))


def _binding_objects(module: str, flags: list[str]) -> list[Path]:
    import pybind11

    includes = [f"-I{path}" for path in (ROOT / "csrc", pybind11.get_include(), sysconfig.get_paths()["include"])]
    flags = [*EMULATED, "-O0", "-g0", *flags, '-DMEMKERN_CUDA="emulated"', *includes, "-c"]
    named = [*flags, f"-DMEMKERN_MODULE={module}"]
    return compile_all(
        [(ROOT / "csrc" / "bindings_cuda.cpp", flags), (Path(__file__).parent / "emulated_bindings.cpp", named)]
    )


def cuda_objects(sources: Path = SOURCES, stems: tuple[str, ...] = ()) -> list[Path]:
    """One object per op, by nvcc for every architecture; spills and local memory are errors.

    Args:
        sources: As for ``emulated_library``.
        stems: As for ``emulated_library``.

    Raises:
        BuildError: If nvcc refuses.
        tools.Missing: If there is no nvcc.
    """
    command = [tools.nvcc(), *NVCC, GENCODE, "-c"]
    units = [source for source in op_sources(sources) if not stems or source.stem in stems]
    return compile_all([(unit, command) for unit in units])


def cuda_library() -> Path:
    """The library for GPUs; it loads, and says what is missing, on machines without one."""
    objects = cuda_objects()
    return _made("libmemkern_cuda.so", [tools.nvcc(), "-shared", *map(str, objects)], digest(objects))


def compile_all(units: list[tuple[Path, list[str]]]) -> list[Path]:
    """Compiles every unit with its command, in as many processes as there are processors."""

    def compile_one(unit: tuple[Path, list[str]]) -> Path:
        source, command = unit
        inputs = digest(sorted(included(source), key=Path.read_bytes))
        return _made(f"{source.stem}.o", [*command, source.name], inputs, source.parent)

    def size(unit: tuple[Path, list[str]]) -> int:
        return sum(path.stat().st_size for path in included(unit[0]))

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:  # the longest first, so that none is left alone
        started = {unit[0]: pool.submit(compile_one, unit) for unit in sorted(units, key=size, reverse=True)}
        return [started[source].result() for source, _ in units]


def included(source: Path) -> set[Path]:
    """A source and all of ours that it includes."""
    found, new = set[Path](), {source.resolve()}
    while new:
        path = new.pop()
        found.add(path)
        for name in re.findall(r'^#include "(.+)"', path.read_text(), re.MULTILINE):
            beside = ((folder / name).resolve() for folder in (path.parent, ROOT / "csrc"))
            new |= {header for header in beside if header.exists()} - found
    return found


def digest(paths: list[Path]) -> str:
    """A hash of the contents of some files."""
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in paths)).hexdigest()[:16]


def _made(name: str, command: list[str], inputs: str, where: Path = ROOT) -> Path:
    """Runs ``command -o FILE`` in a folder unless that was done before; keeps what the compiler said in FILE.log."""
    key = hashlib.sha256(repr((command, inputs)).encode()).hexdigest()[:16]
    out = BUILD / key / name
    with tools.alone(BUILD / f"{key}.lock"):
        if not out.exists():
            out.parent.mkdir(parents=True, exist_ok=True)
            half_done = out.with_suffix(".half")
            done = subprocess.run([*command, "-o", str(half_done)], cwd=where, capture_output=True, text=True)
            if done.returncode:
                raise BuildError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
            log_of(out).write_text(done.stdout + done.stderr)
            half_done.rename(out)
    return out


def log_of(made: Path) -> Path:
    """Where the compiler's messages about a made file are kept."""
    return made.with_suffix(".log")


@functools.cache
def runtime_of(mode: str) -> Path:
    """The sanitizer's library, to be preloaded into a Python that is not built with it."""
    name = {"asan": "libasan.so", "tsan": "libtsan.so"}[mode]
    found = subprocess.run([COMPILER, f"-print-file-name={name}"], capture_output=True, text=True, check=True)
    return Path(found.stdout.strip())
