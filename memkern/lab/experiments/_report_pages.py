"""Report pages of experiments: a parquet table, a figure, and a page for people."""

from __future__ import annotations

import math
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from memkern._util.files import read_json, replace_atomically, write_json
from memkern._util.optional_imports import require
from memkern.errors import DataError
from memkern.lab.encoder_pairs import versions
from memkern.lab.experiments._catalogue import implemented
from memkern.lab.experiments._context import ExperimentContext
from memkern.lab.experiments._experiment import RULE, Experiment, Result, Row, p_value, verdict

MOST_ROWS = 60
"""Longer tables stand in the parquet file only; their first rows are shown."""


def write(
    experiment: Experiment, result: Result, context: ExperimentContext, out: Path, *, command: str, seconds: float
) -> list[Path]:
    """Writes `ID.parquet`, `ID.json` (findings and provenance), `ID.png` if there is a figure, and `ID.md`.

    Args:
        experiment: What was run.
        result: What came out.
        context: What it ran on.
        out: Folder to write to.
        command: The command line that makes these files.
        seconds: Wall time of the run.

    Returns:
        The files, the page last.

    Raises:
        ValueError: If the result's columns or findings are not those that the experiment announces.
        ImportError: If pyarrow is missing.
    """
    unknown = {column for row in result.rows for column in row} - set(experiment.columns)
    if unknown or set(result.effects) != set(experiment.findings):
        raise ValueError(f"Expected the announced columns and findings, got {unknown or sorted(result.effects)}")
    stem = out / experiment.id
    files = [_parquet(experiment, result, stem.with_suffix(".parquet"))]
    if result.figure is not None:
        files.append(stem.with_suffix(".png"))
        with replace_atomically(files[-1]) as part:
            result.figure.savefig(part, dpi=100)
    findings = {
        name: {
            "effects": values,
            "p": None if math.isnan(p_value(values)) else p_value(values),
            "verdict": verdict(values),
        }
        for name, values in result.effects.items()
    }
    preset = asdict(context.preset)
    note = {"id": experiment.id, "command": command, "preset": preset, "findings": findings, "encoders": context.used}
    write_json(
        stem.with_suffix(".json"),
        note | {"made_with": versions(), "hardware": hardware(context.device), "seconds": round(seconds, 1)},
    )
    files.append(stem.with_suffix(".json"))
    with replace_atomically(stem.with_suffix(".md")) as part:
        part.write_text(_page(experiment, result, context, command, seconds), encoding="utf-8")
    return [*files, stem.with_suffix(".md")]


def hardware(device: str) -> str:
    """Says what a run used: the name of its GPU and torch's CUDA, or the machine's architecture."""
    if torch.device(device).type != "cuda":
        return f"a CPU ({platform.machine()})"
    return f"one {torch.cuda.get_device_name(device)} (CUDA {torch.version.cuda})"


def _parquet(experiment: Experiment, result: Result, path: Path) -> Path:
    pyarrow, parquet = require("pyarrow", "pyarrow", extra="lab"), require("pyarrow.parquet", "pyarrow", extra="lab")
    columns = {name: [row.get(name) for row in result.rows] for name in experiment.columns}
    with replace_atomically(path) as part:
        parquet.write_table(pyarrow.table(columns), part)
    return path


def _page(experiment: Experiment, result: Result, context: ExperimentContext, command: str, seconds: float) -> str:
    preset, made = context.preset, versions()
    taken = sorted({origin for origin in context.used.values() if origin != "trained"})
    made_by = "python -m memkern.lab.encoder_pairs --seeds 0 1 2 --out PAIRS"
    reused = f" (PAIRS: made by `{made_by}`)" if context.reuse else ""
    trained = sum(origin == "trained" for origin in context.used.values())
    parts = [
        f"# {experiment.id}: {experiment.title}",
        f"Makes {', '.join(experiment.covers)}. Inputs: {experiment.inputs}.",
        f"```\n{command}\n```",
        f"Preset `{preset.name}`: {preset.data}, seeds {list(preset.seeds)}, {preset.n_views} views per image"
        + (f", {preset.sizes.shared}/{preset.sizes.candidate}/{preset.sizes.candidate}/{preset.sizes.extra} shared/"
           "candidate/independent/extra images per class" if preset.sizes else ", the published split")
        + f". Encoders: {trained} trained for this page or found in its cache"
        + (f", others are {' and '.join(taken)}{reused}" if taken else "")
        + f". Run in {seconds:.0f} s with memkern {made['memkern']}, torch {made['torch']}, "
        + f"on {hardware(context.device)}.",
        "## Findings",
        _table([
            {"finding": experiment.findings[name], "each seed": ", ".join(_shown(value) for value in values),
             "p": _shown(p_value(values)), "verdict": f"**{verdict(values)}**"}
            for name, values in result.effects.items()
        ]),
        RULE,
        *result.notes,
        "## Our numbers",
        *([f"![{experiment.title}]({experiment.id}.png)"] if result.figure is not None else []),
        _table(result.rows[:MOST_ROWS], experiment.columns),
        *([f"The first {MOST_ROWS} of {len(result.rows)} rows; all are in `{experiment.id}.parquet`."]
          if len(result.rows) > MOST_ROWS else []),
        "## The paper's numbers",
        _table(experiment.published) if experiment.published else "No numbers of this experiment are known here.",
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


REMARKS = "remarks.json"
"""File beside the pages: id of an experiment -> what a person says about its findings."""


def write_index(folder: Path) -> Path:
    """Writes `index.md`, one table per experiment whose page lies in a folder.

    Each line has a finding of the paper, ours by its effects, and the verdict; what `REMARKS` says stands below.

    Args:
        folder: Folder of the pages.

    Returns:
        The page.

    Raises:
        DataError: If there is no page.
    """
    known = {name: found for name, found in implemented().items() if (folder / f"{name}.json").exists()}
    if not known:
        raise DataError(f"Expected pages of `memkern lab run` in {folder}, got none")
    remarks = read_json(folder / REMARKS) if (folder / REMARKS).exists() else {}
    notes = {name: read_json(folder / f"{name}.json") for name in known}
    verdicts = [finding["verdict"] for note in notes.values() for finding in note["findings"].values()]
    counts = ", ".join(f"{verdicts.count(name)} {name}" for name in ("holds", "does not hold", "too small to tell"))
    parts = [
        "# Results",
        *([remarks[""]] if "" in remarks else []),
        f"{len(verdicts)} findings of {len(known)} experiments: {counts}.",
        RULE,
    ]
    for name, experiment in sorted(known.items(), key=lambda item: _order(item[1])):
        note = notes[name]
        parts += [
            f"## {', '.join(experiment.covers)}: {experiment.title}",
            f"`{note['command']}` on {note.get('hardware', 'a CPU')}, {note['seconds']:.0f} s; [page]({name}.md)",
            _table([
                {"the paper found": experiment.findings[finding],
                 "here, each seed (positive: as the paper found)": ", ".join(_shown(value) for value in it["effects"]),
                 "verdict": f"**{it['verdict']}**"}
                for finding, it in note["findings"].items()
            ]),
            *([remarks[name]] if name in remarks else []),
        ]  # fmt: skip
    parts.append("```{toctree}\n:hidden:\n:glob:\n\n*\n```")
    with replace_atomically(folder / "index.md") as part:
        part.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return folder / "index.md"


def _order(experiment: Experiment) -> tuple[int, int, str]:
    """P1-a to P1-j, then tables and figures by their numbers."""
    kind, _, number = experiment.id.partition("-")
    digits = "".join(letter for letter in number if letter.isdigit())
    return ("p1", "table", "figure", "app").index(kind), int(digits or 0), number


def _table(rows: Sequence[Row], columns: Sequence[str] | None = None) -> str:
    columns = list(rows[0]) if columns is None and rows else list(columns or [])
    lines = [columns, ["---"] * len(columns), *([_shown(row.get(name)) for name in columns] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _shown(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, float):
        return f"{value:.2e}" if value != 0 and abs(value) < 5e-4 else f"{value:.4g}"
    return str(value).replace("|", "\\|")
