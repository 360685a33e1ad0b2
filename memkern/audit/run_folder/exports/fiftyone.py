"""FiftyOne's JSON: one sample per image."""

from __future__ import annotations

import json
import os
from pathlib import Path

from memkern._util.files import replace_atomically
from memkern._util.text import unescaped
from memkern.audit.run_folder.arrays import first_encoder
from memkern.audit.run_folder.export import Export
from memkern.audit.run_folder.reader import Run

FIELDS = {
    "ground_truth": "fiftyone.core.fields.EmbeddedDocumentField(fiftyone.core.labels.Classification)",
    "memkern_id": "fiftyone.core.fields.StringField",
    "memkern_sslmem": "fiftyone.core.fields.FloatField",
    "memkern_units": "fiftyone.core.fields.IntField",
}
"""Field of a sample -> its type, for those that a new FiftyOne data set does not have by itself."""


def write(run: Run) -> list[Path]:
    """Writes `fiftyone.json`: one sample per image with its file, label and scores, as fields.

    `fiftyone.Dataset.from_json("RUN/fiftyone.json")` reads it. Paths are absolute; what the audit knew as a relative
    path begins in the folder that it ran in.

    Args:
        run: The audit.

    Returns:
        The file, in a list.

    Raises:
        OSError: If the file cannot be written.
    """
    classes = run.manifest.data.classes or ()
    owned: dict[int, int] = {}
    for position in first_encoder(run.units)["peak_index"].to_pylist():
        owned[position] = owned.get(position, 0) + 1
    copies = {copy: kind for _, copy, kind in run.manifest.data.duplicates}
    samples = []
    columns = ("id", "index", "path", "label", "candidate", "sslmem")
    folder = run.manifest.data.folder or ""
    for row in run.samples.select(columns).to_pylist():
        label = None if row["label"] is None else classes[row["label"]]
        samples.append({
            "filepath": None if row["path"] is None else _absolute(folder, row["path"]),
            "tags": [tag for tag, holds in (("candidate", row["candidate"]), (f"{copies.get(row['id'])}-copy",
                     row["id"] in copies)) if holds],
            "ground_truth": None if label is None else {"_cls": "Classification", "label": label},
            "memkern_id": row["id"],
            "memkern_sslmem": row["sslmem"] if row["sslmem"] == row["sslmem"] else None,  # JSON has no NaN
            "memkern_units": owned.get(row["index"], 0),
        })  # fmt: skip
    whole = {
        "name": run.folder.resolve().name,
        "media_type": "image",
        "num_samples": len(samples),
        "sample_fields": FIELDS,
        "info": run.manifest.views.to_json(),
        "samples": samples,
    }
    path = run.folder / "fiftyone.json"
    with replace_atomically(path) as part:
        part.write_text(json.dumps(whole, allow_nan=False) + "\n", encoding="utf-8")
    return [path]


def _absolute(folder: str, path: str) -> str:
    """The path of a file as the system knows it, from that of the table."""
    return os.path.normpath(os.path.join(folder, unescaped(path)))


EXPORT = Export("fiftyone", "write a FiftyOne-style JSON file too", order=20, packages=(), write=write)
