"""What a planted fault writes instead of the node at its place (see places.py).

No operation names what stands in the source: the parts of a node are numbered from 1, in the order in which they stand.
"""

from __future__ import annotations

import re

from cpp_nodes import Node
from places import Operation, of_kind

OPPOSITE = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "!=", "!=": "=="}


PART = re.compile(r"\{(?:([A-Z]\w+(?: \S+)?) (\d+)\.)?(\d+)\}")


def _filled(template: str, node: Node) -> str:
    def part(match: re.Match[str]) -> str:
        of = of_kind(node.siblings, match[1])[int(match[2]) - 1] if match[1] else node
        return of.part(int(match[3]))

    return PART.sub(part, template)


def rewrite(template: str) -> Operation:
    """Writes a text in which {n} is the n-th part, and {0} the node itself.

    {Assign 2.1} is the first part of another node: of the second Assign of the same function, or C++ statement.
    """
    return lambda node: [(node.start, node.end, _filled(template, node))]


constant = rewrite  # a template without parts


def drop(node: Node) -> list[tuple[int, int, str]]:
    """Leaves a statement out."""
    return [(node.start, node.end, "pass" if node.language == "python" else ";")]


def keep(n: int) -> Operation:
    """Leaves the n-th part alone of all."""
    return rewrite(f"{{{n}}}")


def append(text: str) -> Operation:
    """Writes something behind the node."""
    return lambda node: [(node.end, node.end, text)]


def put(n: int, template: str) -> Operation:
    """Writes something else instead of the n-th part."""
    return lambda node: [(*node.span(n), _filled(template, node))]


def swap(n: int, m: int) -> Operation:
    """Exchanges two parts."""
    return both(put(n, f"{{{m}}}"), put(m, f"{{{n}}}"))


def repeat(n: int, *, instead: int) -> Operation:
    """Writes the n-th part a second time, instead of another one."""
    return put(instead, f"{{{n}}}")


def without(n: int) -> Operation:
    """Leaves the n-th part out: an operand with its operator, an argument with its comma."""

    def operation(node: Node) -> list[tuple[int, int, str]]:
        start, end = node.span(n)
        if n > 1:
            start = node.span(n - 1)[1]
        elif len(node.parts) > 1:
            end = node.span(2)[0]
        return [(start, end, "")]

    return operation


def operator(new: str, n: int = 1) -> Operation:
    """Writes another operator instead of the one after the n-th part."""
    return lambda node: [(*node.operator(n), new)]


assign_for_add = operator("=")


def flip(node: Node) -> list[tuple[int, int, str]]:
    """Turns the first comparison round."""
    start, end = node.operator(1)
    return [(start, end, OPPOSITE[node.source[start:end]])]


def within(kind: str, n: int, operation: Operation) -> Operation:
    """Does something to the n-th node of a kind inside the node."""

    def inside(node: Node) -> list[tuple[int, int, str]]:
        inner = [other for other in node.siblings if node.start <= other.start and other.end <= node.end]
        return operation(of_kind(inner, kind)[n - 1])

    return inside


def both(*operations: Operation) -> Operation:
    """Does several things, to parts that do not overlap."""
    return lambda node: [edit for operation in operations for edit in operation(node)]
