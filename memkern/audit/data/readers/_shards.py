"""Data in several files: patterns of names, folders of shards, and the splits that the names tell."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from pathlib import Path

from memkern._util.text import first_of
from memkern.audit.data.classes import WITHOUT
from memkern.audit.data.decode import SUFFIXES
from memkern.audit.encoders.spec import Spec
from memkern.errors import DataError

SHARDS = (".parquet", ".tar")
"""Endings of files that hold many images each."""

MOST_SHARDS = 1 << 20
"""Files of the longest `{000..009}` that is read."""

_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
_SPLIT = re.compile(r"^(.*?)(?:-\d+(?:-of-\d+)?)?$")


def matching(pattern: str) -> list[Path]:
    """Finds the files that a pattern names.

    Args:
        pattern: A path with `*`, `?`, `[…]`, or `{000..009}` as WebDataset writes consecutive numbers.

    Returns:
        The files, sorted; of a path that exists itself, this path alone.

    Raises:
        DataError: If numbers in braces make too many files.
    """
    if Path(pattern).exists():
        return [Path(pattern)]
    patterns = [pattern]
    while found := _BRACES.search(patterns[0]):
        first, last = int(found[1]), int(found[2])
        count = (last - first + 1) * len(patterns)
        if not 0 < count <= MOST_SHARDS or len(found[2]) > 18:
            raise DataError(f"Expected 1 to {MOST_SHARDS} files in {pattern}, got {count}")
        width = len(found[1])
        patterns = [_BRACES.sub(f"{n:0{width}}", each, count=1) for each in patterns for n in range(first, last + 1)]
    return [Path(file) for each in patterns for file in sorted(glob.glob(each))]


def is_folder_of_shards(path: Path) -> bool:
    """Returns whether a folder holds `.parquet` or `.tar` files, right in it or one folder below, and no images."""
    return bool(_shards_in(path))


def folder_holds(suffix: str, path: Path) -> bool:
    """Returns whether a folder is one of shards with the ending `suffix`."""
    return {each.suffix for each in _shards_in(path)} == {suffix}


def _shards_in(path: Path) -> list[Path]:
    try:
        files = [each for each in [*path.glob("[!.]*"), *path.glob("[!.]*/[!.]*")] if each.is_file()]
    except OSError:  # a folder that cannot be read is said where it is walked
        return []
    if any(each.suffix.lower() in SUFFIXES for each in files):
        return []
    return sorted(each for each in files if each.suffix in SHARDS)


def shards(spec: Spec) -> list[tuple[str, Path]]:
    """Finds the files of a data set and the split that each belongs to.

    Args:
        spec: A file, a folder or a pattern; `?split=NAME` chooses a split.

    Returns:
        Split and file, sorted by split and name. The split is the folder and the name without the numbers of the shard,
        "train" of `data/train-00000-of-00002.parquet`; "" where all files are of one.

    Raises:
        DataError: If there is no such split.
    """
    path = spec.path
    files = _shards_in(path) if path.is_dir() else matching(spec.name)
    where = [each.parent.relative_to(path).as_posix() if path.is_dir() else "." for each in files]
    splits = [
        "/".join(part for part in (folder, str(_SPLIT.sub(r"\1", each.stem))) if part not in (".", "data"))
        for folder, each in zip(where, files, strict=True)
    ]
    return chosen_split(spec, sorted(zip(splits, files, strict=True)))


def chosen_split(spec: Spec, named: Sequence[tuple[str, Path]]) -> list[tuple[str, Path]]:
    """Keeps the split that `?split=NAME` asks for, else all.

    Args:
        spec: What the user wrote.
        named: Split and file.

    Returns:
        Split and file in order; the split is "" where only one is left.

    Raises:
        DataError: If there is no such split.
    """
    wanted = spec.arguments.get("split")
    kept = [(split, file) for split, file in named if wanted in (None, split)]
    if not kept:
        if not named:
            raise DataError(f"Expected {spec.name} to have splits, got none")
        known = ", ".join(dict.fromkeys(split for split, _ in named))
        raise DataError(f"Expected the split {wanted!r} in {spec.name}, got {known}")
    alone = len({split for split, _ in kept}) == 1
    return [("" if alone else split, file) for split, file in kept]


def same_classes(named: Sequence[tuple[str, tuple[str, ...] | None]], spec: Spec) -> tuple[str, ...] | None:
    """Requires that a number means one class in all parts of a data set.

    Args:
        named: Each part's name and the names of its classes, `None` where it has no names.
        spec: What the user wrote.

    Returns:
        The names of the classes; `None` where no part has any.

    Raises:
        DataError: If two parts have other names.
    """
    known = [(part, classes) for part, classes in named if classes is not None]
    for part, classes in known:
        if classes != known[0][1]:
            raise DataError(
                f"Expected the classes of {known[0][0]} in all of {spec.name}, {first_of(known[0][1])}; got "
                f"{first_of(classes)} in {part}: audit them one by one, ?split=NAME; {WITHOUT}"
            )
    return known[0][1] if known else None
