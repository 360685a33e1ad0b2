"""Sources of image files, one file per image."""

from __future__ import annotations

import os
from collections.abc import Sequence

from memkern._util.text import escaped_all
from memkern.audit.data.reader import pixels_of, with_pixels
from memkern.audit.data.source import Source, list_digest, unrepeated
from memkern.audit.encoders.spec import Spec


def source_of_files(
    spec: Spec,
    ids: Sequence[str],
    paths: Sequence[str],
    *,
    keys: Sequence[str] | None = None,
    sizes: Sequence[int] | None = None,
) -> Source:
    """Makes a source of image files; a file that is named twice is used once.

    Args:
        spec: What the user wrote.
        ids: Name of each image.
        paths: File of each image.
        keys: What tells whether two of them are one file; by default found from the paths.
        sizes: Bytes of each file; by default asked for.

    Returns:
        The source, without labels.
    """
    keys = [os.path.realpath(path) for path in paths] if keys is None else keys
    sizes = [os.stat(path).st_size if os.path.exists(path) else -1 for path in paths] if sizes is None else sizes
    ids, pixels = escaped_all(ids), pixels_of(spec)
    keep, again = unrepeated(keys)
    if again:
        repeated = set(range(len(ids))) - set(keep)
        again = tuple(ids[row] for row in sorted(repeated))
        ids, paths, sizes = [ids[row] for row in keep], [paths[row] for row in keep], [sizes[row] for row in keep]
    source = Source(
        spec.text,
        tuple(ids),
        lambda position: pixels.file(paths[position]),
        list_digest([f"{each}\t{size}" for each, size in zip(ids, sizes, strict=True)]),
        paths=tuple(paths),
        repeated=again,
    )
    return with_pixels(source, spec)
