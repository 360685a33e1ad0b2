"""Registries: the files of a package are the records that there are."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType

import pytest

from memkern._util import registry


@dataclass(frozen=True)
class Fruit:
    name: str
    order: int = 0


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty package `fruits`, whose files see the class `Fruit`."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(sys.modules, "fruit_kind", sys.modules[__name__])
    folder = tmp_path / "fruits"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    yield folder
    registry.records.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "fruits"]:
        del sys.modules[name]


def fruits() -> ModuleType:
    return importlib.import_module("fruits")


def plant(folder: Path, file: str, record: str) -> None:
    (folder / f"{file}.py").write_text(f"from fruit_kind import Fruit\nFRUIT = {record}\n")


def test_the_files_are_the_records(package: Path) -> None:
    plant(package, "pear", "Fruit('pear', 1)")
    plant(package, "fig", "Fruit('fig', 2)")
    plant(package, "apple", "Fruit('apple', 2)")
    (package / "_helpers.py").write_text("raise AssertionError('not a file of the registry')")
    assert [each.name for each in registry.records(fruits(), "FRUIT", Fruit)] == ["apple", "fig", "pear"]
    assert [each.name for each in registry.records(fruits(), "FRUIT", Fruit, order="order")] == ["pear", "apple", "fig"]
    assert registry.records(fruits(), "FRUIT", Fruit) is registry.records(fruits(), "FRUIT", Fruit)


def test_two_files_with_one_name_are_an_error(package: Path) -> None:
    plant(package, "a", "Fruit('pear')")
    plant(package, "b", "Fruit('pear')")
    with pytest.raises(RuntimeError, match=r"^Expected one Fruit named 'pear', got fruits\.a and fruits\.b$"):
        registry.records(fruits(), "FRUIT", Fruit)


@pytest.mark.parametrize(("record", "got"), [("'pear'", "str"), ("Fruit", "type")])
def test_a_file_without_a_record_is_an_error(package: Path, record: str, got: str) -> None:
    plant(package, "a", record)
    with pytest.raises(RuntimeError, match=rf"^Expected fruits\.a to bind FRUIT to a Fruit, got {got};"):
        registry.records(fruits(), "FRUIT", Fruit)
    with pytest.raises(RuntimeError, match=r"^Expected fruits\.a to bind OTHER to a Fruit, got NoneType"):
        registry.records(fruits(), "OTHER", Fruit)


def test_other_packages_add_records_through_entry_points(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(package, "pear", "Fruit('pear')")
    plant(package, "_plum", "Fruit('plum')")
    plugin = EntryPoint("plum", "fruits._plum:FRUIT", "fruits")
    monkeypatch.setattr(registry, "entry_points", lambda group: [plugin] if group == "fruits" else [])
    assert [each.name for each in registry.records(fruits(), "FRUIT", Fruit)] == ["pear"]
    assert [each.name for each in registry.records(fruits(), "FRUIT", Fruit, plugins="fruits")] == ["pear", "plum"]
