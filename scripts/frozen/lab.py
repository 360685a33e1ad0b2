"""The lab: every experiment at its smallest, the demo, a training."""

from __future__ import annotations

import json
from pathlib import Path

from frozen import digest, worker
from frozen.worker import Found


def capture(found: Found, checkout: Path) -> None:
    """Runs the commands and adds the columns of tables, the pixels of figures, the tensors of weights."""
    normaliser = worker.normaliser(checkout)
    worker.preload(
        "pyarrow.parquet", "safetensors.torch", "scipy.stats", "matplotlib.pyplot", "rich.console", "PIL.Image"
    )
    listed = dict(worker.command(["lab", "list", "--json"]))
    found.add("list", normaliser.text(listed["stdout"]))
    ids = sorted({entry["id"] for entry in json.loads(listed["stdout"]) if "id" in entry})
    train = ["lab", "train", "--preset", "tiny", "--seed", "3", "--monitor", "1", "--out", "trained/f.safetensors"]
    commands = {
        "experiments": ["lab", "run", *ids, "--preset", "tiny", "--out", "experiments", "--cache", "cache"],
        "index": ["lab", "index", "experiments"],
        "trained": train,
        "demo": ["demo", "--out", "demo", "--seed", "1"],
    }
    for name, arguments in commands.items():
        for part, text in worker.command(arguments):
            found.add(f"{name}/{part}", normaliser.text(text))
    for folder in ("experiments", "trained", "demo"):
        for name, value in digest.folder(Path(folder), normaliser):
            found.add(f"{folder}/{name}", value)


if __name__ == "__main__":
    worker.main(capture)
