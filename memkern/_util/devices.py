"""Devices by name, and what they say when their memory is full."""

from __future__ import annotations

import torch

from memkern.errors import ArgumentValueError


def usable_device(name: str) -> torch.device:
    """Finds the device of a name.

    Args:
        name: "auto", the first GPU if there is one and otherwise the CPU; or a name of torch's, "cuda:1" say.

    Returns:
        The device.

    Raises:
        ArgumentValueError: If torch knows no such device, or cannot use it here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ArgumentValueError(f"Expected `device` to be auto, cpu, cuda or cuda:N, got {name!r}") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ArgumentValueError(f"Expected `device` to be here, got {name!r}; torch sees no GPU: use --device cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():  # asked without starting CUDA
        count = torch.cuda.device_count()
        raise ArgumentValueError(f"Expected `device` to be here, got {name!r}; torch sees {count} GPUs, from cuda:0 on")
    if device.type not in ("cpu", "cuda"):
        try:
            torch.zeros(1, device=device).cpu()
        except (RuntimeError, AssertionError) as error:  # NotImplementedError, of "meta", is a RuntimeError
            raise ArgumentValueError(f"Expected `device` to compute here, got {name!r}: {error}") from error
    return device


def is_out_of_memory(error: BaseException) -> bool:
    """Returns whether an error says that there was too little memory, on a GPU or a CPU."""
    # torch's CPU allocator raises a plain RuntimeError.
    said = isinstance(error, RuntimeError) and "allocate memory" in str(error)
    return said or isinstance(error, (MemoryError, torch.OutOfMemoryError))
