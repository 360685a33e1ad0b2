"""Choice of the layers of an encoder that are read."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from memkern._util.devices import is_out_of_memory
from memkern.audit.data.source import Source
from memkern.audit.measure.draw import draw_views
from memkern.audit.options import Options
from memkern.audit.run_folder.schema import ViewCall
from memkern.audit.taps.hook_points import Layers, find_layers
from memkern.errors import ArgumentValueError, EncoderError, MemkernError

EXAMPLE_ROWS = 2
"""Rows of the forward pass in which layers are looked up, and which keeps every tensor: more of large images would take
more memory than all the rest of an audit."""


def find_layers_of(options: Options, call: ViewCall, source: Source, encoder: nn.Module) -> Layers:
    """Runs an encoder on some views of one image and lists what is read of it.

    Args:
        options: Which layers, and which of them is the output.
        call: The views of each image.
        source: The images.
        encoder: The encoder, on the device of the options.

    Returns:
        The layers, in forward order, and the output among them.

    Raises:
        EncoderError: If the encoder does not take the views.
        ArgumentValueError: If there is no such layer.
    """
    image, index = source.image(0)[None], torch.tensor(source.index[:1])
    few = draw_views(call, image, index, clean=options.clean, channels_last=True)[:EXAMPLE_ROWS]
    few = few.to(options.torch_device())
    try:
        found = find_layers(encoder, few, options.layers)
    except MemkernError:
        raise
    except Exception as error:  # the encoder's own code raises what it likes
        if is_out_of_memory(error):
            raise
        raise EncoderError(
            f"Expected the encoder to take views of shape {list(few.shape)}; it says: "
            f"{' '.join(str(error).split())[:300]}; set --size, or the encoder's arguments after a '?'"
        ) from error
    if options.output is None:
        return found
    names = [hook_point.name for hook_point in found.hook_points]
    if options.output in names or options.output in found.same:
        return replace(found, output=found.same.get(options.output, options.output))
    return replace(_with_output(encoder, few, options), output=options.output)


def _with_output(encoder: nn.Module, few: Tensor, options: Options) -> Layers:
    """The layers of the options and, in its place among them, the one that `--output` names."""
    try:
        return find_layers(encoder, few, f"{options.layers},{options.output}")
    except ValueError as error:
        raise ArgumentValueError(
            f"Expected --output to name a layer that runs, got {options.output!r}: {error}"
        ) from error
