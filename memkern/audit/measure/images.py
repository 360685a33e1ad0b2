"""The images of an audit before the long work: a look at every one, labels, copies, and who saw them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from memkern._util.text import escaped_all, first_of
from memkern.audit.data import check
from memkern.audit.data.labels import apply_labels
from memkern.audit.data.membership import EncoderLine, SeenImages, find_membership
from memkern.audit.data.open import open_source
from memkern.audit.data.source import Source, list_digest
from memkern.audit.measure.process_group import ProcessGroup
from memkern.audit.options import Options
from memkern.audit.run_folder.columns import Column
from memkern.errors import DataError, ProcessError

COMMON = 8
"""So many images are looked at by every process: whole data sets that differ are found before the work."""


@dataclass(frozen=True)
class CheckedImages:
    """Images that can all be read.

    Attributes:
        source: The images, with the labels that the options ask for.
        seen: Which encoder was trained on which image.
        sizes: Height and width of each image that was looked at.
        n_listed: How many there were before those that cannot be read were left out.
        skipped: Id and reason of each image that was left out.
        duplicates: Image, its copy, "exact" or "near".
        contents: Digest of the pixels of each image, `[N, 32]` uint8; `None` where not every image was looked at.
    """

    source: Source
    seen: SeenImages
    sizes: list[tuple[int, int]]
    n_listed: int
    skipped: list[tuple[str, str]]
    duplicates: list[tuple[str, str, str]]
    contents: NDArray[np.uint8] | None

    @property
    def candidates(self) -> list[bool]:
        """Flags of the images that are candidates."""
        return [bool(each) for each in self.seen.candidates]

    @property
    def columns(self) -> dict[str, Column]:
        """Lists id, index, path, label, candidate, group, picture and `member/<encoder>`, one entry per image."""
        source, seen, nothing = self.source, self.seen, [None] * len(self.source)
        return {
            "id": source.ids,
            "index": source.index,
            "path": escaped_all(source.paths) if source.paths else nothing,
            "label": [None if label < 0 else label for label in source.labels] if source.labels else nothing,
            "candidate": seen.candidates,
            "group": seen.groups or nothing,
            "picture": seen.pictures or nothing,
            **{f"member/{name}": column for name, column in zip(seen.encoders, seen.membership.T, strict=True)},
        }


def open_images(options: Options, source: Source | None, lines: Sequence[EncoderLine]) -> tuple[Source, SeenImages]:
    """Opens the list of images and finds who saw them; what does not fit is wrong before a look at every image.

    Args:
        options: Which images, labels, groups and candidates.
        source: The images, in place of those that the options name.
        lines: The encoders.

    Returns:
        The images with their labels, and which encoder was trained on which of them.

    Raises:
        DataError: If there are no images, or a label, group, candidate or member does not fit.
    """
    opened = source or open_source(options.data, exif=options.exif, labels=options.labels == "auto")
    source = apply_labels(opened, options.labels)
    return source, find_membership(source, lines, groups=options.groups, candidates=options.candidates)


def look_at_images(
    options: Options,
    source: Source,
    seen: SeenImages,
    group: ProcessGroup,
    *,
    log: Callable[[str], None],
    on_image: Callable[[int], None] | None,
) -> CheckedImages:
    """Looks at the images: at all of them, at a sample, or at the first alone.

    Args:
        options: How many to look at, and what to do with images that cannot be read.
        source: The images.
        seen: Which encoder was trained on which of them.
        group: The processes; each looks at its share.
        log: Told what the user should know.
        on_image: Called with 1 after each image.

    Returns:
        The images that can be read, with labels, membership and copies.

    Raises:
        DataError: If an image cannot be read, or there are fewer than 2 images.
    """
    n_listed = len(source)
    rows = check.rows_to_look_at(n_listed, options.check)
    whole = len(rows) == n_listed
    _log_what_was_found(source, log)
    _require_one_list(source, group)
    found = _looked_at(options, source, rows, group, on_image)
    skipped = [(source.ids[row], each.error) for row, each in zip(rows, found, strict=True) if each.error]
    if skipped and not options.skip_corrupt:
        listed = first_of([f"{name} ({reason})" for name, reason in skipped], separator="; ")
        raise DataError(
            f"Expected {n_listed} images in {source.name} that can be read; {len(skipped)} of {len(rows)} cannot: "
            f"{listed}; repair them, or leave them out with --skip-corrupt"
        )
    if skipped:
        unreadable = {row for row, each in enumerate(found) if each.error}
        source, seen = source.without(unreadable), seen.without(unreadable)
        found = [each for each in found if not each.error]
    if len(source) < 2:
        raise DataError(
            f"Expected 2 images or more in {source.name}, got {len(source)}: there is nothing to compare with"
        )
    if source.labels is not None and len({*source.labels} - {-1}) < 2:
        log("All images have one label, so ClassMem is left out.")
        source = replace(source, labels=None, classes=None)
    return CheckedImages(
        source=source,
        seen=seen,
        sizes=[each.size for each in found],
        n_listed=n_listed,
        skipped=skipped,
        duplicates=check.copies(source, found) if options.duplicates and whole else [],
        contents=_contents(found) if whole else None,
    )


def _log_what_was_found(source: Source, log: Callable[[str], None]) -> None:
    """Says what is no image of the list, and which images have no label."""
    for note in source.notes:
        log(note)
    if source.left_out:
        log(f"Left out of {source.name}: {', '.join(f'{count} {what}' for what, count in source.left_out)}.")
    lacking = 0 if source.labels is None else source.labels.count(-1)
    if lacking:
        log(f"{lacking} of {len(source)} images have no label; ClassMem is measured on the others.")


def _contents(found: Sequence[check.ImageCheck]) -> NDArray[np.uint8] | None:
    if not all(each.content for each in found):
        return None
    return np.frombuffer(bytes.fromhex("".join(each.content for each in found)), dtype=np.uint8).reshape(-1, 32)


def _require_one_list(source: Source, group: ProcessGroup) -> None:
    """Requires all processes to have the same list of images, before each looks at its share of it."""
    if group.size == 1:
        return
    digests = group.gather(list_digest([source.digest, *source.ids, *(source.labels or ())]))
    other = next((rank for rank, digest in enumerate(digests) if digest != digests[0]), None)
    if other is not None:
        raise ProcessError(
            f"Expected all processes to have the same images and labels, got others in process {other} of {group.size} "
            "than in process 0: give all of them the same --data and --labels"
        )
    few = range(0, len(source), -(-len(source) // COMMON) or 1)
    pixels = group.gather([check.check_image(source, row, duplicates=False).content for row in few])
    for rank, each in enumerate(pixels):
        for row, digest, first in zip(few, each, pixels[0], strict=True):
            if digest != first:
                raise ProcessError(
                    f"Expected all processes to see the same pixels, got others of {source.ids[row]} in process {rank} "
                    f"of {group.size} than in process 0: give all of them the same files"
                )


def _looked_at(
    options: Options,
    source: Source,
    rows: Sequence[int],
    group: ProcessGroup,
    on_image: Callable[[int], None] | None,
) -> list[check.ImageCheck]:
    """Checks the images of some rows; each process looks at every `group.size`-th one."""
    mine = rows[group.rank :: group.size]
    hashed = options.duplicates and len(rows) == len(source)
    own = check.check_images(source, mine, duplicates=hashed, workers=options.workers, on_image=on_image)
    found: list[check.ImageCheck] = [check.ImageCheck("")] * len(rows)
    for rank, share in enumerate(group.gather(own)):
        found[rank :: group.size] = share
    return found
