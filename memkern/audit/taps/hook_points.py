"""Layers of a model, found by running it on few images: names, order, shapes, where the images and the units are."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from memkern._util.text import did_you_mean, first_of
from memkern.audit.taps.batch_layout import BatchLayout
from memkern.audit.taps.example_pass import Call, Content, run_example
from memkern.audit.taps.modules import named_layers, unwrapped
from memkern.audit.taps.other_passes import Geometry, look_around, why_not_read
from memkern.audit.taps.transformer_blocks import find_blocks
from memkern.audit.taps.unit_dims import TokenUnits, dimension_of_kind, unit_dimension
from memkern.errors import ArgumentValueError

OUTPUT = "output"
"""Label of the model's own output, unless a submodule has the name."""

TOKENS = "its units are tokens: the layer mixes tokens, not channels"
NO_FIXED_DIM = "every dimension changes with the size of the image, and so does the number of units"


@dataclass(frozen=True)
class HookPoint:
    """Place where a model is read: the output of a call of a submodule, or its input.

    Attributes:
        name: The label: the submodule's name; "_1", "_2", … for its second, third call in one pass, "#1", "#2", … where
            a submodule has such a name; ":in" for an input, ":1", ":2", … for further tensors of an output.
        module: Name of the submodule, "" for the model.
        call: Number of the call among the submodule's calls in one forward pass, from 0.
        input: Whether the input is read instead of the output.
        unit_dim: The dimension of the units in `[rows, …]`; `None`: told from the module and the shape when it runs.
        units: How many units; 0 if it has not been run.
        shape: Shape of one row; `()` if it has not been run.
        consumer: Name of the submodule that alone reads this output, just as it is; "" if others do, or nobody knows.
        tensor: Which tensor of the output is read, from 0.
        layout: Where the images are in the tensor; `None`: dim 0 is the batch.
    """

    name: str
    module: str
    call: int = 0
    input: bool = False
    unit_dim: int | None = None
    units: int = 0
    shape: tuple[int, ...] = ()
    consumer: str = ""
    tensor: int = 0
    layout: BatchLayout | None = None


@dataclass(frozen=True)
class Layers:
    """Layers that `find_layers` found in a model.

    Attributes:
        hook_points: The layers to read, in the order in which they finish.
        output: Name of the hook point that holds the model's output.
        same: Name -> name of the hook point with the same tensor, for layers that hand on what an inner one made.
        left_out: Name -> why a tensor of a layer that matched is not read.
        notes: Name -> what should be known of the units of a layer that is read.
        units_by: How the dimensions of units were told: from images of two sizes, or why not.
    """

    hook_points: tuple[HookPoint, ...]
    output: str
    same: Mapping[str, str]
    left_out: Mapping[str, str]
    notes: Mapping[str, str]
    units_by: str


def matches(name: str, patterns: str) -> bool:
    """Tells whether a layer's name matches: globs separated by commas, or one regular expression after "re:"."""
    if patterns.startswith("re:"):
        return re.fullmatch(patterns[3:], name) is not None
    return any(fnmatch.fnmatchcase(name, pattern.strip()) for pattern in patterns.split(","))


def find_layers(model: nn.Module, example: object, layers: str = "*") -> Layers:
    """Runs a model on a few images and lists the layers that match.

    Each distinct tensor is listed once, under the innermost module that made it: a container or a dropout that hands a
    tensor on is no layer of its own. Of vision transformers, the residual stream after the attention of each block is
    listed too, as the input of the block's second norm.

    The model is run on the example, on one image more, and on images of another size if it takes them: the dimension
    that grows with the number of images holds the images, and the units are in one that keeps its size. Where an image
    has several rows, such as windows, two more passes tell in which order the rows are.

    Args:
        model: The model; modes, weights and random number generators stay as they are.
        example: A small batch `[rows, C, H, W]`, or what the model takes.
        layers: Names or globs separated by commas, or "re:" and a regular expression; "sublayers": of a vision
            transformer, attention, MLP and the residual stream after each. The model's output is always listed. Of a
            layer that makes several tensors the first is read, and the others if their names, "lstm:1" say, are given.

    Returns:
        The layers.

    Raises:
        ArgumentValueError: If nothing matches, a name without wildcards did not run, or `layers` is no regular
            expression.
    """
    model = unwrapped(model)
    blocks = find_blocks(list(named_layers(model)))
    if layers == "sublayers":
        if not blocks:
            raise ArgumentValueError(
                "Expected `layers='sublayers'` with a vision transformer of timm, torchvision or transformers; the "
                "model has no blocks of their kinds"
            )
        layers = ",".join(name for block in blocks for name in block)
    try:
        matches("", layers)
    except re.error as error:
        raise ArgumentValueError(
            f"Expected a regular expression after 're:' in `layers`, got {layers!r}: {error}"
        ) from error
    inputs = {block.residual_att for block in blocks}
    around = look_around(model, example, inputs)
    calls = run_example(model, example, inputs)
    return _Listing(around.geometry(calls), layers, set(named_layers(model))).of(calls)


class _Listing:
    """List of the calls whose names match, each distinct tensor once.

    Args:
        geometry: Where images are in each tensor, and the shapes for other images.
        layers: The names that are wanted.
        modules: Names of all submodules, which no label may repeat.
    """

    def __init__(self, geometry: Geometry, layers: str, modules: set[str]) -> None:
        self._geometry, self._layers, self._modules = geometry, layers, modules
        self._points: list[HookPoint] = []
        self._same: dict[str, str] = {}
        self._left_out: dict[str, str] = {}
        self._notes: dict[str, str] = {}
        self._holders: dict[Content | None, str] = {}  # content -> name of the first hook point that has it
        self._made: set[Content | None] = set()
        self._known: dict[tuple[int, ...], int] = {}
        self._tokens = TokenUnits()

    def of(self, calls: Sequence[Call]) -> Layers:
        """Lists the calls."""
        output, ran = "", []
        self._known = self._by_kind(calls)
        for call in calls:
            label = self._label(call)
            ran.append(label)
            is_output = call.key.name == "" and not call.key.is_input and not call.key.tensor
            wanted = is_output or self._matches(call, label)
            reason = why_not_read(call) or self._geometry.left_out.get(call.key, "")
            if reason and is_output:
                raise ArgumentValueError(
                    f"Expected the model to return a float tensor with a row for each image, got {reason}; have it "
                    "return its features first or alone: a module around it, of a py: function for example, picks them"
                )
            if reason and wanted:
                self._left_out[label] = reason
            point = None if reason else self._hook_point(call, label)
            if wanted and point is not None:
                self._add(call, point, is_output=is_output)
            if is_output:
                output = self._holders[call.content]
            self._made.add(call.content)
        names = {point.name for point in self._points}
        _all_found(self._layers, names | set(self._same), self._left_out, ran)
        notes = {name: note for name, note in self._notes.items() if name in names}
        return Layers(tuple(self._points), output, self._same, self._left_out, notes, self._geometry.units_by)

    def _by_kind(self, calls: Sequence[Call]) -> dict[tuple[int, ...], int]:
        """Shape -> dimension of the units of the first layer whose kind tells it: known to all layers before."""
        known: dict[tuple[int, ...], int] = {}
        for call in calls:
            layout = self._geometry.layouts.get(call.key)
            if call.tensor is not None and layout is not None:
                shape = tuple(call.tensor.movedim(layout.dim, 0).shape)
                dim = dimension_of_kind(call.module, shape)
                if dim is not None:
                    known.setdefault(shape, dim)
        return known

    def _add(self, call: Call, point: HookPoint, *, is_output: bool) -> None:
        named = point.name in self._layers.split(",")
        if call.content in self._holders:
            if not call.key.tensor:
                self._same[point.name] = self._holders[call.content]
        elif call.key.tensor and not named:
            if call.content not in self._made and not call.passed_on:
                self._left_out[point.name] = (
                    f"tensor {call.key.tensor + 1} of what the layer makes, {list(point.shape)} of an image; it is "
                    f"read if {point.name!r} is among the names of the layers"
                )
        elif not call.passed_on or named or is_output:
            self._holders[call.content] = point.name
            self._points.append(point)

    def _label(self, call: Call) -> str:
        """The name of a call's tensor, which no other one and no other submodule has."""
        key, base = call.key, call.key.name
        if not base:
            base = OUTPUT if OUTPUT not in self._modules else f"model {OUTPUT}"
        number = f"_{key.number}" if key.number else ""
        if number and base + number in self._modules:
            number = f"#{key.number}"
        return f"{base}{number}{':in' if key.is_input else ''}{f':{key.tensor}' if key.tensor else ''}"

    def _matches(self, call: Call, label: str) -> bool:
        """Tells whether a tensor is wanted; those after the first with the layer that makes them, to be listed."""
        first = label.removesuffix(f":{call.key.tensor}") if call.key.tensor else label
        return matches(label, self._layers) or matches(first, self._layers)

    def _hook_point(self, call: Call, label: str) -> HookPoint:
        """Makes the hook point of a tensor, and adds the shape and dimension of its units to what is known."""
        key, tensor = call.key, call.tensor
        assert tensor is not None
        layout = self._geometry.layouts[key]
        rows = tensor.movedim(layout.dim, 0)  # [rows, …]; the input of a norm has its units where the norm has them
        shape, resized = tuple(rows.shape), self._geometry.resized(key)
        dim = self._known[shape] = unit_dimension(call.module, shape, self._known, resized)
        if not key.is_input and self._tokens.are_tokens(call.module, call.given, rows, call.memory, dim):
            self._notes[label] = TOKENS
        elif resized is not None and len(shape) > 2 and shape[dim] != resized[dim]:
            self._notes[label] = NO_FIXED_DIM
        read = layout.read(tensor)
        return HookPoint(
            label,
            key.name,
            key.number,
            key.is_input,
            dim + read.ndim - rows.ndim,
            shape[dim],
            tuple(read.shape[1:]),
            call.consumer,
            key.tensor,
            None if layout.is_plain else layout,
        )


def parse_label(label: str, modules: Mapping[str, object]) -> HookPoint:
    """Reads the name of a layer: "layer", "layer_1" or "layer#1" its second call, "layer:in" its input, "layer:1" more.

    Args:
        label: The name.
        modules: The submodules by name.

    Returns:
        The hook point; its `module` is the label where there is no such submodule.
    """
    module, call, tensor = label.removesuffix(":in"), 0, 0
    stem, _, number = module.rpartition(":")
    if module not in modules and number.isdigit():
        module, tensor = stem, int(number)
    for mark in "_#":
        stem, _, number = module.rpartition(mark)
        if module not in modules and number.isdigit() and stem in modules:
            module, call = stem, int(number)
    return HookPoint(label, module, call, label.endswith(":in"), tensor=tensor)


def _all_found(layers: str, found: set[str], left_out: Mapping[str, str], ran: Sequence[str]) -> None:
    """Requires a layer for every name and at least one for every glob."""
    patterns = [layers] if layers.startswith("re:") else [pattern.strip() for pattern in layers.split(",")]
    for pattern in patterns:
        hits = [name for name in found if matches(name, pattern)]
        if hits:
            continue
        reasons = [f"{name!r} gave {why}" for name, why in left_out.items() if matches(name, pattern)]
        fix = "; ".join(reasons) or f"layers that run: {first_of(ran, 12)}{did_you_mean(pattern, ran)}"
        raise ArgumentValueError(
            f"Expected `layers` to name layers that run in the forward pass, got {pattern!r}; {fix}"
        )
