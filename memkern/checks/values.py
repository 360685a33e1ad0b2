"""Argument checks: the only place where sentences of wrong arguments are built.

Every sentence names the argument, what was expected, what came, and where it helps, the fix. Checks run before any
work, read only shapes and dtypes (never values of a tensor on a GPU), and trace under ``torch.compile``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias, cast

import numpy as np
import torch
from torch import Tensor

from memkern.checks import kinds
from memkern.errors import ArgumentTypeError, ArgumentValueError, BackendError, MissingPackageError


class SupportsDLPack(Protocol):
    """An array of any library whose memory torch can share."""

    @property
    def __dlpack__(self) -> Callable[..., object]:
        """Hands the memory out."""


TensorLike: TypeAlias = Tensor | np.ndarray | SupportsDLPack
"""Types that a caller may pass for data."""
IntsLike: TypeAlias = Tensor | np.ndarray | Sequence[int]
"""Types that a caller may pass for ids and labels: int64, one per point."""
Array: TypeAlias = Any
"""A result: a tensor, or a numpy array where the caller passed numpy; which of the two, no annotation can say."""

SHORT = 6
"""Lists of so many names show at a glance which one was meant; of longer ones the nearest are named."""

FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def _kind(value: object) -> str:
    return type(value).__name__


def as_tensor(value: object, name: str) -> tuple[Tensor, bool]:
    """Takes a torch tensor, a numpy array or anything with ``__dlpack__``.

    Args:
        value: What the caller passed. Memory is shared, never copied; read-only arrays are fine, nothing is written.
        name: The argument's name, for errors.

    Returns:
        The tensor, and whether the caller passed numpy (and so gets numpy back).

    Raises:
        ArgumentTypeError: If ``value`` is no such array, or holds a dtype or memory layout that torch cannot share.
    """
    if isinstance(value, Tensor):
        if type(value) is not Tensor:
            kinds.without_mask(value, name)
        return value, False
    kinds.without_mask(value, name)
    module = type(value).__module__.partition(".")[0]
    is_numpy = module == "numpy" and hasattr(value, "ndim")
    if not is_numpy and not hasattr(value, "__dlpack__"):
        raise ArgumentTypeError(
            f"Expected `{name}` to be a torch tensor, a numpy array or an object with __dlpack__, got {_kind(value)}; "
            "build a tensor with torch.as_tensor first"
        )
    try:
        if is_numpy and cast("np.ndarray", value).flags.writeable:
            return torch.from_numpy(value), True
        return torch.utils.dlpack.from_dlpack(value), is_numpy
    except (BufferError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        dtype = getattr(value, "dtype", "unknown dtype")
        raise ArgumentTypeError(
            f"Expected `{name}` to be an array that torch can share (native byte order, no negative strides), "
            f"got {_kind(value)} of {dtype}: {error}; copy it first, e.g. with numpy.array(value, dtype='float32')"
        ) from error


def as_tensors(value: object, name: str) -> tuple[dict[str, Tensor], bool]:
    """Takes an array, or a list or tuple of arrays: one for each training of an encoder.

    Args:
        value: What the caller passed; of each array as for ``as_tensor``.
        name: The argument's name, for errors.

    Returns:
        The tensors by name, "z" or "z[0]", "z[1]", ..., and whether the caller passed numpy.

    Raises:
        ArgumentValueError: If there is no array in the list.
        ArgumentTypeError: If one of them is no array.
    """
    if not isinstance(value, list | tuple) or (value and isinstance(value[0], list | tuple | float | int)):
        x, was_numpy = as_tensor(value, name)
        return {name: x}, was_numpy
    if not value:
        raise ArgumentValueError(f"Expected `{name}` to hold an array for each training, got an empty {_kind(value)}")
    found = {f"{name}[{index}]": as_tensor(each, f"{name}[{index}]") for index, each in enumerate(value)}
    return {name: x for name, (x, _) in found.items()}, any(was_numpy for _, was_numpy in found.values())


def as_numpy(value: Tensor) -> np.ndarray:
    """Gives a result of any shape, `[...]`, back as a numpy array that shares its memory."""
    return value.detach().numpy()


def floating(x: Tensor, name: str) -> None:
    """Requires ``x``, ``[...]``, of a dtype the kernels read: float32, float64, bfloat16 or float16."""
    if x.dtype not in FLOATS:
        got = str(x.dtype).removeprefix("torch.")
        raise ArgumentTypeError(
            f"Expected `{name}` to be float32, float64, bfloat16 or float16, got {got}; call .float() first"
        )


def float32(x: Tensor, name: str) -> None:
    """Requires ``x``, ``[...]``, of dtype float32."""
    if x.dtype != torch.float32:
        got = str(x.dtype).removeprefix("torch.")
        raise ArgumentTypeError(f"Expected `{name}` to be float32, got {got}; call .float() first")


def strided(x: Tensor, name: str) -> None:
    """Requires ``x``, ``[...]``, in ordinary strided memory."""
    if x.is_nested:
        raise ArgumentTypeError(
            f"Expected `{name}` to be a dense strided tensor, got a nested one; pass its parts singly"
        )
    if x.layout != torch.strided or x.is_quantized:
        got, fix = ("a quantized one", "dequantize") if x.is_quantized else (f"layout {x.layout}", "to_dense")
        raise ArgumentTypeError(f"Expected `{name}` to be a dense strided tensor, got {got}; call .{fix}() first")


def one_of(value: object, name: str, options: Sequence[str]) -> None:
    """Requires one of the named options."""
    if value not in options:
        wanted = ", ".join(repr(option) for option in options)
        # Here, because helpers of the commands stay out of the core until they are needed.
        from memkern._util.text import did_you_mean

        near = did_you_mean(value, options) if len(options) > SHORT else ""
        raise ArgumentValueError(f"Expected `{name}` to be one of {wanted}, got {value!r}{near}")


def all_pairs(pairs: str, view_sums: bool) -> None:
    """Requires the pairs that sums over the views of a point are made of, if such sums are wanted."""
    if view_sums and pairs != "all":
        raise ArgumentValueError(
            f"Expected `pairs` to be 'all' with `view_sums`, got {pairs!r}: rows and halves need all"
        )


def distance(value: str, normalize: bool) -> None:
    """Requires a known distance between views, and the unit length that those of directions need."""
    one_of(value, "distance", ("l2", "l1", "cosine", "angular"))
    if value in ("cosine", "angular") and not normalize:
        raise ArgumentValueError(f"Expected normalize=True with distance={value!r}, which compares directions alone")


def length(value: Sequence[object], name: str, least: int, most: int) -> None:
    """Requires a sequence of ``least`` to ``most`` entries."""
    if not least <= len(value) <= most:
        wanted = f"{least}" if least == most else f"{least} to {most}"
        raise ArgumentValueError(f"Expected `{name}` to have {wanted} entries, got {len(value)}")


def one_per_unit(value: Tensor | None, name: str, units: int) -> None:
    """Requires float32 ``[U]``."""
    if value is None or value.shape != (units,):
        got = "None" if value is None else str(list(value.shape))
        raise ArgumentValueError(f"Expected `{name}` to have shape [{units}], one number per unit, got {got}")
    float32(value, name)


def views_shape(z: Tensor, name: str) -> None:
    """Requires [N, V, ...] with at least two views and at least one element per view."""
    _, views, *sizes = z.shape if z.dim() > 2 else (0, 0)
    if views < 2:
        raise ArgumentValueError(f"Expected `{name}` to have shape [N, V, ...] with V >= 2, got {list(z.shape)}")
    if 0 in sizes:
        raise ArgumentValueError(f"Expected `{name}` to have at least one element per view, got {list(z.shape)}")


def same_views(a: Tensor, b: Tensor, name_a: str, name_b: str) -> None:
    """Requires two stacks of views of the same points: equal [N, V], device and dtype."""
    if a.shape[:2] != b.shape[:2]:
        raise ArgumentValueError(
            f"Expected `{name_a}` and `{name_b}` to hold the same points and views (equal [N, V]), "
            f"got {list(a.shape[:2])} and {list(b.shape[:2])}"
        )
    same_device(a, b, name_a, name_b)
    if a.dtype != b.dtype:
        raise ArgumentTypeError(f"Expected `{name_a}` and `{name_b}` to have one dtype, got {a.dtype} and {b.dtype}")


def same_device(a: Tensor, b: Tensor, name_a: str, name_b: str) -> None:
    """Requires two tensors, ``[...]`` each, on one device; nothing is moved behind the caller's back."""
    if a.device != b.device:
        got = f"{a.device} and {b.device}; move one with .to(device)"
        raise BackendError(f"Expected `{name_a}` and `{name_b}` on one device, got {got}")


def one_device(**tensors: Tensor) -> None:
    """Requires tensors, ``[...]`` each, by the names of arguments, on the device of the first one."""
    (first, a), *others = tensors.items()
    for name, b in others:
        same_device(a, b, first, name)


def dimension(value: int | None, name: str, x: Tensor) -> int | None:
    """Requires a dimension of ``x``, ``[N, ...]``, other than dim 0 (the points), and makes it non-negative."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise ArgumentTypeError(f"Expected `{name}` to be an int or None, got {_kind(value)}")
    if not -x.dim() <= value < x.dim():
        raise ArgumentValueError(
            f"Expected `{name}` to be a dimension of activations of shape {list(x.shape)}, got {value}"
        )
    value %= x.dim()
    if value == 0:
        raise ArgumentValueError(
            f"Expected `{name}` to be a dimension after the points, got dim 0, which holds the points"
        )
    return value


def unit_dimension(x: Tensor, view_dim: int | None, unit_dim: int | None, name: str = "activations") -> int:
    """Finds the dimension of the units: as given, else the first one after the points (and the views).

    Args:
        x: Activations ``[N, ..., U, ...]``; dim 0 holds the points.
        view_dim: The dimension of the views, or None for no views.
        unit_dim: The dimension of the units, or None for the default.
        name: The argument's name, for errors.

    Returns:
        A dimension in [1, x.dim()).

    Raises:
        ArgumentTypeError: If a dimension is no int.
        ArgumentValueError: If ``x`` lacks a dimension, or views and units are in the same one.
    """
    least = 2 if view_dim is None else 3
    if x.dim() < least:
        wanted = "[N, U, ...]" if view_dim is None else "[N, V, U, ...]"
        raise ArgumentValueError(f"Expected `{name}` to have shape {wanted}, got {list(x.shape)}")
    if x.dim() > 9:
        raise ArgumentValueError(
            f"Expected `{name}` to have at most 9 dimensions, got {x.dim()}; flatten the space first"
        )
    view = dimension(view_dim, "view_dim", x)
    unit = dimension(unit_dim, "unit_dim", x)
    if unit is None:
        return 2 if view == 1 else 1
    if unit == view:
        raise ArgumentValueError(f"Expected `view_dim` and `unit_dim` to differ, got {view_dim} and {unit_dim}")
    return unit


def averaged_elements(x: Tensor, unit_dim: int, name: str = "activations") -> None:
    """Requires at least one element of ``x``, ``[N, ..., U, ...]``, to average per point and unit."""
    for dim in range(1, x.dim()):
        if dim != unit_dim and x.shape[dim] == 0:
            raise ArgumentValueError(
                f"Expected `{name}` to have at least one element per point and unit, got {list(x.shape)}"
            )


def at_least_two_points(points: int, name: str, what: str = "points") -> None:
    """Requires two points: the rest, that the largest is compared with, is otherwise an empty set."""
    if points < 2:
        raise ArgumentValueError(
            f"Expected `{name}` to hold at least 2 {what}, got {points}: there is nothing to compare with"
        )


def readable(x: Tensor) -> bool:
    """Tells whether values of ``x``, ``[...]``, may be looked at.

    They may be on the CPU, where reading does not wait for a device, and outside of calls that are traced or faked.
    """
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    return torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.FAKE) is None


def _one_per_point(value: IntsLike, name: str, what: str, points: int) -> Tensor:
    kinds.without_mask(value, name)
    tensor: Tensor = value if isinstance(value, Tensor) else torch.as_tensor(value, device="cpu")
    if tensor.dtype != torch.int64:
        got = str(tensor.dtype).removeprefix("torch.")
        raise ArgumentTypeError(f"Expected `{name}` to be int64, got {got}; call .long() first")
    if tensor.shape != (points,):
        raise ArgumentValueError(
            f"Expected `{name}` to have shape [{points}], one {what} per point, got {list(tensor.shape)}"
        )
    return tensor


def ids(value: IntsLike, points: int, device: torch.device) -> Tensor:
    """Takes dataset ids: int64, one per point; sequences of ints and numpy arrays are converted."""
    return _one_per_point(value, "ids", "id", points).to(device)


def labels(value: IntsLike, points: int, device: torch.device, num_classes: int | None) -> tuple[Tensor, int]:
    """Takes class labels: int64, one per point, each in [0, num_classes).

    Args:
        value: Labels as a tensor, numpy array or sequence of ints.
        points: How many are expected.
        device: Where the activations are.
        num_classes: How many classes there are; None takes the largest label plus one (a host sync on a GPU).

    Returns:
        The labels on ``device`` and the number of classes.

    Raises:
        ArgumentTypeError: If the labels are not int64.
        ArgumentValueError: If there is not one label per point, or one is out of range.
    """
    value = _one_per_point(value, "labels", "label", points)
    if num_classes is not None and num_classes < 1:
        raise ArgumentValueError(f"Expected `num_classes` to be at least 1, got {num_classes}")
    if value.numel() > 0 and (num_classes is None or readable(value)):
        most = label_range(value, num_classes)
        num_classes = most + 1 if num_classes is None else num_classes
    return value.to(device), num_classes or 0


def label_range(value: Tensor, num_classes: int | None) -> int:
    """Requires labels, ``[N]`` with N >= 1, in [0, num_classes), and returns the largest."""
    least, most = (int(bound) for bound in torch.aminmax(value))
    if least < 0 or (num_classes is not None and most >= num_classes):
        wanted = "at least 0" if num_classes is None else f"in [0, {num_classes})"
        raise ArgumentValueError(f"Expected `labels` to be {wanted}, got values from {least} to {most}")
    return most


def no_backend(backend: str, reason: str) -> BackendError:
    """Builds the error of a backend that was named but cannot run this call."""
    return BackendError(f"backend={backend!r} cannot run here: {reason}; see memkern.backends() for those that can")


def no_extra(module: str, package: str, extra: str) -> MissingPackageError:
    """Builds the error of a module of memkern that needs a package of one of its extras."""
    fix = f"install it with `pip install 'memkern[{extra}]'`"
    return MissingPackageError(f"{module} needs {package}; {fix}", name=package)


def exact_ids(value: Tensor) -> None:
    """Requires ids, ``[N]``, that float64 holds exactly; values are read on the CPU only."""
    if value.device.type == "cpu" and value.numel() > 0 and int(value.abs().max()) >= 2**53:
        raise ArgumentValueError(f"Expected `ids` below 2**53 (they are kept in float64), got {int(value.abs().max())}")


def at_least_one_point(points: int, name: str) -> None:
    """Requires a point: the mean of none is undefined."""
    if points < 1:
        raise ArgumentValueError(f"Expected `{name}` to hold at least 1 point, got 0")


def same_points(a: Tensor, b: Tensor, name_a: str, name_b: str) -> None:
    """Requires two vectors ``[N]`` of one number per point."""
    if a.dim() != 1 or a.shape != b.shape:
        raise ArgumentValueError(
            f"Expected `{name_a}` and `{name_b}` to have one shape [N], got {list(a.shape)} and {list(b.shape)}"
        )


def same_units(mine: Tensor, other: Tensor) -> None:
    """Requires states ``[U]`` of the same units, of one result dtype and device."""
    if mine.shape != other.shape:
        raise ArgumentValueError(f"Expected a batch or state of {len(mine)} units like those before, got {len(other)}")
    if mine.dtype != other.dtype:
        raise ArgumentTypeError(
            f"Expected results of {mine.dtype} like those before, got {other.dtype}; cast the batch first"
        )
    same_device(mine, other, "the state", "the batch")


def same_options(mine: object, other: object, names: Sequence[str]) -> None:
    """Requires two metrics of one class with equal options."""
    if type(mine) is not type(other):
        raise ArgumentTypeError(f"Expected `other` to be a {_kind(mine)}, got {_kind(other)}")
    for name in names:
        a, b = getattr(mine, name), getattr(other, name)
        if a != b:
            raise ArgumentValueError(f"Expected `other` to have {name}={a!r} like this metric, got {b!r}")


def state_entries(state: object, wanted: set[str]) -> None:
    """Requires the entries that ``state_dict`` writes, or none at all."""
    if not isinstance(state, dict):
        raise ArgumentTypeError(f"Expected `state` to be a dict from state_dict(), got {_kind(state)}")
    if state and set(state) != wanted:
        raise ArgumentValueError(f"Expected `state` to have the entries {sorted(wanted)}, got {sorted(state)}")
