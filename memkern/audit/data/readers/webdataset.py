"""Images in tar files as WebDataset lays them out: the members of a sample have one name and an ending each."""

from __future__ import annotations

import json
import os
import tarfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from memkern._util.text import escaped_all, printable
from memkern.audit.data.classes import numbers_or_names
from memkern.audit.data.decode import SUFFIXES
from memkern.audit.data.files import reading
from memkern.audit.data.reader import Reader, has_suffix, pixels_of, wants_labels, with_pixels
from memkern.audit.data.readers._shards import folder_holds, shards
from memkern.audit.data.source import Source, list_digest, with_labels
from memkern.audit.encoders.spec import Spec
from memkern.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

_is_file = has_suffix(".tar")
LABELS = ("cls", "cls.txt", "class", "label", "target", "json")
"""Endings of the members that hold a label, the first that is there is taken; of JSON its field of such a name."""


@dataclass
class _Index:
    """Samples of tar files: where each image lies, and its label."""

    names: list[str] = field(default_factory=list)
    places: list[tuple[int, int, int]] = field(default_factory=list)
    labels: list[object] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def _takes(path: Path) -> bool:
    return _is_file(path) or (path.is_dir() and folder_holds(".tar", path))


def _open(spec: Spec) -> Source:
    named, index, pixels = shards(spec), _Index(), pixels_of(spec)
    files = [path for _, path in named]
    for number, (split, path) in enumerate(named):
        with reading(path, "a tar file without compression"):
            _add(index, number, path, f"{split}/" if split else "", spec)
    if not index.names:
        found = ", ".join(f"{count} {what}" for what, count in sorted(index.left_out.items()))
        raise DataError(f"Expected images in {spec.name}, got none with the usual endings{found and f'; {found}'}")
    ids = escaped_all(index.names)
    if len(set(ids)) < len(ids):
        twice = next(name for name, count in Counter(ids).items() if count > 1)
        raise DataError(f"Expected each image of {spec.name} under a name of its own, got {twice!r} twice")

    def load(position: int) -> Tensor:
        number, start, size = index.places[position]
        with files[number].open("rb") as file:
            return pixels.file(os.pread(file.fileno(), size, start))

    digest = list_digest([f"{name}\t{size}" for name, (_, _, size) in zip(ids, index.places, strict=True)])
    left_out = tuple(sorted(index.left_out.items()))
    source = with_pixels(Source(spec.text, tuple(ids), load, digest, left_out=left_out), spec)
    if not wants_labels(spec) or all(label is None for label in index.labels):
        return source
    texts = ["" if label is None else label for label in index.labels if label is None or isinstance(label, str)]
    return with_labels(source, numbers_or_names(texts) if len(texts) == len(source) else index.labels, None)


def _add(index: _Index, number: int, path: Path, prefix: str, spec: Spec) -> None:
    """Adds the samples of a tar file; consecutive members with the same name up to the first dot are one."""
    whole = path.stat().st_size
    sample: dict[str, tuple[int, int]] = {}
    key = ""
    with tarfile.open(path, "r:") as tar:
        while (member := tar.next()) is not None:
            folder, _, base = member.name.rpartition("/")
            if member.isdir():
                continue
            if base.startswith(".") or member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
                index.left_out["hidden members" if base.startswith(".") else "links and devices"] += 1
                continue
            if member.offset_data + member.size > whole:
                raise DataError(f"Expected {path} to hold all of {member.name!r}, got a file that was cut off")
            stem, _, ending = base.partition(".")
            name = f"{folder}/{stem}".removeprefix("./").removeprefix("/")
            if name != key:
                _end(index, number, path, prefix + key, sample, spec)
                key, sample = name, {}
            if ending.lower() in sample:
                raise DataError(f"Expected each member of {path} once, got {printable(member.name)!r} again")
            sample[ending.lower()] = (member.offset_data, member.size)
    _end(index, number, path, prefix + key, sample, spec)


def _end(index: _Index, number: int, path: Path, name: str, sample: dict[str, tuple[int, int]], spec: Spec) -> None:
    """Adds one sample: its member with the ending of an image, and its label; `x.jpg` comes before `x.mask.png`."""
    if not sample:
        return
    images = [ending for ending in sample if f".{ending.rpartition('.')[2]}" in SUFFIXES]
    images = [ending for ending in images if "." not in ending] or images
    if "images" in spec.arguments:
        images = [ending for ending in sample if ending == str(spec.arguments["images"]).lower()]
    if not images:
        index.left_out["samples without an image"] += 1
        return
    if len(images) > 1:
        raise DataError(
            f"Expected one image in each sample of {path}, got {', '.join(images)} of {printable(name)}; choose one: "
            f"{spec.name}?images={images[0]}"
        )
    index.names.append(name)
    index.places.append((number, *sample[images[0]]))
    ending = next((each for each in LABELS if each in sample), None) if wants_labels(spec) else None
    index.labels.append(None if ending is None else _label(path, *sample[ending], ending == "json"))


def _label(path: Path, start: int, size: int, is_json: bool) -> object:
    if size > 1 << 20:
        return None
    with path.open("rb") as file:
        text = os.pread(file.fileno(), size, start).decode("utf-8", "surrogateescape").strip()
    if is_json:
        found = json.loads(text)
        return next((found[key] for key in ("cls", "label", "class", "target") if key in found), None)
    return text


READER = Reader(
    name="WebDataset",
    summary="a `.tar` file, a folder of them or a pattern (`{000..009}.tar`) as WebDataset lays images out, labels in "
    "`.cls` or `.json`; of several images of a sample `?images=ENDING`; not compressed",
    example="FILE.tar",
    package="pillow",
    open=_open,
    takes=_takes,
    exif="ignore",
    many=True,
)
