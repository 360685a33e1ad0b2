"""Words: what a machine can say of docstrings, names and the pages that lie in folders.

`make lint` runs pydoclint beside this file: the arguments and results of a docstring are those of the signature. Errors
are checked here, because memkern raises most of them in `checks`, where pydoclint does not look.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import memkern
from memkern import errors

PACKAGE = Path(memkern.__file__).resolve().parent
ROOT = PACKAGE.parent
if not (ROOT / "csrc").is_dir():
    pytest.skip("an installed package has no source tree around it", allow_module_level=True)

UNCLEAR = frozenset(
    [
        "it",
        "its",
        "itself",
        "they",
        "them",
        "their",
        "this",
        "that",
        "these",
        "those",
        "he",
        "she",
        "we",
        "you",
        "what",
        "which",
        "who",
        "whose",
        "whom",
        "whether",
        "where",
        "when",
        "why",
        "how",
        "of",
        "for",
        "from",
        "in",
        "into",
        "on",
        "onto",
        "at",
        "by",
        "as",
        "to",
        "with",
        "without",
        "within",
        "under",
        "over",
        "after",
        "before",
        "between",
        "beside",
        "besides",
        "if",
        "though",
        "because",
        "since",
        "while",
        "until",
        "both",
        "either",
        "neither",
        "none",
        "no",
        "not",
        "all",
        "any",
        "some",
        "one",
        "another",
        "other",
        "others",
        "same",
        "such",
        "so",
        "also",
        "and",
        "or",
        "but",
        "here",
        "there",
        "only",
        "just",
        "again",
    ]
)
"""Words that cannot open a docstring: pronouns, prepositions and conjunctions, which need a sentence before them."""

TENSORS = re.compile(r"\b(Tensor|TensorLike|NDArray|Array|Floats|Ints)\b")
SHAPE = re.compile(r"\[(?:[A-Za-z0-9_*. ×+()/-]+|…|\.\.\.)(?:, *[^\]\[]+)*\]|\b0-d\b|\bany shape\b|\bscalar\b")
SHAPELESS = frozenset()
"""Functions (file:name) with a tensor and without a shape -> none."""

NAMES = {
    "Wanted": "ViewRequest", "Company": "PassContext", "Maker": "ViewProducer", "Besides": "DiagonalOutputs",
    "Also": "DiagonalWork", "Turns": "ReadOrder", "Trust": "CancellationTest", "Look": "ImageCheck",
    "Repeat": "PreparedCall", "Share": "WorkRange", "Lab": "ExperimentContext", "RunArrays": "RunArrays",
    "readings": "read_arrays", "room": "gone", "rooms": "gone", "team": "process_group", "need": "require",
    "say": "log", "under": "strip_prefix", "cuda_place": "cuda_launch_context", "thumbs": "thumbnails",
    "Thumbs": "Thumbnails", "direct": "can_bypass_dispatcher", "wide": "accumulate_dtype", "low": "minimum",
    "looks": "memory_signature", "Place": "HookPoint or TapPoint",
}  # fmt: skip
"""Retired identifier -> the field's word."""

FILES = {
    "room": "gone", "team": "process_group", "readers": "consumers", "fused": "fusion", "readings": "arrays",
    "extras": "optional_imports", "finish": "finalize", "store": "run_folder", "runner": "shard", "run": "pipeline",
    "scan": "check", "look": "check", "results": "tables", "thumbs": "thumbnails", "summary": "terminal",
    "vit_taps": "transformer_blocks", "surgery": "interventions", "workbench": "experiments/_context",
    "pages": "report_pages", "private": "dp_sgd", "pairs": "encoder_pairs", "taps": "resize_filter", "vec": "simd",
    "isa": "kernel_table", "select": "cpu_dispatch", "slices": "work_split", "rows": "row_io", "port": "cuda_compat",
    "by_name": "nvrtc_launch", "surface": "c_api", "looks": "call_cache", "again": "call_cache", "note": "record",
}  # fmt: skip
"""Retired name of a file -> the field's word."""


@dataclass(frozen=True)
class Function:
    """A public function or method, or a public class (without a signature)."""

    name: str
    docstring: str
    signature: ast.FunctionDef | ast.AsyncFunctionDef | None


def public(text: str) -> Iterator[Function]:
    """The public functions, methods and classes of a file that have a docstring."""

    def below(node: ast.AST, prefix: str) -> Iterator[Function]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                if child.name.startswith("_"):
                    continue
                docstring = ast.get_docstring(child)
                if docstring:
                    yield Function(prefix + child.name, docstring, None if isinstance(child, ast.ClassDef) else child)
                if isinstance(child, ast.ClassDef):
                    yield from below(child, f"{prefix}{child.name}.")
            elif isinstance(child, (ast.If, ast.Try)):
                yield from below(child, prefix)

    yield from below(ast.parse(text), "")


def unclear_openings(text: str) -> list[str]:
    """Docstrings that open with a word which needs a sentence before it."""
    first = {each.name: re.match(r"[^\w]*([\w'-]+)", each.docstring) for each in public(text)}
    return [name for name, word in first.items() if word and word[1].lower() in UNCLEAR]


def without_shape(text: str) -> list[str]:
    """Functions that take a tensor and name no shape."""
    found = []
    for each in public(text):
        if each.signature is not None and not SHAPE.search(each.docstring):
            given = each.signature.args
            types = [one.annotation for one in [*given.posonlyargs, *given.args, *given.kwonlyargs] if one.annotation]
            if any(TENSORS.search(ast.unparse(one)) for one in types):
                found.append(each.name)
    return found


def bases(name: str) -> set[str]:
    """The names by which a docstring may speak of an error: its own and those of its bases but the most general."""
    kind = getattr(errors, name, None) or getattr(builtins, name, None)
    own = {each.__name__ for each in kind.__mro__} if isinstance(kind, type) else {name}
    return own - {"Exception", "BaseException", "object"}


def undocumented_errors(text: str) -> list[str]:
    """Errors that a function with a docstring of several lines raises itself and does not name under Raises."""
    found = []
    for each in public(text):
        if each.signature is None or "\n" not in each.docstring:
            continue
        listed = set(re.findall(r"^    (\w+):", each.docstring.partition("Raises:\n")[2], re.MULTILINE))
        for node in ast.walk(each.signature):
            error = node.exc.func if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) else None
            if isinstance(error, ast.Name) and error.id[0].isupper() and not bases(error.id) & listed:
                found.append(f"{each.name}: {error.id}")
    return found


def identifiers(text: str) -> set[str]:
    """The names that a Python file gives: of functions, classes, arguments, variables and attributes."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.attr)
    return {name.strip("_") for name in found}


def tokens(text: str) -> set[str]:
    """The words of C++ code, without comments and strings."""
    code = re.sub(r'//[^\n]*|"(?:[^"\\\n]|\\.)*"', "", re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL))
    return set(re.findall(r"[A-Za-z_]\w*", code))


def openings(text: str) -> list[str]:
    """The first lines of docstrings of private and public functions, classes and the module that say "As for ..."."""
    return re.findall(r"As for `[^\n]*", text)


def is_private(path: Path) -> bool:
    return any(part.startswith("_") and part != "__init__.py" for part in path.relative_to(ROOT).parts)


PYTHON = sorted(PACKAGE.rglob("*.py"))
PUBLIC = [path for path in PYTHON if not is_private(path) and "triton_kernels" not in path.parts]
CPP = sorted(path for path in (ROOT / "csrc").rglob("*.*") if path.suffix in {".h", ".cpp", ".cu", ".cuh"})
