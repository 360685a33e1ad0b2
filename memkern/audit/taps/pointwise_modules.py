"""Modules that the pointwise kernel can run in torch's place, and their fields for the kernel."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from memkern.ops.pointwise_stats import Pointwise

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
FUNCTIONS: dict[type[nn.Module], str] = {
    **dict.fromkeys(BATCH_NORMS, "batch_norm"),
    nn.ReLU: "relu",
    nn.GELU: "gelu",
}
"""The modules that can be fused, by their exact class: a class derived from one may do anything."""

LayerFields = dict[str, object]
"""`Pointwise.fields`."""

_PLAIN = (Tensor, nn.Parameter)
_ModuleState = tuple[object, ...]


def pointwise(module: nn.Module) -> Pointwise | None:
    """Describes the module as it is now for the kernel; `None` where only the module itself can run."""
    function = FUNCTIONS.get(type(module))
    if function is None or getattr(module, "approximate", "none") != "none":
        return None
    if not isinstance(module, BATCH_NORMS):
        return Pointwise(function)
    moments = (module.running_mean, module.running_var, module.weight, module.bias)
    usable = all(value is None or _is_plain(value) for value in moments)
    if module.training or moments[0] is None or moments[1] is None or not usable:
        return None
    return Pointwise(function, moments, module.eps)


def _is_plain(value: Tensor) -> bool:
    return type(value) in _PLAIN and value.is_cpu and value.dtype == torch.float32 and value.is_contiguous()


class PointwiseModule:
    """Module that the kernel can run, with its fields for the kernel.

    Every pass asks the module anew, because weights may be replaced, and FSDP has them in memory only while the module
    runs; but only for what can have changed, because the question comes between two layers, where Python is slow.

    Args:
        module: The module.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self._state: _ModuleState | None = None
        self._fields: LayerFields | None = None

    def fields(self) -> LayerFields | None:
        """Returns the module's fields for the kernel, as it is now; `None` where only the module itself can run."""
        state = self._state_now()
        if state is None or state != self._state:
            known = pointwise(self.module)
            self._fields = None if known is None else known.fields()
            self._state = state
        return self._fields

    def _state_now(self) -> _ModuleState | None:
        """Collects everything that `fields` depends on; `None` if that is not known."""
        module = self.module
        if not isinstance(module, BATCH_NORMS):
            return (getattr(module, "approximate", ""),)
        state: list[object] = [module.training, module.eps]
        for value in (module.running_mean, module.running_var, module.weight, module.bias):
            if value is None:
                state.append(None)
            elif type(value) in _PLAIN:
                state += (value.data_ptr(), value.dtype, value.is_contiguous())
            else:
                return None
        return tuple(state)
