"""Words: what a machine can say of docstrings, names and the pages that lie in folders.

`make lint` runs pydoclint beside this file: the arguments and results of a docstring are those of the signature. Errors
are checked here, because memkern documents an error where a caller meets it and raises most of them in `checks`, where
pydoclint does not look: a function names at least what it raises itself.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

import memkern
from memkern import errors

PACKAGE = Path(memkern.__file__).resolve().parent
ROOT = PACKAGE.parent
if not (ROOT / "csrc").is_dir():
    pytest.skip("an installed package has no source tree around it", allow_module_level=True)

UNCLEAR = frozenset(
    re.findall(
        r"\w+",
        "it its itself they them their this that these those he she we you what which who whose whom whether where "
        "when why how of for from in into on onto at by as to with without within under over after before between "
        "beside besides if though because since while until both either neither none no not all any some one another "
        "other others same such so also and or but here there only just again",
    )
)
"""Words that cannot open a docstring: pronouns, prepositions, conjunctions, which need a sentence before them."""

UNCLEAR_IN_CPP = UNCLEAR & set(
    re.findall(r"\w+", "it its they them their this these those what which who whose whether how of")
)
"""Words that cannot open a comment at the left margin of a C++ file."""

TENSORS = re.compile(r"\b(Tensor|TensorLike|NDArray|Array|Floats|Ints)\b")
SHAPE = re.compile(r"\[(?:[A-Za-z]\b|\d+\b|…|\.\.\.|\w+(?= ?[,+*(]))[^\]\n]*\]|\b0-d\b")
TIMES = re.compile(
    r"\d ?(?:us|ms|µs)\b|\b(?:takes?|took|cost) [\d.]+ s\b|\d times (?:as|slower|faster)\b|\d of the time\b"
)
LINES_OF_A_PAGE = 40

NAMES = {
    "Look": "ImageCheck", "Repeat": "PreparedCall", "Lab": "ExperimentContext", "Readings": "RunArrays",
    "room": "nothing", "rooms": "nothing", "team": "process_group", "need": "require",
    "say": "log", "under": "strip_prefix", "cuda_place": "cuda_launch_context", "direct": "can_bypass_dispatcher",
    "wide": "accumulate_dtype", "looks": "memory_signature",
    "Place": "HookPoint or TapPoint", "Wanted": "ViewRequest", "Company": "PassContext", "Maker": "ViewProducer",
    "runner": "shard", "extras": "optional_imports", "vit_taps": "transformer_blocks", "surgery": "interventions",
}  # fmt: skip
"""Retired identifier of Python -> the field's word."""

CPP_NAMES = {
    "Share": "WorkRange", "Company": "PassContext", "Maker": "ViewProducer", "Besides": "DiagonalOutputs",
    "Also": "DiagonalWork", "Turns": "ReadOrder", "Trust": "CancellationTest", "Wanted": "IsWanted",
    "Place": "ViewMemory", "Made": "ProducedViews",
}  # fmt: skip
"""Retired identifier of C++ -> the field's word."""

MINIMUM = ("memkern/scores.py", "memkern/torchmetrics.py", "memkern/metrics/", "memkern/ops/", "memkern/reference/")
"""Where `low` is the smallest mean of a unit, whose word is `minimum`; elsewhere `low` and `high` end a range."""

EXCEPTIONS = {
    "memkern/triton_kernels/alignment_backward.py: direct": "the coefficients of direct differences",
}
"""File and identifier -> why."""

FILES = {
    "room": "nothing", "team": "process_group", "fused": "fusion", "extras": "optional_imports",
    "finish": "finalize", "store": "run_folder", "runner": "shard", "run": "pipeline", "scan": "check", "look": "check",
    "results": "tables", "thumbs": "thumbnails", "summary": "terminal", "vit_taps": "transformer_blocks",
    "surgery": "interventions", "workbench": "experiments/_context", "pages": "report_pages", "private": "dp_sgd",
    "pairs": "encoder_pairs", "readers": "consumers", "taps": "resize_filter", "vec": "simd", "isa": "kernel_table",
    "select": "cpu_dispatch", "slices": "work_split", "rows": "row_io", "port": "cuda_compat", "looks": "call_cache",
    "by_name": "nvrtc_launch", "surface": "c_api", "again": "call_cache", "note": "record",
}  # fmt: skip
"""Retired name of a file -> the field's word."""

FILE_EXCEPTIONS: dict[str, str] = {}
"""File of a retired name -> why."""


@dataclass(frozen=True)
class Function:
    """A public function or method, or a public class (without a signature)."""

    name: str
    docstring: str
    signature: ast.FunctionDef | ast.AsyncFunctionDef | None


DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


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
    """Docstrings, private ones too, that open with a word which needs a sentence before it."""
    found = [ast.get_docstring(node) or "" for node in ast.walk(ast.parse(text)) if isinstance(node, DOCUMENTED)]
    first = {each: re.match(r"\W*([\w'-]+)", each) for each in found}
    return [each.splitlines()[0] for each, word in first.items() if word and word[1].lower() in UNCLEAR]


def unclear_comments(text: str) -> list[str]:
    """Comments of C++ that describe what stands below and open with a pronoun or the like."""
    lines = text.splitlines()
    opening = [now for before, now in zip(["", *lines], lines, strict=False) if not before.startswith("//")]
    words = [(line, re.match(r"// (\w+)", line)) for line in opening]
    return [line for line, word in words if word and word[1].lower() in UNCLEAR_IN_CPP]


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


def references(text: str) -> list[str]:
    """Docstrings that send the reader to another one."""
    return re.findall(r"As for `[^\n]*", text)


def times(text: str, comment: str) -> list[str]:
    """Measured times and ratios of times in comments and, of Python, docstrings."""
    words = [line.partition(comment)[2] for line in text.splitlines()]
    if comment == "#":
        nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, DOCUMENTED)]
        words = [*words, *(line for node in nodes for line in (ast.get_docstring(node) or "").splitlines())]
    return [line.strip() for line in words if TIMES.search(line)]


PYTHON = sorted(PACKAGE.rglob("*.py"))
PUBLIC = [
    path
    for path in PYTHON
    if "triton_kernels" not in path.parts
    and not any(part.startswith("_") and part != "__init__.py" for part in path.relative_to(PACKAGE).parts)
]
CPP = sorted(path for path in (ROOT / "csrc").rglob("*.*") if path.suffix in {".h", ".cpp", ".cu", ".cuh"})


def in_files(check: Callable[[str], Iterable[str]], paths: Iterable[Path]) -> list[str]:
    return [f"{path.relative_to(ROOT)}: {each}" for path in paths for each in check(path.read_text(encoding="utf-8"))]


# ---- the checks -----------------------------------------------------------------------------------------------------


def test_docstrings_open_with_a_verb_or_a_noun() -> None:
    assert not in_files(unclear_openings, PYTHON)


def test_comments_of_cpp_open_with_their_subject() -> None:
    assert not in_files(unclear_comments, CPP)


def test_functions_of_tensors_give_shapes() -> None:
    assert not in_files(without_shape, PUBLIC)


def test_errors_that_a_function_raises_stand_in_its_docstring() -> None:
    assert not in_files(undocumented_errors, PUBLIC)


def test_docstrings_stand_alone() -> None:
    assert not in_files(references, PYTHON)


def test_comments_hold_no_measured_times() -> None:
    """A figure without machine and date helps nobody; with both it belongs to docs/performance.md."""
    assert not in_files(partial(times, comment="#"), PYTHON)
    assert not in_files(partial(times, comment="//"), CPP)


def test_retired_names_stay_retired() -> None:
    found = in_files(lambda text: sorted(identifiers(text) & NAMES.keys()), PYTHON)
    assert not [each for each in found if each not in EXCEPTIONS]
    found += in_files(lambda text: sorted(tokens(text) & CPP_NAMES.keys()), CPP)
    assert not [each for each in found if each not in EXCEPTIONS]
    assert set(EXCEPTIONS) <= set(found), "an exception that is not needed any more"
    units = [path for path in PYTHON if str(path.relative_to(ROOT)).startswith(MINIMUM)]
    assert not in_files(lambda text: identifiers(text) & {"low"}, units)
    names = {str(path.relative_to(ROOT)) for path in [*PYTHON, *CPP] if path.stem in FILES}
    assert names == set(FILE_EXCEPTIONS)


def test_pages_in_folders_are_short() -> None:
    pages = [path for folder in ("memkern", "csrc", "python_tests") for path in (ROOT / folder).rglob("README.md")]
    assert pages
    long = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in pages}
    assert not {name: lines for name, lines in long.items() if lines > LINES_OF_A_PAGE}


# ---- each check can fail --------------------------------------------------------------------------------------------

TENSOR = "def f(x: Tensor) -> Tensor:\n    "


@pytest.mark.parametrize(
    ("check", "bad", "good"),
    [
        (unclear_openings, 'def f():\n    """What was made."""', 'def f():\n    """Makes a plan."""'),
        (unclear_openings, '"""Of a forward pass: its size."""', '"""Size of a forward pass."""'),
        (unclear_openings, 'class A:\n    def f(self):\n        """Its name."""', 'class A:\n    """A name."""'),
        (unclear_comments, "int a;\n\n// Who takes part.\nint b;", "int a;\n\n// Part of a.\n// What b is.\nint b;"),
        (unclear_comments, "// Of a point.", "// Sum of a point."),
        (without_shape, TENSOR + '"""Sums a tensor."""', TENSOR + '"""Sums `[N, U]`."""'),
        (without_shape, TENSOR + '"""Sums [the] rows."""', TENSOR + '"""Sums `[n]`, whatever the device."""'),
        (
            undocumented_errors,
            'def f():\n    """Adds.\n\n    Returns:\n        A sum.\n    """\n    raise ArgumentTypeError("x")',
            'def f():\n    """Adds.\n\n    Raises:\n        TypeError: So.\n    """\n    raise ArgumentTypeError("x")',
        ),
        (references, '"""Adds.\n\nArgs:\n    pairs: As for ``alignment``.\n"""', '"""Adds pairs."""'),
        (partial(times, comment="#"), "x = 1  # takes 4 us instead of 7", "x = 1  # 16 KB, a third of L1"),
        (partial(times, comment="#"), 'def f():\n    """It runs 1.6 times as long."""', 'b = "0.4 s"'),
        (partial(times, comment="//"), "// 0.85 to 0.95 of the time", "int s = 3;  // seconds"),
    ],
)
def test_a_check_finds_a_bad_sample(check: Callable[[str], Iterable[str]], bad: str, good: str) -> None:
    assert list(check(bad))
    assert not list(check(good))


def test_retired_names_are_found_where_they_are_given() -> None:
    text = "def say(team): pass\nself._wide = readings = 1\nfor under in x: pass\nclass Trust: pass\nprint(store)"
    assert identifiers(text) >= {"say", "team", "wide", "readings", "under", "Trust"}
    assert "store" not in identifiers(text)
    assert tokens('Share a;  // Place\nf("Made"); /* Turns */') == {"Share", "a", "f"}
