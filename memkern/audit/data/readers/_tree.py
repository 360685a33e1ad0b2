"""Files under a folder: links are followed, nothing is passed over without being counted."""

from __future__ import annotations

import heapq
import os
import stat
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from memkern._util.text import printable
from memkern.audit.data.decode import SUFFIXES, opened
from memkern.errors import DataError


@dataclass
class Tree:
    """Image files under a folder.

    Attributes:
        names: Path of each file within the folder, "/" between its parts; in no order.
        keys: What tells whether two of them are one file: the path without links.
        sizes: Bytes of each, -1 of one that is not there (a broken link).
        left_out: What else is there, and how many of it.
    """

    names: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def walk(root: Path) -> Tree:
    """Finds the image files under a folder.

    Links to folders are followed after all folders that are no links, each real folder once: a loop of links ends, and
    a file has its own name if it has one.

    Args:
        root: The folder.

    Returns:
        The files, and what was left out: hidden files and folders, files with other endings, and what is no regular
        file. A file without an ending is an image if its head is that of one.

    Raises:
        DataError: If a folder cannot be read.
    """
    tree = Tree()
    seen: set[str] = set()
    linked = [("", str(root), "")]
    while linked:
        _, path, name = heapq.heappop(linked)
        pending = [(path, os.path.realpath(path), name)]
        while pending:
            path, real, name = pending.pop()
            if real in seen:
                tree.left_out["folders that links lead to again"] += 1
                continue
            seen.add(real)
            for entry in _entries(path):
                where = f"{name}/{entry.name}".removeprefix("/")
                if entry.name.startswith("."):
                    tree.left_out["hidden files and folders"] += 1
                elif entry.is_dir(follow_symlinks=False):
                    pending.append((entry.path, f"{real}/{entry.name}", where))
                elif _leads_to_folder(entry):
                    heapq.heappush(linked, (order_of(where), entry.path, where))
                else:
                    _add(tree, entry, where, real)
    return tree


def order_of(name: str) -> str:
    """Makes what paths are sorted by: folder by folder, "a/x" before "a-b"."""
    return name.replace("/", "\0")


def _entries(path: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as found:
            return list(found)
    except OSError as error:
        raise DataError(
            f"Expected every folder of the images to be readable, got {printable(path)}: {error.strerror}; make it "
            "readable, or take it out"
        ) from error


def _leads_to_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # links that lead to each other lead nowhere
        return False


def _add(tree: Tree, entry: os.DirEntry[str], where: str, folder: str) -> None:
    suffix = os.path.splitext(entry.name)[1].lower()
    try:
        found = entry.stat()
    except OSError:
        size = -1
        if suffix not in SUFFIXES:
            tree.left_out["links to nothing"] += 1
            return
    else:
        if not stat.S_ISREG(found.st_mode):
            tree.left_out["pipes, sockets and devices"] += 1
            return
        size = found.st_size
    if suffix not in SUFFIXES and (suffix or not _has_head(entry.path)):
        tree.left_out[f"files ending with {printable(suffix)}" if suffix else "files without an ending"] += 1
        return
    tree.names.append(where)
    tree.keys.append(os.path.realpath(entry.path) if entry.is_symlink() else f"{folder}/{entry.name}")
    tree.sizes.append(size)


def _has_head(path: str) -> bool:
    """Returns whether a file begins as an image file does."""
    try:
        with opened(path):
            return True
    except Exception:  # decoders raise what they like; what is wrong with an image is said when it is read
        return False
