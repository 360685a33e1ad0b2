"""Readings: what is read of one encoder on one shard, the unit of work. It is written whole or not at all, and kept.

```
readings/<encoder>/00000.safetensors, 00001.safetensors, …
```

A reading depends on the encoder, the views and the images of its shard alone, and carries a digest of that, one of the
pixels that were read, and one of itself: one of another audit, or a damaged one, is refused by name. So any process may
make it, after any number of interruptions, encoders can be added to an audit later, and the final files,
made from the readings of all shards in their order, are the same bits.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, KeysView, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

import torch
from torch import Tensor

from memkern._util.files import remove_parts, replace_atomically, require_regular, strip_prefix, write_tensors
from memkern._util.optional_imports import require
from memkern.audit.encoders.build import anywhere
from memkern.audit.measure.encoder_readings import EncoderReadings
from memkern.audit.run_folder.schema import EncoderPlan, Plan
from memkern.errors import PlanError

FOLDER = "readings"

OUTPUT = "output"
"""What the metadata of a reading say is `kept` where that is not all of it."""


class _Columns(Protocol):
    """A tensor in a file, of which a part is read."""

    def __getitem__(self, where: tuple[slice, slice]) -> Tensor: ...


class _File(Protocol):
    """An open file of tensors."""

    def keys(self) -> KeysView[str]: ...

    def get_tensor(self, name: str) -> Tensor: ...

    def get_slice(self, name: str) -> _Columns: ...

    def metadata(self) -> Mapping[str, str] | None: ...


def folder_of(run: Path, encoder: str) -> Path:
    """Returns the folder of the readings of an encoder, whatever characters its name has."""
    name = quote(encoder, safe=" +=,@")
    return run / FOLDER / (name if name.strip(".") else name.replace(".", "%2E"))


def path_of(run: Path, encoder: str, number: int) -> Path:
    """Returns the path of the file of an encoder's reading of a shard."""
    return folder_of(run, encoder) / f"{number:05d}.safetensors"


def write_reading(run: Path, encoder: EncoderPlan, number: int, reading: EncoderReadings) -> None:
    """Writes the reading of a shard atomically.

    Args:
        run: The RUN folder.
        encoder: The encoder.
        number: Number of the shard.
        reading: What was read.

    Raises:
        OSError: If the file cannot be written.
    """
    tensors = {
        "alignment": reading.alignment,
        "halves": reading.halves,
        "rows": reading.rows,
        "seconds": reading.seconds,
        **{f"units/{name}": value for name, value in reading.units.items()},
        **{f"classes/{name}": value for name, value in reading.classes.items()},
        **{f"peaks/{name}": value for name, value in reading.peaks.items()},
    }
    whole = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    metadata = {"of": encoder.readings, "shard": str(number), "contents": reading.contents}
    seal = _digest(whole.__getitem__, whole, metadata)
    write_tensors(path_of(run, encoder.name, number), whole, metadata | {"sha256": seal})


def _digest(tensor: Callable[[str], Tensor], names: Iterable[str], metadata: Mapping[str, str]) -> str:
    """Computes the SHA-256 of a file's tensors and metadata; one tensor is in memory at a time."""
    digest = hashlib.sha256(json.dumps(dict(metadata), sort_keys=True).encode())
    for name in sorted(names):
        value = tensor(name)
        digest.update(f"{name} {value.dtype} {list(value.shape)} ".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def read_reading(run: Path, encoder: str, number: int) -> EncoderReadings:
    """Reads what was read of an encoder on a shard.

    Args:
        run: The RUN folder.
        encoder: Name of the encoder.
        number: Number of the shard.

    Returns:
        The reading; means that are kept for the median stay in the file.

    Raises:
        PlanError: If the file is damaged.
    """
    path = path_of(run, encoder, number)
    with _opened(path) as file:
        metadata = dict(file.metadata() or {})
        if metadata.pop("sha256", None) != _digest(file.get_tensor, file.keys(), metadata):
            raise PlanError(
                f"Expected {path} to be as it was written, got one that its own digest does not fit: it is damaged; "
                "remove it and go on with --resume"
            )
        tensors = {name: file.get_tensor(name) for name in file.keys() if name != "units/means"}  # noqa: SIM118
        kinds = {kind: strip_prefix(f"{kind}/", tensors) for kind in ("units", "classes", "peaks")}
        return EncoderReadings(
            alignment=tensors["alignment"],
            halves=tensors["halves"],
            rows=tensors["rows"],
            units=kinds["units"],
            classes=kinds["classes"],
            peaks=kinds["peaks"],
            seconds=tensors["seconds"],
            contents=metadata.get("contents", ""),
        )


def trim_reading(run: Path, encoder: str, number: int, output: int) -> None:
    """Keeps of the reading of a shard the alignments at the output alone, atomically.

    Args:
        run: The RUN folder.
        encoder: Name of the encoder.
        number: Number of the shard.
        output: Place of the output among the layers.

    Raises:
        PlanError: If the file is damaged.
        OSError: If the file cannot be written.
    """
    path = path_of(run, encoder, number)
    with _opened(path) as file:
        metadata = {name: text for name, text in (file.metadata() or {}).items() if name != "sha256"}
        alignment = file.get_slice("alignment")[output : output + 1, :].clone()
    kept, metadata = {"alignment": alignment}, metadata | {"kept": OUTPUT}
    write_tensors(path, kept, metadata | {"sha256": _digest(kept.__getitem__, kept, metadata)})


def read_means(run: Path, encoder: str, number: int, units: slice) -> Tensor:
    """Reads the means of some units on the images of a shard, `[n, units]`, which are kept for the median.

    Args:
        run: The RUN folder.
        encoder: Name of the encoder.
        number: Number of the shard.
        units: Which of the units of all layers side by side.

    Returns:
        The means; the rest of the file is not read.

    Raises:
        PlanError: If the file is damaged.
    """
    with _opened(path_of(run, encoder, number)) as file:
        means: Tensor = file.get_slice("units/means")[:, units]
        return means


def read_alignment(run: Path, encoder: str, number: int, layer: int) -> Tensor:
    """Reads the alignment of a layer on the images of a shard, `[n]`.

    Args:
        run: The RUN folder.
        encoder: Name of the encoder.
        number: Number of the shard.
        layer: Place of the layer in forward order; where the output alone is kept, that of the output.

    Returns:
        The alignments; the rest of the file is not read.

    Raises:
        PlanError: If the file is damaged.
    """
    with _opened(path_of(run, encoder, number)) as file:
        at = 0 if (file.metadata() or {}).get("kept") == OUTPUT else layer
        return file.get_slice("alignment")[at : at + 1, :][0]


@contextmanager
def _opened(path: Path) -> Iterator[_File]:
    """Opens a file of tensors; one that is damaged, or of something else, is named."""
    safe_open = require("safetensors", "safetensors").safe_open
    try:
        require_regular(path)
        with safe_open(path, "pt") as file:
            yield file
    except (ImportError, MemoryError, PlanError):
        raise
    except Exception as error:  # safetensors raises its own kinds
        raise PlanError(f"Expected {path} to be a reading, got: {error}; remove it and go on with --resume") from error


def done(run: Path, plan: Plan, encoder: EncoderPlan) -> list[int]:
    """Lists the shards on which an encoder has been read, as its plan says.

    Args:
        run: The RUN folder.
        plan: The plan.
        encoder: The encoder. A file of another encoder of the plan counts as not there, and is written anew: a process
            that was killed while names changed leaves such. So does one of which the output alone was kept.

    Returns:
        Numbers of the shards.

    Raises:
        PlanError: If a file is damaged, or of another audit.
    """
    found = []
    for path in _files(folder_of(run, encoder.name)):
        metadata = _metadata(path)
        of, number = metadata.get("of"), metadata.get("shard")
        if of not in {each.readings for each in plan.encoders} or number != str(int(path.stem)):
            raise PlanError(
                f"Expected {path} to be what was read of {encoder.name} on shard {int(path.stem)} in this audit, got a "
                "file of another audit, encoder or shard; remove it and go on with --resume"
            )
        if of == encoder.readings and metadata.get("kept") != OUTPUT:
            found.append(int(number))
    return found


def _metadata(path: Path) -> Mapping[str, str]:
    with _opened(path) as file:
        return file.metadata() or {}


def _files(folder: Path) -> list[Path]:
    """The files of readings in a folder, in order; all others are somebody else's."""
    return sorted(path for path in folder.glob("*.safetensors") if re.fullmatch(r"\d{5,}", path.stem))


def clean(run: Path) -> None:
    """Removes what a process that was killed left while it wrote; no other process may be writing."""
    remove_parts([run, *(run / FOLDER).glob("*/"), run / "thumbs", run / "mat"])


def same_encoders(old: Plan, new: Plan) -> dict[str, str]:
    """Finds the encoders of one plan in another: name there -> name here, for all that both have.

    An encoder is the same with the same weights, code and members, however it is called, wherever the file of its code
    is: the f of a pair is f1 when another f is added. Where nothing is known of members, its role is what is known.
    """

    def identity(each: EncoderPlan) -> tuple[str | None, ...]:
        return anywhere(each.encoder), each.encoder_file, each.weights, each.members or each.role

    names = {identity(each): each.name for each in new.encoders}
    return {each.name: names[identity(each)] for each in old.encoders if identity(each) in names}


def rename_readings(run: Path, old: Plan, new: Plan) -> None:
    """Gives the readings of encoders that have another name in another plan that name.

    Those of an encoder that is left out stay, until another encoder has its name. Names may change places, so all are
    taken away before the first one is given. A process that is killed in between loses readings, which are made again,
    but never gives one to another encoder: each carries a digest.
    """
    moved = {before: now for before, now in same_encoders(old, new).items() if before != now}
    aside = {name: run / FOLDER / f".moved.{place}" for place, name in enumerate(moved)}
    for name, path in aside.items():
        _move(folder_of(run, name), path)
    for name, path in aside.items():
        _move(path, folder_of(run, moved[name]))
    unused = {each.readings for each in old.encoders} - {each.readings for each in new.encoders}
    for each in new.encoders:
        for path in _files(folder_of(run, each.name)):
            if _metadata(path).get("of") in unused:
                path.unlink()


def _move(old: Path, new: Path) -> None:
    """Moves the files of readings from one folder to another; what else is there stays."""
    for path in _files(old):
        new.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # another part may do the same
            path.replace(new / path.name)
    with suppress(OSError):  # not there, or not empty
        old.rmdir()


def copy_readings(source: Path, out: Path, encoder: EncoderPlan, number: int) -> None:
    """Copies the reading of a shard to another RUN folder, atomically; one that is there stays."""
    path = path_of(out, encoder.name, number)
    if not path.exists():
        with replace_atomically(path) as temporary:
            shutil.copyfile(path_of(source, encoder.name, number), temporary)
