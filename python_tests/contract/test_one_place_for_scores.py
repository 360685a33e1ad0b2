"""Each score is computed in one place: the formulas in memkern/scores.py, those of a run in audit/measure/scores.py."""

import ast
from pathlib import Path

import memkern

PACKAGE = Path(memkern.__file__).resolve().parent
KERNELS = {"reference", "triton_kernels"}  # the oracles and the kernels themselves

FORMULAS = {"sslmem_score", "selectivity_score", "delta_layermem", "sublayer_deltas", "merge_peaks"}
CALLERS = {
    "audit/measure/scores.py",
    "audit/run_folder/arrays.py",  # SSLMem as a share, of the alignments that a stored table holds
}


def nodes(path):
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def name_of(node):
    return getattr(node, "attr", getattr(node, "id", ""))


def is_dead_unit_rule(node):
    """`peak == 0`, in whatever object the peak lies."""
    return (
        isinstance(node, ast.Compare)
        and isinstance(node.ops[0], ast.Eq)
        and name_of(node.left) == "peak"
        and isinstance(node.comparators[0], ast.Constant)
        and node.comparators[0].value == 0
    )


def test_the_rule_of_dead_units_stands_once():
    found = [
        str(path.relative_to(PACKAGE))
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.relative_to(PACKAGE).parts[0] not in KERNELS
        for node in nodes(path)
        if is_dead_unit_rule(node)
    ]
    assert found == ["scores.py"]


def test_the_audit_computes_scores_in_one_file():
    callers = {
        str(path.relative_to(PACKAGE))
        for path in (PACKAGE / "audit").rglob("*.py")
        for node in nodes(path)
        if isinstance(node, ast.Call) and name_of(node.func) in FORMULAS
    }
    assert callers == CALLERS
