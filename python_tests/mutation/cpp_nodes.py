"""Statements and expressions of C++ and CUDA sources, as far as planted faults need them.

This is not the grammar of a compiler: it relies on formatted sources (`make lint` sees to that), in which an operator
between two operands has blanks on both sides, and the brackets of templates, pointers and references have not.

The kinds of nodes are those of Python's `ast`: Compare, BoolOp (`&&`, `||`), BinOp, UnaryOp, Assign (a declaration with
`=`, too), AugAssign, IfExp (`a ? b : c`), Call (of a constructor or cast, too), Subscript, Constant, Return, If, While
and For (with the parts between its semicolons). Besides: Statement, all of it; List, what stands in braces; Template.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

WITH_OPERATORS = ("Assign", "AugAssign", "BinOp", "BoolOp", "Compare")


@dataclass(frozen=True)
class Node:
    """A statement or expression: its kind, where it stands in a text and what it is made of."""

    kind: str
    source: str
    start: int
    end: int
    parts: tuple[tuple[int, int], ...] = ()
    name: str = ""
    language: str = "c++"
    siblings: list[Node] = field(default_factory=list, compare=False, repr=False)  # of its statement or function, all

    @property
    def text(self) -> str:
        """All of it."""
        return self.source[self.start : self.end]

    def span(self, n: int) -> tuple[int, int]:
        """Where the n-th part begins and ends, from 1; 0 is all of it."""
        if not 0 <= n <= len(self.parts):
            raise IndexError(n)
        return self.parts[n - 1] if n else (self.start, self.end)

    def part(self, n: int) -> str:
        """The text of the n-th part, from 1; 0 is all of it."""
        return self.source[slice(*self.span(n))]

    def operator(self, n: int) -> tuple[int, int]:
        """Where the operator after the n-th part begins and ends."""
        if self.kind not in WITH_OPERATORS or not 1 <= n < len(self.parts):
            raise IndexError(n)
        start, end = self.parts[n - 1][1], self.parts[n][0]
        gap = re.sub(r"(#|//)[^\n]*", lambda comment: " " * len(comment[0]), self.source[start:end])
        return start + len(gap) - len(gap.lstrip()), start + len(gap.rstrip())

    @property
    def labels(self) -> list[str]:
        """What tells it from others of its kind: its name, its operators."""
        count = len(self.parts) - 1 if self.kind in WITH_OPERATORS else 0
        return [self.name, *(self.source[slice(*self.operator(n + 1))] for n in range(count))]


class Token(NamedTuple):
    """A word, number, string or operator."""

    text: str
    start: int
    end: int


_TOKEN = re.compile(
    r"""(?P<none>//[^\n]*|/\*.*?\*/|^[ \t]*\#(?:\\\n|[^\n])*)|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])+'"""
    r"""|\.?\d(?:[\w.]|(?<=[eE])[+-]|'\d)*|[A-Za-z_]\w*"""
    r"""|<<=|>>=|(?<=\s)>>(?=\s)|\.\.\.|->|::|\+\+|--|&&|\|\||<<|[-+*/%&|^=!<]=|(?<=\s)>=|[^\s\w]""",
    re.MULTILINE | re.DOTALL,
)
_BINARY = [
    ("Assign", {"="}),
    ("AugAssign", {"+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=", "<<=", ">>="}),
    ("IfExp", {"?"}),
    ("BoolOp", {"||"}),
    ("BoolOp", {"&&"}),
    ("BinOp", {"|"}),
    ("BinOp", {"^"}),
    ("BinOp", {"&"}),
    ("Compare", {"==", "!="}),
    ("Compare", {"<", "<=", ">", ">="}),
    ("BinOp", {"<<", ">>"}),
    ("BinOp", {"+", "-"}),
    ("BinOp", {"*", "/", "%"}),
]
_CLOSING = {"(": ")", "[": "]", "{": "}", "<": ">"}
_HEADS = {"if": "If", "while": "While", "for": "For", "switch": "Switch"}


@lru_cache(maxsize=256)
def tokens_of(text: str) -> list[Token]:
    """The tokens of a source; comments and lines of the preprocessor are none."""
    return [Token(match[0], *match.span()) for match in _TOKEN.finditer(text) if match["none"] is None]


@lru_cache(maxsize=256)
def _brackets(text: str) -> dict[int, int]:
    """For every bracket the position, among the tokens, of its partner."""
    tokens, pairs, stack = tokens_of(text), dict[int, int](), list[int]()
    for at, token in enumerate(tokens):
        spaced = text[token.end : token.end + 1].isspace()
        if token.text in "([{" or (token.text == "<" and not spaced):
            stack.append(at)
        elif token.text in (")", "]", "}"):
            while stack and tokens[stack[-1]].text == "<":
                stack.pop()  # it was none
            if stack:
                pairs[at] = stack.pop()
        elif token.text == ">" and stack and tokens[stack[-1]].text == "<" and not text[token.start - 1].isspace():
            pairs[at] = stack.pop()
    return pairs | {opening: closing for closing, opening in pairs.items()}


def statement_nodes(text: str, line: int) -> list[Node]:
    """The nodes of the statement that ends or stands in a line, counted from 1, in the order in which they begin.

    Where nothing but a comment stands in the line, the statement is the one that follows.
    """
    tokens, brackets = tokens_of(text), _brackets(text)
    ends = [match.end() for match in re.finditer(r"\n|\Z", text)]
    begin = ends[line - 2] if line > 1 else 0
    here = [at for at, token in enumerate(tokens) if begin <= token.start < ends[line - 1]]
    if here:
        last = here[-1]
        while last > here[0] and tokens[last].text == "}" and _is_block(text, brackets.get(last, last)):
            last -= 1
    else:
        last = next(at for at, token in enumerate(tokens) if token.start >= ends[line - 1])
    last = _statement_end(text, last)
    first = brackets.get(last, last) if tokens[last].text in (")", "]", "}") else last
    while first > 0 and not _ends_before(text, first):
        first = brackets[first - 1] if brackets.get(first - 1, first) < first - 1 else first - 1
    return _Parser(text).statement(first, last + 1)


def functions(text: str) -> list[tuple[str, int, int]]:
    """The functions that have a body, with the structs they stand in: `Struct.name`, first line and last."""
    return list(_functions_between(text, 0, len(tokens_of(text)), ""))


def _functions_between(text: str, first: int, last: int, prefix: str) -> Iterator[tuple[str, int, int]]:
    tokens, brackets = tokens_of(text), _brackets(text)
    at = header = first
    while at < last:
        word = tokens[at].text
        if word == "{" and at in brackets:
            words = [token.text for token in tokens[header:at]]
            lines = [text.count("\n", 0, tokens[place].start) + 1 for place in (header, brackets[at])]
            if name := _name_of(text, header, at):
                yield f"{prefix}{name}", *lines
            elif "namespace" in words or "extern" in words:
                yield from _functions_between(text, at + 1, brackets[at], prefix)
            elif "struct" in words or "class" in words:
                name = next(
                    word
                    for word in reversed(words[: words.index(":")] if ":" in words else words)
                    if word.isidentifier()
                )
                yield from _functions_between(text, at + 1, brackets[at], f"{prefix}{name}.")
        if word in ("{", "(", "<", "[") and at in brackets:
            at = brackets[at]
        at += 1
        if word in (";", "{"):
            header = at


def _name_of(text: str, header: int, opening: int) -> str:
    """The name before the first parentheses of what a brace opens; none if that is no function."""
    tokens, brackets = tokens_of(text), _brackets(text)
    while header < opening:
        if tokens[header].text == "(" and tokens[header - 1].text not in ("__launch_bounds__", "alignas", "]"):
            return tokens[header - 1].text
        inside = tokens[header].text in _CLOSING and header in brackets
        header = brackets[header] + 1 if inside else header + 1
    return ""


def _statement_end(text: str, at: int) -> int:
    """The token that ends the statement in which one stands."""
    tokens, brackets = tokens_of(text), _brackets(text)
    while at < len(tokens) - 1 and tokens[at].text != ";":
        opening = tokens[at].text in _CLOSING and at in brackets
        if opening and tokens[at].text == "{" and _is_block(text, at):
            return at - 1
        at = brackets[at] + 1 if opening else at + 1
    return at


def _ends_before(text: str, at: int) -> bool:
    """Whether a statement begins with a token: the one before ends another, or opens or closes a block."""
    tokens, brackets = tokens_of(text), _brackets(text)
    before = tokens[at - 1].text
    if before == "}":
        return _is_block(text, brackets[at - 1]) and tokens[at].text not in (",", ")", ";", "(")
    if before == ";" or (before == ":" and _is_label(tokens, at - 1)):
        return True
    return before == "{" and _is_block(text, at - 1)


def _is_label(tokens: list[Token], colon: int) -> bool:
    """Whether a colon ends `case ...`, `default` or `public`."""
    at = colon - 1
    while at > 0 and tokens[at - 1].text not in (";", "{", "}", ":"):
        at -= 1
    return tokens[at].text in ("case", "default", "public", "protected", "private")


def _is_block(text: str, opening: int) -> bool:
    """Whether a brace opens a block of statements, and not a list."""
    tokens, brackets = tokens_of(text), _brackets(text)
    inside = tokens[opening + 1 : brackets[opening]]
    return any(token.text == ";" for token in inside) or tokens[opening - 1].text in (")", "else", "const", "noexcept")


class _Parser:
    def __init__(self, text: str) -> None:
        self._text, self._tokens, self._brackets = text, tokens_of(text), _brackets(text)
        self._nodes = list[Node]()

    def statement(self, first: int, last: int) -> list[Node]:
        """Its nodes, from those with which it begins; tokens first, first + 1, ..., last - 1."""
        self._nodes.append(self._node("Statement", first, last))
        if self._tokens[last - 1].text == ";":
            last -= 1
        for begin, end in self._split(first, last, (",", ";")):
            self._nodes += self._expression(begin, end)
        self._nodes.sort(key=lambda node: (node.start, -node.end))
        return self._nodes

    def _node(self, kind: str, first: int, last: int, parts: list[tuple[int, int]] = [], name: str = "") -> Node:  # noqa: B006
        spans = tuple(self._span(*part) for part in parts)
        return Node(kind, self._text, *self._span(first, last), spans, name, siblings=self._nodes)

    def _span(self, first: int, last: int) -> tuple[int, int]:
        return self._tokens[first].start, self._tokens[last - 1].end

    def _top(self, first: int, last: int) -> Iterator[int]:
        """The tokens that stand in no bracket."""
        while first < last:
            yield first
            inside = self._tokens[first].text in _CLOSING and first in self._brackets
            first = self._brackets[first] + 1 if inside else first + 1

    def _split(self, first: int, last: int, at: tuple[str, ...]) -> list[tuple[int, int]]:
        """The ranges between separators; those that are empty are left out."""
        cuts = [place for place in self._top(first, last) if self._tokens[place].text in at]
        ranges = zip([first, *(cut + 1 for cut in cuts)], [*cuts, last], strict=True)
        return [(begin, end) for begin, end in ranges if begin < end]

    def _is_between(self, at: int, first: int, operators: set[str]) -> bool:
        """Whether a token is one of the operators and stands between two operands."""
        token, text = self._tokens[at], self._text
        spaced = text[token.start - 1].isspace() and text[token.end : token.end + 1].isspace()
        return at > first and token.text in operators and spaced

    def _expression(self, first: int, last: int) -> list[Node]:
        if first >= last:
            return []
        word = self._tokens[first].text
        if word == "else":
            return self._expression(first + 1, last)
        if word == "return":
            return [self._node("Return", first, last, [(first + 1, last)]), *self._expression(first + 1, last)]
        if word in _HEADS:
            return self._head(first, last)
        for kind, operators in _BINARY:
            cuts = [at for at in self._top(first, last) if self._is_between(at, first, operators)]
            if not cuts:
                continue
            if kind in ("Assign", "AugAssign"):
                cuts = cuts[:1]
            elif kind == "IfExp":
                cuts = [cuts[0], self._colon(cuts[0], last)]
            parts = list(zip([first, *(cut + 1 for cut in cuts)], [*cuts, last], strict=True))
            nodes = [self._node(kind, first, last, parts)]
            return nodes + [node for part in parts for node in self._expression(*part)]
        return self._primary(first, last)

    def _colon(self, question: int, last: int) -> int:
        """The colon that belongs to a question mark."""
        depth = 0
        for at in self._top(question, last):
            depth += {"?": 1, ":": -1}.get(self._tokens[at].text, 0)
            if depth == 0:
                return at
        raise ValueError(f"no colon: {self._text[self._tokens[question].start :][:60]!r}")

    def _head(self, first: int, last: int) -> list[Node]:
        """`if (...)`, `for (...; ...; ...)` and the statement that follows in the same line."""
        opening = first + 2 if self._tokens[first + 1].text == "constexpr" else first + 1
        closing = self._brackets[opening]
        parts = self._split(opening + 1, closing, (";",))
        nodes = [self._node(_HEADS[self._tokens[first].text], first, closing + 1, parts)]
        for part in [*parts, (closing + 1, last)]:
            nodes += [node for one in self._split(*part, (",",)) for node in self._expression(*one)]
        return nodes

    def _primary(self, first: int, last: int) -> list[Node]:
        """Names, numbers, and what stands in brackets."""
        nodes = list[Node]()
        if self._tokens[first].text in ("!", "~", "-", "*", "&", "++", "--"):
            nodes.append(self._node("UnaryOp", first, last, [(first + 1, last)], self._tokens[first].text))
            return nodes + self._primary(first + 1, last) if first + 1 < last else []
        for at in self._top(first, last):
            token = self._tokens[at].text
            if token[0].isdigit() or (token[0] == "." and len(token) > 1 and token[1].isdigit()):
                nodes.append(self._node("Constant", at, at + 1))
            if token in _CLOSING and at in self._brackets:
                nodes += self._group(first, at)
        return nodes

    def _group(self, first: int, opening: int) -> list[Node]:
        closing, token = self._brackets[opening], self._tokens[opening].text
        inside = self._split(opening + 1, closing, (",", ";"))
        begin, name = self._what_precedes(first, opening)
        nodes = [node for part in inside for node in self._expression(*part)]
        if token == "[" and begin < opening:
            parts = [(begin, opening), *inside]
            return [self._node("Subscript", begin, closing + 1, parts, name), *nodes]
        if token == "(" and name:
            return [self._node("Call", begin, closing + 1, inside, name), *nodes]
        if token in "{<":
            return [self._node("List" if token == "{" else "Template", opening, closing + 1, inside, name), *nodes]
        return nodes

    def _what_precedes(self, first: int, opening: int) -> tuple[int, str]:
        """Where that which is called or indexed begins, and the last name in it."""
        at, name = opening, ""
        while at > first and self._tokens[at - 1].end == self._tokens[at].start:
            before = self._tokens[at - 1].text
            if before in (")", "]", ">", "}") and at - 1 in self._brackets:
                at = self._brackets[at - 1]
            elif before[0].isalnum() or before[0] == "_" or before in ("::", ".", "->"):
                at -= 1
                name = name or (before if before[0].isalpha() or before[0] == "_" else "")
            else:
                break
        return at, name
