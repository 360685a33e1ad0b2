"""Modules as a tap sees them: below wrappers, by clean names, as plain Python; the tensors in what they return."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

_WRAPPERS = re.compile(r"(^|\.)(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)(?=\.|$)")


def unwrapped(model: nn.Module) -> nn.Module:
    """Returns the module in which hooks fire: inside DDP, DataParallel and `torch.compile`.

    FSDP's wrapper stays, because only it gathers the parameters; its names are cleaned by `named_layers`.
    """
    while True:
        if isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        elif isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel):
            model = model.module
        else:
            return model


@contextmanager
def in_own_precision(model: nn.Module) -> Iterator[None]:
    """Runs a model that accelerate has prepared for mixed precision without its autocast, inside the block.

    Accelerate puts a forward of its own on the model, and keeps the model's as `_original_forward`.
    """
    own, wrapper = model.__dict__.get("_original_forward"), model.__dict__.get("forward")
    if own is None or wrapper is None:
        yield
        return
    model.forward = own
    try:
        yield
    finally:
        model.forward = wrapper


def named_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Lists every submodule by its name without the wrappers' parts; the innermost of a wrapped one."""
    return {_WRAPPERS.sub("", name).removeprefix("."): module for name, module in model.named_modules()}


def first_tensor(output: object) -> Tensor | None:
    """Finds the tensor a module returned: itself, `last_hidden_state`, or the first of a tuple, mapping or record."""
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping):
        preferred = output.get("last_hidden_state")
        return first_tensor(preferred) if preferred is not None else first_tensor(list(output.values()))
    if isinstance(output, tuple | list):
        return next((found for part in output if (found := first_tensor(part)) is not None), None)
    return next(tensors_in(output), None) if dataclasses.is_dataclass(output) else None


def further_tensors(output: object) -> list[Tensor]:
    """Lists the floating tensors of a module's output besides the first one, each once."""
    if isinstance(output, Tensor):
        return []
    seen = {id(first_tensor(output))}
    found = []
    for tensor in tensors_in(output):
        if id(tensor) not in seen and tensor.is_floating_point():
            found.append(tensor)
        seen.add(id(tensor))
    return found


def tensors_in(value: object) -> Iterator[Tensor]:
    """Yields every tensor in nested sequences, mappings and dataclasses."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from tensors_in(list(value.values()))
    elif isinstance(value, tuple | list):
        for part in value:
            yield from tensors_in(part)
    elif dataclasses.is_dataclass(value):
        yield from tensors_in([getattr(value, field.name) for field in dataclasses.fields(value)])


@contextmanager
def interpreted() -> Iterator[None]:
    """Runs what was compiled with `torch.compile` or `Module.compile()` as plain Python inside the block.

    Hooks that are set after compilation silently never fire in compiled code.
    """
    if "torch._dynamo" not in sys.modules:  # nothing was compiled, and importing the compiler is slow
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


def hooks_beside(register: Callable[[Callable[..., None]], RemovableHandle]) -> Mapping[int, object]:
    """Finds the hooks among which `register` puts one, as they are at any later moment too.

    Torch has no list of a module's hooks, or of the hooks of all modules. But the handle of a hook refers to the
    mapping which holds all of its kind.

    Args:
        register: A method like `module.register_forward_hook`, or a function like `register_module_forward_hook`.

    Returns:
        Number of a hook -> hook.
    """
    handle = register(_nothing)
    hooks: Mapping[int, object] | None = handle.hooks_dict_ref()
    handle.remove()
    assert hooks is not None  # the module, or torch, holds it
    return hooks


def _nothing(*given: object) -> None:
    """Does nothing: a hook."""
