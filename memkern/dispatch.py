"""Backend tables: which backend runs a call, and why the others do not. Pure functions, no state."""

from __future__ import annotations

import html
import importlib.util
import os
import platform
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from torch import Tensor
from torch.autograd import forward_ad

from memkern import native, nvrtc
from memkern.checks import values as checks

Backend = Literal["auto", "reference", "cpu", "triton", "cuda"]
NAMES = ("auto", "reference", "cpu", "triton", "cuda")
# Backends that "auto" takes on a device, best first.
FASTEST = {"cpu": ("cpu",), "cuda": ("cuda", "triton")}
Result = TypeVar("Result")
_ORDINARY = (Tensor, torch.nn.Parameter)
# Questions of `can_bypass_dispatcher`, looked up once: each call of an op asks them all.
_modes, _transforms = torch._C._len_torch_dispatch_stack, torch._C._are_functorch_transforms_active
_is_wrapped, _is_tracing = torch._C._functorch.is_functorch_wrapped_tensor, torch._C._is_tracing

# Triton's own switch: its kernels then run in its interpreter, on tensors of any device. Set before Triton is imported.
INTERPRETER_VARIABLE = "TRITON_INTERPRET"


class MemkernWarning(UserWarning):
    """Something the user should know, such as a slow path taken by ``backend="auto"``."""


def why_not(backend: str, device: torch.device) -> str:
    """Explains why a backend cannot run on tensors of this device; empty if it can."""
    if backend == "reference":
        return ""
    if backend == "cpu":
        reason = native.load()[1]
        return reason or ("" if device.type == "cpu" else f"it reads CPU tensors only, got {device}")
    if backend == "triton":
        return _why_not_triton(device)
    reason = native.without_cuda()
    return reason or ("" if device.type == "cuda" else f"it reads CUDA tensors only, got {device}")


def _why_not_triton(device: torch.device) -> str:
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed (`pip install triton`)"
    if _interpreted():
        return ""
    if device.type != "cuda":
        return f"it reads tensors on a CUDA or ROCm GPU, got {device}"
    return "" if torch.cuda.is_available() else "torch finds no usable GPU or driver"


def _interpreted() -> bool:
    return os.environ.get(INTERPRETER_VARIABLE) == "1"


def pick(backend: str, device: torch.device, table: Mapping[str, Callable[..., Result]]) -> Callable[..., Result]:
    """Chooses the function that runs a call.

    Args:
        backend: "auto", or the one backend that may run. Only "auto" chooses.
        device: Device of the tensors.
        table: The op's functions by backend name.

    Returns:
        The function of the chosen backend.

    Raises:
        RuntimeError: If the named backend cannot run here; the message says why.
    """
    if backend == "auto":
        if device.type == "cpu" and native.load()[0] is not None:
            return table["cpu"]
        reasons = {}
        for name in FASTEST.get(device.type, ()):
            reasons[name] = why_not(name, device) or ("" if name in table else "this op has no such kernel")
            if not reasons[name]:
                return table[name]
        why = "; ".join(f"{name}: {reason}" for name, reason in reasons.items()) or "no kernels for such a device"
        warnings.warn(f"memkern runs its slow float64 reference on {device}: {why}", MemkernWarning, stacklevel=4)
        return table["reference"]
    reason = why_not(backend, device)
    if not reason and backend not in table:
        reason = "this op has no such kernel"
    if reason:
        raise checks.no_backend(backend, reason)
    return table[backend]


def can_bypass_dispatcher(x: Tensor) -> bool:
    """Tells whether a call on ``x``, ``[...]``, may go straight to the kernel, past torch's slower dispatcher.

    An ordinary tensor in ordinary eager mode may; tracing, subclasses, modes, functorch transforms and forward-mode
    derivatives take the registered op.
    """
    return (
        type(x) in _ORDINARY
        and not torch.compiler.is_compiling()
        and not x.is_neg()  # memory with a pending minus sign; torch settles it on the way to the op
        and not x._is_zerotensor()  # no memory at all; torch makes it
        and _modes() == 0
        and not _transforms()
        and not _is_wrapped(x)
        and not _is_tracing()  # torch.jit.trace sees the registered op alone
        and forward_ad._current_level < 0
    )


@dataclass(frozen=True)
class BackendInfo:
    """Line of ``memkern.backends()``: a backend, whether it runs here, and the detail or the reason why not."""

    name: str
    available: bool
    detail: str


class Backends(tuple[BackendInfo, ...]):
    """Table of the backends: a tuple of ``BackendInfo``, which ``memkern.backends()`` returns, printed as a table."""

    def __repr__(self) -> str:
        lines = [f"{'backend':<10} {'runs':<5} detail"]
        lines += [f"{info.name:<10} {'yes' if info.available else 'no':<5} {info.detail}" for info in self]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """Shows the table in a notebook."""
        head = "<tr><th>backend</th><th>runs</th><th>detail</th></tr>"
        rows = (
            f"<tr><td>{info.name}</td><td>{'yes' if info.available else 'no'}</td>"
            f"<td style='text-align:left'>{html.escape(info.detail)}</td></tr>"
            for info in self
        )
        return f"<table>{head}{''.join(rows)}</table>"


def _cuda_info() -> BackendInfo:
    reason = native.without_cuda()
    if reason:
        return BackendInfo("cuda", False, reason)
    devices = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    code = f"machine code for {native.cuda().architectures()}"
    if native.cuda().by_name:
        code = f"compiled by NVRTC at first launch, kept in {nvrtc.cache_folder()}"
    return BackendInfo("cuda", True, f"{code}; {', '.join(devices)}")


def backends() -> Backends:
    """Says which backends run on this machine, with which instruction set, and why not the others.

    Returns:
        One ``BackendInfo`` per backend; printing the result shows a table.

    Example:
        >>> import memkern
        >>> [info.name for info in memkern.backends()]
        ['reference', 'cpu', 'triton', 'cuda']
        >>> memkern.backends()[0].available
        True
    """
    module, reason = native.load()
    if module is None:
        cpu = BackendInfo("cpu", False, reason)
    else:
        others = [name for name in module.compiled_isas() if name != module.isa()]
        missing = [name for name in others if name not in module.supported_isas()]
        threads = f"{torch.get_num_threads()} threads" if module.has_threads else "one thread (built without OpenMP)"
        detail = f"{module.isa()} of {', '.join(module.compiled_isas())}; {threads}"
        if os.environ.get(native.ISA_VARIABLE):
            detail += f"; forced by {native.ISA_VARIABLE}"
        if missing:
            detail += f"; this {platform.machine()} processor lacks {', '.join(missing)}"
        cpu = BackendInfo("cpu", True, detail)
    return Backends(
        (
            BackendInfo("reference", True, "plain torch in float64, any device; the oracle, slow"),
            cpu,
            _triton_info(),
            _cuda_info(),
        )
    )


def _triton_info() -> BackendInfo:
    reason = why_not("triton", torch.device("cuda"))
    if reason:
        return BackendInfo("triton", False, reason)
    where = (
        f"in its interpreter ({INTERPRETER_VARIABLE}=1), very slow" if _interpreted() else torch.cuda.get_device_name()
    )
    return BackendInfo("triton", True, where)
