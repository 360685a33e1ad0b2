"""`memkern demo`: an audit of a pair of encoders on real images, and the few lines to read it by."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from memkern._util.files import read_json, write_csv, write_json
from memkern._util.optional_imports import require
from memkern.audit import Options, Run, run_audit
from memkern.audit.data.source import Source, with_labels
from memkern.audit.measure import begun, reading_files
from memkern.audit.measure.begun import IMAGES
from memkern.audit.report import REPORT
from memkern.audit.report.terminal import Progress
from memkern.audit.report.verdict import verdict
from memkern.audit.run_folder.arrays import read_arrays
from memkern.audit.run_folder.columns import TABLES
from memkern.audit.run_folder.schema import MANIFEST, PLAN, STATE
from memkern.lab.data.packaged import ImageSet, patches
from memkern.lab.data.splits import Split
from memkern.lab.encoder_pairs import ASSETS, RECIPE, TrainedPair, load_pair, train_pair
from memkern.lab.encoders.build import described

QUICK_RECIPE = replace(RECIPE, epochs=250)
"""The shorter training of `memkern demo --train`."""

DATA = "memkern demo"
"""Name of the data in the manifest of a demo; a folder that says so may be replaced by another demo."""

VIEWS, GROUPS = "views.json", "groups.csv"
"""Files that a demo gives to its audit as --transform and --groups."""

EARLIER = ("candidates.txt",)
"""Files that a demo of an earlier version left."""

SEEN_BY = {"shared": "f and g", "candidate": "f alone", "independent": "g alone", "extra": "neither"}
"""Group of images -> which encoder was trained on them."""


def run_demo(
    out: Path,
    *,
    train: bool = False,
    seed: int = 0,
    weights: Path = ASSETS,
    n_views: int = 10,
    data: ImageSet | None = None,
    log: Callable[[str], None] = print,
) -> Run:
    """Audits a pair of encoders on all four groups of its images and says what came out.

    Args:
        out: The RUN folder to write; the results of an earlier demo in it are replaced.
        train: Train a fresh, shorter pair first instead of loading `weights`.
        seed: Seed of the views and, with `train`, of the split and the training.
        weights: Folder of the pair to audit.
        n_views: Views per image.
        data: The images; by default `memkern.lab.data.packaged.patches()`.
        log: Told what a person at a terminal should know, one line each.

    Returns:
        The finished audit.

    Raises:
        PlanError: If `out` holds an audit that is no demo's, or is a file.
        TrainingError: If the stored pair is missing or damaged.
        ImportError: If a package of `memkern[lab]` is missing; the message names the extra.
        OSError: If `out` cannot be written.
    """
    remove_earlier_demo(out)
    begun.check_out(out, resume=False, shared=False)
    console = require("rich.console", "rich", extra="lab").Console()
    data = patches() if data is None else data
    pair = _train(data, seed, log) if train else load_pair(weights)
    if pair.data_sha256 != data.sha256:
        log(
            "These pictures are not bit for bit those of the training (another version of scikit-image, scikit-learn "
            "or the JPEG decoder): scores can differ a little."
        )
    source = demo_source(data, pair.split)
    run = run_audit(
        _options(out, pair, source, "trained by this demo" if train else str(weights), n_views=n_views, seed=seed),
        encoders=(pair.f, pair.g),
        source=source,
        log=log,
        progress=Progress(console),
    )
    assert run is not None  # there is one process, and it does the whole audit
    _show(run, log)
    return run


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
    rest = [*tables, STATE, REPORT, IMAGES, "thumbs", reading_files.FOLDER, VIEWS, GROUPS, *EARLIER, PLAN]
    for path in (out / name for name in [MANIFEST, *listed, *rest]):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def demo_source(data: ImageSet, split: Split) -> Source:
    """Makes the images of a split a source of an audit; an image is called group/class/position.

    Args:
        data: The images.
        split: The groups; the position of an image in `data` keys its views.

    Returns:
        The source, with the class of each image.
    """
    group_of = {position: name for name, ids in split.groups().items() for position in ids.tolist()}
    rows = sorted(group_of)
    labels = [int(data.labels[row]) for row in rows]
    names = [f"{group_of[row]}/{data.label_names[label]}/{row}" for row, label in zip(rows, labels, strict=True)]
    source = Source(data.name, tuple(names), lambda row: data.images[row], data.sha256, index=tuple(rows))
    return with_labels(source, labels, data.label_names)


def _train(data: ImageSet, seed: int, log: Callable[[str], None]) -> TrainedPair:
    """Trains a pair and says every tenth of the epochs how far it is."""
    every = max(1, QUICK_RECIPE.epochs // 10)

    def report(role: str, epoch: int, loss: float) -> None:
        if epoch % every == 0:
            log(f"train {role}: epoch {epoch} of {QUICK_RECIPE.epochs}, loss {loss:.2f}")

    return train_pair(data, seed, recipe=QUICK_RECIPE, on_epoch=report)


def _options(out: Path, pair: TrainedPair, source: Source, weights: str, *, n_views: int, seed: int) -> Options:
    """The options of the audit; writes the two files that they name."""
    network = described(pair.f)
    write_json(out / VIEWS, asdict(pair.recipe.views))
    # An image is called group/picture/position.
    write_csv(out / GROUPS, ("id", "group", "picture"), ([name, *name.split("/")[:2]] for name in source.ids))
    return Options(
        encoder=f"memkern:{pair.recipe.encoder}",
        weights=(f"{weights}: f",),
        reference=(f"{weights}: g",),
        data=DATA,
        out=out,
        groups=str(out / GROUPS),
        views=n_views,
        transform=str(out / VIEWS),
        layers=",".join(network.taps.values()),
        output=network.output,
        seed=seed,
        device="cpu",
    )


def _show(run: Run, log: Callable[[str], None]) -> None:
    """Says what was measured, the verdict, and where the report is."""
    names, scores = run.samples["id"].to_pylist(), run.samples["sslmem"].to_pylist()
    log(f"\nSSLMem of {len(names)} real images: how much closer f puts the views of an image than g does.\n")
    for group, seen_by in SEEN_BY.items():
        own = [score for name, score in zip(names, scores, strict=True) if name.startswith(f"{group}/")]
        log(f"  {group:<12} {len(own):>4} images, seen by {seen_by:<8} mean {sum(own) / len(own):+.4f}")
    found = verdict(read_arrays(run))
    log(f"\n{found.headline}")
    log(" ".join(found.sentences))
    log(f"\nReport: {run.folder / REPORT}")
    log("Your own encoder: memkern audit ENCODER --weights F --reference G --data DIR --groups FILE --out RUN")
