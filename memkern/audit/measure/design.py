"""The design of an audit: what its encoders and groups let it score, by `memkern.families`."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from memkern.audit.data.membership import SeenImages
from memkern.audit.options import Options
from memkern.errors import DataError
from memkern.families.cells import Cells
from memkern.families.design import Control, Design, design
from memkern.families.units import balanced_images


def design_of(seen: SeenImages, options: Options) -> Design | None:
    """Looks at who saw what.

    Args:
        seen: Which encoder was trained on which image.
        options: The control group that is asked for.

    Returns:
        The design; `None` if nobody says who saw what, or there are no encoders to compare.

    Raises:
        DataError: If no image can be scored, or the control group is not there.
    """
    if not seen.is_known or ("g" not in seen.roles and "" not in seen.roles):
        if seen.is_known and len(seen.encoders) > 1 and not any(seen.groups) and not seen.candidates.any():
            raise DataError(
                "Expected encoders that differ in the images they were trained on, got the same members for all "
                f"{len(seen.encoders)}: memorization is the difference; add encoders, or correct their members"
            )
        if options.control in ("extra", "shared"):
            raise DataError(
                f"Expected --groups and --reference with --control {options.control}: without them no image is "
                "known to be a control"
            )
        return None
    control = cast("Control", options.control)
    return design(seen.membership, pictures=seen.picture_numbers, encoders=seen.encoders, control=control)


def one_sided_images(of: Design) -> str:
    """Says how many images of a varying design cannot be scored, and why; "" if there are none."""
    cells = Cells.of(of.membership)
    none_in, none_out = int((cells.n_in == 0).sum()), int((cells.n_out == 0).sum())
    count = int((~cells.two_sided).sum())
    if of.kind == "fixed" or not count:
        return ""
    return (
        f"{count} of {len(of.scored)} images are not scored: {none_in} have no encoder that was trained on them, "
        f"{none_out} none that was not; add encoders to score them."
    )


def balanced_rows(of: Design | None) -> Tensor | None:
    """Finds the images among which the peaks of units are looked for.

    Args:
        of: The design.

    Returns:
        `[N]` bool; `None` if there are fewer than two, or no images that a g was trained on and an f was not.
    """
    if of is None or (of.role is not None and not of.group("independent").any()):
        return None
    rows = torch.from_numpy(balanced_images(of))
    return rows if int(rows.sum()) > 1 else None
