"""How long files, functions and parameter lists are, and counts that may only fall (`ratchet.json`)."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import memkern

PACKAGE = Path(memkern.__file__).resolve().parent
ROOT = PACKAGE.parent
if not (ROOT / "csrc").is_dir():
    pytest.skip("an installed package has no source tree around it", allow_module_level=True)

LINES_OF_A_FILE, LINES_OF_A_FUNCTION, PARAMETERS = 400, 60, 8
LONG_FILES = {
    "python_tests/gpu_triton/faults.py": "a table",
}
"""Files that may be longer -> why."""

MANY_PARAMETERS = {
    "memkern/ops/views.py:views": "public: one keyword per option of a view",
    "memkern/metrics/classes.py:classmem": "public: one keyword per option of the metric",
    "memkern/metrics/classes.py:classmem_stats": "public: the twin of classmem",
    "memkern/audit/monitor/monitor.py:Monitor.__init__": "public: one keyword per option of a monitor",
    "memkern/audit/taps/tap.py:Tap.__init__": "public: one keyword per option of a tap",
    "memkern/reference/views.py:views": "the oracle takes what the op takes",
}
"""Functions that may have more parameters -> why. Triton kernels take every size and stride one by one."""


def functions(path: Path) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """The functions of a file by qualified name."""

    def below(node: ast.AST, name: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
        for child in ast.iter_child_nodes(node):
            inside = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
            own = f"{name}.{child.name}".lstrip(".") if inside else name
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield own, child
            yield from below(child, own)

    yield from below(ast.parse(path.read_text(encoding="utf-8")), "")


def code_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The lines of a function without its docstring."""
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    first = node.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if "triton_kernels" not in path.parts)


def test_files_are_short_enough_to_be_read() -> None:
    long = {}
    for folder in ("memkern", "csrc", "bench", "python_tests", "scripts"):
        for path in (ROOT / folder).rglob("*"):
            name = str(path.relative_to(ROOT))
            if path.suffix in {".py", ".cpp", ".h", ".cu", ".cuh"} and name not in LONG_FILES:
                lines = len(path.read_text(encoding="utf-8").splitlines())
                long |= {name: lines} if lines > LINES_OF_A_FILE else {}
    assert not long
    assert all((ROOT / name).is_file() for name in LONG_FILES)


def test_functions_are_short_enough_to_be_read() -> None:
    long = {
        f"{path.relative_to(ROOT)}:{name}": code_lines(node)
        for path in SOURCES
        for name, node in functions(path)
        if code_lines(node) > LINES_OF_A_FUNCTION
    }
    assert not long


def test_parameter_lists_are_short_enough_to_be_read() -> None:
    many = {}
    for path in SOURCES:
        for name, node in functions(path):
            given = node.args
            count = len([*given.posonlyargs, *given.args, *given.kwonlyargs])
            count -= bool(given.args) and given.args[0].arg in ("self", "cls")
            if count > PARAMETERS:
                many[f"{path.relative_to(ROOT)}:{name}"] = count
    assert set(many) == set(MANY_PARAMETERS), many


def test_the_audit_has_few_rooms() -> None:
    audit = PACKAGE / "audit"
    assert len(list(audit.glob("*.py"))) <= 8
    assert len([path for path in audit.iterdir() if (path / "__init__.py").is_file()]) <= 9


def counts() -> dict[str, int]:
    text = [path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))]
    return {
        "Any": sum(len(re.findall(r"\bAny\b", each)) for each in text),
        "type: ignore": sum(each.count("type: ignore") for each in text),
        "noqa": sum(each.count("# noqa") for each in text),
    }


def test_counts_only_fall() -> None:
    """A lower count is written down: `python python_tests/contract/test_sizes.py`."""
    assert counts() == json.loads(Path(__file__).with_name("ratchet.json").read_text(encoding="utf-8"))


if __name__ == "__main__":
    Path(__file__).with_name("ratchet.json").write_text(json.dumps(counts(), indent=2) + "\n", encoding="utf-8")
