"""Example passes: forward passes that record every call of every submodule, to look a model's layers up from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from memkern.audit.taps.consumers import Consumers, memory_of
from memkern.audit.taps.modules import first_tensor, further_tensors, interpreted, named_layers
from memkern.audit.taps.rng import kept_rng

Content = tuple[int, int, int]
"""Address, number of elements and version: two tensors of one pass with equal ones hold the same numbers."""

V = TypeVar("V")


class Key(NamedTuple):
    """Name of a tensor that is the same in every pass.

    Attributes:
        name: Name of the submodule, "" for the model.
        number: Number of the call among the submodule's calls in the pass, from 0.
        is_input: Whether the call was given the tensor.
        tensor: Which tensor of the output: 0 is the first, which stands for the layer.
    """

    name: str
    number: int
    is_input: bool = False
    tensor: int = 0


@dataclass(frozen=True)
class Call:
    """Call of a submodule in the example pass: a tensor that the call made, or was given.

    Attributes:
        key: Which tensor it is.
        module: The submodule.
        tensor: The tensor; `None` if there is none.
        content: Identity of the numbers in `tensor`: memory and version.
        passed_on: Whether the call returned what it was given.
        consumer: Name of the submodule that alone reads the output, just as it is; "" if there is none.
        given: Memory and strides of the first tensor that the call was given.
    """

    key: Key
    module: nn.Module
    tensor: Tensor | None
    content: Content | None
    passed_on: bool = False
    consumer: str = ""
    given: tuple[int | None, tuple[int, ...]] = (None, ())

    @property
    def memory(self) -> int | None:
        """The memory of the tensor; `None` if there is none."""
        return memory_of(self.tensor)


def run_example(model: nn.Module, example: object, inputs: set[str]) -> list[Call]:
    """Runs a model once, in eval mode and without gradients, and records its calls.

    Args:
        model: The model; modes, weights and random number generators stay as they are.
        example: A small batch `[rows, C, H, W]`, or what the model takes.
        inputs: Names of submodules ("name:in") whose first input is recorded too.

    Returns:
        The calls in the order in which they end; inputs where they are given.
    """
    recorder = _Recorder(inputs)
    with _watched(model, recorder), recorder.consumers:
        result = model(_no_inference_tensor(example))
    return recorder.calls_of(result)


def observe(model: nn.Module, example: object, inputs: set[str], look: Callable[[Key, Tensor], V]) -> dict[Key, V]:
    """Runs a model once like `run_example`, and keeps no tensor but what is made of each.

    Args:
        model: The model; modes, weights and random number generators stay as they are.
        example: A small batch `[rows, C, H, W]`, or what the model takes.
        inputs: Names of submodules ("name:in") whose first input is looked at too.
        look: Makes what is kept of a tensor.

    Returns:
        Key -> what `look` made of the tensor.
    """
    found: dict[Key, V] = {}

    def keep(key: Key, tensor: Tensor) -> None:
        found[key] = look(key, tensor)

    with _watched(model, _Observer(inputs, keep)):
        model(_no_inference_tensor(example))
    return found


def _no_inference_tensor(example: object) -> object:
    return example.clone() if isinstance(example, Tensor) and example.is_inference() else example


class _Observer:
    """Hooks that are called with the tensors of every call.

    Args:
        inputs: Names ("name:in") of the submodules whose first input is recorded.
        keep: Takes the tensors.
    """

    def __init__(self, inputs: set[str], keep: Callable[[Key, Tensor], None]) -> None:
        self._inputs, self._keep = inputs, keep
        self._numbers: dict[str, int] = {}

    def before(self, name: str, module: nn.Module, given: Sequence[Tensor]) -> None:
        """Sees what a call of a submodule is given."""
        number = self._numbers[name] = self._numbers.get(name, -1) + 1
        if given and f"{name}:in" in self._inputs and number == 0:
            self._keep(Key(name, number, True), given[0])

    def after(self, name: str, module: nn.Module, output: object) -> None:
        """Sees what a call of a submodule has made."""
        first, number = first_tensor(output), self._numbers[name]
        if first is not None:
            self._keep(Key(name, number), first)
        for place, tensor in enumerate(further_tensors(output), 1):
            self._keep(Key(name, number, False, place), tensor)


@contextmanager
def _watched(model: nn.Module, watcher: _Observer | _Recorder) -> Iterator[None]:
    """Puts a model into eval mode, and hooks on all of its submodules, inside the block."""
    handles = []
    modes = [(module, module.training) for module in model.modules()]
    try:
        # Inference mode is left, even if the caller is in it: its tensors have no versions.
        with torch.inference_mode(False), kept_rng(), torch.no_grad(), interpreted():
            model.eval()
            for name, module in named_layers(model).items():
                handles.append(module.register_forward_pre_hook(_before(watcher, name), with_kwargs=True))
                handles.append(module.register_forward_hook(_after(watcher, name)))
            yield
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes:
            module.training = mode


def _before(
    watcher: _Observer | _Recorder, name: str
) -> Callable[[nn.Module, tuple[object, ...], Mapping[str, object]], None]:
    def hook(module: nn.Module, args: tuple[object, ...], kwargs: Mapping[str, object]) -> None:
        watcher.before(name, module, [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)])

    return hook


def _after(watcher: _Observer | _Recorder, name: str) -> Callable[[nn.Module, tuple[object, ...], object], None]:
    def hook(module: nn.Module, args: tuple[object, ...], output: object) -> None:
        watcher.after(name, module, output)

    return hook


class _Recorder:
    """Hooks that record calls.

    Args:
        inputs: Names ("name:in") of the submodules whose first input is recorded.
    """

    def __init__(self, inputs: set[str]) -> None:
        self.consumers = Consumers()
        self._inputs = inputs
        self._calls: list[Call] = []
        self._numbers: dict[str, int] = {}
        self._given: dict[tuple[str, int], list[Content | None]] = {}
        self._views: dict[tuple[str, int], tuple[int | None, tuple[int, ...]]] = {}

    def before(self, name: str, module: nn.Module, given: Sequence[Tensor]) -> None:
        """Records what a call of a submodule is given."""
        number = self._numbers[name] = self._numbers.get(name, -1) + 1
        self._given[name, number] = [_content(value) for value in given]
        tensor = first_tensor(given)
        self._views[name, number] = memory_of(tensor), _strides(tensor)
        self.consumers.begin((name, number), tensor)
        if f"{name}:in" in self._inputs and number == 0:
            self._calls.append(Call(Key(name, number, True), module, tensor, _content(tensor)))

    def after(self, name: str, module: nn.Module, output: object) -> None:
        """Records what a call of a submodule has made."""
        first, number = first_tensor(output), self._numbers[name]
        self.consumers.end((name, number), first)
        for place, tensor in enumerate([first, *further_tensors(output)]):
            content = _content(tensor)
            passed_on = tensor is not None and content in self._given[name, number]
            key = Key(name, number, False, place)
            self._calls.append(Call(key, module, tensor, content, passed_on, given=self._views[name, number]))

    def calls_of(self, result: object) -> list[Call]:
        """Finishes the calls with what the model returned."""
        return [
            call
            if call.tensor is None or call.key.is_input or call.key.tensor
            else replace(call, consumer=self.consumers.only_consumer((call.key.name, call.key.number), result))
            for call in self._calls
        ]


def _strides(tensor: Tensor | None) -> tuple[int, ...]:
    return tensor.stride() if tensor is not None and tensor.layout == torch.strided and not tensor.is_nested else ()


def _content(tensor: Tensor | None) -> Content | None:
    """Tells memory and, by its version, whether it was overwritten in place since; tensors are kept while compared."""
    if tensor is None or tensor.layout != torch.strided or tensor.is_nested:
        return None
    # Weights that were made in inference mode make inference tensors everywhere. The version has no public name.
    return tensor.data_ptr(), tensor.numel(), 0 if tensor.is_inference() else tensor._version
