"""Files of weights: where they are, one or several shards of one checkpoint, and what their bytes say they hold."""

from __future__ import annotations

import hashlib
import json
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

from memkern._util.files import sha256
from memkern._util.optional_imports import require
from memkern._util.text import first_of, near_files
from memkern.audit.encoders.checkpoints.torch_files import read_archive, read_old
from memkern.errors import MemkernError, MissingFileError, WeightsError

SAVED = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
"""Files of weights that `save_pretrained` of transformers and others write into a folder, the first that is there."""

ADAPTER = "adapter_config.json"
"""File beside the weights of an adapter that PEFT wrote."""

NUMPY = "save them by the encoder's names with torch.save({name: torch.from_numpy(array), …}, NEW)"
"""What to do with arrays of numpy in the place of tensors."""

INDEX = ".index.json"
"""Ending of a file that says in which shard each tensor is."""


def weights_files(path: Path) -> tuple[Path, ...]:
    """Finds the files that a path names: one, or the shards of one checkpoint.

    Args:
        path: A file, an index of shards, or a folder with one of `SAVED`.

    Returns:
        The files; of an index, the index first.

    Raises:
        MissingFileError: If there is no file, or a shard is missing.
        WeightsError: If the index is none, or the path is an adapter or no regular file.
    """
    if path.is_dir():
        found = [path / name for name in SAVED if (path / name).is_file()]
        if not found and (path / ADAPTER).is_file():
            raise WeightsError(
                f"Expected weights in {path}, got an adapter, which changes those of another file: BASE?adapter={path}"
            )
        if not found:
            raise MissingFileError(
                f"Expected model.safetensors or pytorch_model.bin in the folder {path}{_beside(path)}"
            )
        path = found[0]
    if path.exists() and not path.is_file():
        raise WeightsError(f"Expected a file of weights, got {str(path)!r}; it is a FIFO, socket or device")
    if not path.is_file():
        raise MissingFileError(
            f"Expected a file of weights, got {str(path)!r}; there is no such file{near_files(path)}"
        )
    return (path, *_shards(path)) if path.name.endswith(INDEX) else (path,)


def _names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir()) if folder.is_dir() else []


def _beside(folder: Path) -> str:
    """Tells what a folder without a file of weights is, or has, for the end of a message."""
    names = _names(folder)
    if any(name.endswith(".distcp") for name in names):
        made = "python -m torch.distributed.checkpoint.format_utils dcp_to_torch"
        return f"; it is a checkpoint of torch.distributed: `{made}` makes a file of it"
    if "zero_to_fp32.py" in names:
        return "; it is a checkpoint of DeepSpeed: its zero_to_fp32.py makes a file of it"
    return f"; it has {first_of(names)}: name one of them" if names else ""


def _shards(index: Path) -> tuple[Path, ...]:
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        plain = all(Path(name).name == name for name in names)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"Expected {index} to name the shard of each tensor, got: {short(error)}") from error
    if not plain:
        raise WeightsError(f"Expected {index} to name files beside it, got {first_of(names)}")
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise MissingFileError(f"Expected every shard that {index} names beside it; missing: {first_of(missing)}")
    return tuple(index.parent / name for name in names)


def files_digest(files: tuple[Path, ...]) -> str:
    """Returns the SHA-256 digest of a file's bytes, or of those of all shards, in hexadecimal."""
    digests = [sha256(file) for file in files]
    return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()


def read_files(files: tuple[Path, ...]) -> Mapping[object, object]:
    """Reads a file of weights, or the shards of one, without running code from them.

    Args:
        files: As `weights_files` finds them.

    Returns:
        What the file holds by name: tensors, containers, and placeholders for objects.

    Raises:
        WeightsError: If a file is damaged, or no file of tensors; the message says what it is.
    """
    if len(files) == 1:
        return _read(files[0])
    return {name: value for shard in files[1:] for name, value in _read(shard).items()}


def _read(file: Path) -> Mapping[object, object]:
    with file.open("rb") as opened:
        head = opened.read(512)
    reader = _reader(file, head)
    try:
        content = reader(file)
    except (MemkernError, ImportError, OSError):
        raise
    except Exception as error:  # a damaged file can break its reader anywhere
        raise WeightsError(
            f"Expected {file} to be a whole file written by torch.save or safetensors, got one that is cut or damaged: "
            f"{short(error)}"
        ) from error
    if isinstance(content, list | tuple) and any(isinstance(each, Mapping) for each in content):
        content = {str(place): each for place, each in enumerate(content)}
    if not isinstance(content, Mapping):
        raise WeightsError(f"Expected {file} to hold a state dict, got {type(content).__name__}")
    return content


def _reader(file: Path, head: bytes) -> Callable[[Path], object]:
    """The reader for a file that begins with `head`; what a file holds decides, not how its name ends."""
    if head.startswith(b"PK\x03\x04"):
        _require_tensors(file)
        return read_archive
    if head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= file.stat().st_size:
        return _read_safetensors
    if tarfile.is_tarfile(file):
        raise WeightsError(
            f"Expected weights in {file}, got a tar archive: unpack it and name the file inside, or, of torch before "
            "0.1.10, save it anew"
        )
    if head.startswith(b"\x80"):
        return read_old
    raise WeightsError(f"Expected {file} to be written by torch.save or safetensors, got {_what(head)}")


def _what(head: bytes) -> str:
    """Words for a file that holds no weights."""
    if not head:
        return "an empty file"
    if head.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS: fetch the file with `git lfs pull`"
    for begin, words in _BEGINNINGS.items():
        if head.startswith(begin):
            return words
    if b"\0" not in head:
        return f"text that begins {head[:40].decode('utf-8', 'replace')!r}"
    return "something else"


_BEGINNINGS = {
    b"\x89HDF": "an HDF5 file: save the state dict of the PyTorch model",
    b"\x93NUMPY": f"a numpy array: {NUMPY}",
    b"\x1f\x8b": "a file packed by gzip: unpack it with gunzip",
    b"GGUF": "a GGUF file: save the state dict of the PyTorch model",
}
"""First bytes of a file that holds no weights -> words for it."""


def _require_tensors(file: Path) -> None:
    try:
        names = zipfile.ZipFile(file).namelist()
    except zipfile.BadZipFile as error:
        raise WeightsError(f"Expected {file} to be a whole file, got one that is cut or damaged: {error}") from error
    if any(name.endswith(".npy") for name in names):
        raise WeightsError(f"Expected {file} to hold tensors, got an archive of numpy arrays: {NUMPY}")
    if not any(name.endswith(("/data.pkl", ".json")) for name in names):
        raise WeightsError(
            f"Expected {file} to be written by torch.save, got a zip archive with {first_of(names)}: unpack it, and "
            "name the file inside"
        )
    if any(name.endswith(("models/model.json", "serialized_exported_program.json")) for name in names):
        raise WeightsError(
            f"Expected {file} to hold weights, got a program of torch.export: save its weights with "
            f"torch.save(torch.export.load({str(file)!r}).state_dict, NEW), and name NEW and the encoder"
        )


def _read_safetensors(file: Path) -> object:
    return require("safetensors.torch", "safetensors").load_file(file)


def short(error: Exception) -> str:
    """Returns the first line of an error's message, or its kind."""
    return (str(error).splitlines() or [""])[0][:200] or type(error).__name__
