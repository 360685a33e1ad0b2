"""RUN folders that released versions have written: today's reader gives what they hold, and reports are made of them.

Each folder of `frozen/` is a case: `command.txt` says how it was made, `columns.json` what its tables hold.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

for package in ("pyarrow", "safetensors", "jinja2", "scipy"):
    pytest.importorskip(package, reason="memkern[audit] is not installed")

from memkern.audit import compare, read_run, write_report  # noqa: E402

FROZEN = Path(__file__).resolve().parents[2] / "frozen"
CASES = sorted(path.name for path in FROZEN.iterdir())


def expected(case: str) -> dict[str, dict[str, list[Any]]]:
    found: dict[str, dict[str, list[Any]]] = json.loads((FROZEN / case / "columns.json").read_text())
    return found


@pytest.mark.parametrize("table", ["samples", "units", "layers"])
@pytest.mark.parametrize("case", CASES)
def test_every_column_is_read_as_it_was_written(case: str, table: str) -> None:
    read, written = getattr(read_run(FROZEN / case), table), expected(case)[table]
    assert list(read.column_names) == list(written)
    for name, values in written.items():
        assert repr(read[name].to_pylist()) == repr(values), name  # repr: a NaN equals a NaN, -0.0 is not 0.0


@pytest.mark.parametrize("case", CASES)
def test_every_state_is_read_as_it_was_written(case: str) -> None:
    read, written = read_run(FROZEN / case).state, expected(case)["state"]
    assert sorted(read) == sorted(written)
    for name, values in written.items():
        assert repr(read[name].flatten().tolist()) == repr(values), name


@pytest.mark.parametrize("case", CASES)
def test_a_report_is_made_of_it(case: str, tmp_path: Path) -> None:
    shutil.copytree(FROZEN / case, tmp_path / case)
    text = write_report(tmp_path / case, images=False).read_text()
    for name in expected(case)["layers"]["layer"]:
        assert name in text


def test_it_can_be_compared() -> None:
    comparison = compare(FROZEN / "labels", FROZEN / "labels")
    assert comparison.images is not None
    assert (comparison.n_images, comparison.images.overlap, comparison.only_a) == (12, 1.0, [])
    assert [layer.name for layer in comparison.layers] == expected("labels")["layers"]["layer"]
