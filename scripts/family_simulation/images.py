"""Single images: sizes, false discoveries and power of every design."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal
from unittest.mock import patch
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from family_simulation.worlds import AS_IS, Floats, Membership, World, random_rows, simulate, split_groups
from memkern import families
from memkern.errors import DataError

FDRS = (0.05, 0.10)


@dataclass(frozen=True)
class Row:
    """One design, and how often it is simulated.

    Attributes:
        name: Of the row.
        n_in: Encoders in (f).
        n_out: Encoders out (g).
        controls: Control images; 0 for a design that varies by image.
        images: Scored images.
        runs: How many families are drawn.
        world: How alignments come about.
        level: Whether levels are removed.
        check: Whether `p_check` is looked at in place of `p`.
        unknown: Share of unknown entries.
        picture: Images of a picture.
        control_pictures: Pictures of the controls, other ones than the candidates'; 0: `picture` images each.
        digits: Decimals that alignments are rounded to; None: not rounded.
        refused: What the library refuses and is computed here all the same: "no control", a moderated t of a fixed
            split with the levels left in, or "twice", every encoder entered twice; "" for everything else.
    """

    name: str
    n_in: int
    n_out: int
    controls: int = 0
    images: int = 1000
    runs: int = 100
    world: World = AS_IS
    level: families.images.Level = "auto"
    check: bool = False
    unknown: float = 0.0
    picture: int = 1
    control_pictures: int = 0
    digits: int | None = None
    refused: Literal["", "no control", "twice"] = ""


@dataclass(frozen=True)
class Outcome:
    """Means over runs, and their standard errors, `[7]` each.

    Size at 5 %; false-discovery proportion and power at 5 %, then at 10 %; correlation of the scores with the truth;
    whether any image is called. Few images may make two encoders look like one training: such families are refused,
    and in no mean.
    """

    values: NDArray[np.float64]
    errors: NDArray[np.float64]
    runs: int
    refused: int


def rows() -> Iterator[Row]:
    """The rows of the table."""
    yield from _halves()
    yield from _splits()
    yield from _conformal()
    yield from _harder()
    yield from _refused()
    yield from _nothing()


def _halves() -> Iterator[Row]:
    for level in ("auto", "none"):
        for sd in (0.06, 0.01, 0.0) if level == "auto" else (0.01, 0.06):
            for count in (4, 8, 16, 64):
                title = f"halves, K = {count}, levels of {sd:g}{'' if level == 'auto' else ' left in'}"
                runs = 30 if count == 64 else 100
                yield Row(title, count // 2, count // 2, runs=runs, world=World(level=sd), level=level)


def _split(name: str, n: int, controls: int, runs: int = 400) -> Row:
    return Row(name, n, n, controls=controls, images=300, runs=runs)


def _splits() -> Iterator[Row]:
    for controls in (30, 1000):
        for n in (2, 4, 8):
            yield _split(f"f/g {n} + {n}, {controls} controls", n, controls)


def _conformal() -> Iterator[Row]:
    for controls in (30, 100, 1000):
        yield replace(_split(f"f/g 4 + 4, {controls} controls, conformal", 4, controls), check=True)
    for world in (AS_IS, World(memorized=0.15)):
        more = "" if world is AS_IS else ", memorized by .15"
        for controls in (30, 100, 1000):
            yield replace(_split(f"one pair, {controls} controls{more}", 1, controls, 600), world=world)
    for digits in (2, 1):
        yield replace(_split(f"one pair, 100 controls, {digits} decimals", 1, 100, 600), digits=digits)


def _harder() -> Iterator[Row]:
    for unequal in (0.5, 1.0):
        for count in (4, 8, 16):
            name = f"halves, K = {count}, unequal noise {unequal:g}"
            yield Row(name, count // 2, count // 2, world=World(unequal=unequal))
    for degrees in (5, 3):
        yield Row(f"halves, K = 8, t noise, {degrees} degrees", 4, 4, world=World(degrees=degrees))
    shared = World(shared=0.5)
    yield Row("halves, K = 8, pictures of 30", 4, 4, runs=100, world=shared, images=990, picture=30)
    yield replace(_split("f/g 4 + 4, 100 controls, pictures of 30", 4, 100), world=shared, picture=30)
    yield Row("halves, K = 8, proportional levels", 4, 4, world=World(proportional=True))
    yield replace(_split("f/g 4 + 4, 100 controls, proportional levels", 4, 100), world=World(proportional=True))
    yield Row("leave one out, K = 8", 7, 1)
    yield Row("f/g 4 + 1, 100 controls", 4, 1, controls=100, images=300, runs=400)
    yield Row("halves, K = 8, 30 % unknown", 4, 4, unknown=0.3)
    yield Row("halves, K = 8, 30 images", 4, 4, images=30, runs=1000)
    for pictures in (10, 30):
        for name, n, runs in (("f/g 4 + 4", 4, 400), ("one pair", 1, 600)):
            row = _split(f"{name}, 300 controls in {pictures} other pictures", n, 300, runs)
            yield replace(row, world=shared, picture=30, control_pictures=pictures)
    for count in (14, 16):
        yield Row(f"halves, K = {count}, permutation", count // 2, count // 2, runs=30, check=True)


def _refused() -> Iterator[Row]:
    for n, runs in ((2, 400), (4, 400), (8, 100)):
        yield replace(_split(f"refused: f/g {n} + {n} without control", n, 0, runs), refused="no control")
    yield Row("refused: halves, 4 encoders entered twice", 2, 2, refused="twice")


def _nothing() -> Iterator[Row]:
    empty = World(share=0.0)
    for images in (300, 30):
        name = f"nothing memorized: one pair, {images} candidates, 1000 controls"
        yield Row(name, 1, 1, controls=1000, images=images, runs=1000, world=empty)
    for n, images in ((2, 300), (4, 300), (4, 30)):
        name = f"nothing memorized: f/g {n} + {n}, {images} candidates, 100 controls"
        yield Row(name, n, n, controls=100, images=images, runs=1000, world=empty)
    for count, world in ((4, empty), (8, empty), (8, World(share=0.0, unequal=1.0))):
        noise = ", unequal noise 1" if world.unequal else ""
        name = f"nothing memorized: halves, K = {count}{noise}"
        yield Row(name, count // 2, count // 2, images=300, runs=1000, world=world)
    yield Row("nothing memorized: halves, K = 8, 30 images", 4, 4, images=30, runs=1000, world=empty)


def simulated(row: Row, run: int) -> tuple[float, ...]:
    """The numbers of an `Outcome` in one family; NaN where the design allows no p or nothing is memorized."""
    rng = np.random.default_rng([crc32(row.name.encode()), run])
    membership, pictures = _membership(row, rng)
    design = families.design(membership, pictures=pictures)
    alignment, memorized = simulate(membership, rng, row.world, design.scored, pictures)
    if row.digits is not None:
        alignment = alignment.round(row.digits)
    found = _scores(row, alignment, design)
    p = found.p_check if row.check else found.p[0]
    null, told = design.scored & (memorized == 0) & ~np.isnan(p), design.scored & (memorized > 0) & ~np.isnan(p)
    q = families.benjamini_hochberg(p)
    values = [float((p[null] <= 0.05).mean())]
    for rate in FDRS:
        called = q <= rate
        power = float(called[told].mean()) if told.any() else np.nan
        values += [float((called & null).sum() / max(called.sum(), 1)), power]
    scored = null | told
    truth = np.corrcoef(found.sslmem[0, scored], memorized[scored])[0, 1] if told.any() else np.nan
    return (*values, float(truth), float((q <= FDRS[0]).any()))


def _scores(row: Row, alignment: Floats, design: families.Design) -> families.ImageScores:
    if not row.refused:
        return families.image_scores(alignment, design, level=row.level)
    if row.refused == "no control":  # as if the split varied by image, which lets it have a t
        return families.image_scores(alignment, replace(design, kind="varying", role=None), level="none")
    twice = families.design(np.repeat(design.membership, 2, axis=1))
    with patch.object(families.images, "refuse_duplicates"):
        return families.image_scores(np.repeat(alignment, 2, axis=1), twice)


def outcome(row: Row, runs: int | None = None) -> Outcome:
    """Simulates a row, as often as it says or `runs` times."""
    count, found = row.runs if runs is None else runs, []
    for run in range(count):
        try:
            found.append(simulated(row, run))
        except DataError:
            continue
    values = np.array(found)
    return Outcome(values.mean(0), values.std(0, ddof=1) / np.sqrt(len(found)), count, count - len(found))


HEAD = """| design | runs | size at 5 % | false discoveries at 5 % (10 %) | power | correlation with the truth |
| --- | --- | --- | --- | --- | --- |"""
HEAD_NOTHING = """| nothing is memorized | runs | size at 5 % | families that call an image at 5 % |
| --- | --- | --- | --- |"""


def line(row: Row, found: Outcome) -> str:
    """The row in markdown, below `HEAD`; `HEAD_NOTHING` if no image is memorized."""
    size, false, power, false_10, power_10, truth, called = found.values
    runs = f"{found.runs}, {found.refused} refused" if found.refused else str(found.runs)
    first = f"| {row.name} | {runs} | {size:.3f} ± {found.errors[0]:.3f} |"
    if row.world.share == 0:
        return f"{first} {called:.3f} ± {found.errors[6]:.3f} |"
    return f"{first} {false:.3f} ({false_10:.3f}) | {power:.2f} ({power_10:.2f}) | {truth:.2f} |"


def _membership(row: Row, rng: np.random.Generator) -> tuple[Membership, NDArray[np.int64]]:
    """The membership and the picture of every image; candidates and controls share pictures unless the row differs."""
    if not row.controls and row.refused != "no control":
        membership = random_rows(rng, row.images, row.n_in + row.n_out, row.n_in)
        membership[rng.random(membership.shape) < row.unknown] = -1
        return membership, np.arange(row.images) // row.picture
    membership = families.membership_of_groups(split_groups(row.images, row.controls), n_f=row.n_in, n_g=row.n_out)
    count = row.images + row.controls
    if not row.control_pictures:
        return membership, rng.permutation(count) // row.picture
    pictures = np.arange(row.images) // row.picture
    others = pictures.max() + 1 + np.arange(row.controls) % row.control_pictures
    return membership, np.concatenate([pictures, others])
