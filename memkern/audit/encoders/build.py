"""Encoders by name: `timm:resnet18?num_classes=0`. Nothing is downloaded; weights come from a file."""

from __future__ import annotations

from torch import nn

from memkern._util.registry import records
from memkern._util.text import markdown_table
from memkern.audit.encoders import kinds
from memkern.audit.encoders.kind import EncoderKind
from memkern.audit.encoders.spec import parse
from memkern.errors import ArgumentTypeError, EncoderError, MemkernError

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
            `encoder_kinds` has the kinds.

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
        raise EncoderError(f"Expected ENCODER to be one of {encoder_examples()}, got {text!r}")
    try:
        encoder = kind_of[spec.prefix].build(spec.name, spec.arguments)
    except (MemkernError, OSError):
        raise
    except TypeError as error:
        raise ArgumentTypeError(
            f"Expected arguments that {spec.prefix}:{spec.name} takes, got {text!r}: {error}"
        ) from error
    except Exception as error:  # constructors and the user's own files raise what they like
        raise EncoderError(f"Expected {text!r} to build an encoder, got {type(error).__name__}: {error}") from error
    if not isinstance(encoder, nn.Module):
        raise ArgumentTypeError(f"Expected {text!r} to give a torch.nn.Module, got {type(encoder).__name__}")
    return encoder.eval()
