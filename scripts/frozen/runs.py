"""RUN folders of eight kinds, made by the command line; what was printed; comparisons, reports, errors."""

from __future__ import annotations

import shutil
from pathlib import Path

from frozen import digest, inputs, worker
from frozen.normalise import Normaliser
from frozen.worker import Found

NET = ["py:net.py:build", "--weights", "net-f.safetensors"]
NET_PAIR = [*NET, "--reference", "net-g.safetensors"]
OTHER_PAIR = ["py:net.py:build", "--weights", "net-h.safetensors", "--reference", "net-g.safetensors"]
RESNET = ["memkern:resnet9", "--weights", "shipped-f.safetensors", "--reference", "shipped-g.safetensors"]
VIT = [inputs.VIT, "--weights", "vit-f.safetensors", "--reference", "vit-g.safetensors"]
DATA = ["--data", "data", "--size", "32"]
SMALL = ["--views", "3", "--shard-size", "7", "--batch-size", "4"]
NAMED = ["--candidates", "candidates.txt"]

# Kind -> the commands that make its RUN folder, which is called like it.
KINDS: dict[str, list[list[str]]] = {
    "one": [["audit", *NET, *DATA, *SMALL, "--labels", "none", "--no-images"]],
    "pair": [["audit", *RESNET, *DATA, "--views", "4", *NAMED, "--labels", "none", "--no-images"]],
    "labels": [["audit", *NET_PAIR, *DATA, *SMALL, *NAMED, "--median", "--seed", "5"]],
    "anchor": [["audit", *NET_PAIR, *DATA, *SMALL, *NAMED, "--pairs", "anchor", "--transform", "script-scores"]],
    "anchor-lengths": [
        ["audit", *NET_PAIR, *DATA, *SMALL, "--candidates", "3:9", "--pairs", "anchor", "--no-normalize", "--no-images",
         "--layers", "re:(conv|norm).*", "--output", "conv3"],
    ],
    "vit": [["audit", *VIT, *DATA, *SMALL, *NAMED, "--layers", "sublayers", "--transform", "byol-1"]],
    "vit-all": [["audit", *VIT, *DATA, *SMALL, *NAMED, "--no-images", "--precision", "bf16"]],
    "merged": [
        ["audit", *NET_PAIR, *DATA, *SMALL, *NAMED, "--median", "--shard", "1/2", "--out", "part1"],
        ["audit", *NET_PAIR, *DATA, *SMALL, *NAMED, "--median", "--shard", "2/2", "--out", "part2"],
        ["merge", "part1", "part2", "--mat", "--fiftyone"],
    ],
    "exports": [["audit", *NET_PAIR, *DATA, *SMALL, *NAMED, "--mat", "--fiftyone", "--transform", "strong"]],
    "other": [["audit", *OTHER_PAIR, *DATA, *SMALL, *NAMED, "--no-images"]],
    "skipped": [["audit", *NET, "--data", "damaged", "--size", "32", *SMALL, "--skip-corrupt", "--no-duplicates"]],
}  # fmt: skip

# What works on the folders above.
AFTER: dict[str, list[str]] = {
    "compare": ["compare", "merged", "other"],
    "compare-json": ["compare", "other", "merged", "--json", "--alternative", "greater", "--top", "4"],
    "compare-wrong": ["compare", "labels", "pair"],
    "report": ["report", "pair", "--no-images", "--out", "again.html"],
    "dry-run": ["audit", *NET_PAIR, *DATA, *SMALL, "--dry-run", "--out", "never"],
    "error-damaged": ["audit", *NET, "--data", "damaged", *SMALL, "--out", "never"],
    "error-no-data": ["audit", *NET, "--data", "nowhere", "--out", "never"],
    "error-encoder": [
        "audit",
        "memkern:resnet99",
        "--weights",
        "net-f.safetensors",
        "--data",
        "data",
        "--out",
        "never",
    ],
    "error-weights": ["audit", "memkern:resnet9", "--weights", "net-f.safetensors", *DATA, "--out", "never"],
    "error-layers": ["audit", *NET, *DATA, "--layers", "nothing*", "--out", "never"],
    "error-options": ["audit", *NET, *DATA, "--views", "1", "--out", "never"],
    "error-again": ["audit", *NET_PAIR, *DATA, *SMALL, "--out", "labels"],
    "error-report": ["report", "nowhere"],
    "error-merge": ["merge", "labels", "pair", "--out", "never"],
    "usage": ["audit", "--data", "data"],
}


def capture(found: Found, checkout: Path) -> None:
    """Makes the folders and adds what lies in them."""
    inputs.make(checkout)
    normaliser = worker.normaliser(checkout)
    worker.preload("PIL.Image", "pyarrow.parquet", "safetensors.torch", "scipy.io", "scipy.stats", "jinja2",
                   "imagehash", "rich.console", "rich.progress", "h5py", "timm", "memkern.audit")  # fmt: skip
    for kind, commands in KINDS.items():
        if kind.startswith("vit") and not Path("vit-f.safetensors").exists():
            found.not_compared[kind] = "timm is not installed"
            continue
        for number, arguments in enumerate(commands):
            given = arguments if "--out" in arguments else [*arguments, "--out", kind]
            _command(found, f"{kind}/command{number}", given, normaliser)
        _folder(found, kind, normaliser)
    _resumed(found, normaliser)
    for name, arguments in AFTER.items():
        _command(found, f"after/{name}", arguments, normaliser)
    again = Path("again.html")
    found.add("after/report/again.html", normaliser.html(again.read_text(encoding="utf-8")) if again.exists() else "")
    found.add("after/never", str(Path("never").exists()))


def _resumed(found: Found, normaliser: Normaliser) -> None:
    """An audit that is interrupted after its first shard and goes on."""
    audit = ["audit", *NET_PAIR, *DATA, *SMALL, *NAMED, "--median", "--out", "resumed"]
    _command(found, "resumed/interrupted", audit, normaliser, {"FROZEN_STOP": "resumed"})
    _command(found, "resumed/resumed", [*audit, "--resume"], normaliser)
    _folder(found, "resumed", normaliser)
    shutil.rmtree("resumed")


def _command(
    found: Found, name: str, arguments: list[str], normaliser: Normaliser, environment: dict[str, str] | None = None
) -> None:
    for part, text in worker.command(arguments, environment):
        found.add(f"{name}/{part}", normaliser.text(text))


def _folder(found: Found, kind: str, normaliser: Normaliser) -> None:
    for name, value in digest.folder(Path(kind), normaliser):
        found.add(f"{kind}/{name}", value)


if __name__ == "__main__":
    worker.main(capture)
