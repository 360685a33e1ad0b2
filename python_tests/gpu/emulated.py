"""The CUDA kernels on the CPU: the emulated library, with the signatures of the backend tables of memkern.ops.

Outputs and scratch memory start as NaN (integers as -1), so what a kernel forgets to write shows.
"""

from __future__ import annotations

import ctypes
import functools
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from gpu import build
from torch import Tensor

from memkern import native
from python_tests.helpers import ops

# Set by test_cuda_sanitizers.py for the runs it starts.
MODE_VARIABLE = "MEMKERN_EMULATION"
LIBRARY_VARIABLE = "MEMKERN_EMULATED_LIBRARY"

ORDERS = ("forward", "reverse", "random", "greedy")

# ---- the records of csrc/ops.h, field by field --------------------------------------------------------------------

_i32, _i64, _pointer, _bool = ctypes.c_int32, ctypes.c_int64, ctypes.c_void_p, ctypes.c_bool


class _Record(ctypes.Structure):
    """Takes its fields by name; those not given are zero."""

    def __init__(self, **given: Any) -> None:
        if unknown := set(given) - {name for name, *_ in self._fields_}:
            raise TypeError(f"{type(self).__name__} has no field {sorted(unknown)}")
        super().__init__(**given)


def _record(name: str, **fields: Any) -> type[_Record]:
    return type(name, (_Record,), {"_fields_": list(fields.items())})


_KEPT = {
    "z": _pointer, "dtype": _i32, "points": _i64, "views": _i64, "dims": _i64, "point_stride": _i64,
    "view_stride": _i64, "pairs": _i32, "distance": ctypes.c_uint8, "normalize": _bool, "alignment": _pointer,
    "saved": _pointer,
}  # fmt: skip
KeptAlignment = _record("KeptAlignment", **_KEPT)
Alignment = _record("Alignment", **_KEPT, rows=_pointer, halves=_pointer, errors=_pointer)
AlignmentBackward = _record(
    "AlignmentBackward", forward=KeptAlignment, grad=_pointer, grad_z=_pointer, grad_point_stride=_i64,
    grad_view_stride=_i64,
)  # fmt: skip
Activations = _record(
    "Activations", data=_pointer, dtype=_i32, activation=_i32, points=_i64, units=_i64, point_stride=_i64,
    unit_stride=_i64, mean_dims=_i32, mean_sizes=_i64 * 8, mean_strides=_i64 * 8,
)  # fmt: skip
UnitMeans = _record("UnitMeans", x=Activations, means=_pointer)
Selectivity = _record(
    "Selectivity", x=Activations, order=_pointer, peak=_pointer, index=_pointer, rest=_pointer, minimum=_pointer
)
MedianOfOthers = _record(
    "MedianOfOthers", means=_pointer, dtype=_i32, points=_i64, units=_i64, point_stride=_i64, median=_pointer
)
ClassSums = _record(
    "ClassSums", means=_pointer, dtype=_i32, points=_i64, units=_i64, classes=_i64, labels=_pointer, sums=_pointer
)
LayerStats = _record("LayerStats", alignment=Alignment, means=UnitMeans)
LayerStatsMany = _record("LayerStatsMany", layers=_pointer, count=_i64)
Image = _record(
    "Image", data=_pointer, height=_i64, width=_i64, channel_stride=_i64, row_stride=_i64, column_stride=_i64
)
Views = _record(
    "Views", sources=_pointer, pixel=_i32, images=_i64, views=_i64, channels=_i64, height=_i64, width=_i64,
    params=_pointer, antialias=_bool, blur_size=_i64, mean=ctypes.c_float * 3, std=ctypes.c_float * 3, hidden=_pointer,
    patch=_i64, out=_pointer, dtype=_i32, channels_last=_bool,
)  # fmt: skip
Counters = _record(
    "Counters", launches=_i64, blocks=_i64, switches=_i64, barriers=_i64, collectives=_i64, loads=_i64,
    loaded_bytes=_i64, wide_loads=_i64, watched_loaded_bytes=_i64, watched_distinct_bytes=_i64,
)  # fmt: skip

STEMS = tuple(ops.ON_CUDA)

# ---- the library --------------------------------------------------------------------------------------------------


def load(path: Path) -> ctypes.CDLL:
    """Loads a library with the surface of csrc/cuda/c_api.h, or a part of it."""
    library = ctypes.CDLL(str(path))
    for stem in STEMS:
        if not hasattr(library, f"memkern_cuda_{stem}"):
            continue
        getattr(library, f"memkern_cuda_{stem}_scratch").restype = ctypes.c_int64
        getattr(library, f"memkern_cuda_{stem}_scratch").argtypes = [_pointer]
        getattr(library, f"memkern_cuda_{stem}").restype = ctypes.c_char_p
        getattr(library, f"memkern_cuda_{stem}").argtypes = [_pointer, _pointer, _pointer]
    for name in ("unavailable", "enter_device", "settings"):
        if hasattr(library, f"memkern_cuda_{name}"):
            getattr(library, f"memkern_cuda_{name}").restype = ctypes.c_char_p
    return library


@functools.cache
def library() -> ctypes.CDLL:
    """The emulated library of this process."""
    path = os.environ.get(LIBRARY_VARIABLE) or build.emulated_library(os.environ.get(MODE_VARIABLE, "plain"))
    return load(Path(path))


def has(stem: str) -> bool:
    """Whether the library was built with this op."""
    return hasattr(library(), f"memkern_cuda_{stem}")


def configure(*, order: str = "random", seed: int = 1, sampled_blocks: int = 0) -> None:
    """Chooses the schedule of the next launches; ``sampled_blocks`` of a huge grid run, 0 for all."""
    library().memkern_emulation_configure(_i32(ORDERS.index(order)), ctypes.c_uint64(seed), _i64(sampled_blocks))


@contextmanager
def schedule(*, order: str, seed: int = 1) -> Iterator[None]:
    """One schedule for a while."""
    configure(order=order, seed=seed)
    try:
        yield
    finally:
        configure()


@contextmanager
def sampled(blocks: int) -> Iterator[None]:
    """Only some blocks of every grid run for a while: the first, the last, and random ones."""
    configure(sampled_blocks=blocks)
    try:
        yield
    finally:
        configure()


def watch(memory: Tensor) -> None:
    """Clears the counters and watches the storage that a tensor spans."""
    elements = 1 + sum((size - 1) * stride for size, stride in zip(memory.shape, memory.stride(), strict=True))
    library().memkern_emulation_watch(_pointer(memory.data_ptr()), _i64(elements * memory.element_size()))


def counters() -> Any:
    """What was counted since ``watch``."""
    found = Counters()
    library().memkern_emulation_counters(ctypes.byref(found))
    return found


class LaunchError(RuntimeError):
    """What the library said."""


def scratch_memory(size: int) -> Tensor:
    """Bytes that are NaN in every floating dtype."""
    return torch.full((size,), 255, dtype=torch.uint8)


def _run(stem: str, record: Any) -> None:
    scratch = scratch_memory(getattr(library(), f"memkern_cuda_{stem}_scratch")(ctypes.byref(record)))
    error = getattr(library(), f"memkern_cuda_{stem}")(ctypes.byref(record), scratch.data_ptr(), None)
    if error is not None:
        raise LaunchError(error.decode())


def _unwritten(*shape: int, dtype: torch.dtype) -> Tensor:
    return torch.full(shape, torch.nan if dtype.is_floating_point else -1, dtype=dtype)


# ---- the ops ------------------------------------------------------------------------------------------------------


def unwritten_sums(z: Tensor) -> native.ViewSums:
    """Memory for sums over views."""
    return native.ViewSums(*(_unwritten(*shape, dtype=dtype) for shape, dtype in native.ViewSums.shapes(z).values()))


def _alignment_record(
    z: Tensor, anchor: bool, normalize: bool, out: Tensor | None, saved: Tensor | None,
    sums: native.ViewSums | None = None, distance: str = "l2",
) -> Any:  # fmt: skip
    block, dims, point_stride, view_stride = native.view_block(z)
    assert block is z, "the kernel reads this layout only after a copy: make it in the test"
    return Alignment(
        z=z.data_ptr(), dtype=native.DTYPES[z.dtype], points=z.shape[0], views=z.shape[1], dims=dims,
        point_stride=point_stride, view_stride=view_stride, pairs=int(anchor), distance=native.DISTANCES[distance],
        normalize=normalize, alignment=None if out is None else out.data_ptr(),
        saved=None if saved is None else saved.data_ptr(),
        **({} if sums is None else {name: to.data_ptr() for name, to in sums._asdict().items()}),
    )  # fmt: skip


def alignment(
    z: Tensor, anchor: bool, normalize: bool, keep: bool, sums: native.ViewSums | None = None, distance: str = "l2"
) -> tuple[Tensor, Tensor]:
    z = native.view_block(z)[0]
    wide = native.accumulate_dtype(z.dtype)
    out, saved = (
        _unwritten(z.shape[0], dtype=wide),
        _unwritten(*native.saved_shape(z, anchor, normalize, keep), dtype=wide),
    )
    _run("alignment", _alignment_record(z, anchor, normalize, out, saved if keep else None, sums, distance))
    return out, saved


def alignment_backward(grad: Tensor, z: Tensor, saved: Tensor, anchor: bool, normalize: bool) -> Tensor:
    z, grad = native.view_block(z)[0], grad.contiguous()
    if 0 in z.stride():  # expanded: the gradient is not
        z = z.contiguous()
    grad_z = torch.empty_strided(z.shape, z.stride(), dtype=z.dtype).fill_(torch.nan)
    kept = _alignment_record(z, anchor, normalize, None, saved)
    forward = KeptAlignment(**{name: getattr(kept, name) for name in _KEPT})
    _run("alignment_backward", AlignmentBackward(
        forward=forward, grad=grad.data_ptr(), grad_z=grad_z.data_ptr(), grad_point_stride=grad_z.stride(0),
        grad_view_stride=grad_z.stride(1),
    ))  # fmt: skip
    return grad_z


def _activations(x: Tensor, unit_dim: int, activation: str) -> Any:
    record = Activations()
    sizes, strides = (_i64 * x.dim())(*x.shape), (_i64 * x.dim())(*x.stride())
    made = library().memkern_emulation_activations(
        ctypes.byref(record), _pointer(x.data_ptr()), native.DTYPES[x.dtype], native.ACTIVATIONS[activation],
        sizes, strides, x.dim(), unit_dim,
    )  # fmt: skip
    assert made, "too many dimensions"
    return record


def unit_means(x: Tensor, unit_dim: int, activation: str) -> Tensor:
    means = _unwritten(x.shape[0], x.shape[unit_dim], dtype=native.accumulate_dtype(x.dtype))
    _run("unit_means", UnitMeans(x=_activations(x, unit_dim, activation), means=means.data_ptr()))
    return means


def selectivity(
    x: Tensor, unit_dim: int, activation: str, order: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    units, wide = x.shape[unit_dim], native.accumulate_dtype(x.dtype)
    peak, minimum = _unwritten(units, dtype=wide), _unwritten(units, dtype=wide)
    index, rest = _unwritten(units, dtype=torch.int64), _unwritten(units, dtype=torch.float64)
    order = None if order is None else order.contiguous()
    _run("selectivity", Selectivity(
        x=_activations(x, unit_dim, activation), order=None if order is None else order.data_ptr(),
        peak=peak.data_ptr(), index=index.data_ptr(), rest=rest.data_ptr(), minimum=minimum.data_ptr(),
    ))  # fmt: skip
    return peak, index, rest, minimum


def layer_stats_many(
    layers: list[tuple[Tensor, int]], anchor: bool, normalize: bool, keep: bool,
    sums: native.ViewSums | None = None,
) -> list[tuple[Tensor, Tensor, Tensor]]:  # fmt: skip
    layers = [(native.view_block(x)[0], unit_dim) for x, unit_dim in layers]
    records, results = (LayerStats * len(layers))(), []
    for index, (x, unit_dim) in enumerate(layers):
        wide = native.accumulate_dtype(x.dtype)
        out, means = _unwritten(x.shape[0], dtype=wide), _unwritten(x.shape[0], x.shape[unit_dim], dtype=wide)
        saved = _unwritten(*native.saved_shape(x, anchor, normalize, keep), dtype=wide)
        first = _alignment_record(x, anchor, normalize, out, saved if keep else None, sums)
        records[index] = LayerStats(
            alignment=first, means=UnitMeans(x=_activations(x, unit_dim, "raw"), means=means.data_ptr())
        )
        results.append((out, means, saved))
    _run("layer_stats", LayerStatsMany(layers=ctypes.addressof(records), count=len(layers)))
    return results


def layer_stats(
    x: Tensor, unit_dim: int, anchor: bool, normalize: bool, keep: bool, sums: native.ViewSums | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    return layer_stats_many([(x, unit_dim)], anchor, normalize, keep, sums)[0]


def median_of_others(means: Tensor) -> Tensor:
    means = means.contiguous()
    median = _unwritten(means.shape[1], dtype=means.dtype)
    _run("median_of_others", MedianOfOthers(
        means=means.data_ptr(), dtype=native.DTYPES[means.dtype], points=means.shape[0], units=means.shape[1],
        point_stride=means.stride(0), median=median.data_ptr(),
    ))  # fmt: skip
    return median


def class_sums(means: Tensor, labels: Tensor, classes: int, *, start: float = 0.0) -> Tensor:
    """They are added to ``start``."""
    means, labels = means.contiguous(), labels.contiguous()
    sums = torch.full((classes, means.shape[1]), start, dtype=torch.float64)
    _run("class_sums", ClassSums(
        means=means.data_ptr(), dtype=native.DTYPES[means.dtype], points=means.shape[0], units=means.shape[1],
        classes=classes, labels=labels.data_ptr(), sums=sums.data_ptr(),
    ))  # fmt: skip
    return sums


def views(
    images: list[Tensor], params: Tensor, size: tuple[int, int], *, antialias: bool = True, blur_size: int = 0,
    hidden: Tensor | None = None, patch: int = 1, dtype: torch.dtype = torch.float32, channels_last: bool = False,
    skipped: int = 0,
) -> Tensor:  # fmt: skip
    """Images [C, H, W] of any sizes; normalized with 0.5. `skipped`: elements of the result's memory before it."""
    records, params, channels = (Image * len(images))(), params.contiguous(), images[0].shape[0]
    for record, image in zip(records, images, strict=True):
        record.data, (_, record.height, record.width) = image.data_ptr(), image.shape
        record.channel_stride, record.row_stride, record.column_stride = image.stride()
    memory = (*size, channels) if channels_last else (channels, *size)
    shape = (*params.shape[:2], *memory)
    out = _unwritten(math.prod(shape) + skipped, dtype=dtype)[skipped:].view(shape)
    half = (ctypes.c_float * 3)(0.5, 0.5, 0.5)
    hidden = None if hidden is None else hidden.to(torch.uint8).contiguous()
    _run("views", Views(
        sources=ctypes.addressof(records), pixel=native.PIXELS[images[0].dtype], images=params.shape[0],
        views=params.shape[1], channels=channels, height=size[0], width=size[1], params=params.data_ptr(),
        antialias=antialias, blur_size=blur_size, mean=half, std=half,
        hidden=None if hidden is None else hidden.data_ptr(), patch=patch, out=out.data_ptr(),
        dtype=native.DTYPES[dtype], channels_last=channels_last,
    ))  # fmt: skip
    return out.permute(0, 1, 4, 2, 3) if channels_last else out
