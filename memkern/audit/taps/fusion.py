"""Tapped batch norms, ReLUs and GELUs, run by the kernel that reduces what they read and make."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from memkern.ops.layer_stats import Pointwise, PointwiseStats

if TYPE_CHECKING:
    from memkern.audit.taps.tap import Place, Tap

FUNCTIONS: dict[type[nn.Module], str] = {
    nn.BatchNorm1d: "batch_norm",
    nn.BatchNorm2d: "batch_norm",
    nn.BatchNorm3d: "batch_norm",
    nn.ReLU: "relu",
    nn.GELU: "gelu",
}
"""The modules that can be fused, by their exact class: a class derived from one may do anything."""

PLAIN = (Tensor, nn.Parameter)


def pointwise(module: Any) -> Pointwise | None:
    """How a kernel runs the module as it is now; `None` where only the module itself can."""
    function = FUNCTIONS.get(type(module))
    if function == "gelu":
        return Pointwise(function) if module.approximate == "none" else None
    if function != "batch_norm":
        return None if function is None else Pointwise(function)
    moments = (module.running_mean, module.running_var, module.weight, module.bias)
    usable = all(value is None or _is_plain(value) for value in moments)
    if module.training or moments[0] is None or moments[1] is None or not usable:
        return None
    return Pointwise(function, moments, module.eps)


def _is_plain(value: Tensor) -> bool:
    return type(value) in PLAIN and value.is_cpu and value.dtype == torch.float32 and value.is_contiguous()


class Layer:
    """A module as the kernel takes it.

    To ask a module for its tensors, and these for all that matters, takes 10 us, and more between two layers, which
    have emptied the caches. So every time only that is asked which can have changed.

    Args:
        module: The module.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self._looks: tuple[Any, ...] | None = None
        self._arguments: dict[str, object] | None = None

    def arguments(self) -> dict[str, object] | None:
        """As it is now, because weights may be replaced, and FSDP has them in memory only while the module runs.

        Returns:
            `Pointwise.arguments`, or `None` where only the module itself can run.
        """
        looks = self._now()
        if looks is None or looks != self._looks:
            known = pointwise(self.module)
            self._arguments = None if known is None else known.arguments()
            self._looks = looks
        return self._arguments

    def _now(self) -> tuple[Any, ...] | None:
        """Everything that `arguments` depends on; `None` if that is not known."""
        module: Any = self.module
        if type(module) in (nn.ReLU, nn.GELU):
            return (getattr(module, "approximate", ""),)
        try:  # where they are kept: asking for them as attributes is a call of Python each
            mean, variance = module._buffers["running_mean"], module._buffers["running_var"]
            weight, bias = module._parameters["weight"], module._parameters["bias"]
        except KeyError:  # computed from others, say
            return None
        looks: list[Any] = [module.training, module.eps]
        for value in (mean, variance, weight, bias):
            if value is not None and type(value) not in PLAIN:
                return None
            looks += (None,) if value is None else (value.data_ptr(), value.dtype, value.is_contiguous())
        return tuple(looks)


class Plan(NamedTuple):
    """How a fused layer is run.

    Attributes:
        looks: How its input lies in memory.
        stats: The kernel; `None` if such tensors are left to torch, so that it is not asked again in every pass.
        layers: The layer, and the ReLU that is done with it.
        second: Where that ReLU is read.
        in_place: Whether it writes over its input.
    """

    looks: Any
    stats: PointwiseStats | None
    layers: tuple[Layer, ...]
    second: Place | None
    in_place: bool

    def arguments(self) -> list[dict[str, object]] | None:
        """Of each layer, as it is now; `None` if one of them is left to torch."""
        known = [arguments for layer in self.layers if (arguments := layer.arguments()) is not None]
        return known if len(known) == len(self.layers) else None


class _Passed(NamedTuple):
    """The output of a ReLU that is there, and read, before the ReLU runs."""

    place: Place
    output: Tensor


class _Held(NamedTuple):
    """A tensor that will be reduced by the layer that reads it next."""

    place: Place
    module: nn.Module
    output: Tensor


class Fused:
    """Puts the fused layers of a tap in the place of `forward`, and takes them out again.

    A layer between two others costs a pass over memory, and so does each statistic of what it reads and makes; a fused
    one costs one pass for all. Where `find_layers` has seen that nothing else reads what a batch norm makes, the ReLU
    behind it is done in the same pass, and what lies between them is not kept.

    Args:
        tap: The tap.
    """

    def __init__(self, tap: Tap) -> None:
        self._tap = tap
        self._modules: dict[str, nn.Module] = {}
        self._read_before: set[str] = set()
        self.forget()

    def forget(self) -> None:
        """Nothing is under way."""
        self._held: _Held | None = None
        self._passed: _Passed | None = None

    # ---- in and out -------------------------------------------------------------------------------------------------

    def enter(self, modules: dict[str, nn.Module], read_before: set[str]) -> set[str]:
        """Takes over the forward pass of the layers among these that can be fused.

        Args:
            modules: The tapped modules by name.
            read_before: Those of them whose input is read by a hook.

        Returns:
            Their names. They are read without a hook, which costs as much as a small layer.
        """
        if nn.modules.module._global_forward_hooks or nn.modules.module._global_forward_pre_hooks:
            return set()  # they may want to see, or to change, what a layer makes
        self._read_before = read_before
        for name, module in modules.items():
            if type(module) in FUNCTIONS and "forward" not in module.__dict__ and not module._forward_hooks:
                self._modules[name] = module
                module.forward = self._forward(name, module)
        return set(self._modules)

    def leave(self) -> None:
        """Gives it back."""
        for module in self._modules.values():
            del module.__dict__["forward"]
        self._modules = {}
        self.forget()

    def begin(self) -> None:
        """Makes ready what the last pass needed: here rather than in the layers, because Python is in cache here."""
        self.forget()
        for place in self._tap.places():
            if place.fused is not None and self._is_usable(place.fused):
                if place.fused.stats is not None:
                    place.fused.stats.make_ready()
            else:
                place.fused = None

    def end(self) -> None:
        """The pass is over.

        Raises:
            RuntimeError: If the layer that should have read a tensor next did not run.
        """
        self.flush()
        if self._passed is not None:
            raise _not_read(self._passed)

    # ---- what the tap asks ------------------------------------------------------------------------------------------

    def hold(self, place: Place, module: nn.Module, output: Tensor) -> bool:
        """Whether the layer that reads this tensor will reduce it."""
        if place.reader not in self._modules or not self._is_alone(module, place):
            return False
        self._held = _Held(place, module, output)
        return True

    def flush(self) -> None:
        """Reduces what was held for a layer that does not take it."""
        held, self._held = self._held, None
        if held is not None:
            self._tap.reduce(*held)

    # ---- a forward pass ---------------------------------------------------------------------------------------------

    def _forward(self, name: str, module: Any) -> Any:
        tap = self._tap

        def forward(input: Tensor) -> Tensor:
            x, place = input, tap.visit(name)
            passed, self._passed = self._passed, None
            if passed is not None:
                if passed.output is not x or passed.place is not place:
                    raise _not_read(passed)
                return x
            # A layer that is run on its own, outside the model, is left to torch: it has no reader.
            if place is not None and tap.running and not torch.is_grad_enabled():
                looks = tap.looks(x)
                if place.fused is None or place.fused.looks != looks:
                    place.fused = self._plan(place, module, x, looks)
                plan = place.fused
                layers = None if plan is None or plan.stats is None else plan.arguments()
                if plan is not None and plan.stats is not None and layers is not None:
                    return self._run(place, plan, plan.stats, x, layers)
            self.flush()  # before the layer overwrites it
            output: Tensor = type(module).forward(module, x)
            if place is not None:
                tap.keep(place, module, output)
            return output

        return forward

    def _run(self, place: Place, plan: Plan, stats: PointwiseStats, x: Tensor, layers: list[Any]) -> Tensor:
        """One fused layer, or two."""
        held = self._held
        with_input = False
        if held is not None:
            with_input = held.output is x and held.place.unit_dim == place.unit_dim and not plan.in_place
            if not with_input:
                self.flush()
        y = x if plan.in_place else torch.empty_like(x)
        found = stats(x, y, layers, with_input)
        if plan.in_place and not x.is_inference():
            torch.autograd.graph.increment_version(x)
        if held is not None and with_input:
            self._held = None
            self._tap.note(held.place, found[0])
        self._tap.note(place, found[1])
        if plan.second is not None:
            self._tap.note(plan.second, found[2])
            self._passed = _Passed(plan.second, y)
        return y

    def _plan(self, place: Place, module: nn.Module, x: Tensor, looks: Any) -> Plan | None:
        """How a layer is run on tensors like this, together with the ReLU behind it if that is possible."""
        if module._forward_hooks:
            return None  # they may want to see, or to change, what it makes
        layers: tuple[Layer, ...] = (Layer(module),)
        second: Place | None = None
        reader = self._modules.get(place.reader)
        if type(reader) is nn.ReLU and FUNCTIONS.get(type(module)) == "batch_norm" and not reader._forward_hooks:
            there = self._tap.place_of(place.reader)
            if there is not None and there.unit_dim == place.unit_dim and self._is_alone(module, place):
                layers, second = (*layers, Layer(reader)), there
        stats = self._tap.pointwise_stats(place, x, len(layers))
        in_place = second is None and bool(getattr(module, "inplace", False))
        return Plan(looks, stats, layers, second, in_place)

    def _is_usable(self, plan: Plan) -> bool:
        """Whether nobody has set a hook since."""
        before = plan.second is not None and plan.layers[1].module._forward_pre_hooks
        return not before and not any(layer.module._forward_hooks for layer in plan.layers)

    def _is_alone(self, module: nn.Module, place: Place) -> bool:
        """Whether nobody else sees what goes from a module, which is read at a place, to its reader."""
        hooks = 0 if place.sites[0].module in self._modules else 1  # of the tap, which reads its own without one
        before = self._modules[place.reader]._forward_pre_hooks
        return len(module._forward_hooks) == hooks and not before and place.reader not in self._read_before


def _not_read(passed: _Passed) -> RuntimeError:
    name = passed.place.sites[0].name
    return RuntimeError(
        f"Expected layer {name!r} to read what the batch norm before it makes, as it did when the layers were looked "
        "up; it read something else this time. Tap the model with fuse=False"
    )
