"""FiftyOne's JSON: one sample per image."""

from __future__ import annotations

import json
from pathlib import Path

from memkern._util.files import replace_atomically
from memkern._util.text import unescaped
from memkern.audit.run_folder.arrays import first_encoder
from memkern.audit.run_folder.export import Export
from memkern.audit.run_folder.reader import Run


def write(run: Run) -> list[Path]:
    """Writes `fiftyone.json`: one sample per image with its file, label and scores, as fields.

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
    for row in run.samples.select(columns).to_pylist():
        label = None if row["label"] is None else classes[row["label"]]
        samples.append({
            "filepath": None if row["path"] is None else unescaped(row["path"]),
            "tags": [tag for tag, holds in (("candidate", row["candidate"]), (f"{copies.get(row['id'])}-copy",
                     row["id"] in copies)) if holds],
            "ground_truth": None if label is None else {"_cls": "Classification", "label": label},
            "memkern_id": row["id"],
            "memkern_sslmem": row["sslmem"] if row["sslmem"] == row["sslmem"] else None,  # JSON has no NaN
            "memkern_units": owned.get(row["index"], 0),
        })  # fmt: skip
    whole = {"name": run.folder.name, "media_type": "image", "info": run.manifest.views.to_json(), "samples": samples}
    path = run.folder / "fiftyone.json"
    with replace_atomically(path) as part:
        part.write_text(json.dumps(whole, allow_nan=False) + "\n", encoding="utf-8")
    return [path]


EXPORT = Export("fiftyone", "write a FiftyOne-style JSON file too", order=20, packages=(), write=write)
