"""Stored rows of the CPU benchmark are of the kernels that stand here, and of one commit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
if not (ROOT / "bench").is_dir():
    pytest.skip("an installed package has no source tree around it", allow_module_level=True)

from bench import sources  # noqa: E402

RESULTS = {
    path.stem: found["cases"]
    for path in sorted((ROOT / "bench" / "results").glob("*.json"))
    if "cases" in (found := json.loads(path.read_text())) and found["cases"][:1]
}
ON_CPU = {name: cases for name, cases in RESULTS.items() if cases[0].get("backend", "cpu") == "cpu"}


@pytest.mark.parametrize("machine", ON_CPU)
def test_rows_are_of_these_kernels(machine):
    """A file whose rows have no digests is older than they are; the tables name its version and commits."""
    rows = [case for case in ON_CPU[machine] if "sources" in case]
    if not rows:
        pytest.skip(f"{machine}.json is older than the digests of kernels; `make bench` makes it anew")
    assert len(rows) == len(ON_CPU[machine])
    old = {case["op"] for case in rows if case["sources"] != sources.digest(case["op"])}
    assert not old, f"kernels have changed since these were timed; run `make bench` again, or remove their rows: {old}"
    assert len({case["commit"] for case in rows}) == 1


def test_a_changed_kernel_changes_the_digest_and_a_comment_does_not(tmp_path, monkeypatch):
    before = sources.digest("alignment")
    assert before == sources.digest("alignment")
    assert before != sources.digest("alignment forward+backward")
    for path in (ROOT / "csrc").rglob("*"):
        if path.is_file():
            copy = tmp_path / path.relative_to(ROOT / "csrc")
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    monkeypatch.setattr(sources, "CSRC", tmp_path)
    assert sources.digest("alignment") == before
    header = tmp_path / "cpu" / "simd" / "simd.h"
    header.write_text("// a remark\n" + header.read_text())
    assert sources.digest("alignment") == before
    header.write_text(header.read_text() + "\ninline int more() { return 1; }\n")
    assert sources.digest("alignment") != before
    with pytest.raises(ValueError, match="'no op'"):
        sources.digest("no op")
