"""Small pictures of the images that the report shows: `thumbs/<index>.png` and `thumbs/<index>-view<k>.png`."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from memkern._util.files import replace_atomically
from memkern._util.optional_imports import require
from memkern.audit.measure.job import Job
from memkern.audit.measure.shard import PhaseTimer, draw
from memkern.audit.report.gallery import thumbnail_indices
from memkern.audit.run_folder.arrays import read_arrays
from memkern.audit.run_folder.reader import Run

VIEWS = 3
"""Views of each image that are written."""

EDGE = 96
"""Longest edge of a picture, pixels."""


def write_thumbs(run: Run, job: Job) -> list[Path]:
    """Writes the pictures.

    Args:
        run: The finished audit.
        job: The encoders, images and views that the audit was made from.

    Returns:
        The files.

    Raises:
        ImportError: If Pillow is missing.
        OSError: If a file cannot be written.
    """
    written = []
    row_of = {position: row for row, position in enumerate(job.source.index)}
    spec = job.options.spec()
    for position in thumbnail_indices(read_arrays(run), run.manifest.data.duplicates):
        image = job.source.image(row_of[position])
        drawn, _ = draw(job, [image], torch.tensor([position]), PhaseTimer())
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
    picture = require("PIL.Image", "pillow").fromarray(whole.squeeze(2) if whole.shape[2] == 1 else whole)
    picture.thumbnail((EDGE, EDGE))
    with replace_atomically(path) as part:
        picture.save(part)
    return path
