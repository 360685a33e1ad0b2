"""The scores of a finished audit, computed once more from the states in its RUN folder."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from memkern._util.files import strip_prefix
from memkern.audit.measure.finalize import measured_in
from memkern.audit.measure.scores import EncoderState, LayerState, RunScores, run_scores
from memkern.audit.measure.tables import candidate_groups, scores_of
from memkern.audit.run_folder.reader import Run
from memkern.errors import RunFolderError

IMAGES = ("id", "index", "path", "label", "candidate", "group", "picture")
"""Columns of the table of images that an audit begins with."""


def rescore(run: Run) -> RunScores:
    """Computes the scores of a finished audit from what its folder keeps.

    Args:
        run: The audit.

    Returns:
        The scores, the same bits as its tables.

    Raises:
        PlanError: If readings are missing or damaged.
        RunFolderError: If memkern 0.2 or earlier measured the audit with `--median` and did not keep the means of every
            image, or a file is damaged.
    """
    plan = run.manifest.plan
    if plan.encoders:
        kept = [name for name in run.samples.column_names if name in IMAGES or name.startswith("member/")]
        images = run.samples.select(kept).to_pydict()
        return scores_of(measured_in([run.folder], plan, images, run.manifest.data.duplicates))[0]
    if run.manifest.plan.median:
        raise RunFolderError(
            f"Expected an audit whose UnitMem is against the mean, got {run.folder}, measured with --median: the means "
            "of every image are not kept; its tables hold the scores"
        )
    candidate = torch.tensor(run.samples["candidate"].to_pylist(), dtype=torch.bool)
    groups = candidate_groups(candidate)
    return run_scores(
        layer_states(run),
        output=run.output,
        groups=groups,
        blocks=run.manifest.plan.blocks,
    )


def layer_states(run: Run) -> Iterator[LayerState]:
    """Reads the states of the layers of a finished audit, in forward order.

    Args:
        run: The audit, measured without `--median`.

    Yields:
        The state of each layer.

    Raises:
        RunFolderError: If a column of the table of images is missing.
    """
    for name in run.layer_names:
        kept = {kind: strip_prefix(f"{name}/{kind}/", run.state) for kind in ("unitmem", "classmem")}
        alignment_f = _column(run, f"alignment_f/{name}")
        if alignment_f is None:
            raise RunFolderError(f"Expected samples.parquet of {run.folder} to hold alignment_f/{name}; it does not")
        units = EncoderState("f", kept["unitmem"], kept["classmem"])
        yield LayerState(name, alignment_f, _column(run, f"alignment_g/{name}"), [units])


def _column(run: Run, name: str) -> Tensor | None:
    if name not in run.samples.column_names or run.samples[name].null_count == len(run.samples):
        return None
    return torch.from_numpy(run.samples[name].to_numpy().copy())
