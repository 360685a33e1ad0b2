"""Places and operations: what they find and do not find, and that other names of variables do not matter to them."""

from __future__ import annotations

import ast
import re
import sys

import cpp_nodes
import mutation
import operations
import places
import pytest
from gpu import planted
from places import ROOT, Mark, PlaceError, Python

sys.path.append(str(ROOT / "python_tests" / "gpu_triton"))

KEYWORDS = """
    auto bool case class const constexpr continue double else explicit false float for if inline int int32_t int64_t
    nullptr operator private public return size_t static struct switch template this true typename uintptr_t void while
    std blockIdx threadIdx blockDim
"""

PYTHON = """
def kernel(x, last):
    total = 0
    for i in range(last):
        total += x[i] if x[i] < last else 0
    return total


def twice():
    pass


def twice():
    pass
"""
CUDA = """
int count(const int* x, int last) {
  int total = 0;
  for (int i = 0; i < last; ++i) total += x[i];  // fault: sum
  return total < last ? total : last;  // fault: same
}  // fault: same
"""


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "csrc").mkdir()
    (tmp_path / "csrc" / "kernel.cu").write_text(CUDA)
    (tmp_path / "kernel.py").write_text(PYTHON)
    return tmp_path


@pytest.mark.parametrize(
    ("place", "operation", "outcome"),
    [
        (Python("kernel.py", "kernel", "Compare <"), operations.flip, ""),
        (Python("kernel.py", "kernel", "Compare <", 2), operations.flip, "no_place"),
        (Python("kernel.py", "kernel", "Compare <", 0), operations.flip, "no_place"),
        (Python("kernel.py", "kernel", "AugAssign"), operations.operator("+="), "no_place"),
        (Python("kernel.py", "kernel", "AugAssign"), operations.keep(3), "no_place"),
        (Python("kernel.py", "kernels", "Compare"), operations.flip, "no_place"),
        (Python("kernel.py", "twice", "Pass"), operations.constant("1"), "two_places"),
        (Mark("sum", "AugAssign"), operations.assign_for_add, ""),
        (Mark("sum", "Compare >"), operations.flip, "no_place"),
        (Mark("sums"), operations.drop, "no_place"),
        (Mark("same"), operations.drop, "two_places"),
    ],
)
def test_places_that_are_not_one(tree, place, operation, outcome):
    if not outcome:
        assert places.change(place, operation, tree).new != places.change(place, operation, tree).old
        return
    with pytest.raises(PlaceError) as error:
        places.change(place, operation, tree)
    assert error.value.outcome == outcome
    fault = places.Fault("a fault", place, operation, "none.py::test_none")
    assert mutation.outcome_of(tree, fault) == outcome


def renamed(text: str, place: places.Place, names: set[str]) -> str:
    """A source with other names for some of its variables: those of the place's function, or of all of a C++ file."""
    if isinstance(place, Mark):
        spans = [token[1:] for token in cpp_variables(text) if token.text in names]
    else:
        offset = places.offsets(text)
        found = [name for name in python_variables(text, place) if name.id in names]
        spans = [(offset(name.lineno, name.col_offset), offset(name.end_lineno, name.end_col_offset)) for name in found]
    pieces, at = [], 0
    for _, end in sorted(spans):
        pieces.append(text[at:end])
        at = end
    return "_2".join([*pieces, text[at:]])


def python_variables(text: str, place: Python) -> list[ast.Name]:
    """Where a function reads or writes its variables and arguments."""
    function = dict(places.functions(ast.parse(text)))[place.function]
    inside = [node for node in ast.walk(function) if isinstance(node, ast.Name)]
    own = {name.id for name in inside if isinstance(name.ctx, ast.Store)}
    own |= {argument.arg for argument in ast.walk(function) if isinstance(argument, ast.arg)}
    return [name for name in inside if name.id in own]


def cpp_variables(text: str) -> list[cpp_nodes.Token]:
    """The names in a C++ source that are no keywords, members or functions."""
    tokens = cpp_nodes.tokens_of(text)
    around = zip([tokens[0], *tokens], tokens, [*tokens[1:], tokens[-1]], strict=False)
    return [
        token
        for before, token, after in around
        if re.fullmatch(r"[a-z]\w*", token.text) and token.text not in KEYWORDS.split()
        if before.text not in (".", "->", "::")
        if after.text not in ("(", "<", "::") or after.start > token.end
    ]


def all_faults() -> list[tuple[str, places.Place, places.Operation]]:
    """Those of all three tables; without Triton, of two."""
    rows = [(fault.name, fault) for fault in mutation.FAULTS] + list(planted.FAULTS.items())
    try:
        import faults

        rows += list(faults.FAULTS.items())
    except ImportError:
        pass
    return [(name, fault.place, fault.operation) for name, fault in rows]


@pytest.mark.parametrize(
    ("name", "place", "operation"), all_faults(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_renamed_variables_lose_no_place(name, place, operation, tmp_path):
    """The fault in a source with other names is the same fault with other names: no table quotes them."""
    edit = places.change(place, operation)
    if isinstance(place, Mark):
        names = {token.text for token in cpp_variables(edit.old)}
    else:
        names = {name.id for name in python_variables(edit.old, place)}
    (tmp_path / edit.file).parent.mkdir(parents=True)
    (tmp_path / edit.file).write_text(renamed(edit.old, place, names))
    assert (tmp_path / edit.file).read_text() != edit.old
    assert places.change(place, operation, tmp_path).new == renamed(edit.new, place, names)
