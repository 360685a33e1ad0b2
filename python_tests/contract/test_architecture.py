"""The house rules: who imports whom, one name per op in every room, what is public."""

import ast
import inspect
import re
from pathlib import Path

import pytest

import memkern
from python_tests.helpers import ops

PACKAGE = Path(memkern.__file__).resolve().parent
ROOT = PACKAGE.parent
if not (ROOT / "csrc").is_dir():
    pytest.skip("an installed package has no source tree around it", allow_module_level=True)
OPS = sorted(path.stem for path in (PACKAGE / "ops").glob("[!_]*.py"))
# Op -> backends that its table does not have, whose files it has not either.


def module_name(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in PACKAGE.rglob("*.py")}


def is_module(name):
    return name in MODULES


def is_for_types(node):
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imports(path, inside_functions=True):
    """The modules that a file imports; without those inside functions, the ones that run when it is imported."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    later = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) or is_for_types(node)]
    inner = {node for outer in later for node in ast.walk(outer)}
    found = set()
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if is_module(name) else node.module for name in whole]
        if inside_functions or node not in inner:
            found |= set(names)
    return found


def own(path, **options):
    return {name for name in imports(path, **options) if name.partition(".")[0] == "memkern"}


def room(name):
    """The room of a module: memkern.ops.alignment is in "ops", memkern.checks.values in "checks"."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else "memkern"


def test_one_module_loads_the_compiled_library():
    for name in MODULES:
        loads = [imported for imported in own(MODULES[name]) if imported.startswith("memkern._native")]
        assert not loads or name == "memkern.native", f"{name} loads the compiled library itself"


@pytest.mark.parametrize("op", OPS)
def test_an_op_imports_its_own_files_and_no_other_op(op):
    path = PACKAGE / "ops" / f"{op}.py"
    # The backward of the alignment part of layer_stats is asked of torch by the op's registered name, not imported.
    for imported in own(path):
        if room(imported) == "ops":
            assert imported == "memkern.ops", f"ops/{op}.py imports {imported}"
        if room(imported) == "reference":
            assert imported == f"memkern.reference.{op}"
        if room(imported) == "triton_kernels":
            assert imported in {f"memkern.triton_kernels.{op}", f"memkern.triton_kernels.{op}_backward"}
            assert imported not in own(path, inside_functions=False), "Triton is imported inside a function"


def test_the_references_stand_alone():
    for path in (PACKAGE / "reference").glob("[!_]*.py"):
        allowed = {"__future__", "collections.abc", "itertools", "math", "torch"}
        # "views" is the one oracle that is somebody else's library; imported when called
        outside = {"views": {"torchvision.transforms.v2"}}.get(path.stem, set())
        if path.stem == "layer_stats":  # what the distances of alignment say of the views
            allowed |= {"memkern.reference.alignment"}
        if path.stem == "pointwise_stats":  # layers by torch's own functions, and another oracle's statistics
            allowed |= {"torch.nn", "memkern.reference.layer_stats"}
        assert imports(path) <= allowed | outside, path.name
        assert imports(path, inside_functions=False) <= allowed, path.name


def test_nothing_imports_the_command_line_tests_or_bench():
    for name, path in MODULES.items():
        for imported in imports(path):
            assert imported.partition(".")[0] not in {"python_tests", "bench", "conftest"}, name
            assert imported != "memkern.cli" or name == "memkern.__main__", name


def test_importing_memkern_reaches_the_core_only():
    """Following top-level imports from memkern/__init__.py leads to torch, numpy and the standard library."""
    import sys

    seen, queue, outside = set(), ["memkern"], set()
    while queue:
        name = queue.pop()
        if name in seen:
            continue
        seen.add(name)
        for imported in imports(MODULES[name], inside_functions=False):
            if is_module(imported):
                queue += [imported, *(parent for parent in [imported.rpartition(".")[0]] if is_module(parent))]
            elif imported.partition(".")[0] != "memkern":
                outside.add(imported.partition(".")[0])
    assert outside <= {"torch", "numpy"} | sys.stdlib_module_names
    assert {room(name) for name in seen} == {
        "memkern",
        "autodiff",
        "checks",
        "dispatch",
        "errors",
        "native",
        "nvrtc",
        "scores",
        "reference",
        "ops",
        "metrics",
        "transforms",
    }


# ---- one name per op ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", OPS)
def test_an_op_keeps_its_name_in_every_room(op):
    rows = {row.kind: row.record for row in ops.ROWS if row.name == op}
    places = ["memkern/reference/{op}.py", "python_tests/ops/test_{op}.py", "python_tests/agreement/ops/{op}.py",
              "bench/bench_{op}.py", "csrc/cpu/*/{op}.cpp"]  # fmt: skip
    if op in ops.ON_CUDA:
        places += ["csrc/cuda/{op}.cu", "csrc/cuda/{op}.cuh", "memkern/triton_kernels/{op}.py"]
    for place in places:
        assert list(ROOT.glob(place.format(op=op))), place.format(op=op)
    record = "".join(part.capitalize() for part in op.split("_"))
    assert record in rows.values()
    assert all(f"struct {name} " in (ROOT / "csrc/ops.h").read_text() for name in rows.values())


def test_every_row_of_the_table_has_kernels():
    assert {path.stem for path in (ROOT / "csrc/cuda").glob("*.cu")} == {*ops.ON_CUDA, "device"}
    stems = {path.stem for path in (ROOT / "csrc/cpu").glob("*/*.cpp")}
    assert stems == {*ops.ON_CPU, "kernel_table", "cpu_dispatch", "parallel"}


def test_no_reference_without_an_op():
    assert sorted(path.stem for path in (PACKAGE / "reference").glob("[!_]*.py")) == OPS
    assert memkern.reference.__all__ == sorted([*OPS, "alignment_backward"])


@pytest.mark.parametrize("op", OPS)
def test_the_parts_of_an_op_file_stand_in_one_order(op):
    text = (PACKAGE / "ops" / f"{op}.py").read_text()
    heads = [match[1].partition(":")[0] for match in re.finditer(r"^# ---- ([^-\n;]+)", text, re.MULTILINE)]
    heads = [head.strip() for head in heads]
    assert heads[:3] == ["schema and fake", "autograd", "backend table"]
    assert len(heads) == 4
    assert heads[3] in {"public function", "function"}
    assert (heads[3] == "public function") == hasattr(memkern, op)


# ---- kernels see the world through ops.h only -----------------------------------------------------------------------


def test_kernels_know_neither_torch_nor_python():
    for path in (ROOT / "csrc").rglob("*.*"):
        included = set(re.findall(r'#include [<"]([^>"]+)[>"]', path.read_text()))
        if not path.name.startswith(("bindings", "fields")):
            assert not [name for name in included if re.search("torch|ATen|c10|pybind|Python", name)], path
        threads = {"omp.h", "thread", "pthread.h", "future"} & included
        assert not threads or path.name == "parallel.cpp", f"{path}: the caller owns the threads, not {threads}"
    assert re.findall(r"#include <([^>]+)>", (ROOT / "csrc/ops.h").read_text()) == ["cstdint"]


def includes(path):
    """The files of csrc that a file of csrc includes."""
    names = re.findall(r'^#\s*include "([^"]+)"', path.read_text(), re.MULTILINE)
    beside = [(folder / name).resolve() for name in names for folder in (path.parent, ROOT / "csrc")]
    return {header for header in beside if header.exists()}


SOURCES = sorted(path for path in (ROOT / "csrc").rglob("*.*") if path.suffix in {".h", ".cpp", ".cu", ".cuh"})


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "csrc")))
def test_kernels_see_records_and_rules_only(path):
    """Of csrc's own files, and nothing of each other: csrc/cpu does not see csrc/cuda, nor the other way."""
    where = path.relative_to(ROOT / "csrc").parts
    shared = {"ops.h", "ops_table.h", "rules.h", "resize_filter.h"}
    if len(where) == 1:
        return
    for header in includes(path):
        to = header.relative_to(ROOT / "csrc").parts
        emulation = where[:2] == ("cuda", "host") and to == ("layout.h",)  # made as the bindings make it
        assert to[0] in shared or (len(to) > 1 and to[0] == where[0]) or emulation, f"{path}: {header}"


def test_no_header_includes_itself_on_any_way():
    def visit(path, above):
        assert path not in above, " -> ".join(each.name for each in [*above, path])
        if path not in seen:
            for header in includes(path):
                visit(header, [*above, path])
        seen.add(path)

    seen = set()
    for path in SOURCES:
        visit(path, [])


def test_no_build_trades_nan_for_speed():
    sources = [path.read_text() for path in (ROOT / "csrc").rglob("*.*")]
    settings = [
        line for text in sources for line in text.splitlines() if re.match(r"\s*(#\s*pragma|__attribute__)", line)
    ]
    flags = "\n".join([(ROOT / "CMakeLists.txt").read_text(), (ROOT / "setup.py").read_text(), *settings])
    for flag in ("fast-math", "Ofast", "finite-math", "unsafe-math", "associative-math", "use_fast_math"):
        assert flag not in flags


# ---- what is public -------------------------------------------------------------------------------------------------


def test_public_names_are_listed_and_nothing_else_is():
    assert memkern.__all__ == sorted(memkern.__all__)
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    bound = {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module.startswith("memkern")
        for alias in node.names
    }
    assert bound == set(memkern.__all__)


@pytest.mark.parametrize("name", memkern.__all__)
def test_public_names_are_documented(name):
    value = getattr(memkern, name)
    text = inspect.getdoc(value)
    assert text, f"memkern.{name} has no docstring"
    assert value.__module__.startswith("memkern.")
    if name.endswith("Stats"):
        assert "Attributes:" in text
        assert all(re.search(rf"^    {field}: ", text, re.MULTILINE) for field in value._fields)
        return
    if name.endswith(("Warning", "Error")):
        return
    assert "Example:" in text
    if inspect.isclass(value):
        assert "Args:" in text
        assert "Raises:" in text
        for method_name, method in inspect.getmembers(value, inspect.isfunction):
            assert method_name.startswith("_") or inspect.getdoc(method), f"{name}.{method_name} has no docstring"
    else:
        parameters = inspect.signature(value).parameters
        assert "Returns:" in text
        assert not parameters or "Raises:" in text
        for parameter in parameters.values():
            assert re.search(rf"^    {parameter.name}: ", text, re.MULTILINE), f"{name}: {parameter.name}"
            positional = {"z", "z_f", "alignment_f", "alignment_g", "z_g", "activations", "labels", "values", "images"}
            first = {"transform"} if name == "view_params" else set()
            assert (parameter.kind is parameter.KEYWORD_ONLY) == (parameter.name not in positional | first), (
                parameter.name
            )
    signature = inspect.signature(value.__init__ if inspect.isclass(value) else value)
    for parameter in signature.parameters.values():
        assert parameter.name == "self" or parameter.annotation is not inspect.Parameter.empty, parameter.name


# ---- size and side effects ------------------------------------------------------------------------------------------


def test_one_environment_variable():
    read = {}
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"}:
                read.setdefault(name, []).append(ast.unparse(node))
    assert read.pop("memkern.audit.process") == ["os.environ"]  # sets one of torch's, reads none
    assert 'os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")' in (PACKAGE / "audit/process.py").read_text()
    assert set(read) <= {"memkern.native", "memkern.dispatch"}, read
    text = (PACKAGE / "native.py").read_text() + (PACKAGE / "dispatch.py").read_text()
    variables = {"ISA_VARIABLE", "native.ISA_VARIABLE", "INTERPRETER_VARIABLE"}
    assert set(re.findall(r"environ(?:\.get)?[(\[]([^)\]]+)", text)) == variables
    assert memkern.native.ISA_VARIABLE == "MEMKERN_ISA"
    assert memkern.dispatch.INTERPRETER_VARIABLE == "TRITON_INTERPRET"  # Triton's own


STATEMENTS = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign, ast.Try, ast.If)


@pytest.mark.parametrize("name", [name for name in MODULES if room(name) not in {"__main__"}])
def test_an_import_only_defines(name):
    """At module level stand definitions and docstrings; in op files also the registrations with torch."""
    for node in ast.parse(MODULES[name].read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue
        if isinstance(node, ast.Expr) and room(name) == "ops":
            assert re.match(r"LIBRARY\.(define|impl)\(|torch\.library\.register_", ast.unparse(node)), ast.unparse(node)
            continue
        if isinstance(node, ast.If):
            assert ast.unparse(node.test) in {"TYPE_CHECKING", "__name__ == '__main__'"}, ast.unparse(node.test)
        assert isinstance(node, STATEMENTS), f"{name}: {ast.unparse(node)}"
