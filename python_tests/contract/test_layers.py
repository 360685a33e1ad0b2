"""Who imports whom: the contracts of pyproject.toml, imports by string, and that a violation of each is found.

import-linter reads the contracts; `make lint` runs them too. What it cannot see are modules named in strings.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import memkern

if sys.version_info >= (3, 11):
    import tomllib
else:
    pytest.skip("tomllib comes with Python 3.11", allow_module_level=True)

PACKAGE = Path(memkern.__file__).resolve().parent
ROOT = PACKAGE.parent
if not (ROOT / "pyproject.toml").is_file():
    pytest.skip("an installed package has no source tree around it", allow_module_level=True)
pytest.importorskip("importlinter", reason="import-linter is not installed (memkern[dev])")
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
RANKS = {
    f"{container}.{module}": rank
    for contract in CONTRACTS
    if contract["type"] == "layers"
    for container in contract["containers"]
    for rank, layer in enumerate(contract["layers"])
    for module in layer.split(" | ")
}
"""Module -> its layer within its container; the first is the highest."""


def broken_contracts(root: Path) -> str:
    """What import-linter finds in a tree; "" if every contract is kept."""
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
    done = subprocess.run(
        [*command, "--no-cache"], cwd=root, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(root)}
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def modules(root: Path) -> dict[str, Path]:
    found = (root / "memkern").rglob("*.py")
    return {".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path for path in found}


def named_in_strings(path: Path, known: dict[str, Path]) -> Iterator[str]:
    """The modules that strings of a file name, whole or as the beginning of an f-string; docstrings left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    prose = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in prose:
            name = node.value.partition(":")[0].rstrip(".")
            if name.startswith("memkern.") and name in known:
                yield name


def runs_up(importer: str, imported: str) -> bool:
    """Whether the imported module lies in a higher layer, or beside the importer's, in any container."""
    a, b = importer.split("."), imported.split(".")
    for depth in range(2, min(len(a), len(b)) + 1):
        mine, other = ".".join(a[:depth]), ".".join(b[:depth])
        if mine != other:
            return mine in RANKS and other in RANKS and RANKS[other] <= RANKS[mine]
    return False


def upward_strings(root: Path) -> list[str]:
    known = modules(root)
    return [
        f"{name} names {other}"
        for name, path in known.items()
        for other in named_in_strings(path, known)
        if runs_up(name, other)
    ]


def test_the_contracts_are_kept() -> None:
    assert not broken_contracts(ROOT)


def test_no_string_names_a_higher_layer() -> None:
    assert not upward_strings(ROOT)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The package's Python files and pyproject.toml, to plant violations in."""
    shutil.copytree(PACKAGE, tmp_path / "memkern", ignore=shutil.ignore_patterns("*.so", "__pycache__", "assets"))
    (tmp_path / "memkern/lab/assets").mkdir()
    (tmp_path / "memkern/lab/assets/__init__.py").touch()
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def plant(root: Path, module: str, line: str) -> None:
    path = modules(root)[module]
    path.write_text(path.read_text(encoding="utf-8") + f"\n\n{line}\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("module", "line", "message"),
    [
        ("memkern.scores", "from memkern.metrics import units", "Data flows one way BROKEN"),
        ("memkern.audit.taps.tap", "from memkern.audit.measure import shard", "An audit flows one way BROKEN"),
        (
            "memkern.audit.run_folder.schema",
            "def late():\n    from memkern.audit.run_folder import reader",
            "No cycles are allowed in memkern.audit.run_folder",
        ),
        (
            "memkern.ops.unit_means",
            "if TYPE_CHECKING:\n    from memkern.metrics.units import UnitMem",
            "Data flows one way BROKEN",
        ),
    ],
    ids=["upwards", "upwards in audit", "a cycle inside a package", "for types alone"],
)
def test_a_planted_import_is_found(copy: Path, module: str, line: str, message: str) -> None:
    plant(copy, module, line)
    assert message in broken_contracts(copy)


def test_a_planted_string_is_found(copy: Path) -> None:
    assert not upward_strings(copy)
    plant(copy, "memkern.audit.measure.plan", 'LATER = "memkern.lab.cli:run"')
    assert upward_strings(copy) == ["memkern.audit.measure.plan names memkern.lab.cli"]


def test_a_module_without_a_layer_is_found(copy: Path) -> None:
    (copy / "memkern/newcomer.py").touch()
    assert "newcomer" in broken_contracts(copy)
