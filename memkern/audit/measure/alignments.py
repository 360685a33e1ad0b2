"""Alignments of every single encoder at the output, from the readings that a RUN folder keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np

from memkern.audit.measure.reading_files import path_of, read_alignment
from memkern.audit.run_folder.arrays import Floats, RunArrays
from memkern.audit.run_folder.reader import Run
from memkern.families.cells import UNKNOWN
from memkern.families.design import Control, Design, design


@dataclass(frozen=True)
class Alignments:
    """Alignments at the output.

    Attributes:
        encoders: Names of the encoders, `[K]`.
        values: Mean distance between the views of each image, `[N, K]`.
        design: Who saw which image, as the scores of the audit see it: an image with NaN is unknown.
    """

    encoders: list[str]
    values: Floats
    design: Design


def output_alignments(run: Run, data: RunArrays) -> Alignments | None:
    """Reads the alignments of every encoder at the output.

    Args:
        run: The audit.
        data: Its tables.

    Returns:
        The alignments; `None` where the folder keeps no readings of its encoders, or memberships are unknown.
    """
    names = [str(name) for name in data.encoders.get("encoder", [])]
    found = data.significance
    if not names or found is None:
        return None
    if not {f"member/{name}" for name in names} <= set(run.samples.column_names):
        return None
    columns = [_column(run, name) for name in names]
    if any(len(column) != len(data.ids) for column in columns):
        return None
    values = np.stack(columns, axis=1)
    member = np.stack([run.samples[f"member/{name}"].to_numpy() for name in names], axis=1)
    member = np.where((np.isnan(values) & (member != UNKNOWN)).any(1)[:, None], UNKNOWN, member)
    return Alignments(names, values, design(member, encoders=names, control=cast("Control", found.control)))


def _column(run: Run, name: str) -> Floats:
    """Alignments of an encoder at the output, `[N]`; empty without readings."""
    place, shards = run.layer_names.index(run.output), range(run.manifest.shards)
    if not all(path_of(run.folder, name, number).exists() for number in shards):
        return np.zeros(0)
    parts = [read_alignment(run.folder, name, number, place).double().numpy() for number in shards]
    return np.concatenate(parts)
