"""Encoders by name: `timm:resnet18?num_classes=0`. Nothing is downloaded; weights come from a file."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from memkern._util.registry import records
from memkern._util.text import did_you_mean, markdown_table
from memkern.audit.encoders import kinds
from memkern.audit.encoders.kind import EncoderKind
from memkern.audit.encoders.pooling import pool_output
from memkern.audit.encoders.spec import parse
from memkern.errors import ArgumentTypeError, EncoderError, MemkernError, MissingPackageError

PLUGINS = "memkern.encoders"
"""Group of entry points under which other packages name kinds of encoder of their own."""


def encoder_kinds() -> tuple[EncoderKind, ...]:
    """Returns every kind of encoder by name: the files of `memkern.audit.encoders.kinds`, and those of plug-ins."""
    return records(kinds, "KIND", EncoderKind, plugins=PLUGINS)


def encoder_examples() -> str:
    """Returns how encoders are written, one example of each kind, separated by commas."""
    return ", ".join(kind.example for kind in encoder_kinds())


def encoder_table() -> str:
    """Returns the kinds of encoder as a markdown table, for docs/audit.md."""
    rows = [(f"`{kind.example}`", kind.summary, kind.package) for kind in encoder_kinds()]
    return markdown_table(("ENCODER", "builds", "needs"), rows)


def build_encoder(text: str) -> nn.Module:
    """Builds an encoder without weights.

    Args:
        text: Name of a kind, a colon, and the name of an encoder, with `?key=value&…` for the constructor;
            `encoder_kinds` has the kinds. `?pool=cls`, `mean` or `tokens` chooses what it returns; see `pool_output`.

    Returns:
        The encoder, in eval mode.

    Raises:
        EncoderError: If the name is unknown (the message has what is near), or the constructor fails.
        ArgumentTypeError: If the constructor does not take an argument, or returns no module.
        MissingPackageError: If the package is missing.
    """
    kind_of = {kind.name: kind for kind in encoder_kinds()}
    spec = parse(text, tuple(kind_of))
    if not spec.prefix:
        raise EncoderError(f"Expected ENCODER to be one of {encoder_examples()}, got {text!r}{_near(text)}")
    arguments = {key: value for key, value in spec.arguments.items() if key != "pool"}
    try:
        encoder = kind_of[spec.prefix].build(spec.name, arguments)
    except (MemkernError, OSError):
        raise
    except TypeError as error:
        near = _near_argument(kind_of[spec.prefix], spec.name, str(error))
        raise ArgumentTypeError(
            f"Expected arguments that {spec.prefix}:{spec.name} takes, got {text!r}: {error}{near}"
        ) from error
    except Exception as error:  # constructors and the user's own files raise what they like
        raise EncoderError(f"Expected {text!r} to build an encoder, got {type(error).__name__}: {error}") from error
    if not isinstance(encoder, nn.Module):
        raise ArgumentTypeError(f"Expected {text!r} to give a torch.nn.Module, got {type(encoder).__name__}")
    try:
        encoder.eval()
    except NotImplementedError as error:  # of torch.export
        raise _program(text, "exported") from error
    if isinstance(encoder, torch.jit.ScriptModule):
        raise _program(text, "traced or scripted")
    if "pool" in spec.arguments:
        pool_output(encoder, spec.arguments["pool"])
    return encoder


def _near_argument(kind: EncoderKind, name: str, error: str) -> str:
    """Arguments of an encoder's constructor that are like the one it refused, for the end of a message."""
    refused = re.search(r"unexpected keyword argument '(\w+)'", error)
    try:
        with torch.device("meta"):  # its class is what is asked for: no memory for its weights
            known = inspect.signature(type(kind.build(name, {})).__init__).parameters if refused else {}
    except Exception:  # it is not built without arguments either
        return ""
    return did_you_mean(refused[1], known) if refused else ""


def _program(text: str, how: str) -> EncoderError:
    return EncoderError(
        f"Expected {text!r} to give a module whose layers run in Python, got {how} code, whose layers cannot be read: "
        "build the model itself, and give the program's weights (a file of TorchScript as it is) with --weights"
    )


def encoder_files(text: str) -> Sequence[Path]:
    """Lists the user's own files that decide an encoder: the one it names, and those beside it that it imports."""
    kind_of = {kind.name: kind for kind in encoder_kinds()}
    spec = parse(text, tuple(kind_of))
    return kind_of[spec.prefix].files(spec.name) if spec.prefix else ()


def anywhere(text: str) -> str:
    """Returns the name of an encoder without the folders of the user's own file that decides it, which may be moved."""
    files = encoder_files(text)
    return text.replace(f"{files[0].parent}/", "", 1) if files else text


def _near(text: str) -> str:
    """Names of encoders that are like a text without a kind, or with a wrong one, for the end of a message."""
    name = text.partition("?")[0]
    before, colon, after = name.partition(":")
    kinds_of = encoder_kinds()
    near = (
        [f"{kind}:{after}" for kind in difflib.get_close_matches(before, [each.name for each in kinds_of])]
        if colon
        else []
    )
    for kind in kinds_of if not near else ():
        try:
            known = kind.names()
        except MissingPackageError:  # its names are not known here
            continue
        near += [f"{kind.name}:{each}" for each in difflib.get_close_matches(after or name, known, 1, 0.75)]
    return f"; near: {', '.join(near)}" if near else ""
