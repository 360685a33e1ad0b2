"""Example pass: one forward pass that records every call of every submodule, to look a model's layers up from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from memkern.audit.taps.consumers import Consumers
from memkern.audit.taps.modules import first_tensor, interpreted, named_layers
from memkern.audit.taps.rng import kept_rng

Content = tuple[int, int, int]
"""Address, number of elements and version: two tensors of one pass with equal ones hold the same numbers."""


@dataclass(frozen=True)
class Call:
    """Call of a submodule in the example pass: a tensor that the call made, or was given.

    Attributes:
        module: The submodule.
        name: Its name, "" for the model.
        number: Number of the call among the submodule's calls in the pass, from 0.
        is_input: Whether `tensor` is what the call was given.
        tensor: The first tensor; `None` if there is none.
        content: Identity of the numbers in `tensor`: memory and version.
        passed_on: Whether the call returned what it was given.
        consumer: Name of the submodule that alone reads the output, just as it is; "" if there is none.
    """

    module: nn.Module
    name: str
    number: int
    is_input: bool
    tensor: Tensor | None
    content: Content | None
    passed_on: bool = False
    consumer: str = ""


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
    handles = []
    modes = [(module, module.training) for module in model.modules()]
    try:
        # Inference mode is left, even if the caller is in it: its tensors have no versions.
        with torch.inference_mode(False), kept_rng(), torch.no_grad(), interpreted():
            model.eval()
            if isinstance(example, Tensor) and example.is_inference():
                example = example.clone()
            for name, module in named_layers(model).items():
                handles.append(module.register_forward_pre_hook(recorder.before(name), with_kwargs=True))
                handles.append(module.register_forward_hook(recorder.after(name)))
            with recorder.consumers:
                result = model(example)
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes:
            module.training = mode
    return recorder.calls_of(result)


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

    def before(self, name: str) -> Callable[[nn.Module, tuple[object, ...], Mapping[str, object]], None]:
        """Makes the hook that runs before each call of a submodule."""

        def hook(module: nn.Module, args: tuple[object, ...], kwargs: Mapping[str, object]) -> None:
            number = self._numbers[name] = self._numbers.get(name, -1) + 1
            given = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
            self._given[name, number] = [_content(value) for value in given]
            tensor = first_tensor(given)
            self.consumers.begin((name, number), tensor)
            if f"{name}:in" in self._inputs and number == 0:
                self._calls.append(Call(module, name, number, True, tensor, _content(tensor)))

        return hook

    def after(self, name: str) -> Callable[[nn.Module, tuple[object, ...], object], None]:
        """Makes the hook that runs after each call of a submodule."""

        def hook(module: nn.Module, args: tuple[object, ...], output: object) -> None:
            tensor, number = first_tensor(output), self._numbers[name]
            self.consumers.end((name, number), tensor)
            content = _content(tensor)
            passed_on = tensor is not None and content in self._given[name, number]
            self._calls.append(Call(module, name, number, False, tensor, content, passed_on))

        return hook

    def calls_of(self, result: object) -> list[Call]:
        """Finishes the calls with what the model returned."""
        return [
            call
            if call.tensor is None or call.is_input
            else replace(call, consumer=self.consumers.only_consumer((call.name, call.number), result))
            for call in self._calls
        ]


def _content(tensor: Tensor | None) -> Content | None:
    """Tells memory and, by its version, whether it was overwritten in place since; tensors are kept while compared."""
    if tensor is None:
        return None
    # Weights that were made in inference mode make inference tensors everywhere. The version has no public name.
    return tensor.data_ptr(), tensor.numel(), 0 if tensor.is_inference() else tensor._version
