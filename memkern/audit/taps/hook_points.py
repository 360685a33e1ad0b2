"""Which layers a model has, found by running it once: names, order, shapes, and where the units are."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from memkern.audit.taps.consumers import Readers
from memkern.audit.taps.rng import kept_rng
from memkern.audit.taps.transformer_blocks import find_blocks

OUTPUT = "output"
"""Label of the model's own output."""

_WRAPPERS = re.compile(r"(^|\.)(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)(?=\.|$)")
_CHANNELS_FIRST = re.compile(r"(1d|2d|3d)$|^GroupNorm")
_CHANNELS_LAST = re.compile(r"Linear$|LayerNorm$|RMSNorm$|^Embedding$")


@dataclass(frozen=True)
class Site:
    """One place where a model is read: the output of a call of a submodule, or its input.

    Attributes:
        name: The label: the submodule's name; "_1", "_2", … for its second, third call in one pass; ":in" for an input.
        module: Name of the submodule, "" for the model.
        call: Which call of it in one forward pass, from 0.
        input: Whether the input is read instead of the output.
        unit_dim: The dimension of the units in `[rows, …]`; `None`: told from the module and the shape when it runs.
        units: How many units; 0 if it has not been run.
        shape: Shape of one row; `()` if it has not been run.
        reader: Name of the submodule that alone reads this output, just as it is; "" if others do, or nobody knows.
    """

    name: str
    module: str
    call: int = 0
    input: bool = False
    unit_dim: int | None = None
    units: int = 0
    shape: tuple[int, ...] = ()
    reader: str = ""


@dataclass(frozen=True)
class Layers:
    """What `find_layers` found.

    Attributes:
        sites: The layers to read, in the order in which they finish.
        output: Name of the site that holds the model's output.
        same: Name -> name of the site with the same tensor, for layers that hand on what an inner one made.
        left_out: Name -> why a layer that matched cannot be read.
    """

    sites: tuple[Site, ...]
    output: str
    same: Mapping[str, str]
    left_out: Mapping[str, str]


def unwrapped(model: nn.Module) -> nn.Module:
    """The module in which hooks fire: inside DDP, DataParallel and `torch.compile`.

    FSDP's wrapper stays, because only it gathers the parameters; its names are cleaned by `named_layers`.
    """
    while True:
        if isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        elif isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel):
            model = model.module
        else:
            return model


def named_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Every submodule by its name without the wrappers' parts; the innermost of a wrapped one."""
    return {_WRAPPERS.sub("", name).removeprefix("."): module for name, module in model.named_modules()}


def first_tensor(output: Any) -> Tensor | None:
    """The tensor a module returned: itself, `last_hidden_state` or the first one of a tuple or mapping."""
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping):
        preferred = output.get("last_hidden_state")
        return first_tensor(preferred) if preferred is not None else first_tensor(list(output.values()))
    if isinstance(output, tuple | list):
        return next((found for part in output if (found := first_tensor(part)) is not None), None)
    return None


def unit_dimension(module: nn.Module, shape: Sequence[int], known: Mapping[tuple[int, ...], int] | None = None) -> int:
    """The dimension of the units of an output `[rows, …]`.

    Convolutions, their norms and pools have units in dim 1, linear layers and layer norms in the last one. Other
    modules (activations, whole blocks) inherit from the latest layer with the same shape; else `[rows, tokens, units]`
    has them last and everything else in dim 1.

    Args:
        module: The module.
        shape: Shape of its output.
        known: Shape -> dimension of the latest layer with that shape.
    """
    kind = type(module).__name__
    if len(shape) == 2 or _CHANNELS_FIRST.search(kind):
        return 1
    if _CHANNELS_LAST.search(kind):
        return len(shape) - 1
    return (known or {}).get(tuple(shape), 2 if len(shape) == 3 else 1)


def matches(name: str, patterns: str) -> bool:
    """Whether a layer's name matches: globs separated by commas, or one regular expression after "re:"."""
    if patterns.startswith("re:"):
        return re.fullmatch(patterns[3:], name) is not None
    return any(fnmatch.fnmatchcase(name, pattern.strip()) for pattern in patterns.split(","))


def find_layers(model: nn.Module, example: Any, layers: str = "*") -> Layers:
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
        ValueError: If nothing matches, a name without wildcards did not run, or `layers` is no regular expression.
    """
    model = unwrapped(model)
    blocks = find_blocks(list(named_layers(model)))
    if layers == "sublayers":
        if not blocks:
            raise ValueError(
                "Expected `layers='sublayers'` with a vision transformer of timm, torchvision or transformers; the "
                "model has no blocks of their kinds"
            )
        layers = ",".join(name for block in blocks for name in block)
    try:
        matches("", layers)
    except re.error as error:
        raise ValueError(f"Expected a regular expression after 're:' in `layers`, got {layers!r}: {error}") from error
    seen, rows = _run_once(model, example, {block.residual_att for block in blocks})
    sites: list[Site] = []
    same: dict[str, str] = {}
    left_out: dict[str, str] = {}
    holders: dict[Any, str] = {}  # content -> the first site that has it
    output = ""
    for site, tensor, content, passed_on in seen:
        is_output = site.name == OUTPUT and site.module == ""
        wanted = matches(site.name, layers) or is_output
        if tensor is None or not tensor.is_floating_point() or tensor.ndim < 2 or len(tensor) != rows:
            if is_output:
                got = "no tensor" if tensor is None else f"{tensor.dtype} {list(tensor.shape)}"
                raise ValueError(f"Expected the model to return a float tensor with {rows} rows, got {got}")
            if wanted:
                left_out[site.name] = "no tensor" if tensor is None else f"shape {list(tensor.shape)} for {rows} images"
            continue
        if content in holders and wanted:
            same[site.name] = holders[content]
        elif wanted and (not passed_on or site.name in layers.split(",") or is_output):
            holders[content] = site.name
            sites.append(site)
        if is_output:
            output = holders[content]
    _all_found(layers, {site.name for site in sites} | set(same), left_out, [each.site.name for each in seen])
    return Layers(tuple(sites), output, same, left_out)


class _Call(NamedTuple):
    """A call of a submodule: its site and tensor, what tells the tensor's content, and whether it was handed in."""

    site: Site
    tensor: Tensor | None
    content: tuple[int, int, int] | None
    passed_on: bool


def _content(tensor: Tensor | None) -> tuple[int, int, int] | None:
    """Tells memory and, by its version, whether it was overwritten in place since; tensors are kept while compared."""
    if tensor is None:
        return None
    # Weights that were made in inference mode make inference tensors everywhere.
    return tensor.data_ptr(), tensor.numel(), 0 if tensor.is_inference() else tensor._version


def _run_once(model: nn.Module, example: Any, inputs: set[str]) -> tuple[list[_Call], int]:
    """Every call of every submodule in one pass, in the order in which they end, and the number of rows."""
    seen: list[_Call] = []
    calls: dict[str, int] = {}
    known: dict[tuple[int, ...], int] = {}
    arrived: dict[tuple[str, int], list[Any]] = {}  # what a call was given
    first: dict[tuple[str, int], Any] = {}  # the first tensor of it
    made: dict[tuple[str, int], Any] = {}
    readers = Readers()
    rows = len(first_tensor(example) if not isinstance(example, Tensor) else example)  # type: ignore[arg-type]

    def site_of(name: str, call: int, is_input: bool, module: nn.Module, tensor: Tensor | None) -> Site:
        label = (name or OUTPUT) + (f"_{call}" if call else "") + (":in" if is_input else "")
        site = Site(label, name, call, is_input)
        if tensor is None or tensor.ndim < 2:
            return site
        # The input of a norm has its units where the norm has them.
        dim = unit_dimension(module, tensor.shape, known)
        known[tuple(tensor.shape)] = dim
        return replace(site, unit_dim=dim, units=tensor.shape[dim], shape=tuple(tensor.shape[1:]))

    def before(name: str) -> Any:
        def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
            call = calls[name] = calls.get(name, -1) + 1
            given = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
            arrived[name, call] = [_content(value) for value in given]
            first[name, call] = first_tensor(given)
            readers.begin((name, call))
            if f"{name}:in" in inputs and call == 0:
                tensor = first_tensor(given)
                seen.append(_Call(site_of(name, 0, True, module, tensor), tensor, _content(tensor), False))

        return hook

    def after(name: str) -> Any:
        def hook(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            tensor, call = first_tensor(output), calls[name]
            readers.end((name, call))
            made[name, call] = tensor
            content = _content(tensor)
            passed_on = tensor is not None and content in arrived[name, call]
            seen.append(_Call(site_of(name, call, False, module, tensor), tensor, content, passed_on))

        return hook

    handles = []
    modes = [(module, module.training) for module in model.modules()]
    try:
        # Inference mode is left, even if the caller is in it: its tensors have no versions.
        with torch.inference_mode(False), kept_rng(), torch.no_grad(), interpreted(model):
            model.eval()
            if isinstance(example, Tensor) and example.is_inference():
                example = example.clone()
            for name, module in named_layers(model).items():
                handles.append(module.register_forward_pre_hook(before(name), with_kwargs=True))
                handles.append(module.register_forward_hook(after(name), with_kwargs=True))
            with readers:
                result = model(example)
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes:
            module.training = mode
    for number, (site, tensor, content, passed_on) in enumerate(seen):
        if tensor is not None and not site.input:
            reader = readers.reader((site.module, site.call), tensor, first, made, result)
            seen[number] = _Call(replace(site, reader=reader), tensor, content, passed_on)
    return seen, rows


def _all_found(layers: str, found: set[str], left_out: Mapping[str, str], ran: Sequence[str]) -> None:
    """Requires a layer for every name and at least one for every glob."""
    patterns = [layers] if layers.startswith("re:") else [pattern.strip() for pattern in layers.split(",")]
    for pattern in patterns:
        hits = [name for name in found if matches(name, pattern)]
        if hits:
            continue
        reasons = [f"{name!r} gave {why}" for name, why in left_out.items() if matches(name, pattern)]
        fix = "; ".join(reasons) or f"layers that run: {', '.join(ran[:12])}{' …' if len(ran) > 12 else ''}"
        raise ValueError(f"Expected `layers` to name layers that run in the forward pass, got {pattern!r}; {fix}")


@contextmanager
def interpreted(model: nn.Module) -> Iterator[None]:
    """Inside the block, modules that were compiled in place with `Module.compile()` run as plain Python.

    Hooks that are set after compilation silently never fire in compiled code.
    """
    modules: list[Any] = [module for module in model.modules() if getattr(module, "_compiled_call_impl", None)]
    compiled = [module._compiled_call_impl for module in modules]
    for module in modules:
        module._compiled_call_impl = None
    try:
        yield
    finally:
        for module, call in zip(modules, compiled, strict=True):
            module._compiled_call_impl = call
