"""The driver of the mutation checks: what it makes of a file, what it keeps, and that it can fail."""

from __future__ import annotations

import json

import mutants
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


def test_what_is_equivalent_is_not_hunted(source, monkeypatch, capsys):
    entry = {"file": "source.py", "old": "c = 1", "new": "c = 2", "why": "c is not read"}
    assert run(monkeypatch, source, lambda mutant: "" if mutant.line == 2 else "values", equivalent=[entry]) == 0
    assert "4 of 4 mutants found; 5 of all 5 looked at" in capsys.readouterr().out
    assert run(monkeypatch, source, lambda mutant: "values", equivalent=[entry | {"new": "c = 3"}]) == 1


def test_the_next_line_tells_equivalent_mutants_apart(source, monkeypatch):
    source.write_text("c = 1\nfirst(a < b)\nc = 1\nsecond()\n")
    entry = {"file": "source.py", "old": "c = 1", "new": "c = 2", "why": "c is not read"}
    assert run(monkeypatch, source, lambda mutant: "values", equivalent=[entry]) == 1  # which one?
    hunt = lambda mutant: "" if mutant.line == 3 else "values"  # noqa: E731
    assert run(monkeypatch, source, hunt, equivalent=[entry | {"next": "second()"}]) == 0


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
