"""Alignments of every single encoder at the output, from the readings that a RUN folder keeps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memkern.audit.measure.readings import path_of, read_alignment
from memkern.audit.run_folder.arrays import Floats, Ints, RunArrays
from memkern.audit.run_folder.reader import Run
from memkern.families.design import MIN_CONTROLS


@dataclass(frozen=True)
class Alignments:
    """Alignments at the output.

    Attributes:
        encoders: Names of the encoders, `[K]`.
        values: Mean distance between the views of each image, `[N, K]`.
        membership: 1 the encoder saw the image, 0 did not, -1 unknown, `[N, K]` int8.
        fixed: Whether the encoders are f's and g's of one split.
    """

    encoders: list[str]
    values: Floats
    membership: NDArray[np.int8]
    fixed: bool

    def sides(self, data: RunArrays, place: int) -> tuple[Ints, Ints]:
        """Rows of the members and of the others by which an encoder is attacked, as `memkern.families.attack` does."""
        if not self.fixed:
            able = np.flatnonzero((self.membership == 1).any(1) & (self.membership == 0).any(1))
            column = self.membership[able, place]
            return able[column == 1], able[column == 0]
        group = np.array([name or "" for name in data.group])
        extra = np.flatnonzero(group == "extra")
        others = extra if len(extra) >= MIN_CONTROLS else np.flatnonzero(group == "independent")
        return np.flatnonzero(group == "candidate"), others


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
    member = [run.samples[f"member/{name}"].to_numpy() for name in names]
    return Alignments(names, np.stack(columns, axis=1), np.stack(member, axis=1), found.design == "fixed")


def _column(run: Run, name: str) -> Floats:
    """Alignments of an encoder at the output, `[N]`; empty without readings."""
    place, shards = run.layer_names.index(run.output), range(run.manifest.shards)
    if not all(path_of(run.folder, name, number).exists() for number in shards):
        return np.zeros(0)
    parts = [read_alignment(run.folder, name, number, place).double().numpy() for number in shards]
    return np.concatenate(parts)
