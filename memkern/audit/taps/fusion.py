"""Tapped batch norms, ReLUs and GELUs, run by the kernel that reduces what they read and make."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from memkern.audit.taps.call_cache import MemorySignature, memory_signature
from memkern.audit.taps.modules import hooks_beside
from memkern.audit.taps.pointwise_modules import BATCH_NORMS, FUNCTIONS, LayerFields, PointwiseModule
from memkern.audit.taps.protocol import PointwiseHost, TapPoint
from memkern.audit.taps.reduction import Reduction
from memkern.errors import LayerError
from memkern.ops.pointwise_stats import PreparedPointwiseStats, batch_norm_gives_torchs_bits


class Plan(NamedTuple):
    """Plan of a fused layer: the kernel, and which modules it runs.

    Attributes:
        signature: How the layer's input lies in memory.
        call: The kernel; `None` if such inputs are left to torch, so that the question is not asked in every pass.
        modules: The layer, and the ReLU that is run with it.
        second: Where the output of that ReLU is read.
        in_place: Whether the layer writes over its input.
        memory_format: The order of the output's memory, as torch gives it.
    """

    signature: MemorySignature
    call: PreparedPointwiseStats | None
    modules: tuple[PointwiseModule, ...]
    second: TapPoint | None
    in_place: bool
    memory_format: torch.memory_format

    def layers(self) -> list[LayerFields] | None:
        """Describes the modules as they are now; `None` if one of them is left to torch."""
        known = [fields for module in self.modules if (fields := module.fields()) is not None]
        return known if len(known) == len(self.modules) else None


class _Passed(NamedTuple):
    """Output of a ReLU, made and reduced by the layer before the ReLU, until the ReLU runs."""

    point: TapPoint
    output: Tensor


class _Held(NamedTuple):
    """Tensor that will be reduced by the layer that reads it next."""

    point: TapPoint
    module: nn.Module
    output: Tensor


class _Hooks(NamedTuple):
    """Hooks of a module, those of other programs included."""

    before: Mapping[int, object]
    after: Mapping[int, object]

    @staticmethod
    def of(module: nn.Module) -> _Hooks:
        return _Hooks(hooks_beside(module.register_forward_pre_hook), hooks_beside(module.register_forward_hook))


class Fusion:
    """Puts the pointwise layers of a tap in the place of `forward`, and takes them out again.

    A layer between two others costs a pass over memory, and so does each statistic of what it reads and makes; a fused
    one costs one pass for all. Where `find_layers` has seen that nothing else reads what a batch norm makes, the ReLU
    behind it is run in the same pass, and what lies between them is not kept.

    Args:
        host: The tap that reads the layers.
    """

    def __init__(self, host: PointwiseHost) -> None:
        self._host = host
        self._reduction = Reduction(None)
        self._modules: dict[str, nn.Module] = {}
        self._hooks: dict[nn.Module, _Hooks] = {}
        self._read_before: set[str] = set()
        self._plans: dict[TapPoint, Plan] = {}
        self._running = False
        self._held: _Held | None = None
        self._passed: _Passed | None = None

    # ---- in and out -------------------------------------------------------------------------------------------------

    def enter(self, modules: Mapping[str, nn.Module], read_before: Iterable[str]) -> set[str]:
        """Takes over the forward pass of the layers among these that can be fused.

        Args:
            modules: The tapped modules by name.
            read_before: Names of modules whose input is read by a hook.

        Returns:
            The names of the layers. They are read without a hook, which costs as much as a small layer.
        """
        if hooks_beside(register_module_forward_hook) or hooks_beside(register_module_forward_pre_hook):
            self._plans = {}
            return set()  # hooks of all modules may want to see, or to change, what a layer makes
        self._read_before = set(read_before)
        self._hooks = {module: _Hooks.of(module) for module in modules.values()}
        for name, module in modules.items():
            if type(module) in FUNCTIONS and "forward" not in vars(module) and not self._hooks[module].after:
                self._modules[name] = module
                module.forward = self._forward(name, module)
        fused = set(self._modules.values())
        self._plans = {
            point: plan for point, plan in self._plans.items() if all(each.module in fused for each in plan.modules)
        }
        return set(self._modules)

    def leave(self) -> None:
        """Gives every layer its own forward pass back."""
        for module in self._modules.values():
            del module.forward
        self._modules, self._hooks = {}, {}
        self._running, self._held, self._passed = False, None, None

    def begin(self, reduction: Reduction) -> None:
        """Begins a pass: makes ready what the last one needed, because between layers Python is slow.

        Args:
            reduction: How outputs are reduced in this pass.
        """
        self._running, self._held, self._passed = True, None, None
        self._reduction = reduction
        for point, plan in list(self._plans.items()):
            if not self._is_usable(plan):
                del self._plans[point]
            elif plan.call is not None:
                plan.call.make_ready()

    def end(self) -> None:
        """Ends a pass.

        Raises:
            LayerError: If the layer that should have read a tensor next did not run.
        """
        self._flush()
        self._running = False
        if self._passed is not None:
            raise _not_read(self._passed)

    # ---- a forward pass ---------------------------------------------------------------------------------------------

    def reduce(self, point: TapPoint, module: nn.Module, output: Tensor | None) -> None:
        """Has a tensor `[N * V, …]` reduced: by the layer that reads it next, if that one is fused, or by the host."""
        self._flush()
        if output is not None and self._running and point.consumer in self._modules and self._is_alone(module, point):
            self._held = _Held(point, module, output)
        else:
            self._host.reduce(point, module, output)

    def _flush(self) -> None:
        """Reduces the tensor that was held for a layer which does not take it."""
        held, self._held = self._held, None
        if held is not None:
            self._host.reduce(*held)

    def _forward(self, name: str, module: nn.Module) -> Callable[[Tensor], Tensor]:
        def forward(input: Tensor) -> Tensor:
            x, point = input, self._host.visit(name)
            passed, self._passed = self._passed, None
            if passed is not None:
                if passed.output is not x or passed.point is not point:
                    raise _not_read(passed)
                return x
            # A layer that is run on its own, outside the model, is left to torch: it has no consumer.
            if point is not None and self._running and not torch.is_grad_enabled():
                plan = self._plan_of(point, module, x)
                layers = None if plan.call is None else plan.layers()
                if plan.call is not None and layers is not None:
                    return self._run(point, plan, plan.call, x, layers)
            self._flush()  # before the layer overwrites it
            output: Tensor = type(module).forward(module, x)
            if point is not None:
                self.reduce(point, module, output)
            return output

        return forward

    def _run(
        self, point: TapPoint, plan: Plan, call: PreparedPointwiseStats, x: Tensor, layers: list[LayerFields]
    ) -> Tensor:
        """Runs one fused layer, or two."""
        held = self._held
        with_input = False
        if held is not None:
            with_input = held.output is x and held.point.unit_dim == point.unit_dim and not plan.in_place
            if not with_input:
                self._flush()
        y = x if plan.in_place else torch.empty_like(x, memory_format=plan.memory_format)
        found = call(x, y, layers, with_input)
        if plan.in_place and not x.is_inference():
            torch.autograd.graph.increment_version(x)
        if held is not None and with_input:
            self._held = None
            self._host.receive(held.point, self._reduction.named(found[0]))
        self._host.receive(point, self._reduction.named(found[1]))
        if plan.second is not None:
            self._host.receive(plan.second, self._reduction.named(found[2]))
            self._passed = _Passed(plan.second, y)
        return y

    # ---- plans ------------------------------------------------------------------------------------------------------

    def _plan_of(self, point: TapPoint, module: nn.Module, x: Tensor) -> Plan:
        """Returns the plan of a layer for `x`: that of the last pass, if the input lay in memory alike then."""
        signature = memory_signature(x, self._reduction.n_views)
        plan = self._plans.get(point)
        if plan is None or plan.signature != signature:
            plan = self._plans[point] = self._plan(point, module, x, signature)
        return plan

    def _plan(self, point: TapPoint, module: nn.Module, x: Tensor, signature: MemorySignature) -> Plan:
        """Makes the plan of a layer for inputs like `x`, together with the ReLU behind it if that is possible."""
        modules: tuple[PointwiseModule, ...] = (PointwiseModule(module),)
        left_to_torch = isinstance(module, BATCH_NORMS) and not batch_norm_gives_torchs_bits(x)
        if self._hooks[module].after or point.unit_dim is None or left_to_torch:
            return Plan(signature, None, modules, None, False, torch.preserve_format)
        second = self._relu_behind(point, module)
        if second is not None:
            modules = (*modules, PointwiseModule(self._modules[point.consumer]))
        call = self._reduction.prepared_with_layers(x, point.unit_dim, len(modules))
        in_place = second is None and bool(getattr(module, "inplace", False))
        # A map of one pixel is contiguous and channels last at once. Torch's layers then choose contiguous strides, and
        # a convolution that reads the map may round by them.
        memory_format = torch.contiguous_format if x.is_contiguous() else torch.preserve_format
        return Plan(signature, call, modules, second, in_place, memory_format)

    def _relu_behind(self, point: TapPoint, module: nn.Module) -> TapPoint | None:
        """Finds the tap point of the ReLU that can be run together with a batch norm; `None` if there is none."""
        relu = self._modules.get(point.consumer)
        if type(relu) is not nn.ReLU or not isinstance(module, BATCH_NORMS) or self._hooks[relu].after:
            return None
        there = self._host.upcoming(point.consumer)
        if there is None or there.unit_dim != point.unit_dim or not self._is_alone(module, point):
            return None
        return there

    def _is_usable(self, plan: Plan) -> bool:
        """Tells whether the modules of a plan still have only the hooks they had when the plan was made."""
        before = plan.second is not None and self._hooks[plan.modules[1].module].before
        return not before and not any(self._hooks[module.module].after for module in plan.modules)

    def _is_alone(self, module: nn.Module, point: TapPoint) -> bool:
        """Tells whether only the consumer and the tap see the output of a module, which is read at `point`."""
        hooks = 0 if point.hook_points[0].module in self._modules else 1  # of the tap, which reads its own without one
        before = self._hooks[self._modules[point.consumer]].before
        return len(self._hooks[module].after) == hooks and not before and point.consumer not in self._read_before


def _not_read(passed: _Passed) -> LayerError:
    name = passed.point.hook_points[0].name
    return LayerError(
        f"Expected layer {name!r} to read what the batch norm before it makes, as it did when the layers were looked "
        "up; it read something else this time. Tap the model with fuse=False"
    )
