"""Families of encoders for `memkern audit`: trained on random halves of some images, or as f's and g's of a split.

`write_family` leaves all that an audit needs in one folder, and `audit_command` says how to audit it.
"""

from __future__ import annotations

import itertools
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from memkern._util.files import read_json, replace_atomically, sha256, write_csv, write_json
from memkern.errors import ArgumentValueError, EncoderError, TrainingError
from memkern.lab.data.packaged import ImageSet
from memkern.lab.data.splits import Split
from memkern.lab.encoder_cache import EncoderCache
from memkern.lab.encoders.audit_kind import audit_name
from memkern.lab.encoders.build import build, described
from memkern.lab.training import checkpoint
from memkern.lab.training.recipe import Recipe, recipe_from

BLOCK = 4
"""Encoders whose halves are drawn together; a longer family begins with the encoders of a shorter one."""

FAMILY, IMAGES, VIEWS, ENCODERS, GROUPS = "family.json", "images.npz", "views.json", "encoders.csv", "groups.csv"
"""Files of a family: where it comes from, its images, what a view does, and who saw what."""

CUT = ("patches", "photos")
"""Data sets whose classes are the pictures that their images were cut from; images of a picture are not independent."""


@dataclass(frozen=True)
class FamilyEncoder:
    """Encoder of a family, before the training.

    Attributes:
        name: "e1", "e2", … of halves; "f1", …, "g1", … of a split.
        seed: Seed of the training.
        ids: Positions of the training images in the family's images, int64, ascending.
    """

    name: str
    seed: int
    ids: Tensor


@dataclass(frozen=True)
class Family:
    """Images, and the encoders that are to be trained on parts of them.

    Attributes:
        design: "halves" or "split".
        data: The data set.
        rows: Positions of the family's images in the data set, int64 `[N]`, ascending.
        seed: Seed that the design was drawn with.
        encoders: The encoders; the f's of a split come first.
        groups: Group of each image in a split, `[N]`; `None` of halves.
    """

    design: Literal["halves", "split"]
    data: ImageSet
    rows: Tensor
    seed: int
    encoders: tuple[FamilyEncoder, ...]
    groups: tuple[str, ...] | None = None

    @property
    def image_size(self) -> int:
        """Edge of an image, pixels."""
        return self.data.images.shape[-1]


def halves_family(data: ImageSet, rows: Tensor, trainings: int, seed: int) -> Family:
    """Draws a family in which every encoder is trained on about half of the images (`half_members`).

    Args:
        data: The data set.
        rows: Positions of the images in it, int64 `[N]`.
        trainings: K, how many encoders.
        seed: Seed of the draw, and of the seeds of the trainings.

    Returns:
        The family, untrained.

    Raises:
        ArgumentValueError: If there are fewer than 4 encoders or 2 images.
    """
    rows = rows.sort().values
    members = half_members(data.labels[rows], trainings, seed)
    encoders = (
        FamilyEncoder(f"e{k + 1}", 1000 * seed + k + 1, torch.nonzero(members[:, k]).flatten())
        for k in range(trainings)
    )
    return Family("halves", data, rows, seed, tuple(encoders))


def half_members(labels: Tensor, trainings: int, seed: int) -> Tensor:
    """Draws who sees which image: every image is in half of the encoders, every encoder sees half of each class.

    Encoders are drawn in blocks of four (the last has up to seven). Within a block the images of a class, in random
    order, take turns at the halves of the encoders; a half is followed by its complement, so that all encoders see
    equally many images. The first encoders do not depend on how many follow, up to multiples of four.

    Args:
        labels: Class of every image, int64 `[N]`.
        trainings: K, how many encoders, 4 or more.
        seed: Seed of the draw.

    Returns:
        `[N, K]` bool, true where the encoder sees the image. Of an even K exactly K / 2 are true in a row, of an odd
        one (K - 1) / 2 or (K + 1) / 2; two columns have counts that differ by 1 for each block at most.

    Raises:
        ArgumentValueError: If there are fewer than 4 encoders or 2 images.
    """
    if trainings < BLOCK:
        raise ArgumentValueError(
            f"Expected `trainings` to be {BLOCK} or more, so that every image has two encoders in and two out, "
            f"got {trainings}"
        )
    if len(labels) < 2:
        raise ArgumentValueError(f"Expected 2 images or more, got {len(labels)}")
    sizes = [BLOCK] * (trainings // BLOCK)
    sizes[-1] += trainings % BLOCK
    generator = torch.Generator().manual_seed(seed)
    return torch.cat([_block(labels, size, generator) for size in sizes], 1)


def _block(labels: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Membership `[N, size]` of a block of encoders."""
    halves = [half for half in itertools.combinations(range(size), size // 2) if size % 2 or 0 in half]
    first = torch.zeros(len(halves), size, dtype=torch.bool)
    for row, half in zip(first, halves, strict=True):
        row[list(half)] = True
    turns = torch.stack([first, ~first], 1).flatten(0, 1)
    order = torch.randperm(len(labels), generator=generator)
    order = order[labels[order].argsort(stable=True)]
    members = torch.empty(len(labels), size, dtype=torch.bool)
    members[order] = turns[torch.arange(len(labels)) % len(turns)]
    return members


def split_family(data: ImageSet, split: Split, n_f: int, n_g: int, seed: int) -> Family:
    """Makes a family of f's and g's of one split, from a seed each.

    Args:
        data: The data set.
        split: The four groups.
        n_f: How many encoders are trained on shared and candidate images.
        n_g: How many are trained on shared and independent ones.
        seed: Seed of the split, and of the seeds of the trainings.

    Returns:
        The family, untrained.
    """
    named = [(int(row), name) for name, ids in split.groups().items() for row in ids]
    rows, groups = zip(*sorted(named), strict=True)

    def encoder(name: str, own: str, training_seed: int) -> FamilyEncoder:
        ids = [place for place, group in enumerate(groups) if group in ("shared", own)]
        return FamilyEncoder(name, training_seed, torch.tensor(ids))

    # Odd seeds are f's and even ones g's: more of one kind leave those of the other, and so the cache, as they are.
    fs = (encoder(f"f{k + 1}", "candidate", 1000 * seed + 2 * k + 1) for k in range(n_f))
    gs = (encoder(f"g{k + 1}", "independent", 1000 * seed + 2 * k + 2) for k in range(n_g))
    return Family("split", data, torch.tensor(rows), seed, (*fs, *gs), groups)


def write_family(family: Family, recipe: Recipe, cache: EncoderCache, out: Path) -> None:
    """Trains the encoders that are not in the cache, and writes the folder of a family.

    Args:
        family: The images and the encoders.
        recipe: How to train.
        cache: Where trained encoders are kept.
        out: The folder; files of the same family, shorter or longer, are replaced.

    Raises:
        ArgumentValueError: If the folder holds another family, an encoder has fewer images than a batch, or the recipe
            names something that does not exist.
        EncoderError: If the encoder does not take images of that size.
    """
    about = _about(family, recipe)
    _check(family, recipe, about, out)
    trained = []
    for number, encoder in enumerate(family.encoders, 1):
        cache.log(f"encoder {number} of {len(family.encoders)}: {encoder.name}")
        rows = family.rows[encoder.ids]
        path = cache.weights(family.data, rows, encoder.seed, recipe)
        with replace_atomically(out / f"{encoder.name}.safetensors") as part:
            shutil.copyfile(path, part)
        note = read_json(path.with_suffix(".json"))
        made = {key: note[key] for key in ("last_loss", "epsilon", "threads", "made_with")}
        trained.append(
            {"name": encoder.name, "seed": encoder.seed, "members": len(rows), "sha256": sha256(path), **made}
        )
    images, labels = family.data.images[family.rows].numpy(), family.data.labels[family.rows].numpy()
    with replace_atomically(out / IMAGES) as part:
        np.savez_compressed(part, images=images, labels=labels)
    write_json(out / VIEWS, asdict(recipe.views))
    _write_members(family, recipe, out)
    classes = list(family.data.label_names)
    found = {"classes": classes, "images_sha256": sha256(out / IMAGES), "encoders": trained}
    write_json(out / FAMILY, about | found)


def audit_command(family: Family, recipe: Recipe, out: Path) -> str:
    """Writes the command line that audits a family with the views of its training.

    Args:
        family: The family.
        recipe: How its encoders were trained.
        out: The folder of the family.

    Returns:
        The command; its RUN is `run` in the folder of the family.
    """
    layers, output = audited_layers(recipe.encoder, family.image_size)
    words = ["memkern", "audit"]
    if family.groups is None:
        words += ["--encoders", str(out / ENCODERS)]
    else:
        words += [audit_name(recipe.encoder, family.image_size)]
        for option, role in (("--weights", "f"), ("--reference", "g")):
            named = (encoder.name for encoder in family.encoders)
            words += [option, *(str(out / f"{name}.safetensors") for name in named if name.startswith(role))]
    if _group_columns(family):
        words += ["--groups", str(out / GROUPS)]
    words += ["--data", str(out / IMAGES), "--transform", str(out / VIEWS)]
    words += ["--layers", ",".join(layers), "--output", output, "--out", str(out / "run")]
    return shlex.join(words)


def audited_layers(encoder: str, image_size: int) -> tuple[tuple[str, ...], str]:
    """Names the layers of an encoder of the lab that an audit measures, and the one at which SSLMem is measured.

    Args:
        encoder: One of `memkern.lab.encoders.build.NAMES`.
        image_size: Edge of an image, pixels.

    Returns:
        The layers, in order of depth, and the output.
    """
    network = described(build(encoder, image_size=image_size))
    return tuple(network.taps.values()), network.output


@dataclass(frozen=True)
class WrittenFamily:
    """Family in a folder, as its family.json describes it.

    Attributes:
        design: "halves" or "split".
        recipe: How its encoders were trained.
        classes: Name of each class; `None` in a folder of memkern 0.4 or before.
        files: File of images or weights -> its SHA-256.
    """

    design: str
    recipe: Recipe
    classes: tuple[str, ...] | None
    files: Mapping[str, str]


def read_family(folder: Path) -> WrittenFamily:
    """Reads what `write_family` left of a family beside its images and weights.

    Args:
        folder: The folder.

    Returns:
        The description.

    Raises:
        TrainingError: If there is none.
    """
    if not (folder / FAMILY).is_file():
        raise TrainingError(f"Expected {folder} to be a folder of `memkern lab family`, got no {FAMILY} in it")
    about = read_json(folder / FAMILY)
    weights = {f"{encoder['name']}.safetensors": encoder["sha256"] for encoder in about["encoders"]}
    return WrittenFamily(
        about["design"],
        recipe_from(about["recipe"]),
        tuple(about["classes"]) if "classes" in about else None,
        {IMAGES: about["images_sha256"], **weights},
    )


def _about(family: Family, recipe: Recipe) -> dict[str, object]:
    """Collects what tells one family from another, whatever the number of encoders."""
    return {
        "design": family.design,
        "seed": family.seed,
        "data": {"name": family.data.name, "sha256": family.data.sha256, "rows": family.rows.tolist()},
        "recipe": checkpoint.as_json(asdict(recipe)),
    }


def _check(family: Family, recipe: Recipe, about: dict[str, object], out: Path) -> None:
    """Refuses what would fail after the first training, or replace another family."""
    fewest = min(len(encoder.ids) for encoder in family.encoders)
    if fewest < recipe.batch:
        raise ArgumentValueError(
            f"Expected {recipe.batch} training images (one batch) or more for each encoder, got {fewest}; take more "
            "images or a smaller batch"
        )
    size = family.image_size
    try:
        build(recipe.encoder, image_size=size).eval()(torch.zeros(1, 3, size, size))
    except RuntimeError as error:
        raise EncoderError(f"Expected {recipe.encoder} to take images of {size} px, got: {error}") from error
    found = read_json(out / FAMILY) if (out / FAMILY).exists() else about
    other = [key for key, value in about.items() if found.get(key) != value]
    if other:
        raise ArgumentValueError(
            f"Expected {out} to be a new folder or to hold this family; it holds one with another {', '.join(other)}"
        )


def _write_members(family: Family, recipe: Recipe, out: Path) -> None:
    """Writes who saw which image: groups.csv, or encoders.csv and the files that it names; pictures into groups.csv."""
    columns = _group_columns(family)
    if columns:
        ids = [str(place) for place in range(len(family.rows))]
        write_csv(out / GROUPS, ("id", *columns), zip(ids, *columns.values(), strict=True))
    if family.groups is not None:
        return
    for encoder in family.encoders:
        with replace_atomically(out / "members" / f"{encoder.name}.txt") as part:
            part.write_text("".join(f"{place}\n" for place in encoder.ids.tolist()), encoding="utf-8")
    name = audit_name(recipe.encoder, family.image_size)
    rows = ((each.name, name, f"{each.name}.safetensors", f"members/{each.name}.txt") for each in family.encoders)
    write_csv(out / ENCODERS, ("name", "encoder", "weights", "members"), rows)


def _group_columns(family: Family) -> dict[str, Sequence[str]]:
    """The columns of groups.csv beside the id."""
    columns: dict[str, Sequence[str]] = {} if family.groups is None else {"group": family.groups}
    if family.data.name in CUT:
        columns["picture"] = [family.data.label_names[label] for label in family.data.labels[family.rows]]
    return columns
