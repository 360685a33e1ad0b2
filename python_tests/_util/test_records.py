"""Records: what is written comes back, and what does not fit is named with its place and the nearest field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pytest

from memkern._util.records import Json, Record
from memkern.errors import MemkernError, PlanError, RunFolderError
from memkern.transforms import ViewSpec


class Edge(NamedTuple):
    start: str
    end: str


@dataclass(frozen=True)
class Part(Record):
    name: str
    shape: tuple[int, ...]
    weight: float | None = None


def _renamed(fields: dict[str, Json]) -> dict[str, Json]:
    return {"named" if key == "labelled" else key: value for key, value in fields.items()}


def _with_edges(fields: dict[str, Json]) -> dict[str, Json]:
    return {**fields, "edges": []}


@dataclass(frozen=True)
class Whole(Record):
    FORMAT: ClassVar[str] = "memkern-test"
    VERSION: ClassVar[int] = 3
    UPGRADES: ClassVar[Mapping[int, Any]] = {1: _renamed, 2: _with_edges}

    parts: tuple[Part, ...]
    pair: tuple[int, str]
    edges: tuple[Edge, ...]
    spec: ViewSpec
    named: Mapping[str, float]
    free: Mapping[str, object]
    flag: bool = True


WHOLE = Whole(
    parts=(Part("a", (1, 2)), Part("b", (), 0.5)),
    pair=(3, "c"),
    edges=(Edge("a", "b"),),
    spec=ViewSpec(flip=0.5, size=(4, 6)),
    named={"x": 1.0, "y": 2},
    free={"any": [1, {"thing": None}]},
)


def as_json(**changes: Any) -> dict[str, Any]:
    return {**WHOLE.to_json(), **changes}


def message(value: object, kind: type[Record] = Whole) -> str:
    with pytest.raises(kind.ERROR) as error:
        kind.from_json(value, "file.json")
    return str(error.value)


def test_what_is_written_comes_back() -> None:
    written = WHOLE.to_json()
    assert list(written)[:3] == ["format", "parts", "pair"], "in the order of the fields"
    assert written["format"] == "memkern-test-3"
    assert written["parts"] == [
        {"name": "a", "shape": [1, 2], "weight": None},
        {"name": "b", "shape": [], "weight": 0.5},
    ]
    assert Whole.from_json(written, "file.json") == WHOLE
    assert isinstance(Whole.from_json(written, "file.json").edges[0], Edge)
    del written["flag"]
    assert Whole.from_json(written, "file.json") == WHOLE, "a field with a default may be left out"


def test_a_whole_number_is_a_number_and_stays_as_it_was() -> None:
    found = Whole.from_json(WHOLE.to_json(), "file.json").named
    assert found == {"x": 1.0, "y": 2}
    assert isinstance(found["y"], int)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"part": 1}, "FILE has `part`, which a Whole does not know; did you mean `parts` or `pair`?"),
        ({"zzz": 1}, "FILE has `zzz`, which a Whole does not know; its fields are parts, pair, edges, spec"),
        ({"parts": [{"name": "a", "shap": []}]},
         "`parts.0` of FILE has `shap`, which a Part does not know; did you mean `shape`?"),
        ({"parts": [{"name": "a"}]}, "`parts.0` of FILE lacks `shape`, which every Part has"),
        ({"parts": [{"name": 1, "shape": []}]}, "Expected `parts.0.name` of FILE to be text, got 1"),
        ({"parts": [{"name": "a", "shape": [True]}]},
         "Expected `parts.0.shape.0` of FILE to be a whole number, got True"),
        ({"parts": [{"name": "a", "shape": [], "weight": "x"}]},
         "Expected `parts.0.weight` of FILE to be a number, got 'x'"),
        ({"parts": 3}, "Expected `parts` of FILE to be a list of another length or kind, got 3"),
        ({"pair": [1]}, "Expected `pair` of FILE to be a list of another length or kind, got [1]"),
        ({"flag": 1}, "Expected `flag` of FILE to be true or false, got 1"),
        ({"named": {"x": None}}, "Expected `named.x` of FILE to be a number, got None"),
        ({"edges": [["a", 2]]}, "Expected `edges.0.1` of FILE to be text, got 2"),
        ({"spec": {"flip": 2.0}}, "Expected `spec` of FILE to hold a ViewSpec: "),
        ({"format": "memkern-test-4"},
         "Expected FILE to have the format 'memkern-test-3' or an earlier one, got 'memkern-test-4', written by a "
         "later memkern; upgrade memkern to read it"),
        ({"format": "other-3"}, "Expected FILE to have the format 'memkern-test-3', got 'other-3'"),
        ({"format": None}, "Expected FILE to have the format 'memkern-test-3', got None"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(changes: dict[str, Any], text: str) -> None:
    assert message(as_json(**changes)).replace("file.json", "FILE").startswith(text)


def test_a_missing_field_and_another_kind_of_file() -> None:
    value = WHOLE.to_json()
    del value["pair"]
    assert message(value) == "file.json lacks `pair`, which every Whole has"
    assert message([1]) == "Expected file.json to have the format 'memkern-test-3', got 'list'"
    assert message(7, Part) == "Expected file.json to hold the fields of a Part, got 7"


def test_older_versions_are_brought_up_step_by_step() -> None:
    value = as_json(format="memkern-test-1", labelled={"x": 1.0, "y": 2}, edges=None)
    del value["named"], value["edges"]
    found = Whole.from_json(value, "file.json")
    assert (found.named, found.edges) == (WHOLE.named, ())
    value = as_json(format="memkern-test-2")
    assert Whole.from_json(value, "file.json").edges == ()


def test_the_error_is_the_records_own() -> None:
    @dataclass(frozen=True)
    class Own(Record):
        ERROR: ClassVar[type[MemkernError]] = PlanError

    with pytest.raises(PlanError):
        Own.from_json({"x": 1}, Path("file.json"))
    with pytest.raises(RunFolderError):
        Part.from_json({"x": 1}, Path("file.json"))


def test_only_what_json_holds_is_written() -> None:
    with pytest.raises(TypeError, match="Expected what JSON can hold, got set"):
        Part("a", {1}).to_json()  # type: ignore[arg-type]
