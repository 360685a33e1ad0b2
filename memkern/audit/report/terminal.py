"""Output of an audit in a terminal: how far it is, three tables, and where the results are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from memkern._util.optional_imports import require
from memkern._util.text import printable
from memkern.audit.measure.estimate import Estimate
from memkern.audit.report.control import control_words, headline
from memkern.audit.report.text import small
from memkern.audit.run_folder.reader import Run
from memkern.audit.run_folder.significance import Significance

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

TOP = 8
"""Rows of the tables of units and images; the layers are shown all."""


class Progress:
    """Bars with rate and time left on a terminal or, with ipywidgets, in a notebook; silence elsewhere.

    Args:
        console: Where to show them; `None`: silence.
    """

    def __init__(self, console: Console | None) -> None:
        self.console = console

    @contextmanager
    def task(self, name: str, total: int | None) -> Iterator[Callable[[int], None]]:
        """Shows one bar.

        Args:
            name: What is done.
            total: How many images; `None` if that is not known yet.

        Yields:
            A function to call with a number of images.
        """
        if self.console is None or not (self.console.is_terminal or self.console.is_jupyter):
            yield lambda count: None
            return
        rich = require("rich.progress", "rich")
        columns = (
            rich.TextColumn("{task.description:<8}"),
            rich.BarColumn(),
            rich.MofNCompleteColumn(),
            rich.TextColumn("{task.fields[rate]}"),
            rich.TimeRemainingColumn(),
        )
        with rich.Progress(*columns, console=self.console, transient=True) as bars:
            task = bars.add_task(name, total=total, rate="")

            def step(count: int) -> None:
                bars.update(task, advance=count)
                speed = bars.tasks[0].speed
                bars.update(task, rate="" if speed is None else f"{speed:.0f} images/s")

            yield step


def shown(progress: Progress | bool | None) -> Progress:
    """Returns the bars that are meant: those given, with `True` bars of their own, else none."""
    if isinstance(progress, Progress):
        return progress
    return Progress(require("rich.console", "rich").Console(stderr=True) if progress else None)


def show_plan(estimate: Estimate, console: Console) -> None:
    """Prints what `--dry-run` found: the layers, and estimates of time and memory."""
    plan, about = estimate.plan, estimate.about
    table = _table(f"{len(plan.layers)} layers", "layer", "units", "shape of an image")
    for layer in plan.layers:
        name = f"{layer.name} (output)" if layer.name == plan.output else layer.name
        table.add_row(_cell(name), str(layer.units), "x".join(map(str, layer.shape)))
    console.print(table)
    for title, texts in (("are not read", about.left_out), ("to be known of", about.notes)):
        if texts:
            named = _table(f"{len(texts)} layers {title}", "layer", "why")
            for name, text in texts.items():
                named.add_row(_cell(name), _cell(text))
            console.print(named)
    console.print(_cell(f"Units are told by {about.units_by}."))
    units = sum(layer.units for layer in plan.layers)
    console.print(
        f"{plan.n_images} images, {plan.views} views of {plan.size[0]}x{plan.size[1]} pixels each, "
        f"{plan.batch_size} images per forward pass, {units} units"
    )
    seconds = estimate.seconds
    parts = ", ".join(f"{name} {duration(value)}" for name, value in seconds.items() if name != "write")
    console.print(f"Time: about {duration(sum(seconds.values()))} ({parts})")
    console.print(f"Memory: {_size(estimate.peak_bytes)} at the peak, and {_size(estimate.row_bytes)} of results")
    if estimate.median_bytes:
        widest = max(layer.units for layer in plan.layers)
        console.print(
            f"--median keeps one number per image, unit and encoder: {_size(estimate.median_bytes)} on disk, "
            f"{_size(4 * plan.n_images * widest)} in memory at the end"
        )


def show_run(run: Run, console: Console) -> None:
    """Prints the layers, the units that answer most to one image, the images at both ends, and the verdict."""
    manifest = run.manifest
    scored, candidates = run.samples["sslmem"].null_count < len(run.samples), manifest.candidates
    among = "of all images" if candidates is None else f"of {candidates.n} candidates"
    console.print(_layers_table(run, among, scored=scored, named=candidates is not None))
    console.print(_units_table(run))
    if scored:
        console.print(_images_table(run, among, named=candidates is not None))
        for line in _verdict(manifest.significance):
            console.print(_cell(line), highlight=False)
    copies = manifest.data.duplicates
    if copies:
        exact = sum(kind == "exact" for *_, kind in copies)
        console.print(
            f"{len(copies)} images are copies of others ({exact} exact, {len(copies) - exact} near): copies look "
            "memorized."
        )
    undefined = sum(run.layers["undefined"].to_pylist())
    if undefined:
        console.print(f"UnitMem of {undefined} units is undefined (NaN).")
    unbounded = sum(value or 0 for value in run.layers.to_pydict().get("unbounded", []))
    if unbounded:
        console.print(
            f"UnitMem of {unbounded} units has no bounds, because their means are negative: they are in no mean. "
            "--activation relu or abs gives every unit a score from 0 to 1."
        )
    if manifest.left_out:
        console.print(f"{len(manifest.left_out)} layers were not read; manifest.json says why.")


def _layers_table(run: Run, among: str, *, scored: bool, named: bool) -> Table:
    """Makes the table of all layers; LayerMem, of the candidates where they are named, needs a reference."""
    of = "_candidates" if named else ""
    heads = ["layer", "units", *(["LayerMem", "Δ"] if scored else []), "UnitMem", "max", "ClassMem", "dead"]
    unbounded = any(run.layers.to_pydict().get("unbounded", []))
    heads += ["unbounded"] if unbounded else []
    table = _table(f"Layers: LayerMem {among}; mean UnitMem and ClassMem" if scored else "Layers", *heads)
    for row in run.layers.to_pylist():
        mem = [_signed(row[f"layermem{of}"]), _signed(row[f"delta{of}"])] if scored else []
        units = (_plain(row["unitmem_mean"]), _plain(row["unitmem_max"]), _plain(row["classmem_mean"]))
        counts = [str(row["dead"]), *([str(row["unbounded"])] if unbounded else [])]
        table.add_row(_cell(row["layer"]), str(row["units"]), *mem, *units, *counts)
    return table


def _units_table(run: Run) -> Table:
    """Makes the table of the units with the largest UnitMem."""
    compute = require("pyarrow.compute", "pyarrow")
    units = run.units.filter(compute.is_finite(run.units["unitmem"]))
    units = units.filter(compute.invert(units["signed"])).sort_by([("unitmem", "descending")])
    title = "Units that answer most to one image (without signed ones, whose scores have no bounds)"
    table = _table(title, "layer", "unit", "UnitMem", "image")
    for row in units.slice(0, TOP).to_pylist():
        table.add_row(_cell(row["layer"]), str(row["unit"]), _plain(row["unitmem"]), _cell(row["peak_id"]))
    return table


def _images_table(run: Run, among: str, *, named: bool) -> Table:
    """Makes the table of the images with the largest and the smallest SSLMem, of the candidates if they are named."""
    compute = require("pyarrow.compute", "pyarrow")
    samples = run.samples.filter(run.samples["candidate"]) if named else run.samples
    samples = samples.filter(compute.is_finite(samples["sslmem"])).sort_by([("sslmem", "descending")])
    certain = [name for name in ("p", "q") if name in samples.column_names and samples[name].null_count < len(samples)]
    heads = ["image", "SSLMem", *certain]
    table = _table(f"SSLMem at {run.output}, {among}: highest and lowest", *heads)
    least = samples.slice(max(TOP, len(samples) - TOP)).to_pylist()
    for row in [*samples.slice(0, TOP).to_pylist(), *least]:
        table.add_row(_cell(row["id"]), _signed(row["sslmem"]), *(_small(row[name]) for name in certain))
    return table


def _verdict(found: Significance | None) -> list[str]:
    """Lists the verdict and, where there is one, what it rests on."""
    lines = [headline(found)]
    if found is not None:
        p = "no p" if found.method == "none" else f"p: {found.method}"
        reliable = "" if found.reliability is None else f"; reliability of the ranking {found.reliability:.2f}"
        check = "" if found.n_check is None else f"; {found.check} calls {found.n_check}"
        lines.append(f"{control_words(found)} {p}{check}{reliable}.")
    return lines


def show_done(run: Run, console: Console) -> None:
    """Prints where the results are and what they took."""
    images, seconds = run.manifest.data.n_images, run.manifest.wall["total"]
    console.print(_cell(f"{images} images in {duration(seconds)}; results are in {run.folder}"), highlight=False)


def duration(seconds: float) -> str:
    """Writes seconds in the words of a clock."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def _plain(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3f}"


def _small(value: float | None) -> str:
    return "-" if value is None else small(value)


def _cell(text: str) -> Text:
    """Makes a cell of a text as it is: file names may hold what rich reads as markup, and terminals as commands."""
    cell: Text = require("rich.text", "rich").Text(printable(text))
    return cell


def _table(title: str, *columns: str) -> Table:
    """Makes an empty table that folds its widest cells where it is too wide for the terminal, and cuts nothing off."""
    table: Table = require("rich.table", "rich").Table(
        title=_cell(title), box=require("rich.box", "rich").SIMPLE_HEAD, title_style="bold", title_justify="left",
        padding=(0, 1), collapse_padding=True, pad_edge=False,
    )  # fmt: skip
    for column in columns:
        table.add_column(column, justify="left" if column in ("layer", "image", "why") else "right", overflow="fold")
    return table
