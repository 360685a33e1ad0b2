"""Membership: which encoder was trained on which image, from the files and ranges that a user names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from memkern._util.text import did_you_mean
from memkern.audit.data.files import read_table, what_is
from memkern.audit.data.groups import ImageNames
from memkern.audit.data.source import Source
from memkern.audit.encoders.spec import parse
from memkern.errors import DataError
from memkern.families.cells import IN, OUT, UNKNOWN, Flags, Ints, Membership
from memkern.families.design import GROUPS

Names = tuple[str | None, ...]
"""A name for each image, `None` where there is none."""


@dataclass(frozen=True)
class EncoderLine:
    """An encoder of an audit, as the user describes it.

    Attributes:
        name: Its name in the results.
        role: "f", trained with the candidates, or "g", trained without them; "" if the file of `--encoders` lists it.
        encoder: The encoder, as the user wrote it.
        weights: The file of its weights, as the user wrote it.
        members: File or range of the images that it was trained on; "" for none of them. Of listed encoders alone.
    """

    name: str
    role: str
    encoder: str
    weights: str
    members: str = ""


@dataclass(frozen=True)
class SeenImages:
    """Membership of N images in the trainings of K encoders.

    Attributes:
        encoders: Names of the encoders.
        roles: Role of each encoder: "f" or "g" of a fixed split, "" where membership varies by image.
        membership: `[N, K]` int8: 1 the encoder was trained on the image, 0 it was not, -1 nobody says.
        candidates: `[N]`: the f's were trained on the image, the g's were not.
        groups: Group of each image; empty if none was named.
        pictures: Picture that each image was cut from; empty if none was named.
    """

    encoders: tuple[str, ...]
    roles: tuple[str, ...]
    membership: Membership
    candidates: Flags
    groups: Names = ()
    pictures: Names = ()

    @property
    def is_known(self) -> bool:
        """True if anything was said of any image and encoder."""
        return bool((self.membership != UNKNOWN).any())

    @property
    def picture_numbers(self) -> Ints:
        """Numbers of the pictures of the images, `[N]` int64; an image of no named one is a picture of its own."""
        own = [f"={row}" if name is None else f"#{name}" for row, name in enumerate(self.pictures)]
        if not own:
            return np.arange(len(self.membership))
        return np.unique(own, return_inverse=True)[1].astype(np.int64)

    def without(self, rows: set[int]) -> SeenImages:
        """Leaves some images out."""
        keep = [row for row in range(len(self.membership)) if row not in rows]
        groups, pictures = (tuple(each[row] for row in keep) if each else () for each in (self.groups, self.pictures))
        return replace(
            self, membership=self.membership[keep], candidates=self.candidates[keep], groups=groups, pictures=pictures
        )


def split_lines(encoder: str, weights: Sequence[str], reference: Sequence[str]) -> tuple[EncoderLine, ...]:
    """Names the encoders of a split: f and g of a pair, else f1, f2, … and g1, g2, … in order.

    Args:
        encoder: The encoder, as the user wrote it.
        weights: File of the weights of each f.
        reference: File of the weights of each g.

    Returns:
        The encoders, the f's first.
    """
    alone = len(weights) <= 1 and len(reference) <= 1
    return tuple(
        EncoderLine(role if alone else f"{role}{number}", role, encoder, file)
        for role, files in (("f", weights), ("g", reference))
        for number, file in enumerate(files, 1)
    )


def listed_lines(path: Path) -> tuple[EncoderLine, ...]:
    """Reads the file of `--encoders`.

    Args:
        path: A `.csv` or `.parquet` file with the columns name, encoder, weights and members. Files that it names are
            looked for in its own folder first.

    Returns:
        The encoders, in the order of the file.

    Raises:
        DataError: If the file or a column is missing, a cell is empty, or an encoder is named twice.
    """
    if not path.is_file():
        raise _no_table("--encoders", path)
    table = read_table(path, ("name", "encoder", "weights", "members"))
    if not table["name"]:
        raise DataError(f"Expected {path} to list at least one encoder, got none")
    for column in ("name", "encoder", "weights"):
        empty = [number for number, cell in enumerate(table[column], 1) if not cell]
        if empty:
            raise DataError(f"Expected encoder {empty[0]} of {path} to have {column}, got an empty cell")
    twice = [name for place, name in enumerate(table["name"]) if name in table["name"][:place]]
    if twice:
        raise DataError(f"Expected each encoder of {path} once, got {twice[0]!r} twice: leave one out, or rename it")
    rows = zip(table["name"], table["encoder"], table["weights"], table["members"], strict=True)
    return tuple(
        EncoderLine(name, "", encoder, _beside(path, weights), _beside(path, members))
        for name, encoder, weights, members in rows
    )


def _beside(path: Path, text: str) -> str:
    """The file that a cell names, in the folder of the table if it is there; arguments after "?" stay."""
    if not text:
        return text
    name = parse(text).name
    return f"{path.parent / name}{text.removeprefix(name)}" if (path.parent / name).exists() else text


def find_membership(
    source: Source, encoders: Sequence[EncoderLine], *, groups: str | None = None, candidates: str | None = None
) -> SeenImages:
    """Finds which encoder was trained on which image.

    Args:
        source: The images.
        encoders: The encoders, with their roles or the images that each was trained on.
        groups: File of `--groups`: the group of each image, for encoders with roles; and pictures.
        candidates: `--candidates`: images that the f's were trained on and the g's were not. Nothing is known of the
            others.

    Returns:
        Membership, groups and pictures.

    Raises:
        DataError: If a file is missing or does not fit, an id is unknown, or an image is in two groups.
    """
    names = ImageNames(source)
    known = tuple(each.name for each in encoders)
    listed = not all(each.role for each in encoders)
    group_of: Names = ()
    pictures: Names = ()
    if groups is not None:
        group_of, pictures = _read_groups(names, Path(groups), listed=listed)
    if listed:
        return _of_listed(known, _members(names, encoders), pictures)
    of_image = np.full((len(source), 2), UNKNOWN, dtype=np.int8)  # by the f's, by the g's
    if candidates is not None:
        of_image[names.listed(candidates, "--candidates")] = GROUPS["candidate"]
    for group, seen_by in GROUPS.items():
        of_image[np.fromiter((name == group for name in group_of), dtype=bool, count=len(group_of)).nonzero()] = seen_by
    by_role = of_image[:, [0 if each.role == "f" else 1 for each in encoders]]
    is_candidate: Flags = (of_image == GROUPS["candidate"]).all(1)
    return SeenImages(known, tuple(each.role for each in encoders), by_role, is_candidate, group_of, pictures)


def _no_table(option: str, path: Path) -> DataError:
    return DataError(f"Expected {option} to be a .csv or .parquet file, got {str(path)!r}; {what_is(path)}")


def _of_listed(known: tuple[str, ...], membership: Membership, pictures: Names) -> SeenImages:
    """Membership of listed encoders: if its columns are of two kinds they are a split, the first encoder is an f."""
    like_first = (membership == membership[:, :1]).all(0)
    f, g = membership[:, like_first], membership[:, ~like_first]
    is_split = bool((g == g[:, :1]).all())
    is_candidate: Flags = (f == IN).all(1) & (g == OUT).all(1) & (is_split and g.shape[1] > 0)
    roles = tuple("" if not is_split else "f" if each else "g" for each in like_first)
    return SeenImages(known, roles, membership, is_candidate, (), pictures)


def _read_groups(names: ImageNames, path: Path, *, listed: bool) -> tuple[Names, Names]:
    """Group and picture of each image from the file of `--groups`; with listed encoders it has pictures alone."""
    if not path.is_file():
        raise _no_table("--groups", path)
    table = read_table(path, ("id", "picture") if listed else ("id", "group"), () if listed else ("picture",))
    if not table["id"]:
        raise DataError(f"Expected {path} to name at least one image, got none")
    rows = names.rows(table["id"], f"--groups {path}")
    groups = table.get("group", [])
    if set(groups) - {*GROUPS, ""}:
        pairs = zip(table["id"], groups, strict=True)
        name, group = next((name, group) for name, group in pairs if group not in (*GROUPS, ""))
        near = did_you_mean(group, GROUPS)
        raise DataError(
            f"Expected a group of {path} to be {', '.join(GROUPS)} or empty, got {group!r} for {name!r}{near}"
        )
    of_image = (_by_row(names.source, rows, table.get(each), f"{each} of {path}") for each in ("group", "picture"))
    return next(of_image), next(of_image)


def _by_row(source: Source, rows: Ints, values: Sequence[str] | None, what: str) -> Names:
    """The values by the rows of the images; an image that is named again must have the same one."""
    if values is None:
        return ()
    found: list[str | None] = [None] * len(source)
    for row, value in zip(rows, values, strict=True):
        before = found[row]
        if before is not None and before != value:
            raise DataError(
                f"Expected one {what} for each image, got {before!r} and {value!r} for {source.ids[row]!r}: correct "
                "one of the two lines"
            )
        found[row] = value
    return tuple(value or None for value in found)


def _members(names: ImageNames, encoders: Sequence[EncoderLine]) -> Membership:
    """Membership of listed encoders: in what each names, out of all the rest."""
    rows_of: dict[str, list[int]] = {"": []}
    membership = np.full((len(names.source), len(encoders)), OUT, dtype=np.int8)
    for place, each in enumerate(encoders):
        if each.members not in rows_of:
            rows_of[each.members] = names.listed(each.members, f"`members` of encoder {each.name!r}")
        membership[rows_of[each.members], place] = IN
    return membership
