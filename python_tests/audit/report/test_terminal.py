"""What an audit shows in a terminal: bars, and tables that cut off no number."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from io import StringIO
from pathlib import Path

import audit_helpers
import audit_runs
import pytest
from rich.console import Console
from torch import nn

from memkern import cli
from memkern.audit.pipeline import run_audit
from memkern.audit.report import terminal as summary

LAYERS = {"layer1.0.bn1": 64, "backbone.blocks.11.attn.proj": 256}


def test_progress_on_a_terminal(tmp_path: Path) -> None:
    text = StringIO()
    console = Console(file=text, force_terminal=True, width=100)
    run_audit(audit_helpers.options(tmp_path), progress=summary.Progress(console))
    assert "measure" in text.getvalue()
    assert "images/s" in text.getvalue()
    assert "12/12" in text.getvalue()


def test_progress_is_shown_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    given = summary.Progress(None)
    assert summary.shown(given) is given
    assert summary.shown(None).console is None
    assert summary.shown(True).console is not None
    notebook = Console(file=StringIO(), force_jupyter=True)
    began = []
    monkeypatch.setattr("rich.progress.Progress.start", lambda bars: began.append(bars))
    with summary.Progress(notebook).task("measure", 3) as step:
        step(1)
    assert began


@pytest.mark.parametrize("width", [60, 80, 200])
def test_tables_cut_off_nothing(tmp_path: Path, width: int) -> None:
    run = audit_runs.write(tmp_path / "run", layers=LAYERS, thumbs=False)
    text = StringIO()
    summary.show_run(run, Console(file=text, width=width))
    shown = text.getvalue()
    assert "…" not in shown
    for head in ("LayerMem", "UnitMem", "dead", *(["ClassMem"] if width >= 80 else [])):
        assert head in shown
    for row in run.layers.to_pylist():
        for name in ("layermem_candidates", "unitmem_mean", "unitmem_max", "classmem_mean"):
            assert f"{row[name]:.3f} " in shown
    rows = [line for line in shown.splitlines() if line.startswith(" ")]
    assert max(map(len, rows)) <= width


@pytest.mark.parametrize("columns", ["40", "80"])
def test_names_are_whole_in_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    from safetensors.torch import save_file

    name = "a_backbone_with_a_name_that_is_longer_than_half_of_an_ordinary_terminal"
    code = tmp_path / "named.py"
    code.write_text(
        "from collections import OrderedDict\nfrom audit_helpers import Net\nfrom torch import nn\n"
        f"def build():\n    return nn.Sequential(OrderedDict({name}=Net()))\n"
    )
    files = [str(tmp_path / f"{role}.safetensors") for role in "fg"]
    for seed, file in enumerate(files):
        save_file(nn.Sequential(OrderedDict({name: audit_helpers.net(seed)})).state_dict(), file)
    given = replace(audit_helpers.options(tmp_path), encoder=f"py:{code}:build", weights=files[0], reference=files[1])
    monkeypatch.setenv("COLUMNS", columns)
    assert cli.main(audit_helpers.arguments(given)) == 0
    assert f" {name}.conv " in capsys.readouterr().out
