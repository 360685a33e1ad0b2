"""Checks of the arguments of views: sentences that name the argument, what was expected, and what came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memkern.checks.values import as_tensor, one_of, readable
from memkern.errors import ArgumentTypeError, ArgumentValueError, BackendError

__all__ = ["one_of"]

LARGEST = 1e6
"""Bound of the numbers of a view, and of their reciprocals: within it no view overflows float32."""


def _kind(value: object) -> str:
    return type(value).__name__


def _is_int(value: object) -> TypeGuard[int]:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def _are_ints(value: object) -> TypeGuard[Sequence[int]]:
    return isinstance(value, Sequence) and not isinstance(value, str) and all(_is_int(each) for each in value)


def _are_numbers(value: object) -> TypeGuard[Sequence[float]]:
    return isinstance(value, Sequence) and not isinstance(value, str) and all(_is_number(each) for each in value)


# ---- fields of a ViewSpec -------------------------------------------------------------------------------------------


def bounded(value: object, name: str, low: float, high: float) -> float:
    """Requires a number in [low, high]."""
    if not _is_number(value):
        raise ArgumentTypeError(f"Expected `{name}` to be a number, got {_kind(value)}")
    if not low <= value <= high:
        raise ArgumentValueError(f"Expected `{name}` to be in [{low:g}, {high:g}], got {value}")
    return float(value)


def number_range(value: object, name: str, low: float, high: float, *, above: bool = False) -> tuple[float, float]:
    """Requires two numbers, smallest first, in [low, high]; ``above``: in (low, high]."""
    if not _are_numbers(value):
        raise ArgumentTypeError(f"Expected `{name}` to be two numbers (smallest, largest), got {value!r}")
    if len(value) != 2 or not low <= value[0] <= value[1] <= high or (above and value[0] == low):
        bounds = f"{'(' if above else '['}{low:g}, {high:g}]"
        raise ArgumentValueError(f"Expected `{name}` to be two numbers (smallest, largest) in {bounds}, got {value!r}")
    return float(value[0]), float(value[1])


def factor_range(value: object, name: str, center: float, low: float, high: float) -> tuple[float, float] | None:
    """Takes a range, or the largest change from ``center``; None if nothing changes."""
    if value is None:
        return None
    if _is_number(value):
        if value < 0 or center + value > high:
            raise ArgumentValueError(f"Expected `{name}` to be a change in [0, {high - center:g}], got {value}")
        value = (max(center - value, low), center + value)
    bounds = number_range(value, name, low, high)
    return None if bounds == (center, center) else bounds


def odd(value: object, name: str) -> None:
    """Requires an odd whole number, at least 1."""
    if count(value, name) % 2 == 0:
        raise ArgumentValueError(f"Expected `{name}` to be odd, got {value}")


def positive(value: object, name: str) -> None:
    """Requires a whole number, at least 1."""
    count(value, name)


def stages(value: object, name: str, known: Sequence[str]) -> tuple[str, ...]:
    """Requires names of stages, each at most once."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ArgumentTypeError(f"Expected `{name}` to be a sequence of stage names, got {_kind(value)}")
    for stage in value:
        one_of(stage, name, known)
    if len(set(value)) != len(value):
        raise ArgumentValueError(f"Expected `{name}` to hold each stage at most once, got {value!r}")
    return tuple(value)


def per_channel(value: object, name: str, low: float, high: float) -> tuple[float, float, float]:
    """Takes one number in [low, high] for every channel, or three."""
    numbers = [value] if _is_number(value) else value
    if not _are_numbers(numbers):
        raise ArgumentTypeError(f"Expected `{name}` to be one number or three, got {value!r}")
    if len(numbers) not in (1, 3) or not all(low <= v <= high for v in numbers):
        raise ArgumentValueError(
            f"Expected `{name}` to be one or three numbers in [{low:g}, {high:g}], got {str(value)[:80]}"
        )
    red, green, blue = (float(v) for v in (numbers if len(numbers) == 3 else [numbers[0]] * 3))
    return red, green, blue


def height_width(value: object, name: str) -> tuple[int, int]:
    """Takes a height and a width, or one number for both."""
    pair = (value, value) if _is_int(value) else value
    if not _are_ints(pair):
        raise ArgumentTypeError(f"Expected `{name}` to be a whole number or (height, width), got {value!r}")
    if len(pair) != 2 or not all(1 <= v < 2**20 for v in pair):
        raise ArgumentValueError(f"Expected `{name}` to be a height and a width in [1, 2**20), got {value!r}")
    return int(pair[0]), int(pair[1])


# ---- transforms of others -------------------------------------------------------------------------------------------


def no_transform(value: object) -> ArgumentTypeError:
    """Builds the error of a transform that is neither a spec nor a name."""
    return ArgumentTypeError(
        f"Expected `transform` to be a preset's name or a ViewSpec, got {_kind(value)}; a torchvision Compose becomes "
        "one with ViewSpec.from_torchvision"
    )


def unsupported_transform(transform: object, why: str) -> ArgumentTypeError:
    """Builds the error of a transform that a ``ViewSpec`` cannot hold."""
    return ArgumentTypeError(f"Expected transforms that a ViewSpec can hold, got {_kind(transform)}: {why}")


def misplaced_transform(name: str, why: str) -> ArgumentValueError:
    """Builds the error of a transform in a place that a ``ViewSpec`` cannot hold."""
    return ArgumentValueError(f"Expected crop or resize, then color transforms, then Normalize, got {name}: {why}")


# ---- what is drawn --------------------------------------------------------------------------------------------------


def count(value: object, name: str, least: int = 1) -> int:
    """Requires a whole number."""
    if not _is_int(value):
        raise ArgumentTypeError(f"Expected `{name}` to be a whole number, got {_kind(value)}")
    if not least <= value < 2**31:
        raise ArgumentValueError(f"Expected `{name}` to be a whole number in [{least}, 2**31), got {value}")
    return int(value)


def seed(value: object) -> int:
    """Requires a seed: a whole number of 64 bits."""
    if not _is_int(value):
        raise ArgumentTypeError(f"Expected `seed` to be a whole number, got {_kind(value)}")
    if not 0 <= value < 2**64:
        raise ArgumentValueError(f"Expected `seed` to be in [0, 2**64), got {value}")
    return int(value)


def indices(value: object, images: int | None = None) -> NDArray[np.uint64]:
    """Takes dataset indices: whole numbers, one per image; on a GPU this waits for it."""
    array = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
    if array.size and not np.issubdtype(array.dtype, np.integer):
        raise ArgumentTypeError(f"Expected `index` to hold whole numbers, got {array.dtype}")
    if array.ndim != 1 or (images is not None and len(array) != images):
        wanted = "[N]" if images is None else f"[{images}]"
        raise ArgumentValueError(f"Expected `index` to have shape {wanted}, one per image, got {list(array.shape)}")
    if array.size and int(array.min()) < 0:
        raise ArgumentValueError(f"Expected `index` to be at least 0, got {int(array.min())}")
    return array.astype(np.uint64)


def image_sizes(value: object, images: int) -> NDArray[np.int64]:
    """Takes the height and width of images: one pair for all, or one for each."""
    array = np.asarray(value)
    if array.shape not in ((2,), (images, 2)) or not np.issubdtype(array.dtype, np.integer):
        raise ArgumentValueError(
            f"Expected `image_size` to be (height, width) or whole numbers [{images}, 2], got {value!r}"
        )
    if array.size and not (int(array.min()) >= 1 and int(array.max()) < 2**20):
        raise ArgumentValueError(
            f"Expected `image_size` to be in [1, 2**20), got values from {array.min()} to {array.max()}"
        )
    return np.broadcast_to(array.astype(np.int64), (images, 2))


def whole_patches(size: tuple[int, int], patch: int) -> None:
    """Requires views that patches tile."""
    if size[0] % patch or size[1] % patch:
        raise ArgumentValueError(f"Expected `size` to be a multiple of the spec's patch of {patch}, got {list(size)}")


# ---- images and tables ----------------------------------------------------------------------------------------------


def images(value: object, name: str = "images") -> tuple[list[Tensor], bool]:
    """Takes one batch ``[N, C, H, W]`` or a sequence of images ``[C, H, W]``.

    Args:
        value: What the caller passed.
        name: The argument's name, for errors.

    Returns:
        Batches of equally large images, four-dimensional, uint8 or float32; and whether numpy was given.

    Raises:
        ArgumentTypeError: If a dtype is neither uint8 nor floating, or differs between images.
        ArgumentValueError: If there is no image, or a shape, the number of channels or a size does not fit.
        BackendError: If the images are on different devices.
    """
    if isinstance(value, (list, tuple)):
        tensors = [as_tensor(each, f"{name}[{i}]") for i, each in enumerate(value)]
        if not tensors:
            raise ArgumentValueError(f"Expected `{name}` to hold at least one image when it is a sequence, got none")
        for i, (each, _) in enumerate(tensors):
            if each.dim() != 3:
                raise ArgumentValueError(f"Expected `{name}[{i}]` to have shape [C, H, W], got {list(each.shape)}")
        batches, was_numpy = [each.unsqueeze(0) for each, _ in tensors], tensors[0][1]
    else:
        batch, was_numpy = as_tensor(value, name)
        if batch.dim() != 4:
            raise ArgumentValueError(f"Expected `{name}` to have shape [N, C, H, W], got {list(batch.shape)}")
        batches = [batch]
    first = batches[0]
    for each in batches:
        if each.dtype != torch.uint8 and not each.is_floating_point():
            got = str(each.dtype).removeprefix("torch.")
            raise ArgumentTypeError(f"Expected `{name}` to be uint8 (0 to 255) or floating (0 to 1), got {got}")
        if each.dtype != first.dtype:
            raise ArgumentTypeError(f"Expected `{name}` to have one dtype, got {first.dtype} and {each.dtype}")
        if each.device != first.device:
            raise BackendError(f"Expected `{name}` on one device, got {first.device} and {each.device}")
        if each.shape[1] not in (1, 3) or each.shape[1] != first.shape[1]:
            raise ArgumentValueError(f"Expected `{name}` to have 1 or 3 channels, all the same, got {list(each.shape)}")
        if each.shape[2] < 1 or each.shape[3] < 1 or max(each.shape[2:]) >= 2**20:
            raise ArgumentValueError(
                f"Expected `{name}` to have a height and width in [1, 2**20), got {list(each.shape)}"
            )
    return [each if each.dtype == torch.uint8 else each.float() for each in batches], was_numpy


def one_size(batches: Sequence[Tensor]) -> tuple[int, int]:
    """Requires batches ``[n, C, H, W]`` of one size, for views of the images' own size."""
    sizes = {tuple(batch.shape[2:]) for batch in batches}
    if len(sizes) > 1:
        raise ArgumentValueError(f"Expected `size` for images of different sizes, got None and {sorted(sizes)}")
    height, width = sizes.pop()
    return height, width


def blur_fits(size: tuple[int, int], taps: int) -> None:
    """Requires a view that a blur can mirror at its edges."""
    if taps // 2 >= min(size):
        raise ArgumentValueError(
            f"Expected a view larger than half the blur's {taps} taps, got {list(size)}; lower the spec's blur_size"
        )


def output_dtype(value: object) -> None:
    """Requires a dtype that views can be written in."""
    if value not in (torch.float32, torch.bfloat16, torch.float16):
        raise ArgumentTypeError(f"Expected `dtype` to be torch.float32, torch.bfloat16 or torch.float16, got {value}")


def params(value: object, batches: Sequence[Tensor], columns: int, bounds: Sequence[tuple[float, float]]) -> Tensor:
    """Takes a table of parameters [N, V, columns]: boxes inside their images, steps and values within ``bounds``."""
    table, _ = as_tensor(value, "params")
    images = sum(len(batch) for batch in batches)
    if table.dim() != 3 or table.shape[0] != images or table.shape[2] != columns:
        raise ArgumentValueError(f"Expected `params` to have shape [{images}, V, {columns}], got {list(table.shape)}")
    if table.dtype != torch.float32:
        raise ArgumentTypeError(f"Expected `params` to be float32, got {table.dtype}")
    if table.numel() == 0 or not readable(table):
        return table
    sizes = torch.cat([torch.tensor(batch.shape[2:]).expand(len(batch), 2) for batch in batches])[:, None]
    corner, extent = table[..., :2], table[..., 2:4]
    inside = (corner >= 0) & (extent >= 1) & (corner + extent <= sizes) & (corner == corner.trunc())
    inside &= extent == extent.trunc()
    if not bool(inside.all()):
        image, view = (int(i) for i in (~inside).nonzero()[0, :2])
        raise ArgumentValueError(
            f"Expected the box of `params` [{image}, {view}] (top, left, height, width) to be whole pixels inside its "
            f"image of {sizes[image, 0].tolist()}, got {table[image, view, :4].tolist()}"
        )
    steps, values = table[..., 6::2], table[..., 7::2]
    if not bool(((steps >= 0) & (steps < len(bounds)) & (steps == steps.trunc())).all()):
        codes = f"codes in [0, {len(bounds)})"
        raise ArgumentValueError(f"Expected the steps of `params` to be {codes}, got {steps.unique().tolist()}")
    least, most = torch.tensor(bounds)[steps.long()].unbind(-1)
    wrong = (~((values >= least) & (values <= most))).nonzero()
    if len(wrong):
        at = tuple(wrong[0].tolist())
        wanted = f"step {int(steps[at])} in [{float(least[at]):g}, {float(most[at]):g}]"
        raise ArgumentValueError(
            f"Expected the values of `params` to be finite, of {wanted}, got {float(values[at]):g}"
        )
    return table


def masks(value: object, table: Tensor, size: tuple[int, int], patch: int, mask: float) -> Tensor | None:
    """Takes the patches to hide, ``[N, V, H / patch, W / patch]`` bool; a spec that masks must be given them."""
    if value is None:
        if mask > 0.0:
            raise ArgumentTypeError("Expected `masks` beside `params` for a spec that masks, got None; see view_masks")
        return None
    hidden, _ = as_tensor(value, "masks")
    whole_patches(size, patch)
    wanted = [*table.shape[:2], size[0] // patch, size[1] // patch]
    if list(hidden.shape) != wanted:
        raise ArgumentValueError(f"Expected `masks` to have shape {wanted}, got {list(hidden.shape)}")
    if hidden.dtype != torch.bool:
        raise ArgumentTypeError(f"Expected `masks` to be bool, got {hidden.dtype}")
    return hidden


def drawn_or_given(given: Mapping[str, object], params: object) -> None:
    """Requires either ``params``, or all that is needed to draw them."""
    missing = [name for name, value in given.items() if value is None]
    if params is None and missing:
        names = ", ".join(f"`{name}`" for name in missing)
        raise ArgumentTypeError(f"Expected {names} to draw views (or `params`, a table drawn before), got None")
    if params is not None and len(missing) < len(given):
        names = ", ".join(f"`{name}`" for name in given if name not in missing)
        raise ArgumentTypeError(f"Expected {names} to be left out when `params` are given: the table says it already")
