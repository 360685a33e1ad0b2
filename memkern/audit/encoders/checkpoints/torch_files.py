"""Files that torch writes, read into tensors, containers and placeholders: zip archives, and those of before 1.6."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import IO

import torch
from torch import Tensor

from memkern.audit.encoders.checkpoints.inert_pickle import Unpickler

MAGIC = 0x1950A86A20F9469CFC6C
"""First pickle of a file that torch wrote before 1.6."""


def read_archive(file: Path) -> object:
    """Reads a zip archive of `torch.save`, or of a TorchScript module as far as its tensors go.

    Args:
        file: The archive.

    Returns:
        What was saved, with placeholders for objects.

    Raises:
        Exception: Of any kind, if the archive is damaged.
    """
    with zipfile.ZipFile(file) as archive:
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if not pickles:
            raise zipfile.BadZipFile("a zip archive without data.pkl, as torch.save writes it")
        root = min(pickles, key=len).removesuffix("data.pkl")
        if f"{root}byteorder" in archive.namelist() and archive.read(f"{root}byteorder") != b"little":
            raise zipfile.BadZipFile("numbers in big-endian order")

        def fetch(key: str, dtype: torch.dtype | None, count: int) -> Tensor:
            return _memory(archive.read(f"{root}data/{key}"))

        return Unpickler(io.BytesIO(archive.read(f"{root}data.pkl")), fetch).load()


def read_old(file: Path) -> object:
    """Reads a file of `torch.save` before 1.6, or a plain pickle.

    Args:
        file: The file.

    Returns:
        What was saved, with placeholders for objects.

    Raises:
        Exception: Of any kind, if the file is damaged.
    """
    with file.open("rb") as opened:
        first = Unpickler(opened).load()
        if first != MAGIC:
            return first
        for _ in ("protocol", "system"):
            Unpickler(opened).load()
        left = os.fstat(opened.fileno()).st_size
        waiting: dict[str, Tensor] = {}
        sizes: dict[str, int] = {}

        def fetch(key: str, dtype: torch.dtype | None, count: int) -> Tensor:
            nonlocal left
            if dtype is None:
                raise pickle.UnpicklingError("a storage without a dtype")
            left -= count * dtype.itemsize
            if count < 0 or left < 0:
                raise pickle.UnpicklingError("storages larger than the file")
            waiting[key], sizes[key] = torch.empty(count * dtype.itemsize, dtype=torch.uint8), dtype.itemsize
            return waiting[key]

        saved = Unpickler(opened, fetch).load()
        keys = Unpickler(opened).load()
        for key in keys if isinstance(keys, list) else []:
            _fill(waiting[str(key)], sizes[str(key)], opened)
        return saved


def _fill(memory: Tensor, itemsize: int, opened: IO[bytes]) -> None:
    """Reads the numbers of a storage: their count, 8 bytes, then they themselves."""
    count = int.from_bytes(opened.read(8), "little")
    content = opened.read(len(memory))
    if count * itemsize != len(memory) or len(content) != len(memory):
        raise pickle.UnpicklingError("the file ends before its numbers do")
    memory.copy_(_memory(content))


def _memory(content: bytes) -> Tensor:
    return torch.frombuffer(bytearray(content), dtype=torch.uint8) if content else torch.empty(0, dtype=torch.uint8)
