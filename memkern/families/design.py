"""Designs: who saw which image, what can be scored, and what it is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from memkern.errors import ArgumentTypeError, ArgumentValueError, DataError
from memkern.families.cells import IN, OUT, UNKNOWN, Flags, Ints, Membership

Control: TypeAlias = Literal["auto", "extra", "shared", "none"]

GROUPS = {"shared": (IN, IN), "candidate": (IN, OUT), "independent": (OUT, IN), "extra": (OUT, OUT)}
"""Group of an image -> whether the f's and whether the g's of a split saw it."""

MIN_CONTROLS, MIN_PICTURES = 30, 10
"""A control group has this many images at least; from the candidates' pictures, or from this many pictures."""


@dataclass(frozen=True)
class Design:
    """Membership of images in trainings, and what follows for scoring; `design()` makes it.

    Attributes:
        membership: `[N, K]` int8: 1 the encoder saw the image, 0 did not, -1 unknown.
        kind: "fixed" if the encoders fall in two classes with equal columns, f and g; else "varying".
        role: `[K]`, True for the f's of a fixed split; None in a varying design.
        scored: `[N]`, the images that get scores and p-values.
        control: `[N]`, the images that scored ones are compared with; none in a varying design.
        control_name: "extra", "shared" or "none".
        pictures: `[N]`, the number of the picture of each image: images of one picture are not independent.
        encoders: Names of the encoders.
    """

    membership: Membership
    kind: Literal["fixed", "varying"]
    role: Flags | None
    scored: Flags
    control: Flags
    control_name: Literal["extra", "shared", "none"]
    pictures: Ints
    encoders: tuple[str, ...]

    @property
    def n_encoders(self) -> int:
        """K."""
        return len(self.encoders)

    @property
    def has_control(self) -> bool:
        """True if there is a control group."""
        return self.control_name != "none"

    @property
    def strata(self) -> tuple[Ints, ...]:
        """The encoders by kind, f's and g's of a fixed split, else all in one."""
        if self.role is None:
            return (np.arange(self.n_encoders),)
        return np.flatnonzero(self.role), np.flatnonzero(~self.role)

    def fitted(self) -> Membership:
        """Membership `[N, K]` of the images that levels are fitted on, -1 elsewhere.

        Scored and control images of a fixed split, all images of a varying design.
        """
        if self.role is None:
            return self.membership
        return np.where((self.scored | self.control)[:, None], self.membership, UNKNOWN).astype(np.int8)

    def by_role(self) -> Membership:
        """Membership `[N, K]` as if every image were a candidate: f's in, g's out; as it is in a varying design.

        A control image has no encoder in and out of its own; its score compares the f's with the g's all the same.
        """
        if self.role is None:
            return self.membership
        return np.where(self.membership == UNKNOWN, UNKNOWN, self.role[None, :]).astype(np.int8)

    def group(self, name: str) -> Flags:
        """`[N]`, the images of a group of a fixed split: "shared", "candidate", "independent" or "extra"."""
        if self.role is None:
            raise ArgumentValueError(f"Groups like {name!r} exist in a fixed split only; this design varies by image")
        return _is_group(self.membership, self.role, name)


def membership_of_groups(groups: Sequence[str], *, n_f: int = 1, n_g: int = 1) -> Membership:
    """The membership matrix of a fixed split: F trainings with the candidates, G without.

    Args:
        groups: `[N]`: "candidate" (the f's saw the image), "independent" (the g's), "shared" (all), "extra" (none) or
            "unknown".
        n_f: How many encoders are f.
        n_g: How many are g.

    Returns:
        `[N, n_f + n_g]` int8, the f's first.

    Raises:
        ArgumentValueError: If there is no f or no g.
        DataError: If a group has another name.

    Example:
        >>> membership_of_groups(["candidate", "extra"], n_f=1, n_g=2).tolist()
        [[1, 0, 0], [0, 0, 0]]
    """
    if n_f < 1 or n_g < 1:
        raise ArgumentValueError(f"Expected at least one f and one g, got {n_f} and {n_g}")
    rows = GROUPS | {"unknown": (UNKNOWN, UNKNOWN)}
    for place, name in enumerate(groups):
        if name not in rows:
            raise DataError(f"Unknown group {name!r} of image {place}: expected one of {', '.join(rows)}")
    pairs = np.array([rows[name] for name in groups], dtype=np.int8).reshape(-1, 2)
    return np.repeat(pairs, [n_f, n_g], axis=1)


def design(
    membership: ArrayLike,
    *,
    groups: Sequence[str] | None = None,
    pictures: ArrayLike | None = None,
    encoders: Sequence[str] | None = None,
    scored: ArrayLike | None = None,
    control: Control = "auto",
) -> Design:
    """Looks at who saw which image: whether the split is fixed, what can be scored, what it is compared with.

    Args:
        membership: `[N, K]` integers: 1 the encoder saw the image, 0 did not, -1 unknown. The encoders are a fixed
            split if their columns are of two kinds; those like the first are f.
        groups: `[N]`, names of the images' groups in a fixed split; compared with the membership. The membership says
            the same, so they may be left out.
        pictures: `[N]`, whatever names the picture that an image was cut from; every image its own by default.
        encoders: `[K]`, names of the encoders; "0", "1", ... by default.
        scored: `[N]` bool, the images to score; by default every image that can be (the candidates of a fixed split).
        control: "extra" or "shared" (30 images at least, from the candidates' pictures or from 10 pictures at least);
            "auto" takes the first of them that there is; "none" forgoes it.

    Returns:
        The design, with its kind, the scored images, and the images they are compared with.

    Raises:
        ArgumentTypeError: If `membership` does not hold integers.
        ArgumentValueError: If a shape does not fit, a value of `membership` is not 1, 0 or -1, or there is one encoder.
        DataError: If an encoder is named twice, groups are unknown or contradict the membership, an image to score has
            no encoder in or none out, or a named control group is too small.

    Example:
        >>> split = design(membership_of_groups(["candidate"] * 4 + ["extra"] * 30))
        >>> split.kind, int(split.scored.sum()), split.control_name
        ('fixed', 4, 'extra')
    """
    table = _membership(membership)
    n_images, n_encoders = table.shape
    names = tuple(str(k) for k in range(n_encoders)) if encoders is None else tuple(encoders)
    _check_encoders(names, n_encoders)
    picture = _pictures(pictures, n_images)
    role = _role(table)
    if groups is not None:
        _check_groups(groups, table, role)
    able = _scorable(table, role)
    chosen = able if scored is None else _asked(scored, able, role)
    if not chosen.any():
        what = "candidates: images that the f's saw and the g's did not" if role is not None else "images in and out"
        raise DataError(f"No image can be scored: expected {what}; two encoders must differ in what they saw")
    name, mask = _control(table, role, chosen, picture, control)
    kind: Literal["fixed", "varying"] = "varying" if role is None else "fixed"
    return Design(table, kind, role, chosen, mask, name, picture, names)


def _membership(given: ArrayLike) -> Membership:
    table = np.asarray(given)
    if table.dtype.kind not in "iub":
        raise ArgumentTypeError(f"Expected `membership` to hold integers (1, 0, -1), got {table.dtype}")
    if table.ndim != 2 or table.shape[1] < 2 or len(table) == 0:
        raise ArgumentValueError(
            f"Expected `membership` to have shape [N, K] with K >= 2 encoders, got {list(table.shape)}: memorization "
            "is the difference between encoders that saw an image and encoders that did not"
        )
    if table.dtype.kind != "b" and not np.isin(table, (IN, OUT, UNKNOWN)).all():
        wrong = table[~np.isin(table, (IN, OUT, UNKNOWN))][0]
        raise ArgumentValueError(f"Expected `membership` to hold 1 (in), 0 (out) and -1 (unknown), got {wrong}")
    return table.astype(np.int8)


def _check_encoders(names: tuple[str, ...], count: int) -> None:
    if len(names) != count:
        raise ArgumentValueError(f"Expected `encoders` to name {count} encoders [K], got {len(names)}")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"Encoder {twice[0]!r} is named twice: a training counts once, so leave the second entry out")


def _pictures(given: ArrayLike | None, count: int) -> Ints:
    if given is None:
        return np.arange(count)
    listed = np.asarray(given)
    if listed.shape != (count,):
        raise ArgumentValueError(f"Expected `pictures` to have shape [{count}] [N], got {list(listed.shape)}")
    return np.unique(listed, return_inverse=True)[1].astype(np.int64)


def _role(table: Membership) -> Flags | None:
    """Encoders that are f in a fixed split; None if columns are of more kinds. One kind alone is a split without g."""
    first: Flags = (table == table[:, :1]).all(0)
    others = np.flatnonzero(~first)
    if len(others) and not (table[:, others] == table[:, others[:1]]).all():
        return None
    return first


def _is_group(table: Membership, role: Flags, name: str) -> Flags:
    inside, outside = GROUPS[name]
    rows: Flags = (table == np.where(role, inside, outside)).all(1)
    return rows


def _check_groups(groups: Sequence[str], table: Membership, role: Flags | None) -> None:
    if len(groups) != len(table):
        raise ArgumentValueError(f"Expected `groups` to name {len(table)} groups [N], got {len(groups)}")
    if role is None:
        raise DataError("Groups describe a fixed split, but the encoders saw more than two sets: leave `groups` out")
    expected = membership_of_groups(groups)
    wrong = np.flatnonzero((table != np.where(role, expected[:, :1], expected[:, 1:])).any(1))
    if len(wrong):
        place = int(wrong[0])
        raise DataError(
            f"Image {place} is in group {groups[place]!r}, but its membership is {table[place].tolist()} "
            f"({len(wrong)} such images): correct one of the two; the first encoder is f"
        )


def _scorable(table: Membership, role: Flags | None) -> Flags:
    if role is not None:
        return _is_group(table, role, "candidate") & (not role.all())
    both: Flags = (table == IN).any(1) & (table == OUT).any(1)
    return both


def _asked(scored: ArrayLike, able: Flags, role: Flags | None) -> Flags:
    chosen = np.asarray(scored)
    if chosen.dtype != np.bool_ or chosen.shape != able.shape:
        raise ArgumentValueError(f"Expected `scored` to be bool of shape {list(able.shape)} [N], got {chosen.dtype}")
    wrong = np.flatnonzero(chosen & ~able)
    if len(wrong):
        wanted = (
            "an encoder that saw it and one that did not" if role is None else "to be in the f's and not in the g's"
        )
        raise DataError(
            f"Image {wrong[0]} cannot be scored ({len(wrong)} such images): expected {wanted}; leave the image out of "
            "`scored` or add encoders"
        )
    return chosen


def _control(
    table: Membership, role: Flags | None, scored: Flags, pictures: Ints, asked: Control
) -> tuple[Literal["extra", "shared", "none"], Flags]:
    """The control group and its name."""
    if asked not in ("auto", "extra", "shared", "none"):
        raise ArgumentValueError(f'Expected `control` to be "auto", "extra", "shared" or "none", got {asked!r}')
    nothing = np.zeros(len(table), dtype=np.bool_)
    if role is None:
        if asked in ("extra", "shared"):
            raise DataError(f'A design that varies by image is its own control: leave `control="{asked}"` out')
        return "none", nothing
    names: tuple[Literal["extra", "shared"], ...] = ("extra", "shared")
    for name in names:
        if asked not in ("auto", name):
            continue
        mask = _is_group(table, role, name)
        held = np.unique(pictures[mask])
        own = bool(np.isin(held, pictures[scored]).all())
        if mask.sum() >= MIN_CONTROLS and (own or len(held) >= MIN_PICTURES):
            return name, mask
        if asked == name:
            raise DataError(
                f"Expected at least {MIN_CONTROLS} {name!r} images as control, from the candidates' pictures or from "
                f"{MIN_PICTURES} pictures, got {int(mask.sum())} from {len(held)}: add images of the same source"
            )
    return "none", nothing
