"""Passes beside the example: with another number of images, of another size, and with images that come again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from memkern.audit.taps.batch_layout import PROBES, SECOND, BatchLayout, images_first, layout_of, profile
from memkern.audit.taps.example_pass import Call, Key, observe
from memkern.audit.taps.modules import first_tensor

Shapes = Mapping[Key, tuple[int, ...]]

FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
"""What the kernels read."""

LARGER = (32, 28)
"""Pixels by which images of the other size are larger: what encoders halve five times, or cut in 14, stays whole."""

DOUBLED = 256
"""Images of up to this many pixels a side are also tried twice as large, larger ones half as large."""

SHARDED = ("FullyShardedDataParallel", "FSDPModule")
"""Classes of modules whose weights are shared by processes."""

BY_SIZES = "dimensions that keep their size with images of another size"
BY_KINDS = "the kinds and shapes of layers alone"


@dataclass(frozen=True)
class Geometry:
    """Places of the images in every tensor of a pass, and shapes for images of another size.

    Attributes:
        layouts: Key -> where the images are, of every tensor that can be read.
        left_out: Key -> why the images are nowhere.
        sizes: Key -> shape for images of another size; empty if the model takes one size only.
        units_by: How the dimensions of units are told.
    """

    layouts: Mapping[Key, BatchLayout]
    left_out: Mapping[Key, str]
    sizes: Shapes
    units_by: str

    def resized(self, key: Key) -> tuple[int, ...] | None:
        """Returns the shape of a tensor for images of another size with the images in dim 0; `None` if unknown."""
        shape = self.sizes.get(key)
        if shape is None or self.layouts[key].dim >= len(shape):
            return None
        dim = self.layouts[key].dim
        return (shape[dim], *shape[:dim], *shape[dim + 1 :])


@dataclass(frozen=True)
class Around:
    """Passes beside the example.

    Attributes:
        model: The model.
        example: The example.
        inputs: Names of submodules ("name:in") whose first input is looked at.
        images: How many images the example has.
        more: Key -> shape for one image more; empty if the model does not take them.
        sizes: Key -> shape for images of another size.
        why: Why there are no shapes for another size.
    """

    model: nn.Module
    example: object
    inputs: set[str]
    images: int
    more: Shapes
    sizes: Shapes
    why: str = field(default="")

    def geometry(self, calls: Sequence[Call]) -> Geometry:
        """Finds where the images are in the tensors of the example pass.

        Args:
            calls: The calls of the pass.

        Returns:
            The places, and the shapes for images of another size.
        """
        layouts: dict[Key, BatchLayout] = {}
        left_out: dict[Key, str] = {}
        for call in calls:
            if call.tensor is None or why_not_read(call):
                continue
            found = layout_of(call.tensor.shape, self.images, self.more.get(call.key), self.images + 1)
            if isinstance(found, str):
                left_out[call.key] = found
            else:
                layouts[call.key] = found
        self._order(layouts, left_out)
        return Geometry(layouts, left_out, self.sizes, BY_SIZES if self.sizes else f"{BY_KINDS}: {self.why}")

    def _order(self, layouts: dict[Key, BatchLayout], left_out: dict[Key, str]) -> None:
        """Finds in which order the rows are in the layouts with several rows of an image, and drops those without."""
        folded = {key: layout.dim for key, layout in layouts.items() if layout.rows > 1}
        if not folded:
            return
        passes = self._profiles(folded)
        for key in folded:
            layout, (a, b) = layouts.pop(key), (each.get(key) for each in passes)
            first = None
            if a is not None and b is not None and len(a) == len(b) == PROBES * layout.rows:
                first = images_first(a, b)
            if first is None:
                left_out[key] = (
                    f"{layout.rows} rows of an image along dimension {layout.dim}, in an order that cannot be told"
                )
            else:
                layouts[key] = BatchLayout(layout.dim, layout.rows, first)

    def _profiles(self, dims: Mapping[Key, int]) -> list[dict[Key, Tensor]]:
        """Profiles of the rows for images of noise, and for some of these images."""
        probe = first_tensor(self.example)
        if not isinstance(self.example, Tensor) or probe is None or not probe.is_floating_point():
            return [{}, {}]
        noise = torch.randn((PROBES, *probe.shape[1:]), generator=torch.Generator().manual_seed(0))
        images = noise.to(probe.device, probe.dtype)
        found = []
        for batch in (images, images[list(SECOND)]):
            seen = observe(
                self.model, batch, self.inputs, lambda key, x: profile(x, dims[key]) if key in dims else None
            )
            found.append({key: each for key, each in seen.items() if each is not None})
        return found


def look_around(model: nn.Module, example: object, inputs: set[str]) -> Around:
    """Runs a model on one image more than the example has, and on images of another size.

    The example itself is run after these, so what a model remembers of its last images are those of the example.

    Args:
        model: The model.
        example: A small batch `[rows, C, H, W]`, or what the model takes.
        inputs: Names of submodules ("name:in") whose first input is looked at.

    Returns:
        The shapes.
    """
    batch = first_tensor(example)
    images = 0 if batch is None or batch.ndim == 0 else len(batch)
    sizes: Shapes = {}
    why = "the model takes no images [n, C, H, W]"
    sharded = any(base.__name__ in SHARDED for module in model.modules() for base in type(module).__mro__)
    if sharded:  # a pass that breaks off leaves them waiting for each other
        why = "its weights are shared by processes"
    for other in () if sharded else _resized(example):
        sizes, why = _shapes(model, other, inputs)
        if sizes:
            break
    more = {} if images == 0 else _shapes(model, _one_more(example, images), inputs)[0]
    return Around(model, example, inputs, images, more, sizes, why)


def _shapes(model: nn.Module, example: object, inputs: set[str]) -> tuple[Shapes, str]:
    """The shapes of the tensors of a pass; none, and why, if the model does not take the example."""
    try:
        return observe(model, example, inputs, _shape), ""
    except Exception as error:  # the model's own code raises what it likes, of images it was not made for
        return {}, f"the encoder does not take larger images ({' '.join(str(error).split())[:120]})"


def _shape(key: Key, tensor: Tensor) -> tuple[int, ...]:
    return () if tensor.is_nested else tuple(tensor.shape)


def _one_more(example: object, images: int) -> object:
    """The example with its first row once more at the end, in every tensor that has a row for each image."""
    return _changed(example, lambda x: torch.cat([x, x[:1]]) if x.ndim and len(x) == images else x)


def _resized(example: object) -> Iterator[object]:
    """The example with larger images, if it is a batch of images."""
    if not isinstance(example, Tensor) or example.ndim != 4 or not example.is_floating_point():
        return
    height, width = example.shape[2:]
    sizes = [(height + more, width + more) for more in LARGER]
    small = max(height, width) <= DOUBLED
    for size in (*sizes, (2 * height, 2 * width) if small else (height // 2, width // 2)):
        yield functional.interpolate(example.float(), size).to(example.dtype)


def _changed(value: object, change: Callable[[Tensor], Tensor]) -> object:
    """A value with every tensor in tuples, lists and mappings changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _changed(each, change) for key, each in value.items()}
    if isinstance(value, tuple | list):
        changed = [_changed(each, change) for each in value]
        return changed if isinstance(value, list) else tuple(changed)
    return value


def why_not_read(call: Call) -> str:
    """Tells why the tensor of a call cannot be read, whatever its images; "" if it can."""
    tensor = call.tensor
    if tensor is None:
        return "no tensor"
    if tensor.is_nested or tensor.layout != torch.strided:
        return f"a tensor that is {'nested' if tensor.is_nested else str(tensor.layout).removeprefix('torch.')}"
    if tensor.dtype not in FLOATS:
        return f"{tensor.dtype} {list(tensor.shape)}"
    if tensor.ndim < 2 or not tensor.numel():
        return f"shape {list(tensor.shape)}: no units"
    return ""
