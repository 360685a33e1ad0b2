"""Order in memory and channels of the images that encoders take, found by running each on two views before the work.

The same two views show whether an encoder gives the same twice, and which of several tensors is its output.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from memkern._util.devices import is_out_of_memory
from memkern._util.text import first_of
from memkern.audit.data.source import Source
from memkern.audit.measure.draw import draw_views
from memkern.audit.measure.encoders import Encoder, Encoders
from memkern.audit.options import Options
from memkern.audit.run_folder.schema import ViewCall
from memkern.audit.taps.modules import first_tensor, tensors_in
from memkern.errors import EncoderError, MemkernError

ROWS = 2
"""Rows of the forward passes in which encoders are tried and layers are looked up. The latter keep every tensor: more
rows of large images would take more memory than all the rest of an audit."""

CHANGE = 1e-3
"""Difference of two passes over the same views, as a share of the largest value, above which an encoder is random."""

LUMA = (19595, 38470, 7471)
"""Weights of red, green and blue in gray, of 65536 (ITU-R BT.601), as Pillow has them."""


@dataclass(frozen=True)
class _Way:
    """Way of giving images: with which channels, and whether the channels of a pixel are neighbors in memory."""

    source: Source
    channels_last: bool


def fit_encoders(
    options: Options, call: ViewCall, source: Source, encoders: Encoders, log: Callable[[str], None]
) -> tuple[Source, Encoders]:
    """Finds how the encoders take the images, and requires each to give the same for the same views.

    Args:
        options: The device, and which layer is the output.
        call: The views of each image.
        source: The images.
        encoders: The encoders.
        log: Told what is done otherwise than usual, and at which of several tensors SSLMem is measured.

    Returns:
        The images as the encoders take them, and the encoders with their order in memory.

    Raises:
        EncoderError: If an encoder does not take the views, or draws random numbers.
    """
    tried: set[str] = set()
    for place, each in enumerate(encoders.entries):
        if each.weights.file is not None and each.line.encoder in tried:
            continue  # one of each kind that is built; modules in memory may be anything
        tried.add(each.line.encoder)
        way, output = _fitted(options, call, _Way(source, encoders.channels_last), encoders, place)
        name = each.line.name
        if encoders.channels_last and not way.channels_last:
            log(f"{name} does not run with the channels of a pixel side by side in memory, and is run without.")
        if way.source is not source:
            channels = "gray (ITU-R BT.601)" if len(source.image(0)) == 3 else "three equal channels"
            log(f"{name} takes images of {len(way.source.image(0))} channel(s); they are given as {channels}.")
        source, encoders = way.source, replace(encoders, channels_last=way.channels_last)
        if options.output is None and len(tried) == 1 and place == 0:
            _log_output(name, output, log)
    return source, encoders


def _fitted(options: Options, call: ViewCall, usual: _Way, encoders: Encoders, place: int) -> tuple[_Way, object]:
    """The first way in which an encoder takes two views, and what it returns for them."""
    each, failed = encoders.entries[place], None
    for way in _ways(usual):
        with replace(encoders, channels_last=way.channels_last).on_device([place]) as modules:
            module = modules[each.line.name]
            if way.source is not usual.source and _channels(module) != len(way.source.image(0)):
                continue
            few = two_views(options, call, way.source, way.channels_last)
            got = _run(module, few)
            if not isinstance(got, Exception):
                _require_same(each, got, _run(module, few))
                return way, got
            failed = failed if way.source is not usual.source else (got, few)
    assert failed is not None
    raise refusal(*failed) from failed[0]


def two_views(options: Options, call: ViewCall, source: Source, channels_last: bool) -> Tensor:
    """Draws two views of the first image, `[2, C, h, w]` on the device of the options, to try encoders on."""
    image, index = source.image(0)[None], torch.tensor(source.index[:1])
    drawn = draw_views(call, image, index, clean=options.clean, channels_last=channels_last)
    return drawn[:ROWS].to(options.torch_device())


def refusal(error: Exception, few: Tensor) -> EncoderError:
    """Makes the error of an encoder that does not take views `[n, C, h, w]`."""
    return EncoderError(
        f"Expected the encoder to take views of shape {list(few.shape)}; it says: "
        f"{' '.join(str(error).split())[:300]}; set --size, or the encoder's arguments after a '?'"
    )


def _ways(usual: _Way) -> Iterator[_Way]:
    """Yields the ways of giving images, the usual one first, the images as they are before other channels."""
    orders = (True, False) if usual.channels_last else (False,)
    channels = len(usual.source.image(0))
    other = {3: _gray, 1: _three}.get(channels)
    for change in (None, other):
        source = usual.source if change is None else replace(usual.source, change=change)
        yield from (_Way(source, order) for order in orders)


def _gray(image: Tensor) -> Tensor:
    """Makes `[1, H, W]` of `[3, H, W]`; of equal channels each of them."""
    if not image.is_floating_point():
        weights = torch.tensor(LUMA)[:, None, None]
        return ((image.to(torch.int64) * weights).sum(0, keepdim=True) + (1 << 15) >> 16).to(image.dtype)
    if torch.equal(image[:1].expand_as(image), image):
        return image[:1]
    return (image.double() * torch.tensor(LUMA)[:, None, None] / (1 << 16)).sum(0, keepdim=True).to(image.dtype)


def _three(image: Tensor) -> Tensor:
    return image.expand(3, -1, -1).contiguous()


def _channels(encoder: nn.Module) -> int | None:
    """Number of channels that the first convolution of an encoder takes."""
    return next((each.in_channels for each in encoder.modules() if isinstance(each, nn.Conv2d)), None)


def _run(encoder: nn.Module, few: Tensor) -> object:
    """Runs an encoder; returns what it gives, or what it raises."""
    try:
        with torch.inference_mode():
            return encoder(few)
    except MemkernError:
        raise
    except Exception as error:  # the encoder's own code raises what it likes
        if is_out_of_memory(error):
            raise
        return error


def _require_same(encoder: Encoder, first: object, second: object) -> None:
    """Requires two passes over the same views to give the same, up to the order of sums."""
    pairs = list(zip(tensors_in(first), tensors_in(second), strict=False))
    if all(_same(*pair) for pair in pairs):
        return
    raise EncoderError(
        f"Expected {encoder.line.name} ({encoder.line.encoder or 'in memory'}) to give the same for the same views, "
        "got other values in a second pass: it draws random numbers in eval mode (masks, a shuffled order, dropout), "
        "so that alignments would be chance; switch that off with an argument after the '?' of ENCODER, or in a py: "
        "function"
    )


def _same(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape:
        return False
    if not one.is_floating_point():
        return torch.equal(one, other)
    one, other = one.double().nan_to_num(), other.double().nan_to_num()
    return one.numel() == 0 or bool((one - other).abs().max() <= CHANGE * one.abs().max())


def _log_output(name: str, output: object, log: Callable[[str], None]) -> None:
    """Says at which tensor SSLMem is measured, where an encoder returns several, or tokens, or a map."""
    measured = first_tensor(output)
    named = output.items() if isinstance(output, Mapping) else enumerate(tensors_in(output))
    tensors = [(str(key), value) for key, value in named if isinstance(value, Tensor)]
    if measured is None or (len(tensors) < 2 and math.prod(measured.shape[2:]) < 2):
        return
    where = next((key for key, value in tensors if value is measured), "")
    which = f"{where!r} of {name}'s output" if isinstance(output, Mapping) else f"{name}'s output"
    listed = first_of(f"{key} {list(value.shape[1:])}" for key, value in tensors)
    others = f"; it returns {listed}" if len(tensors) > 1 else ""
    log(
        f"SSLMem is measured at {which}, {list(measured.shape[1:])} per view{others}. Choose with ?pool=cls, mean or "
        "tokens after ENCODER, or with --output LAYER."
    )
