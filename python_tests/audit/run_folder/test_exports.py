"""Exports: each is a file, and no list names them."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import audit_helpers
import pytest

from memkern import cli
from memkern._util.registry import records
from memkern.audit.pipeline import run_audit
from memkern.audit.run_folder import exports

NEW = """
from memkern.audit.run_folder.export import Export


def write(run):
    path = run.folder / "new.txt"
    path.write_text(run.output)
    return [path]


EXPORT = Export("new", "write a new file too", order=15, packages=(("json", "json", "audit"),), write=write)
"""


def test_a_new_export_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its option stands where its number says, in `memkern audit` and `memkern merge`, and it is written."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "new.py").write_text(NEW)
    monkeypatch.setattr(exports, "__path__", [*exports.__path__, str(tmp_path / "code")])
    records.cache_clear()
    try:
        for command in ("audit", "merge"):
            with pytest.raises(SystemExit):
                cli.main([command, "--help"])
            text = capsys.readouterr().out
            assert text.index("--mat ") < text.index("--new ") < text.index("--fiftyone ")
            assert "write a new file too" in text
        given = audit_helpers.options(tmp_path)
        line = audit_helpers.arguments(given)
        assert cli.main([*line, "--new", "--shard", "1/1"]) == 0
        assert "`memkern merge RUN… --out RUN --new`" in capsys.readouterr().out
        assert cli.main(["merge", str(given.out), "--out", str(tmp_path / "merged"), "--new"]) == 0
        assert (tmp_path / "merged" / "new.txt").read_text() == "output"
    finally:
        records.cache_clear()
        sys.modules.pop(f"{exports.__name__}.new", None)


def test_a_name_that_no_export_has(tmp_path: Path) -> None:
    given = replace(audit_helpers.options(tmp_path), exports=("matlab",))
    with pytest.raises(ValueError, match="`exports` to be one of 'mat', 'fiftyone', got 'matlab'"):
        run_audit(given)
    assert not given.out.exists()
