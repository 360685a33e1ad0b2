"""Sources of image files, one file per image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from memkern.audit.data.reader import decoded
from memkern.audit.data.source import Source, list_digest, unrepeated


def source_of_files(name: str, ids: Sequence[str], paths: Sequence[Path]) -> Source:
    """Makes a source of image files; a file that is named twice is used once.

    Args:
        name: What the user wrote.
        ids: Name of each image.
        paths: File of each image.

    Returns:
        The source, without labels.
    """
    keep, again = unrepeated([str(path.resolve()) for path in paths])
    ids, paths = [ids[row] for row in keep], [paths[row] for row in keep]
    sizes = [path.stat().st_size if path.exists() else -1 for path in paths]
    return Source(
        name,
        tuple(ids),
        lambda position: decoded(paths[position]),
        list_digest([f"{each}\t{size}" for each, size in zip(ids, sizes, strict=True)]),
        paths=tuple(str(path) for path in paths),
        repeated=again,
    )
