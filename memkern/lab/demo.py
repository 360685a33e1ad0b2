"""`memkern demo`: an audit of the family of encoders that ships with memkern, and the few lines to read it by."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from memkern._util.files import read_json, sha256
from memkern._util.optional_imports import require
from memkern.audit import Options, Run, run_audit
from memkern.audit.data.open import open_source
from memkern.audit.data.source import Source, with_labels
from memkern.audit.measure import begun, reading_files
from memkern.audit.measure.begun import IMAGES as TABLE_OF_IMAGES
from memkern.audit.report import REPORT
from memkern.audit.report.terminal import Progress
from memkern.audit.report.verdict import verdict
from memkern.audit.run_folder.arrays import read_arrays
from memkern.audit.run_folder.columns import TABLES
from memkern.audit.run_folder.schema import MANIFEST, PLAN, STATE
from memkern.errors import TrainingError
from memkern.lab.family import ENCODERS, FAMILY, IMAGES, VIEWS, WrittenFamily, audited_layers, read_family

ASSETS = Path(__file__).parent / "assets"
"""Folder of the family that ships with memkern."""

DATA = "memkern demo"
"""Name of the data in the manifest of a demo; a folder that says so may be replaced by another demo."""

EARLIER = ("candidates.txt", "groups.csv", "views.json")
"""Files that a demo of an earlier version left."""

SHOWN = 5
"""Images that are named at the end."""


def run_demo(
    out: Path,
    *,
    seed: int = 0,
    family: Path = ASSETS,
    n_views: int = 10,
    log: Callable[[str], None] = print,
) -> Run:
    """Audits a family of encoders on its images and says what came out.

    Args:
        out: The RUN folder to write; the results of an earlier demo in it are replaced.
        seed: Seed of the views.
        family: Folder of the family, as `memkern lab family --design halves` writes it.
        n_views: Views per image.
        log: Told what a person at a terminal should know, one line each.

    Returns:
        The finished audit.

    Raises:
        PlanError: If `out` holds an audit that is no demo's, or is a file.
        TrainingError: If there is no family of halves in the folder, or a file of it is damaged.
        ImportError: If a package of `memkern[lab]` is missing; the message names the extra.
        OSError: If `out` cannot be written.
    """
    about = read_family(family)
    if about.design != "halves":
        raise TrainingError(f"Expected {family} to be a family of random halves, got one of a {about.design}")
    _require_whole(family, about)
    remove_earlier_demo(out)
    begun.check_out(out, resume=False, shared=False)
    console = require("rich.console", "rich", extra="lab").Console()
    source = family_source(family, about)
    layers, output = audited_layers(about.recipe.encoder, source.load(0).shape[-1])
    options = Options(
        encoders=str(family / ENCODERS),
        data=DATA,
        out=out,
        views=n_views,
        transform=str(family / VIEWS),
        layers=",".join(layers),
        output=output,
        seed=seed,
        device="cpu",
    )
    run = run_audit(options, source=source, log=log, progress=Progress(console))
    assert run is not None  # there is one process, and it does the whole audit
    _show(run, log)
    return run


def _require_whole(family: Path, about: WrittenFamily) -> None:
    """Compares the digests of images and weights with those that were written beside them."""
    for name, digest in about.files.items():
        if not (family / name).is_file() or sha256(family / name) != digest:
            raise TrainingError(
                f"Expected {family / name} to be the file that {FAMILY} beside it describes; it is missing or damaged"
            )


def family_source(family: Path, about: WrittenFamily) -> Source:
    """Opens the images of a family; an image is called by its position.

    Args:
        family: The folder.
        about: Its description.

    Returns:
        The images with their classes.
    """
    source = open_source(str(family / IMAGES))
    assert source.labels is not None
    return source if about.classes is None else with_labels(source, source.labels, about.classes)


def remove_earlier_demo(out: Path) -> None:
    """Removes the results of an earlier demo, finished or not, from a folder; all other files stay.

    Args:
        out: The folder; it need not exist.

    Raises:
        PlanError: If the folder's plan is damaged.
        OSError: If a file cannot be removed.
    """
    manifest = read_json(out / MANIFEST) if (out / MANIFEST).is_file() else {}
    if (out / PLAN).is_file():
        ours = begun.read_plan(out).about.options.get("data") == DATA
    else:
        ours = manifest.get("kind") == DATA  # as version 0.1 wrote it
    if not ours:
        return
    tables = [f"{name}.parquet" for name in TABLES]
    reading_files.clean(out)
    # The manifest goes first and the plan last: what is stopped in between is an unfinished demo.
    listed = [Path(name).name for name in manifest.get("files", {})]
    rest = [*tables, STATE, REPORT, TABLE_OF_IMAGES, "thumbs", reading_files.FOLDER, *EARLIER, PLAN]
    for path in (out / name for name in [MANIFEST, *listed, *rest]):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _show(run: Run, log: Callable[[str], None]) -> None:
    """Says how many images are memorized, how sure that is, which ones, and where the report is."""
    found = verdict(read_arrays(run))
    log(f"\n{found.headline}\n")
    significance = run.manifest.significance
    findings = () if significance is None else significance.findings
    for sentence in (*found.sentences, *(f"{finding}." for finding in findings)):
        log(f"  {sentence}")
    samples, classes = run.samples, run.manifest.data.classes or ()
    columns = ("id", "label", "sslmem", "se", "se_views", "q")
    rows = zip(*(samples[name].to_pylist() for name in columns), strict=True)
    called = [row for row, memorized in zip(rows, samples["memorized"].to_pylist(), strict=True) if memorized]
    if called:
        log(f"\nThe {min(SHOWN, len(called))} surest (q: false-discovery rate of a list that ends with the image):\n")
        for line in _table(sorted(called, key=lambda row: (row[-1], -row[2]))[:SHOWN], classes):
            log(f"  {line}")
    log(f"\nReport, with pictures: {run.folder / REPORT}")
    log("Your own encoder: memkern audit ENCODER --weights F --reference G --data DIR --groups FILE --out RUN")


def _table(rows: Iterable[tuple[str, int, float, float, float, float]], classes: Iterable[str]) -> Iterable[str]:
    names = list(classes)
    for name, label, score, se, se_views, q in rows:  # ± as in the report: of trainings and of views
        yield f"image {name:>4}  {names[label]:<12} SSLMem {score:+.3f} ± {math.hypot(se, se_views):.3f}  q = {q:.2g}"
