"""The images of an audit before the long work: a look at every one, labels, candidates, copies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from memkern._util.text import first_of
from memkern.audit.data import check
from memkern.audit.data.groups import candidate_rows
from memkern.audit.data.labels import apply_labels
from memkern.audit.data.open import open_source
from memkern.audit.data.source import Source
from memkern.audit.measure.process_group import ProcessGroup
from memkern.audit.options import Options
from memkern.errors import DataError


@dataclass(frozen=True)
class CheckedImages:
    """Images that can all be read.

    Attributes:
        source: The images, with the labels that the options ask for.
        candidates: Whether each image is a candidate.
        sizes: Height and width of each image.
        n_listed: How many there were before those that cannot be read were left out.
        skipped: Id and reason of each image that was left out.
        duplicates: Image, its copy, "exact" or "near".
    """

    source: Source
    candidates: list[bool]
    sizes: list[tuple[int, int]]
    n_listed: int
    skipped: list[tuple[str, str]]
    duplicates: list[tuple[str, str, str]]

    @property
    def columns(self) -> dict[str, Sequence[object]]:
        """Lists the columns id, index, path, label and candidate, one entry per image."""
        source, nothing = self.source, [None] * len(self.source)
        return {
            "id": source.ids,
            "index": source.index,
            "path": source.paths or nothing,
            "label": source.labels or nothing,
            "candidate": self.candidates,
        }


def find_images(
    options: Options,
    source: Source | None,
    group: ProcessGroup,
    *,
    log: Callable[[str], None],
    on_image: Callable[[int], None] | None,
) -> CheckedImages:
    """Finds the images and looks at every one.

    Args:
        options: Which images, and what to do with those that cannot be read.
        source: The images, in place of those that the options name.
        group: The processes; each looks at its share.
        log: Told what the user should know.
        on_image: Called with 1 after each image.

    Returns:
        The images that can be read, with labels, candidates and copies.

    Raises:
        DataError: If an image cannot be read, a label or candidate does not fit, or there are fewer than 2 images.
    """
    source = apply_labels(source or open_source(options.data), options.labels)
    if options.candidates is not None:
        candidate_rows(source, options.candidates)  # a list that does not fit is wrong before a look at every image
    n_listed = len(source)
    found = _looked_at(options, source, group, on_image)
    skipped = check.unreadable(source, found)
    if skipped and not options.skip_corrupt:
        listed = first_of([f"{name} ({reason})" for name, reason in skipped], separator="; ")
        raise DataError(
            f"Expected {n_listed} images in {source.name} that can be read; {len(skipped)} cannot: {listed}; "
            "repair them, or leave them out with --skip-corrupt"
        )
    if skipped:
        source = source.without({row for row, each in enumerate(found) if each.error})
        found = [each for each in found if not each.error]
    if len(source) < 2:
        raise DataError(
            f"Expected 2 images or more in {source.name}, got {len(source)}: there is nothing to compare with"
        )
    if source.labels is not None and len(set(source.labels)) < 2:
        log("All images have one label, so ClassMem is left out.")
        source = replace(source, labels=None, classes=None)
    return CheckedImages(
        source=source,
        candidates=[False] * len(source) if options.candidates is None else candidate_rows(source, options.candidates),
        sizes=[each.size for each in found],
        n_listed=n_listed,
        skipped=skipped,
        duplicates=check.copies(source.ids, found) if options.duplicates else [],
    )


def _looked_at(
    options: Options, source: Source, group: ProcessGroup, on_image: Callable[[int], None] | None
) -> list[check.ImageCheck]:
    """Checks every image; each process looks at every `group.size`-th one."""
    mine = range(group.rank, len(source), group.size)
    own = check.check_images(source, mine, duplicates=options.duplicates, workers=options.workers, on_image=on_image)
    found: list[check.ImageCheck] = [check.ImageCheck("")] * len(source)
    for rank, share in enumerate(group.gather(own)):
        found[rank :: group.size] = share
    return found
