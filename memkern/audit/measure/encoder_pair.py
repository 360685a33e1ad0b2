"""The encoders of an audit: f, and the reference g."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from memkern._util.files import sha256
from memkern._util.text import first_of
from memkern.audit.data.source import list_digest
from memkern.audit.encoders.build import build_encoder
from memkern.audit.encoders.weights import load_weights
from memkern.audit.options import Options
from memkern.audit.run_folder.schema import WeightsEntries, WeightsEntry
from memkern.errors import WeightsError


@dataclass(frozen=True)
class EncoderPair:
    """Encoders of an audit: f, and with a reference g.

    Attributes:
        f: The encoder that was trained with the candidates.
        g: The reference encoder, trained without them; `None` without one.
        weights: Where their weights came from.
    """

    f: nn.Module
    g: nn.Module | None
    weights: WeightsEntries

    def on_device(self, options: Options) -> EncoderPair:
        """Moves the pair to the device of the options, channels of a pixel side by side, in eval mode."""
        g = None if self.g is None else _placed(self.g, options)
        return EncoderPair(_placed(self.f, options), g, self.weights)


def load_pair(options: Options, log: Callable[[str], None]) -> EncoderPair:
    """Builds f and g and loads their weights.

    Args:
        options: The encoder, and the files of its weights.
        log: Told of tensors in the files that are not the encoder's.

    Returns:
        The pair, where it was loaded: on the CPU.

    Raises:
        ValueError: If the encoder is unknown, weights do not fit, or both files hold the same bytes.
    """
    f = build_encoder(options.encoder)
    g = None if options.reference is None else copy.deepcopy(f)
    of_f = _load(f, options.weights, "f", log)
    if g is None or options.reference is None:
        return EncoderPair(f, None, WeightsEntries(of_f, None))
    of_g = _load(g, options.reference, "g", log)
    if of_g.sha256 == of_f.sha256:
        raise WeightsError(
            f"Expected --reference to be another encoder than --weights, got the same bytes in {options.weights} "
            f"and {options.reference}"
        )
    return EncoderPair(f, g, WeightsEntries(of_f, of_g))


def pair_in_memory(f: nn.Module, g: nn.Module | None) -> EncoderPair:
    """Makes the pair of encoders that came from no files; a digest of each one's state stands for its file's."""
    return EncoderPair(f, g, WeightsEntries(_in_memory(f), None if g is None else _in_memory(g)))


def _load(encoder: nn.Module, text: str, role: str, log: Callable[[str], None]) -> WeightsEntry:
    loaded = load_weights(encoder, text)
    if loaded.left:
        some = first_of(loaded.left, 3)
        log(f"{role}: {len(loaded.left)} tensors of {loaded.file} are not the encoder's: {some}")
    return WeightsEntry(text, sha256(loaded.file), loaded.prefix, tuple(loaded.left))


def _in_memory(encoder: nn.Module) -> WeightsEntry:
    sums = [
        f"{name} {list(value.shape)} {value.double().sum().item()!r}" for name, value in encoder.state_dict().items()
    ]
    return WeightsEntry(None, list_digest(sums), "", ())


def _placed(encoder: nn.Module, options: Options) -> nn.Module:
    # Convolutions of oneDNN and cuDNN gain from channels last; layers without maps are left as they are.
    return encoder.to(device=options.torch_device(), memory_format=torch.channels_last).eval()  # type: ignore[call-overload,no-any-return]
