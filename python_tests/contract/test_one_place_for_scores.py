"""The scores of a run are computed in one place: audit/measure/scores.py."""

import ast
from pathlib import Path

import memkern

PACKAGE = Path(memkern.__file__).resolve().parent
FORMULAS = {"sslmem_score", "selectivity_score", "delta_layermem", "sublayer_deltas", "merge_peaks"}
CALLERS = {
    "audit/measure/scores.py",
    "audit/run_folder/arrays.py",  # SSLMem as a share, of the alignments that a stored table holds
}


def nodes(path):
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def name_of(node):
    return getattr(node, "attr", getattr(node, "id", ""))


def test_the_audit_computes_scores_in_one_file():
    callers = {
        str(path.relative_to(PACKAGE))
        for path in (PACKAGE / "audit").rglob("*.py")
        for node in nodes(path)
        if isinstance(node, ast.Call) and name_of(node.func) in FORMULAS
    }
    assert callers == CALLERS
