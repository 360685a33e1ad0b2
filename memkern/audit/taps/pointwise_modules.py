"""Which modules the pointwise kernel can run in torch's place, and how it takes them."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn
from torch.nn import functional

from memkern import native
from memkern.ops.pointwise_stats import Pointwise, pointwise_stats

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
FUNCTIONS: dict[type[nn.Module], str] = {
    **dict.fromkeys(BATCH_NORMS, "batch_norm"),
    nn.ReLU: "relu",
    nn.GELU: "gelu",
}
"""The modules that can be fused, by their exact class: a class derived from one may do anything."""

KernelLayer = tuple[int | float, ...]
"""`Pointwise.arguments`."""

_PLAIN = (Tensor, nn.Parameter)
_ModuleState = tuple[object, ...]


def pointwise(module: nn.Module) -> Pointwise | None:
    """How the kernel runs the module as it is now; `None` where only the module itself can."""
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
    """A module as the kernel takes it.

    A module is asked in every pass, because weights may be replaced, and FSDP has them in memory only while the module
    runs; but only for what can have changed, because that is done between two layers, where Python is slow.

    Args:
        module: The module.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self._state: _ModuleState | None = None
        self._arguments: KernelLayer | None = None

    def arguments(self) -> KernelLayer | None:
        """The module as it is now, as the kernel takes it; `None` where only the module itself can run."""
        state = self._state_now()
        if state is None or state != self._state:
            known = pointwise(self.module)
            self._arguments = None if known is None else known.arguments()
            self._state = state
        return self._arguments

    def _state_now(self) -> _ModuleState | None:
        """Everything that `arguments` depends on; `None` if that is not known."""
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


def gives_torchs_bits(module: nn.Module, x: Tensor) -> bool:
    """Whether the kernel makes of `x` the very bits that the module makes; of a GELU, the same up to rounding.

    Of a batch norm torch has two ways, which round differently: the kernel's, and another for memory that is neither
    contiguous nor channels last.
    """
    if not isinstance(module, BATCH_NORMS):
        return True
    dense = x.is_contiguous()
    dense |= x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)
    dense |= x.ndim == 5 and x.is_contiguous(memory_format=torch.channels_last_3d)
    return dense and _rounds_as_torch(native.library().isa())


@functools.cache
def _rounds_as_torch(isa: str) -> bool:
    """Whether batch norms of the kernel's instruction set and of torch's round alike, from some elements of both kinds.

    Torch multiplies and adds with one rounding where its own instruction set can, which need not be the kernel's.
    """
    units, generator = 37, torch.Generator("cpu").manual_seed(0)
    mean, variance, weight, bias = torch.rand(4, units, generator=generator, device="cpu", dtype=torch.float32)
    x = torch.randn(4, units, 5, 7, generator=generator, device="cpu", dtype=torch.float32)
    # With one rounding the sum of product and bias is just below the middle of two floats; in double it is the middle.
    mean[0], variance[0], weight[0], bias[0], x[:, 0] = 0, 1, 1 - 2**-18, 1 + 2**-23, 2**-24 * (1 + 2**-18)
    layer = Pointwise("batch_norm", (mean, variance, weight, bias))
    for memory in (torch.contiguous_format, torch.channels_last):
        z = x.contiguous(memory_format=memory)
        want = functional.batch_norm(z, mean, variance, weight, bias, eps=0.0)
        got = pointwise_stats(z.unflatten(0, (2, 2)), [layer], backend="cpu").output.flatten(0, 1)
        if not torch.equal(got, want):
            return False
    return True
