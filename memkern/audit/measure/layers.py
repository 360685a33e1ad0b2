"""Choice of the layers of an encoder that are read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor, nn

from memkern._util.devices import is_out_of_memory
from memkern._util.text import first_of
from memkern.audit.data.source import Source
from memkern.audit.measure.fitting import refusal, two_views
from memkern.audit.options import Options
from memkern.audit.run_folder.schema import ViewCall
from memkern.audit.taps.hook_points import Layers, find_layers
from memkern.errors import ArgumentValueError, MemkernError


def find_layers_of(
    options: Options, call: ViewCall, source: Source, encoder: nn.Module, *, channels_last: bool = True
) -> Layers:
    """Runs an encoder on some views of one image and lists what is read of it.

    Args:
        options: Which layers, and which of them is the output.
        call: The views of each image.
        source: The images.
        encoder: The encoder, on the device of the options.
        channels_last: Whether the channels of a pixel are side by side in memory.

    Returns:
        The layers, in forward order, and the output among them.

    Raises:
        EncoderError: If the encoder does not take the views.
        ArgumentValueError: If there is no such layer.
    """
    few = two_views(options, call, source, channels_last)
    try:
        found = find_layers(encoder, few, options.layers)
    except MemkernError:
        raise
    except Exception as error:  # the encoder's own code raises what it likes
        if is_out_of_memory(error):
            raise
        raise refusal(error, few) from error
    if options.output is None:
        return found
    names = [hook_point.name for hook_point in found.hook_points]
    if options.output in names or options.output in found.same:
        return replace(found, output=found.same.get(options.output, options.output))
    return replace(_with_output(encoder, few, options), output=options.output)


def agreeing(encoders: Sequence[str], layers: Sequence[Layers]) -> tuple[Layers, ...]:
    """Requires the layers of encoders to have the same names in the same order.

    The output has the first encoder's name for it in all: it is the output, whatever module makes it.

    Args:
        encoders: Names of the encoders.
        layers: What is read of each.

    Returns:
        The layers, under the same names.

    Raises:
        ArgumentValueError: If the names differ.
    """
    first = layers[0]
    wanted = [point.name for point in first.hook_points]
    found = []
    for encoder, own in zip(encoders, layers, strict=True):
        points = tuple(
            replace(point, name=first.output) if point.name == own.output else point for point in own.hook_points
        )
        names = [point.name for point in points]
        if names != wanted:
            lacks = [name for name in wanted if name not in names]
            more = [name for name in names if name not in wanted]
            what = f"{encoder} lacks {first_of(lacks)}" if lacks else f"{encoder} has {first_of(more or names)} as well"
            raise ArgumentValueError(
                f"Expected every encoder to have the layers of {encoders[0]}; {what}: name layers that all have with "
                "--layers, or measure the output alone with --layers output"
            )
        found.append(replace(own, hook_points=points, output=first.output))
    return tuple(found)


def _with_output(encoder: nn.Module, few: Tensor, options: Options) -> Layers:
    """The layers of the options and, in its place among them, the one that `--output` names."""
    layers, output = options.layers, options.output or ""
    try:
        alone = find_layers(encoder, few, output)
    except ArgumentValueError as error:
        fix = str(error).partition("; ")[2]
        raise ArgumentValueError(f"Expected --output to name a layer that runs, got {output!r}; {fix}") from error
    names = [point.name for point in alone.hook_points]
    if output not in names and output not in alone.same:
        raise ArgumentValueError(f"Expected --output to name one layer, got {output!r}; name one of {first_of(names)}")
    if layers.startswith("re:"):
        return find_layers(encoder, few, f"re:(?:{layers.removeprefix('re:')})|{re.escape(output)}")
    return find_layers(encoder, few, f"{layers},{output}")
