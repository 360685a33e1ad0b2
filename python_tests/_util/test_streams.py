"""A command whose reader goes away is complete all the same; control characters in names reach no terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import audit_helpers
import pytest

from memkern import cli
from memkern._util.text import first_of, printable
from memkern.audit import read_run


@pytest.mark.field("run", "a closed pipe (`| head -1`)")
@pytest.mark.parametrize("reader", ["true"])
def test_a_closed_pipe_does_not_fail_an_audit(reader: str, tmp_path: Path) -> None:
    given = audit_helpers.options(tmp_path)
    command = " ".join(f"'{each}'" for each in [sys.executable, "-m", "memkern", *audit_helpers.arguments(given)])
    done = subprocess.run(
        ["bash", "-c", f"{command} | {reader}; exit ${{PIPESTATUS[0]}}"], capture_output=True, text=True, timeout=120,
        env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert len(read_run(given.out).samples) == 12


@pytest.mark.parametrize("streams", [">&- 2>&-"])
def test_closed_streams(streams: str, tmp_path: Path) -> None:
    command = f"'{sys.executable}' -m memkern doctor {streams}"
    done = subprocess.run(
        ["bash", "-c", command], timeout=120, check=False, env={**os.environ, "PYTHONPATH": ":".join(sys.path)}
    )
    assert done.returncode == 0


BAD = "\x1b[31mred\x1b]0;owned\x07\u202e"


@pytest.mark.field("run", "control codes in names")
def test_names_in_errors_and_notes_are_written_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    given = audit_helpers.options(tmp_path)
    path = Path(given.weights[0])
    save_file({**load_file(path), BAD: torch.ones(1)}, path)
    assert cli.main(audit_helpers.arguments(given)) == 0
    broken = tmp_path / "data" / "class0" / f"{BAD}.png"
    broken.write_bytes(b"x")
    line = audit_helpers.arguments(given)
    line[line.index("--out") + 1] = str(tmp_path / f"other{BAD}")
    assert cli.main(line) == 1
    assert cli.main(["report", str(tmp_path / BAD)]) == 1
    found = capsys.readouterr()
    for text in (found.out, found.err):
        assert r"\x1b[31mred\x1b]0;owned\x07\u202e" in text
        assert text.replace("\n", "").isprintable()


def test_printable() -> None:
    assert printable("größe 日本 a/b.png") == "größe 日本 a/b.png"
    assert printable("a\n\tb") == r"a\x0a\x09b"
    assert printable(os.fsdecode(b"\xff.png")) == r"\xff.png"
    assert printable("\ud800\u2028") == r"\ud800\u2028"
    assert first_of(["a\x1bb", "c"], most=1) == r"a\x1bb and 1 more"
