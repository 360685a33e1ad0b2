"""`memkern demo`: audits a pair of encoders on real images and shows what was memorized."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

import memkern
from memkern._util.files import replace_atomically, sha256, write_json
from memkern._util.optional_imports import require
from memkern.lab import figures
from memkern.lab.data.packaged import ImageSet, patches
from memkern.lab.data.splits import GROUPS
from memkern.lab.encoder_pairs import ASSETS, MANIFEST, RECIPE, Pair, load_pair, train_pair, versions
from memkern.lab.measure import ALL_TAPS, Audit, audit_pair

QUICK_RECIPE = replace(RECIPE, epochs=250)
"""The shorter training of `memkern demo --train`."""


def run_demo(
    out: Path,
    *,
    train: bool = False,
    seed: int = 0,
    weights: Path = ASSETS,
    n_views: int = 10,
    data: ImageSet | None = None,
    console: Any = None,
) -> Audit:
    """Audits a pair, prints a summary and writes the results.

    Args:
        out: Folder of the results. It is made; files of an earlier demo are replaced one by one,
            `manifest.json` last, so a folder with a manifest is complete and a stopped run leaves no
            half-written file.
        train: Train a fresh, shorter pair first instead of loading `weights`.
        seed: Seed of the views and, with `train`, of the split and the training.
        weights: Folder of the pair to audit.
        n_views: Views per image.
        data: The images; by default `memkern.lab.data.packaged.patches()`.
        console: A `rich.console.Console` to print to.

    Returns:
        What was measured.

    Raises:
        TrainingError: If the stored pair is missing or damaged.
        ImportError: If a package of `memkern[lab]` is missing; the message names the extra.
        OSError: If `out` cannot be written.
    """
    if console is None:
        console = require("rich.console", "rich", extra="lab").Console()
    for module, package in (("pyarrow.parquet", "pyarrow"), ("matplotlib", "matplotlib"), ("scipy", "scipy")):
        require(module, package, extra="lab")  # fail before the work, not after it
    start = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    (out / MANIFEST).unlink(missing_ok=True)
    if train:
        data = patches() if data is None else data
        with _progress(console, ("train f", "train g"), QUICK_RECIPE.epochs) as step:

            def report(role: str, epoch: int, loss: float) -> None:
                step(f"train {role}", 1, f"loss {loss:.2f}")

            pair = train_pair(data, seed, recipe=QUICK_RECIPE, on_epoch=report)
    else:
        pair = load_pair(weights)
        data = patches() if data is None else data
        if pair.data_sha256 != data.sha256:
            console.print(
                "[yellow]These pictures are not bit for bit those of the training (another version of "
                "scikit-image, scikit-learn or the JPEG decoder): scores can differ a little.[/]"
            )
    n_images = 2 * sum(len(ids) for ids in pair.split.groups().values())
    with _progress(console, ("measure",), n_images) as step:
        audit = audit_pair(
            pair.f,
            pair.g,
            data,
            pair.split,
            pair.recipe.views,
            n_views=n_views,
            seed=seed,
            on_batch=lambda count: step("measure", count, ""),
        )
    files = [*_write_tables(audit, data, out), _write_arrays(audit, out), *figures.draw_all(audit, data, out)]
    write_json(out / MANIFEST, _manifest(audit, pair, data, files, n_views, seed, train, time.monotonic() - start))
    _show(audit, data, console)
    console.print(f"\nTables, arrays and pictures are in [bold]{out}[/] ({time.monotonic() - start:.1f} s).")
    return audit


@contextmanager
def _progress(console: Any, names: tuple[str, ...], total: int) -> Iterator[Callable[[str, int, str], None]]:
    """Shows one bar per name on a terminal, and nothing elsewhere."""
    rich = require("rich.progress", "rich", extra="lab")
    columns = (
        rich.TextColumn("{task.description:<8}"),
        rich.BarColumn(),
        rich.MofNCompleteColumn(),
        rich.TimeRemainingColumn(),
        rich.TextColumn("{task.fields[note]}"),
    )
    with rich.Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        tasks = {name: bars.add_task(name, total=total, note="") for name in names}
        yield lambda name, count, note: bars.update(tasks[name], advance=count, note=note)


def _write_tables(audit: Audit, data: ImageSet, out: Path) -> list[Path]:
    """Writes one row per image, per layer and per unit as parquet."""
    images = {
        "id": audit.ids.tolist(),
        "group": audit.group,
        "label": [data.label_names[label] for label in audit.labels.tolist()],
        "alignment_f": audit.alignment_f["output"].tolist(),
        "alignment_g": audit.alignment_g["output"].tolist(),
        "sslmem": audit.sslmem.tolist(),
    }
    layers = {
        "layer": [layer.name for layer in audit.layers],
        **{f"layermem_{name}": [layer.layermem[name] for layer in audit.layers] for name in GROUPS},
        "delta_layermem": [layer.delta for layer in audit.layers],
        "unitmem": [layer.unitmem for layer in audit.layers],
        "classmem": [layer.classmem for layer in audit.layers],
        "dead_units": [layer.dead for layer in audit.layers],
    }
    names = list(audit.unitmem)
    units = {
        "layer": [name for name in names for _ in range(len(audit.unitmem[name]))],
        "unit": [unit for name in names for unit in range(len(audit.unitmem[name]))],
        "unitmem": torch.cat([audit.unitmem[name] for name in names]).tolist(),
        "classmem": torch.cat([audit.classmem[name] for name in names]).tolist(),
        "peak_id": torch.cat([audit.peak_ids[name] for name in names]).tolist(),
    }
    pyarrow, parquet = require("pyarrow", "pyarrow", extra="lab"), require("pyarrow.parquet", "pyarrow", extra="lab")
    written = []
    for name, columns in (("images", images), ("layers", layers), ("units", units)):
        written.append(out / f"{name}.parquet")
        with replace_atomically(written[-1]) as part:
            parquet.write_table(pyarrow.table(columns), part)
    return written


def _write_arrays(audit: Audit, out: Path) -> Path:
    """Writes ids `[N]`, SSLMem `[N]` and the alignments `[taps, N]` of f and g as safetensors."""
    arrays = {
        "ids": audit.ids,
        "sslmem": audit.sslmem,
        "alignment_f": torch.stack([audit.alignment_f[name] for name in ALL_TAPS]),
        "alignment_g": torch.stack([audit.alignment_g[name] for name in ALL_TAPS]),
    }
    path = out / "scores.safetensors"
    with replace_atomically(path) as part:
        require("safetensors.torch", "safetensors", extra="lab").save_file(
            arrays, part, metadata={"taps": ",".join(ALL_TAPS)}
        )
    return path


def _manifest(
    audit: Audit,
    pair: Pair,
    data: ImageSet,
    files: list[Path],
    n_views: int,
    seed: int,
    trained: bool,
    seconds: float,
) -> dict[str, Any]:
    order = figures.ranked_candidates(audit)
    return {
        "kind": "memkern demo",
        "pair": {
            "trained_now": trained,
            "seed": pair.seed,
            "recipe": asdict(pair.recipe),
            "weights": pair.manifest.get("files", {}),
            "data_sha256": pair.data_sha256,
        },
        "data": {"name": data.name, "sha256": data.sha256},
        "views": {"count": n_views, "seed": seed},
        "mean_sslmem": audit.means,
        "candidates_against": {row.group: asdict(row) for row in audit.comparisons},
        "most_memorized": audit.ids[order[:10]].tolist(),
        "least_memorized": audit.ids[order.flip(0)[:10]].tolist(),
        "versions": versions(),
        "backends": [asdict(info) for info in memkern.backends()],
        "files": {path.name: sha256(path) for path in files},
        "seconds": round(seconds, 1),
    }


def _show(audit: Audit, data: ImageSet, console: Any) -> None:
    table = _table("SSLMem: A_g − A_f at the encoder's output", "group", "images", "mean", "p", "d", "P")
    rows = {row.group: row for row in audit.comparisons}
    for name in GROUPS:
        cells = [name, str(len(audit.of(name))), f"{audit.means[name]:+.4f}"]
        if name in rows:
            row = rows[name]
            cells += [f"{row.p:.1e}", f"{row.cohens_d:+.2f}", f"{row.superiority:.2f}"]
        table.add_row(*cells, style="bold" if name == "candidate" else None)
    console.print(table)
    console.print("Candidates against each other group: p of the one-sided Mann-Whitney test, Cohen's d,")
    console.print("and the probability P that a candidate scores higher.\n")
    table = _table(
        "Layers: LayerMem of three groups; mean UnitMem and ClassMem of f's units",
        *("layer", "candidate", "Δ", "shared", "extra", "UnitMem", "ClassMem", "dead"),
    )
    for layer in audit.layers:
        delta = "-" if layer.delta is None else f"{layer.delta:+.3f}"
        mem = {name: f"{value:+.3f}" for name, value in layer.layermem.items()}
        units = (f"{layer.unitmem:.3f}", f"{layer.classmem:.3f}", str(layer.dead))
        table.add_row(layer.name, mem["candidate"], delta, mem["shared"], mem["extra"], *units)
    console.print(table)
    order = figures.ranked_candidates(audit)
    for title, places in (("Most", order[:5]), ("Least", order.flip(0)[:5])):
        shown = [
            f"#{int(audit.ids[place])} {data.label_names[int(audit.labels[place])]} ({float(audit.sslmem[place]):+.3f})"
            for place in places
        ]
        console.print(f"{title} memorized candidates: {', '.join(shown)}", highlight=False)


def _table(title: str, first: str, *others: str) -> Any:
    box = require("rich.box", "rich", extra="lab").SIMPLE_HEAD
    table = require("rich.table", "rich", extra="lab").Table(title=title, box=box, padding=(0, 1), title_style="bold")
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right")
    return table
