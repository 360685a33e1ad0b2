"""Plants faults in copies of the ops, one at a time, and requires that the tests named beside each go red.

    python python_tests/mutation/mutation.py [--quick N [--seed S]] [--only TEXT] [--python] [--list]

The copy is made in a scratch folder, and built there if a fault of C++ is among them; nothing in the checkout changes.
The outcome of a fault is killed (a test went red), survived, does_not_build, no_place or two_places; all but the first
are failures of the suite. The rows stand in `faults_*.py`; `test_mutation.py` keeps their places true.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

import faults_cpu
import faults_fusion
import faults_python
from places import ROOT, Fault, Mark, PlaceError, change, marks

COPIED = ("CMakeLists.txt", "cmake", "csrc", "memkern", "python_tests", "pyproject.toml")


FAULTS = [*faults_python.FAULTS, *faults_fusion.FAULTS, *faults_cpu.FAULTS]
# Quick to compile. The second option rounds a product and a sum once, as torch does: a batch norm has torch's bits.
OPTIMIZE = "-O1;-fexpensive-optimizations"
KILLED, SURVIVED, DOES_NOT_BUILD = "killed", "survived", "does_not_build"  # or the outcome of a PlaceError


def copy_sources(scratch: Path) -> None:
    ignored = shutil.ignore_patterns("*.so", "__pycache__", "assets", "gpu*")
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, scratch / name, ignore=ignored)
        else:
            shutil.copy2(source, scratch / name)


def configure(scratch: Path) -> None:
    import pybind11

    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    subprocess.run(
        ["cmake", "-S", scratch, "-B", scratch / "build", *generator, "-DCMAKE_BUILD_TYPE=Release",
         f"-DMEMKERN_OPTIMIZE={OPTIMIZE}", "-DMEMKERN_CUDA=OFF", f"-DPython_EXECUTABLE={sys.executable}",
         f"-Dpybind11_DIR={pybind11.get_cmake_dir()}", f"-DCMAKE_INSTALL_PREFIX={scratch / 'memkern'}"],
        check=True, capture_output=True,
    )  # fmt: skip


def build(scratch: Path) -> bool:
    """Compiles what has changed and puts the module into the copied package."""
    command = ["cmake", "--build", scratch / "build", "--parallel", "2", "--target", "install"]
    return subprocess.run(command, capture_output=True).returncode == 0


def run_tests(scratch: Path, tests: str) -> tuple[int, str]:
    chosen = [f"python_tests/{test}" for test in tests.split()]
    command = [sys.executable, "-m", "pytest", "-m", "", "-x", "-q", "--no-header", "-p", "no:cacheprovider", *chosen]
    done = subprocess.run(command, cwd=scratch, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def outcome_of(scratch: Path, fault: Fault) -> str:
    """Plants a fault and takes it out again: what became of it."""
    try:
        edit = change(fault.place, fault.operation, scratch)
    except PlaceError as error:
        return error.outcome
    path = scratch / edit.file
    path.write_text(edit.new)
    try:
        if is_compiled(fault) and not build(scratch):
            return DOES_NOT_BUILD
        code, output = run_tests(scratch, fault.tests)
    finally:
        path.write_text(edit.old)  # newer than before: the next build compiles it again
    if code == 1 or code < 0 or code > 128:  # failed, or brought the process down
        return KILLED
    return SURVIVED if code == 0 else f"the tests did not run (exit code {code}): {output[-500:]}"


def is_compiled(fault: Fault) -> bool:
    """Whether a fault needs a build."""
    return isinstance(fault.place, Mark)


def prepare(scratch: Path, faults: list[Fault]) -> str:
    """Copies the sources and sees that they are sound: empty if so, else what is wrong."""
    compiled = any(is_compiled(fault) for fault in faults)
    library = native_library()
    copy_sources(scratch)
    if compiled or library is None:
        configure(scratch)
        if not build(scratch):
            return "the sound copy does not compile"
    else:
        shutil.copy2(library, scratch / "memkern" / library.name)
    code, output = run_tests(scratch, " ".join(sorted({test for fault in faults for test in fault.tests.split()})))
    return f"the tests are red without a fault:\n{output[-3000:]}" if code else ""


def native_library() -> Path | None:
    """The compiled library of the checkout, if there is one: faults of Python alone need no build."""
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    found = ROOT / "memkern" / f"_native{suffix}"
    return found if found.exists() else None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", type=int, metavar="N", help="a random sample of N faults")
    parser.add_argument("--seed", type=int, default=0, help="of that sample")
    parser.add_argument("--only", metavar="TEXT", help="faults whose name, place or tests contain TEXT")
    parser.add_argument("--python", action="store_true", help="faults of Python alone, which need no build")
    parser.add_argument("--list", action="store_true", help="print the table and stop")
    options = parser.parse_args()
    faults = [fault for fault in FAULTS if (options.only or "") in f"{fault.name} {fault.place} {fault.tests}"]
    faults = [fault for fault in faults if not (options.python and is_compiled(fault))]
    if not faults:
        print(f"no fault's name, place or tests contain {options.only!r}")
        return 1
    if options.quick:
        faults = random.Random(options.seed).sample(faults, min(options.quick, len(faults)))
    # Python first, then C++ in the order of the files: fewer files to compile between two faults
    marked = {name: file for name, file, _ in marks()}
    faults.sort(key=lambda fault: marked.get(fault.place.name, "") if isinstance(fault.place, Mark) else "")
    if options.list:
        print("\n".join(f"{fault.name}: {fault.place} -> {fault.tests}" for fault in faults))
        return 0
    with tempfile.TemporaryDirectory(prefix="memkern-mutation-") as folder:
        scratch = Path(folder)
        if problem := prepare(scratch, faults):
            print(problem)
            return 1
        killed = 0
        for fault in faults:
            started = time.perf_counter()
            outcome = outcome_of(scratch, fault)
            killed += outcome == KILLED
            print(f"{outcome:<10} {time.perf_counter() - started:5.0f} s  {fault.name}", flush=True)
    print(f"{killed} of {len(faults)} planted faults turned the tests red")
    return int(killed < len(faults))


if __name__ == "__main__":
    raise SystemExit(main())
