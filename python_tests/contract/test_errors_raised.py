"""What the user can mend is a MemkernError: no plain builtin error is raised in memkern, listed places aside."""

from __future__ import annotations

import ast
import builtins
import inspect
from pathlib import Path

import pytest

import memkern
from memkern import errors

PACKAGE = Path(memkern.__file__).resolve().parent
BUILTIN = {name for name, value in vars(builtins).items() if inspect.isclass(value) and issubclass(value, Exception)}
# Mistakes of whoever writes memkern, an op's backward or a test, not of its users. An OSError is one line as it is.
PROGRAMMERS = {
    ("_util/records.py", "TypeError"),
    ("_util/registry.py", "RuntimeError"),
    ("lab/experiments/_report_pages.py", "ValueError"),
    ("nvrtc.py", "RuntimeError"),
    ("ops/alignment.py", "RuntimeError"),
    ("ops/layer_stats.py", "RuntimeError"),
    ("ops/pointwise_stats.py", "RuntimeError"),
    ("triton_kernels/views.py", "ValueError"),
    ("audit/measure/begun.py", "OSError"),
    ("_util/files.py", "OSError"),
}


def raised(tree: ast.AST) -> set[str]:
    """The names of the builtin errors that a file raises or makes."""
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    bare = {node.exc.id for node in ast.walk(tree) if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Name)}
    return (called | bare) & BUILTIN


def test_what_is_seen_as_raised() -> None:
    text = "raise ValueError\nraise KeyError('x')\nmade = TypeError('y')\nraise MemkernError('z')\nexcept_ = OSError\n"
    assert raised(ast.parse(text)) == {"ValueError", "KeyError", "TypeError"}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_no_plain_builtin_error_is_raised(path: Path) -> None:
    name = path.relative_to(PACKAGE).as_posix()
    plain = {(name, kind) for kind in raised(ast.parse(path.read_text(encoding="utf-8")))}
    assert not plain - PROGRAMMERS, f"{name}: raise a kind of memkern.errors, which is of the builtin kind as well"


@pytest.mark.parametrize("kind", [each for each in vars(errors).values() if inspect.isclass(each)])
def test_every_kind_is_the_builtin_one_as_well(kind: type[Exception]) -> None:
    assert issubclass(kind, errors.MemkernError)
    assert kind is errors.MemkernError or any(base.__name__ in BUILTIN for base in kind.__bases__)
    assert inspect.getdoc(kind)
