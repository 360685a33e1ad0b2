"""Small pictures of the images that the report shows: `thumbs/<index>.png` and `thumbs/<index>-view<k>.png`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import torch
from torch import Tensor

from memkern.audit.extras import need
from memkern.audit.files import replace_atomically
from memkern.audit.runner import Clock, Job, draw
from memkern.audit.store import Run

SHOWN = 12
"""How many of the most memorized images, of the least, and of those that own most units."""

VIEWS = 3
"""Views of each."""

EDGE = 96
"""Larger pictures are made this small, pixels."""


def shown(run: Run) -> list[int]:
    """Positions of the images to show: the most and least memorized (of the candidates, if any), and units' owners."""
    samples = run.samples.select(["index", "candidate", "sslmem"]).to_pylist()
    if run.manifest["candidates"] is not None:
        samples = [row for row in samples if row["candidate"]]
    scored = [row for row in samples if row["sslmem"] is not None and row["sslmem"] == row["sslmem"]]
    ranked = [row["index"] for row in sorted(scored, key=lambda row: -row["sslmem"])]
    owners = [index for index, _ in Counter(run.units["peak_index"].to_pylist()).most_common(SHOWN)]
    return list(dict.fromkeys([*ranked[:SHOWN], *ranked[-SHOWN:], *owners]))


def write_thumbs(run: Run, job: Job) -> list[Path]:
    """Writes the pictures.

    Args:
        run: The finished audit.
        job: What it was made from.

    Returns:
        The files.

    Raises:
        ImportError: If Pillow is missing.
        OSError: If a file cannot be written.
    """
    written = []
    row_of = {position: row for row, position in enumerate(job.source.index)}
    spec = job.options.spec()
    for position in shown(run):
        image = job.source.image(row_of[position])
        drawn, _ = draw(job, [image], torch.tensor([position]), Clock())
        drawn = drawn[1:] if job.options.clean else drawn
        pixels = image if image.dtype == torch.uint8 else image.float() * 255
        written.append(_write(run.folder / "thumbs" / f"{position}.png", pixels))
        for number, view in enumerate(drawn[:VIEWS].float().cpu()):
            channels = len(view)
            mean, std = (torch.tensor(values)[:channels, None, None] for values in (spec.mean, spec.std))
            written.append(_write(run.folder / "thumbs" / f"{position}-view{number}.png", (view * std + mean) * 255))
    return written


def _write(path: Path, pixels: Tensor) -> Path:
    """Writes `[C, H, W]`, 0 to 255, no larger than `EDGE`."""
    whole = pixels.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
    picture = need("PIL.Image", "pillow").fromarray(whole.squeeze(2) if whole.shape[2] == 1 else whole)
    picture.thumbnail((EDGE, EDGE))
    with replace_atomically(path) as part:
        picture.save(part)
    return path
