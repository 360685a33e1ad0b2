"""Layers of a model, found by running it once: names, order, shapes, and where the units are."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from memkern._util.text import did_you_mean, first_of
from memkern.audit.taps.example_pass import Call, Content, run_example
from memkern.audit.taps.modules import first_tensor, named_layers, unwrapped
from memkern.audit.taps.transformer_blocks import find_blocks
from memkern.errors import ArgumentValueError

OUTPUT = "output"
"""Label of the model's own output."""

_CHANNELS_FIRST = re.compile(r"(1d|2d|3d)$|^GroupNorm")
_CHANNELS_LAST = re.compile(r"Linear$|LayerNorm$|RMSNorm$|^Embedding$")


@dataclass(frozen=True)
class HookPoint:
    """Place where a model is read: the output of a call of a submodule, or its input.

    Attributes:
        name: The label: the submodule's name; "_1", "_2", … for its second, third call in one pass; ":in" for an input.
        module: Name of the submodule, "" for the model.
        call: Number of the call among the submodule's calls in one forward pass, from 0.
        input: Whether the input is read instead of the output.
        unit_dim: The dimension of the units in `[rows, …]`; `None`: told from the module and the shape when it runs.
        units: How many units; 0 if it has not been run.
        shape: Shape of one row; `()` if it has not been run.
        consumer: Name of the submodule that alone reads this output, just as it is; "" if others do, or nobody knows.
    """

    name: str
    module: str
    call: int = 0
    input: bool = False
    unit_dim: int | None = None
    units: int = 0
    shape: tuple[int, ...] = ()
    consumer: str = ""


@dataclass(frozen=True)
class Layers:
    """Layers that `find_layers` found in a model.

    Attributes:
        hook_points: The layers to read, in the order in which they finish.
        output: Name of the hook point that holds the model's output.
        same: Name -> name of the hook point with the same tensor, for layers that hand on what an inner one made.
        left_out: Name -> why a layer that matched cannot be read.
    """

    hook_points: tuple[HookPoint, ...]
    output: str
    same: Mapping[str, str]
    left_out: Mapping[str, str]


def unit_dimension(module: nn.Module, shape: Sequence[int], known: Mapping[tuple[int, ...], int] | None = None) -> int:
    """Finds the dimension of the units of an output `[rows, …]`.

    Convolutions, their norms and pools have units in dim 1, linear layers and layer norms in the last one. Other
    modules (activations, whole blocks) inherit from the latest layer with the same shape; else `[rows, tokens, units]`
    has them last and everything else in dim 1.

    Args:
        module: The module.
        shape: Shape of its output.
        known: Shape -> dimension of the latest layer with that shape.

    Returns:
        The dimension, 1 or more.
    """
    kind = type(module).__name__
    if len(shape) == 2 or _CHANNELS_FIRST.search(kind):
        return 1
    if _CHANNELS_LAST.search(kind):
        return len(shape) - 1
    return (known or {}).get(tuple(shape), 2 if len(shape) == 3 else 1)


def matches(name: str, patterns: str) -> bool:
    """Tells whether a layer's name matches: globs separated by commas, or one regular expression after "re:"."""
    if patterns.startswith("re:"):
        return re.fullmatch(patterns[3:], name) is not None
    return any(fnmatch.fnmatchcase(name, pattern.strip()) for pattern in patterns.split(","))


def find_layers(model: nn.Module, example: object, layers: str = "*") -> Layers:
    """Runs a model once on a few images and lists the layers that match.

    Each distinct tensor is listed once, under the innermost module that made it: a container or a dropout that hands a
    tensor on is no layer of its own. Of vision transformers, the residual stream after the attention of each block is
    listed too, as the input of the block's second norm.

    Args:
        model: The model; modes, weights and random number generators stay as they are.
        example: A small batch `[rows, C, H, W]`, or what the model takes.
        layers: Names or globs separated by commas, or "re:" and a regular expression; "sublayers": of a vision
            transformer, attention, MLP and the residual stream after each. The model's output is always listed.

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
    calls = run_example(model, example, {block.residual_att for block in blocks})
    batch = first_tensor(example)
    return _listed(calls, 0 if batch is None else len(batch), layers)


def _listed(calls: Sequence[Call], rows: int, layers: str) -> Layers:
    """Lists the calls whose names match, each distinct tensor once."""
    points: list[HookPoint] = []
    same: dict[str, str] = {}
    left_out: dict[str, str] = {}
    holders: dict[Content | None, str] = {}  # content -> name of the first hook point that has it
    known: dict[tuple[int, ...], int] = {}
    output, ran = "", []
    for call in calls:
        point, tensor = _hook_point(call, known), call.tensor
        ran.append(point.name)
        is_output = point.name == OUTPUT and point.module == ""
        wanted = matches(point.name, layers) or is_output
        if tensor is None or not tensor.is_floating_point() or tensor.ndim < 2 or len(tensor) != rows:
            if is_output:
                got = "no tensor" if tensor is None else f"{tensor.dtype} {list(tensor.shape)}"
                raise ArgumentValueError(f"Expected the model to return a float tensor with {rows} rows, got {got}")
            if wanted:
                left_out[point.name] = (
                    "no tensor" if tensor is None else f"shape {list(tensor.shape)} for {rows} images"
                )
            continue
        if call.content in holders and wanted:
            same[point.name] = holders[call.content]
        elif wanted and (not call.passed_on or point.name in layers.split(",") or is_output):
            holders[call.content] = point.name
            points.append(point)
        if is_output:
            output = holders[call.content]
    _all_found(layers, {point.name for point in points} | set(same), left_out, ran)
    return Layers(tuple(points), output, same, left_out)


def _hook_point(call: Call, known: dict[tuple[int, ...], int]) -> HookPoint:
    """Makes the hook point of a call, and adds the shape and dimension of its units to `known`."""
    number = f"_{call.number}" if call.number else ""
    label = (call.name or OUTPUT) + number + (":in" if call.is_input else "")
    tensor = call.tensor
    if tensor is None or tensor.ndim < 2:
        return HookPoint(label, call.name, call.number, call.is_input, consumer=call.consumer)
    # The input of a norm has its units where the norm has them.
    shape = tuple(tensor.shape)
    dim = known[shape] = unit_dimension(call.module, shape, known)
    return HookPoint(label, call.name, call.number, call.is_input, dim, shape[dim], shape[1:], call.consumer)


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
