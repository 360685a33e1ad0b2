"""The compiled instruction sets keep to themselves: no instruction of a newer set outside its own objects, no function
that the linker could share between sets (it would keep one copy, possibly the newest, and old processors would die)."""

import json
import platform
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import memkern

ROOT = Path(memkern.__file__).resolve().parent.parent
TOOLS = ("objdump", "nm", "cmake", "ninja")
if platform.machine() not in {"x86_64", "AMD64"}:
    pytest.skip("only x86-64 builds have several instruction sets", allow_module_level=True)
if missing := [tool for tool in TOOLS if not shutil.which(tool)]:
    pytest.skip(f"needs {', '.join(missing)}", allow_module_level=True)
if not (ROOT / "CMakeLists.txt").is_file():
    pytest.skip("an installed package has no source tree around it", allow_module_level=True)
ISAS = ("avx512", "avx2", "baseline")
pytestmark = pytest.mark.xdist_group("isa")  # one build serves all


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    """The object files of every instruction set: of the last build if it is up to date, else compiled here.

    Compiled here with -O1 and, of AVX-512, two files only: the full build takes minutes of processor time. Not with
    -O0, which emits even the standard library's smallest functions that any optimization inlines.
    """
    targets = [f"memkern_{isa}" for isa in ISAS]
    for ninja in (ROOT / "build").rglob("build.ninja"):
        done = subprocess.run(["ninja", "-n", "-C", ninja.parent, *targets], capture_output=True, text=True)
        if "no work to do" in done.stdout:
            return {isa: sorted((ninja.parent / "CMakeFiles" / f"memkern_{isa}.dir").rglob("*.o")) for isa in ISAS}
    build = tmp_path_factory.mktemp("isa")
    options = ["-G", "Ninja", "-DMEMKERN_PYTHON=OFF", "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON", "-DMEMKERN_OPTIMIZE=-O1",
               "-DCMAKE_DISABLE_PRECOMPILE_HEADERS=ON"]  # fmt: skip
    subprocess.run(["cmake", "-S", ROOT, "-B", build, *options], check=True, capture_output=True)
    found, running = {isa: [] for isa in ISAS}, []
    for entry in json.loads((build / "compile_commands.json").read_text()):
        isa = re.search(r"CMakeFiles/memkern_(\w+)\.dir", entry["command"])[1]
        if isa not in found or (isa == "avx512" and Path(entry["file"]).stem not in {"class_sums", "isa"}):
            continue
        if len(running) == 2:
            assert running.pop(0).wait() == 0
        command = shlex.split(entry["command"])
        found[isa].append(build / command[command.index("-o") + 1])
        running.append(subprocess.Popen(command, cwd=entry["directory"]))
    assert all(process.wait() == 0 for process in running)
    return found


def instructions(path):
    """(function, mnemonic, operands) of every instruction."""
    text = subprocess.run(
        ["objdump", "-d", "-C", "--no-show-raw-insn", path], capture_output=True, text=True, check=True
    )
    function = ""
    for line in text.stdout.splitlines():
        if head := re.match(r"[0-9a-f]+ <(.*)>:$", line):
            function = head[1]
        elif match := re.match(r"\s+[0-9a-f]+:\s+(?:\{evex\} )?(\w+)\s*(.*)", line):
            yield function, match[1], match[2]


# Registers and masks that exist in AVX-512 only; ymm16 and xmm16 upwards need its encoding.
AVX512 = re.compile(r"%zmm|%k[0-7]\b|%[xy]mm(1[6-9]|2[0-9]|3[01])\b|\{%k|\{z\}")
AVX = re.compile(r"%[yz]mm|%k[0-7]\b")


def is_vex(mnemonic):
    """Every AVX mnemonic begins with v; the exceptions below are not vector instructions."""
    return mnemonic.startswith("v") and mnemonic not in {"verr", "verw", "vmcall"}


def test_baseline_objects_use_no_avx(objects):
    used = set()
    for path in objects["baseline"]:
        for function, mnemonic, operands in instructions(path):
            used.add(mnemonic)
            wrong = (
                is_vex(mnemonic) or AVX.search(operands) or mnemonic in {"shlx", "shrx", "sarx", "rorx", "mulx", "andn"}
            )
            assert not wrong, f"{path.name}: {function}: {mnemonic} {operands}"
    assert used & {"mulps", "mulpd", "addps", "addpd"}, "the check would pass on an empty file"


def test_avx2_objects_use_no_avx512(objects):
    used = set()
    for path in objects["avx2"]:
        for function, mnemonic, operands in instructions(path):
            used.add(mnemonic)
            assert not AVX512.search(operands), f"{path.name}: {function}: {mnemonic} {operands}"
    assert used & {"vmulps", "vfmadd231ps", "vaddps"}, "the check would pass on an empty file"


def test_avx512_objects_do_use_it(objects):
    assert any(AVX512.search(operands) for path in objects["avx512"] for _, _, operands in instructions(path))


@pytest.mark.parametrize("isa", ISAS)
def test_no_function_is_shared_between_instruction_sets(isa, objects):
    """Weak symbols (inline functions, templates) are merged by the linker, unless their names hold the set's."""
    own = 0
    for path in objects[isa]:
        listed = subprocess.run(["nm", "-C", path], capture_output=True, text=True, check=True).stdout
        for line in listed.splitlines():
            match = re.match(r"[0-9a-f]* +(\w) (.*)", line)
            if match[2].startswith("DW.ref."):
                continue  # the address of the C++ runtime's own handler of exceptions
            if match[1] in "WwVvu":
                assert f"memkern::{isa}::" in match[2], f"{path.name}: weak {match[2]}"
            elif match[1] in "TDBR":
                assert f"memkern::{isa}::" in match[2], f"{path.name}: {match[2]}"
                own += 1
    assert own >= 1


def test_the_module_exports_no_kernel():
    library = sys.modules["memkern"].native.load()[0]
    if library is None:
        pytest.skip(memkern.native.load()[1])
    command = ["nm", "-DC", "--defined-only", library.__file__]
    exported = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "PyInit__native" in exported
    assert "memkern::" not in exported
