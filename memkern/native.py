"""Compiled library: loaded once, or why it could not be; and the memory that its kernels read directly."""

from __future__ import annotations

import functools
import importlib
import math
import os
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol, cast

import torch  # first: its OpenMP runtime is then the only one in the process
from torch import Tensor

from memkern import nvrtc
from memkern.errors import BackendError

ISA_VARIABLE = "MEMKERN_ISA"
# The numbers of csrc/ops.h.
DTYPES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2, torch.float16: 3}
ACTIVATIONS = {"raw": 0, "relu": 1, "abs": 2}
PIXELS = {torch.uint8: 0, torch.float32: 1}
DISTANCES = {"l2": 0, "cosine": 1, "angular": 2, "l1": 3}
FUNCTIONS = {"batch_norm": 0, "relu": 1, "gelu": 2}

Record = dict[str, object]  # fields of a record of csrc/ops.h, by name


class Kernel(Protocol):
    """An op of the compiled library: runs on a number of threads, or in a launch context; a record by field name.

    Raises:
        TypeError: If a field is missing or unknown; the message names it.
    """

    def __call__(self, where: object, /, **fields: object) -> None:
        """Runs the op."""


class Kernels(Protocol):
    """The ops of the compiled library (csrc/ops_table.h) by name, for the CPU or for CUDA."""

    def __getattr__(self, op: str) -> Kernel: ...


class Cuda(Kernels, Protocol):
    """The submodule ``cuda``: its ops, whether NVRTC compiles their kernels, and which GPUs they are compiled for."""

    by_name: bool
    unavailable: Callable[[], str]
    architectures: Callable[[], str]
    settings: Callable[[], str]
    LaunchContext: Callable[[int, object, Callable[[int], int]], object]


class Library(Kernels, Protocol):
    """``memkern._native``: its ops, its instruction sets and threads, its submodule ``cuda`` or why there is none."""

    isa: Callable[[], str]
    select_isa: Callable[[str], bool]
    supported_isas: Callable[[], tuple[str, ...]]
    compiled_isas: Callable[[], tuple[str, ...]]
    has_threads: bool
    cuda: Cuda | None
    without_cuda: str


@functools.cache
def load() -> tuple[Library | None, str]:
    """Loads ``memkern._native``.

    The environment variable ``MEMKERN_ISA`` (avx512, avx2, baseline; on ARM neon) forces an instruction set for the
    whole process.

    Returns:
        The module and an empty reason, or None and the reason.

    Raises:
        RuntimeError: If ``MEMKERN_ISA`` names an instruction set this processor or build does not have.
    """
    try:
        module = cast(Library, importlib.import_module("memkern._native"))
    except ImportError as error:
        return None, f"the compiled library is missing ({error}); install memkern with `pip install .`"
    isa = os.environ.get(ISA_VARIABLE)
    if isa and not module.select_isa(isa):
        supported = ", ".join(module.supported_isas())
        raise BackendError(f"Expected {ISA_VARIABLE} to be one of {supported} on this processor, got {isa!r}")
    return module, ""


def library() -> Library:
    """Returns the loaded module; for callers that have asked ``load`` before."""
    module, reason = load()
    if module is None:
        raise BackendError(f"memkern: {reason}")
    return module


def without_cuda() -> str:
    """Explains why the CUDA kernels cannot run in this process; empty if they can."""
    module, reason = load()
    if module is None:
        return reason
    if module.cuda is None:
        return f"{module.without_cuda}; `CMAKE_ARGS=-DMEMKERN_CUDA=ON pip install .` builds with it"
    return _without_device()


@functools.cache
def _without_device() -> str:
    """Asks the CUDA driver what is missing, once per process, because the answer does not change."""
    return nvrtc.why_not() if cuda().by_name else cuda().unavailable()


def cuda() -> Cuda:
    """Returns the CUDA launchers; for callers that have asked ``without_cuda`` before."""
    module = library().cuda
    if module is None:
        raise BackendError(f"memkern: {library().without_cuda}")
    return module


def cuda_launch_context(x: Tensor) -> object:
    """Makes the context of a launch on ``x``, ``[...]``: its device, torch's current stream, scratch memory from torch.

    Scratch memory is free again when the call has returned: torch gives it away on the same stream only, so its next
    user runs after the launch.
    """
    scratch: list[Tensor] = []

    def allocate(size: int) -> int:
        scratch.append(x.new_empty(size, dtype=torch.uint8))
        return scratch[-1].data_ptr()

    stream = torch.cuda.current_stream(x.device).cuda_stream
    queue = nvrtc.launcher(x.device.index, stream) if cuda().by_name else stream
    return cuda().LaunchContext(x.device.index, queue, allocate)


class PreparedCall:
    """Prepared call of a CPU kernel, on memory that always looks like that of a call which was checked.

    Nothing is checked or worked out again, and results are made beforehand. Taps need prepared calls: between two
    layers of a model, which have just emptied the caches, the Python and torch of an ordinary call take longer than the
    kernel of a small layer.

    Args:
        run: The function of the compiled library.
        fields: The fields of its record, but for the address of the input and those of the results.
        results: Field, shape and dtype of each result.
        reads: The field of the input.
    """

    def __init__(
        self, run: Kernel, fields: Record, results: Mapping[str, tuple[tuple[int, ...], torch.dtype]], reads: str
    ) -> None:
        self._run, self._fields, self._results, self._reads = run, fields, results, reads
        self._ready: tuple[tuple[Tensor, ...], Record, int] | None = None

    def make_ready(self) -> None:
        """Makes the results of the next call."""
        made = {name: torch.empty(shape, dtype=dtype, device="cpu") for name, (shape, dtype) in self._results.items()}
        addresses = {name: result.data_ptr() for name, result in made.items()}
        self._ready = tuple(made.values()), {**self._fields, **addresses}, torch.get_num_threads()

    def __call__(self, x: Tensor) -> tuple[Tensor, ...]:
        """Runs the kernel on the memory of `x`; the caller has compared its shape, strides and dtype."""
        if self._ready is None:
            self.make_ready()
        assert self._ready is not None
        results, fields, threads = self._ready
        self._ready = None
        fields[self._reads] = x.data_ptr()
        self._run(threads, **fields)
        return results


def accumulate_dtype(dtype: torch.dtype) -> torch.dtype:
    """Returns the accumulating and result dtype: float64 for float64, float32 for every other."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def saved_shape(z: Tensor, anchor: bool, normalize: bool, keep: bool) -> tuple[int, int]:
    """Computes the shape of what the backward of alignment needs of ``z``, ``[N, V, ...]``: distances, then norms."""
    points, views = z.shape[:2]
    pairs = views - 1 if anchor else views * (views - 1) // 2
    return (points, pairs + (views if normalize else 0)) if keep else (0, 0)


class ViewSums(NamedTuple):
    """Memory for what the distances between the views of points say of the views.

    Attributes:
        rows: ``[N, V]``, the sum of the distances of each view to the others.
        halves: ``[2, N]``, the mean distance among the even and among the odd views.
        errors: ``[N]``, the standard error of the alignment over draws of the views.
    """

    rows: Tensor
    halves: Tensor
    errors: Tensor

    @staticmethod
    def shapes(z: Tensor, wanted: bool = True) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
        """Lists their shapes and dtypes for ``z``, ``[N, V, ...]``; those of nothing if they are not wanted."""
        dtype, (points, views) = accumulate_dtype(z.dtype), z.shape[:2] if wanted else (0, 0)
        return {"rows": ((points, views), dtype), "halves": ((2, points), dtype), "errors": ((points,), dtype)}

    @classmethod
    def empty(cls, z: Tensor, wanted: bool = True) -> ViewSums:
        """Makes the memory for ``z``, ``[N, V, ...]``, on its device; see ``shapes``."""
        dtype, (points, views) = accumulate_dtype(z.dtype), z.shape[:2] if wanted else (0, 0)
        return cls(
            z.new_empty((points, views), dtype=dtype),
            z.new_empty((2, points), dtype=dtype),
            z.new_empty(points, dtype=dtype),
        )


def compared_views(z: Tensor, anchor: bool, normalize: bool, distance: str = "l2") -> tuple[Tensor, Record]:
    """Finds the memory of ``z``, ``[N, V, ...]``, that a kernel of alignment reads, and the fields that describe it."""
    z, dims, point_stride, view_stride = view_block(z)
    return z, {
        "dtype": DTYPES[z.dtype], "points": z.shape[0], "views": z.shape[1], "dims": dims,
        "point_stride": point_stride, "view_stride": view_stride, "pairs": anchor, "distance": DISTANCES[distance],
        "normalize": normalize,
    }  # fmt: skip


def is_dense(sizes: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Tells whether dimensions fill one block of memory without gaps or overlap, in whatever order."""
    expected = 1
    for stride, size in sorted((stride, size) for size, stride in zip(sizes, strides, strict=True) if size != 1):
        if stride != expected:
            return False
        expected *= size
    return True


def view_block(z: Tensor) -> tuple[Tensor, int, int, int]:
    """Prepares [N, V, *dims] for a kernel that wants each view to be one block of memory.

    A distance does not see the order of the dims, so any dense layout of a view (channels-last, say) is read in place,
    and so are any strides of points and views, expanded ones too. Only a view with gaps or overlap is copied.

    Args:
        z: ``[N, V, *dims]``, any strides.

    Returns:
        The tensor (the given one, or its copy), its number of dims, and the strides of points and views.
    """
    if z.is_contiguous():
        dims = math.prod(z.shape[2:])
        return z, dims, z.shape[1] * dims, dims
    if not is_dense(z.shape[2:], z.stride()[2:]):
        z = z.contiguous()
    return z, math.prod(z.shape[2:]), z.stride(0), z.stride(1)
