"""Kinds of encoder: the record that each file of `memkern.audit.encoders.kinds` binds."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from memkern.errors import EncoderError


def _no_files(name: str) -> Sequence[Path]:
    return ()


@dataclass(frozen=True)
class EncoderKind:
    """A kind of encoder that `memkern audit` builds by name.

    Attributes:
        name: What stands before the colon of ENCODER.
        summary: What is built, for the table in docs/audit.md.
        example: How an encoder of the kind is written.
        package: The package that has to be installed; "" if none has to.
        build: From what stands after the colon, and the constructor's arguments, to the encoder without weights.
        names: Lists the names that may stand after the colon, to say what is near a wrong one; none of kinds of files.
        files: From what stands after the colon to the user's own files that decide the encoder, the named one first.
    """

    name: str
    summary: str
    example: str
    package: str
    build: Callable[[str, Mapping[str, object]], nn.Module]
    names: Callable[[], Sequence[str]] = tuple
    files: Callable[[str], Sequence[Path]] = _no_files


def unknown_name(kind: str, name: str, known: Sequence[str]) -> EncoderError:
    """Builds the error of a name that a kind does not have.

    Args:
        kind: Name of the kind.
        name: What the user wrote.
        known: All names of the kind.

    Returns:
        The error; its message lists the nearest names.
    """
    near = difflib.get_close_matches(name, known, 5, 0.5) or known[:5]
    return EncoderError(f"Expected the name of a {kind} model, got {name!r}; near: {', '.join(near)}")
