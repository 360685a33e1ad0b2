"""Places of sources that quote no text: an expression or statement, by its function or mark, its kind and its number.

    Python("memkern/scores.py", "merge_peaks", "Compare <", 2)  # the second chain of comparisons with a `<` in it
    Mark("sums of slices")                                      # C++: the statement with `// fault: sums of slices`
    Mark("sums of slices", "Call memset", 1)                    # the first call of memset in that statement

A kind is the name of a class of Python's `ast`, for C++ too (see cpp_nodes.py). What may follow tells nodes of a kind
apart: an operator, or the name of what is called or passed. Nodes are counted from 1, in the order in which they begin.
So a variable can be renamed, a line moved or a file formatted, and every place is still found.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import cpp_nodes
from cpp_nodes import Node

ROOT = Path(__file__).resolve().parents[2]
MARK = re.compile(r"// fault: (.+)")


class PlaceError(Exception):
    """A place that does not exist exactly once, or where its operation changes nothing.

    Attributes:
        outcome: "no_place" or "two_places".
    """

    def __init__(self, outcome: str, message: str) -> None:
        super().__init__(f"{outcome}: {message}")
        self.outcome = outcome


@dataclass(frozen=True)
class Edit:
    """The text of a file before and after a change; the file is relative to the root of the tree."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Python:
    """The n-th node of a kind in a function, which is named as `Class.method`; its decorators belong to it."""

    file: str
    function: str
    kind: str
    n: int = 1

    def nodes(self, root: Path) -> tuple[str, str, list[Node]]:
        """The file, its text and the nodes from which one is chosen."""
        text = (root / self.file).read_text()
        found = [node for name, node in functions(ast.parse(text)) if name == self.function]
        if len(found) != 1:
            raise PlaceError(_outcome(found), f"{len(found)} functions {self.function} in {self.file}")
        return self.file, text, python_nodes(text, found[0])


@dataclass(frozen=True)
class Mark:
    """The n-th node of a kind in the C++ statement that ends or stands in a line with the mark `// fault: NAME`.

    A mark in a line of its own belongs to the statement that follows.
    """

    name: str
    kind: str = "Statement"
    n: int = 1

    def nodes(self, root: Path) -> tuple[str, str, list[Node]]:
        """The file, its text and the nodes from which one is chosen."""
        found = [(file, line) for name, file, line in marks(root) if name == self.name]
        if len(found) != 1:
            raise PlaceError(_outcome(found), f"{len(found)} marks `// fault: {self.name}`")
        file, line = found[0]
        text = (root / file).read_text()
        return file, text, cpp_nodes.statement_nodes(text, line)


Place = Python | Mark
Operation = Callable[[Node], list[tuple[int, int, str]]]  # what is written instead of which parts of the source


def find(place: Place, root: Path = ROOT) -> tuple[str, str, Node]:
    """The file, its text and the one node that a place names.

    Raises:
        PlaceError: If there is no such node, or no single function or mark of the name.
    """
    file, text, nodes = place.nodes(root)
    fitting = of_kind(nodes, place.kind)
    if not 1 <= place.n <= len(fitting):
        raise PlaceError("no_place", f"{len(fitting)} nodes of this kind in {file} for {place}")
    return file, text, fitting[place.n - 1]


def of_kind(nodes: list[Node], kind: str) -> list[Node]:
    """The nodes of a kind, and with the operator or name that may follow it."""
    kind, _, label = kind.partition(" ")
    return [node for node in nodes if node.kind == kind and (not label or label in node.labels)]


def change(place: Place, operation: Operation, root: Path = ROOT) -> Edit:
    """What an operation makes of the file of a place.

    Raises:
        PlaceError: If the place does not exist exactly once, or the operation finds nothing to change there.
    """
    file, text, node = find(place, root)
    new = text
    try:
        for start, end, written in sorted(operation(node), reverse=True):
            new = new[:start] + written + new[end:]
    except IndexError:
        raise PlaceError("no_place", f"{node.text!r} in {file} has too few parts for {place}") from None
    if new == text:
        raise PlaceError("no_place", f"the operation changes nothing in {node.text!r} in {file}")
    return Edit(file, text, new)


def marks(root: Path = ROOT) -> list[tuple[str, str, int]]:
    """Every mark below csrc: its name, its file and the number of its line, from 1."""
    return [
        (match[1].strip(), path.relative_to(root).as_posix(), number)
        for path in sorted((root / "csrc").rglob("*"))
        if path.suffix in (".h", ".cpp", ".cuh", ".cu")
        for number, line in enumerate(path.read_text().split("\n"), 1)
        if (match := MARK.search(line))
    ]


def functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.FunctionDef]]:
    """Every function with its qualified name, those inside of classes and functions too."""
    for node in ast.iter_child_nodes(tree):
        named = isinstance(node, ast.FunctionDef | ast.ClassDef)
        name = f"{prefix}{node.name}" if named else prefix
        if isinstance(node, ast.FunctionDef):
            yield name, node
        yield from functions(node, f"{name}." if named else prefix)


def offsets(text: str) -> Callable[[int, int], int]:
    """Turns a line, from 1, and a column in bytes, as `ast` has them, into a position in a text."""
    lines = text.split("\n")
    starts = [0, *accumulate(len(line) + 1 for line in lines)]
    return lambda line, column: starts[line - 1] + len(lines[line - 1].encode()[:column].decode())


def python_nodes(text: str, function: ast.FunctionDef) -> list[Node]:
    """The nodes of a function in the order in which they begin."""
    offset = offsets(text)

    def span(node: ast.AST) -> tuple[int, int]:
        return offset(node.lineno, node.col_offset), offset(node.end_lineno, node.end_col_offset)  # type: ignore[attr-defined]

    def made(node: ast.AST) -> Node:
        start, end = span(node)
        inside = (start, end)
        if isinstance(node, ast.Call | ast.Subscript):  # what stands in its own brackets
            inside = (span(node.func if isinstance(node, ast.Call) else node.value)[1] + 1, end - 1)
        parts = [_with_parentheses(text, *span(part), *inside) for part in _parts(node)]
        return Node(type(node).__name__, text, start, end, tuple(parts), _name(node), "python", nodes)

    nodes = list[Node]()
    walked = [node for part in [*function.decorator_list, *function.body] for node in ast.walk(part)]
    all_nodes = [node for node in [function, *walked] if hasattr(node, "end_lineno")]
    chained = {id(node.left) for node in all_nodes if isinstance(node, ast.BinOp) and _goes_on(node.left, node)}
    nodes += [made(node) for node in all_nodes if id(node) not in chained]
    nodes.sort(key=lambda node: (node.start, -node.end))
    return nodes


def _parts(node: ast.AST) -> list[ast.AST]:
    """What a node is made of: operands, arguments, the condition of a statement with a body."""
    if isinstance(node, ast.BinOp):
        return [*(_parts(node.left) if _goes_on(node.left, node) else [node.left]), node.right]
    if isinstance(node, ast.Call):
        return [*node.args, *node.keywords]
    if isinstance(node, ast.If | ast.While):
        return [node.test]
    if isinstance(node, ast.For):
        return [node.target, node.iter]
    children = [child for child in ast.iter_child_nodes(node) if hasattr(child, "end_lineno")]
    return sorted(children, key=lambda child: (child.lineno, child.col_offset))  # type: ignore[attr-defined]


_PRECEDENCE = ({ast.BitOr}, {ast.BitXor}, {ast.BitAnd}, {ast.LShift, ast.RShift}, {ast.Add, ast.Sub},
               {ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.MatMult})  # fmt: skip


def _goes_on(left: ast.expr, node: ast.BinOp) -> bool:
    """Whether an operation and its left operand are one chain: `a - b + c` is, `(a - b) + c` is not."""
    alike = isinstance(left, ast.BinOp) and any({type(node.op), type(left.op)} <= level for level in _PRECEDENCE)
    return alike and (left.lineno, left.col_offset) == (node.lineno, node.col_offset)


def _name(node: ast.AST) -> str:
    """What tells a node from others of its kind, operators apart."""
    if isinstance(node, ast.Call | ast.Subscript):
        return _name(node.func if isinstance(node, ast.Call) else node.value)
    if isinstance(node, ast.UnaryOp):
        return {ast.Not: "not", ast.Invert: "~", ast.USub: "-", ast.UAdd: "+"}[type(node.op)]
    return str(getattr(node, "attr", None) or getattr(node, "arg", None) or getattr(node, "id", ""))


def _with_parentheses(text: str, start: int, end: int, first: int, last: int) -> tuple[int, int]:
    """A span and the parentheses around it, as far as they lie between two positions."""
    while True:
        before, after = start - 1, end
        while before >= first and text[before].isspace():
            before -= 1
        while after < last and text[after].isspace():
            after += 1
        if before < first or after >= last or text[before] != "(" or text[after] != ")":
            return start, end
        start, end = before, after + 1


def _outcome(found: list[object]) -> str:
    return "two_places" if found else "no_place"


class Fault(NamedTuple):
    """One planted fault: with the operation done at the place, the tests must go red."""

    name: str
    place: Place
    operation: Operation
    tests: str  # of python_tests, separated by spaces
