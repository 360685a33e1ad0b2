"""The driver of the mutation checks: what it makes of a file, what it keeps, and that it can fail."""

from __future__ import annotations

import importlib.util
import json
import sys

import mutants
import places
import pytest

OPERATORS = (mutants.Operator(r" < ", " <= ", "one too many"), mutants.Operator(r"\b1\b", "2", "two"))
SOURCE = "a = 1 < b < 1  # 1 < 2\nc = 1\n"


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source.py"
    path.write_text(SOURCE)
    return path


def run(monkeypatch, source, hunt, *arguments, equivalent=(), operators=OPERATORS):
    monkeypatch.setattr("sys.argv", ["mutants", *arguments])
    reviewed = source.with_name("equivalent.json")
    reviewed.write_text(json.dumps(equivalent))
    made = list(mutants.mutants_of(source, OPERATORS))
    results = source.with_name("results.json")
    return mutants.main(made, operators, hunt_mutants_only(hunt), lambda path: path, results, reviewed)


def hunt_mutants_only(hunt):
    return lambda mutant: "" if mutant.old == mutant.new else hunt(mutant)


def test_one_occurrence_at_a_time_and_no_comment(source, tmp_path):
    made = list(mutants.mutants_of(source, OPERATORS))
    assert [mutant.new for mutant in made] == [
        "a = 1 <= b < 1  # 1 < 2",
        "a = 1 < b <= 1  # 1 < 2",
        "a = 2 < b < 1  # 1 < 2",
        "a = 1 < b < 2  # 1 < 2",
        "c = 2",
    ]
    assert [mutant.line for mutant in mutants.mutants_of(source, OPERATORS, lines=[2])] == [2]
    copy = tmp_path / "copy"
    copy.mkdir()
    made[-1].plant(copy)
    assert (copy / "source.py").read_text() == SOURCE.replace("c = 1", "c = 2")
    assert source.read_text() == SOURCE


def test_a_survivor_fails_and_results_are_kept(source, monkeypatch, capsys):
    hunted = []

    def hunt(mutant):
        hunted.append(mutant)
        return "" if mutant.line == 2 else "values"

    assert run(monkeypatch, source, hunt) == 1
    assert "SURVIVED source.py:2 two: c = 2\n4 of 5 mutants found; 5 of all 5 looked at\n" in capsys.readouterr().out
    assert run(monkeypatch, source, hunt) == 1
    assert len(hunted) == 5
    assert run(monkeypatch, source, lambda mutant: "other", "--again") == 0
    source.write_text(SOURCE + "\n")
    assert run(monkeypatch, source, hunt) == 1
    assert len(hunted) == 10


def test_checks_that_fail_anyway(source, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["mutants"])
    made = list(mutants.mutants_of(source, OPERATORS))
    results, reviewed = source.with_name("results.json"), source.with_name("equivalent.json")
    assert mutants.main(made, OPERATORS, lambda mutant: "values", lambda path: path, results, reviewed) == 1
    out = capsys.readouterr().out
    assert "The checks fail on what is unchanged:\nsource.py:1 unchanged" in out
    assert "one too many" not in out


def entry(function, operator, n):
    return {"file": "source.py", "function": function, "operator": operator, "n": n, "why": "is not read"}


def test_what_is_equivalent_is_not_hunted(source, monkeypatch, capsys):
    hunt = lambda mutant: "" if mutant.line == 2 else "values"  # noqa: E731
    assert run(monkeypatch, source, hunt, equivalent=[entry("", "two", 3)]) == 0
    assert "4 of 4 mutants found; 5 of all 5 looked at" in capsys.readouterr().out
    for stale in [("", "two", 4), ("", "three", 3), ("f", "two", 3)]:
        assert run(monkeypatch, source, lambda mutant: "values", equivalent=[entry(*stale)]) == 1


def test_functions_tell_equivalent_mutants_apart(source, monkeypatch):
    source.write_text("def f():\n    c = 1\n\n\nclass G:\n    def f(self, a, b):\n        c = 1\n        d = a < b\n")
    hunt = lambda mutant: "" if mutant.line == 7 else "values"  # noqa: E731
    assert run(monkeypatch, source, hunt, equivalent=[entry("f", "two", 1)]) == 1
    assert run(monkeypatch, source, hunt, equivalent=[entry("G.f", "two", 1)]) == 0
    source.write_text(source.read_text().replace("c = 1", "other_name = 1"))
    assert run(monkeypatch, source, hunt, equivalent=[entry("G.f", "two", 1)]) == 0


CUDA = """
namespace memkern {
struct Tile {
  int rows;
  int size() const { return rows < 4 ? 1 : rows; }
};

template <class A>
__global__ void __launch_bounds__(256) kernel(const Tile tile, A* out) {
  if (tile.rows < 1) {
    out[1] = 0;
  }
}
}  // namespace memkern
"""


def test_functions_of_cuda_sources(tmp_path):
    path = tmp_path / "kernel.cuh"
    path.write_text(CUDA)
    made = [(mutant.function, mutant.what, mutant.n) for mutant in mutants.mutants_of(path, OPERATORS, comment="//")]
    kernel = [("kernel", "one too many", 1), ("kernel", "two", 1), ("kernel", "two", 2)]
    assert made == [("Tile.size", "one too many", 1), ("Tile.size", "two", 1), *kernel]


def cuda_mutants():
    from gpu import hunt_mutants

    return hunt_mutants.all_mutants(), hunt_mutants.OPERATORS, hunt_mutants.EQUIVALENT


def triton_mutants():
    pytest.importorskip("triton", reason="Triton is not installed")
    folder = places.ROOT / "python_tests" / "gpu_triton"
    spec = importlib.util.spec_from_file_location("triton_mutation", folder / "hunt_mutants.py")
    module = importlib.util.module_from_spec(spec)
    sys.path.append(str(folder))
    spec.loader.exec_module(module)
    return module.all_mutants(), module.OPERATORS, folder / "equivalent.json"


@pytest.mark.parametrize("made", [cuda_mutants, triton_mutants])
def test_reviewed_mutants_and_operators_are_those_of_the_kernels(made):
    """Otherwise an hour of hunting would end with it."""
    chosen, operators, equivalent = made()
    assert {operator.what for operator in operators} == {mutant.what for mutant in chosen}
    entries = json.loads(equivalent.read_text())
    same, stale = mutants.match_equivalent(chosen, entries)
    assert not stale
    assert len(same) == len(entries)


def test_an_operator_that_changes_nothing_fails(source, monkeypatch, capsys):
    operators = (*OPERATORS, mutants.Operator("==", "!=", "not equal"))
    assert run(monkeypatch, source, lambda mutant: "values", operators=operators) == 1
    assert "not equal: this operator changes nothing any more" in capsys.readouterr().out


def test_parts_of_a_run(source, monkeypatch, capsys):
    assert run(monkeypatch, source, lambda mutant: "values", "--minutes", "0") == 1
    assert "0 of 0 mutants found; 0 of all 5 looked at" in capsys.readouterr().out
    assert run(monkeypatch, source, lambda mutant: "values", "--every", "2", "--jobs", "2") == 0
    assert "3 of 3 mutants found; 3 of all 5 looked at" in capsys.readouterr().out
    assert run(monkeypatch, source, lambda mutant: "values", "--file", "other") == 1
