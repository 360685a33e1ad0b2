"""Memory: strides, alignment of addresses, read-only and shared arrays, offsets past 2^31 elements, who owns what."""

from __future__ import annotations

import ctypes
import mmap

import numpy as np
import pytest
import torch
from torch import Tensor

import memkern
from memkern import native, reference
from memkern.ops.median_of_others import median_of_others
from memkern.ops.selectivity import selectivity
from python_tests.helpers import testing

SHAPE = (9, 4, 6, 5, 5)


def results(x: Tensor, path: str) -> dict[str, Tensor]:
    """Every op on one tensor [N, V, U, H, W]."""
    stats = memkern.layer_stats(x, backend=path)
    state = selectivity(x, unit_dim=2, backend=path)
    return {
        "alignment": memkern.alignment(x, backend=path),
        "unit means": memkern.unit_means(x, view_dim=1, backend=path),
        "layer stats, alignment": stats.alignment,
        "layer stats, means": stats.unit_means,
        "peak": state.peak,
        "index": state.index,
        "rest": state.rest,
        "low": state.minimum,
    }


@pytest.mark.parametrize("offset", [1, 2, 3, 7, 12])
def test_every_misalignment_gives_the_same_bits(path, dtype, offset):
    """The address modulo a vector must not change which elements are added together."""
    x = testing.relu_features(*SHAPE, dtype=dtype)
    memory = torch.full((x.numel() + 64,), torch.nan, dtype=dtype)
    moved = memory[offset : offset + x.numel()].view(SHAPE).copy_(x)
    want = results(x, path)
    for name, got in results(moved, path).items():
        testing.assert_same_bits(got, want[name], (name, offset))


@pytest.mark.parametrize("place", ["start", "end"])
def test_nothing_outside_is_read(path, dtype, place):
    """The tensor ends where mapped memory ends, or begins where it begins: a read beyond kills the process."""
    x = testing.relu_features(*SHAPE, dtype=dtype)
    with Fence(x.numel() * x.element_size()) as fence:
        moved = fence.tensor(x, at_the_end=place == "end")
        want = results(x, path)
        for name, got in results(moved, path).items():
            torch.testing.assert_close(got, want[name], rtol=1e-5, atol=0, msg=name)
        if dtype in (torch.float32, torch.float64):
            means = fence.tensor(testing.randn(101, 7, dtype=dtype), at_the_end=place == "end")
            want = reference.median_of_others(means).to(dtype)
            testing.assert_same_bits(median_of_others(means, backend=path), want)


class Fence:
    """Readable pages between two pages that may not be touched."""

    def __init__(self, size: int) -> None:
        self.page = mmap.PAGESIZE
        self.inner = -(-size // self.page) * self.page
        self.memory = mmap.mmap(-1, self.inner + 2 * self.page)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        self.libc = ctypes.CDLL(None, use_errno=True)

    def protect(self, flags: int) -> None:
        for start in (self.address, self.address + self.page + self.inner):
            if self.libc.mprotect(ctypes.c_void_p(start), ctypes.c_size_t(self.page), flags) != 0:
                pytest.skip("this system does not let a process protect its pages")

    def __enter__(self) -> Fence:
        self.protect(0)
        return self

    def __exit__(self, *_: object) -> None:
        self.protect(mmap.PROT_READ | mmap.PROT_WRITE)

    def tensor(self, x: Tensor, at_the_end: bool) -> Tensor:
        size = x.numel() * x.element_size()
        start = self.page + (self.inner - size if at_the_end else 0)
        flat = torch.frombuffer(self.memory, dtype=x.dtype, count=x.numel(), offset=start)
        return flat.view(x.shape).copy_(x)


def test_outputs_do_not_alias_inputs(path):
    """One element per point and unit: the mean is the input, but in other memory."""
    x = testing.randn(5, 6)
    got = memkern.unit_means(x, backend=path)
    testing.assert_same_bits(got, x)
    got.zero_()
    assert (x != 0).all()


def test_inputs_are_left_alone(path, dtype):
    x = testing.randn(*SHAPE, dtype=dtype)
    before = x.clone()
    results(x, path)
    memkern.alignment(x.requires_grad_(), backend=path).sum().backward()
    testing.assert_same_bits(x.detach(), before)


def test_read_only_numpy(path):
    """An array that may not be written is read without a copy and without a warning."""
    x = testing.randn(4, 3, 5).numpy()
    want = memkern.alignment(x.copy(), backend=path)
    x.flags.writeable = False
    got = memkern.alignment(x, backend=path)
    assert isinstance(got, np.ndarray)
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(
        memkern.unit_means(np.broadcast_to(x[:1], (4, 3, 5)), view_dim=1, backend=path),
        memkern.unit_means(np.repeat(x[:1], 4, 0), view_dim=1, backend=path),
    )


def test_numpy_strides(path):
    x = testing.randn(6, 4, 10).numpy()
    for view in (x[::2], x[:, 1:3], x[..., ::3], x.transpose(0, 2, 1), x.transpose(2, 1, 0), np.asfortranarray(x)):
        got = memkern.alignment(view, backend=path)
        want = reference.alignment(torch.from_numpy(view.copy())).numpy()
        np.testing.assert_allclose(got, want, rtol=1e-6)


def test_negated_view(path):
    """Torch keeps the imaginary part of a conjugate as memory with a pending minus sign."""
    pending = torch.complex(testing.randn(3, 4, 5), testing.randn(3, 4, 5).abs() + 1).conj().imag
    assert pending.is_neg()
    plain = pending.resolve_neg()
    assert (plain < 0).all()
    testing.assert_same_bits(
        memkern.unit_means(pending, backend=path), memkern.unit_means(plain, backend=path), "unit means"
    )
    got, want = selectivity(pending, backend=path), selectivity(plain, backend=path)
    testing.assert_same_bits(got.peak, want.peak, "peak")
    testing.assert_same_bits(got.rest, want.rest, "rest")


def test_upstream_gradient_lives_through_the_backward(path):
    """A gradient of stride 0 is copied; the copy must not be freed before the kernel has read it."""
    z = testing.randn(64, 3, 7).requires_grad_()
    for upstream in (2.0, -1.0):
        z.grad = None
        torch.autograd.backward(memkern.alignment(z, backend=path), torch.tensor(upstream).expand(64))
        want = reference.alignment_backward(torch.full((64,), upstream), z.detach())
        torch.testing.assert_close(z.grad.double(), want, rtol=0, atol=1e-5)


# ---- past 2^31 elements -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sparse() -> Tensor:
    """3 * 2^30 float16 elements of address space; only the pages that a test writes become memory."""
    try:
        memory = mmap.mmap(-1, 6 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0))
    except OSError as error:
        pytest.skip(f"this system does not lend 6 GB of address space: {error}")
    return torch.frombuffer(memory, dtype=torch.float16)


def test_offsets_past_2_31_elements(path, sparse):
    """Points 2^30 + 3 elements apart: the third one starts past 2^31."""
    if path == "reference":
        pytest.skip("the reference leaves offsets to torch")
    values = testing.relu_features(3, 4, 8, 5, 5, dtype=torch.float16)
    wide_points = sparse.as_strided(values.shape, ((1 << 30) + 3, *values.stride()[1:])).copy_(values)
    assert wide_points.storage_offset() + 2 * wide_points.stride(0) > 2**31
    want = results(values, path)
    for name, got in results(wide_points, path).items():
        testing.assert_same_bits(got, want[name], name)
    # views that far apart, then the elements that are averaged
    values = values[:, :3].contiguous()
    strides = (values[0].numel(), (1 << 30) + 3, *values.stride()[2:])
    wide_views = sparse.as_strided(values.shape, strides).copy_(values)
    for name, got in results(wide_views, path).items():
        testing.assert_same_bits(got, results(values, path)[name], ("views", name))
    matrix = sparse.as_strided((3, 40), ((1 << 30) + 3, 1)).copy_(testing.randn(3, 40, dtype=torch.float16))
    testing.assert_same_bits(
        memkern.unit_means(matrix.T.unsqueeze(0), backend=path)[0],
        memkern.unit_means(matrix.T.contiguous().unsqueeze(0), backend=path)[0],
        "space",
    )


def test_gradient_past_2_31_elements(path, sparse):
    if path == "reference":
        pytest.skip("the reference leaves offsets to torch")
    values = testing.randn(3, 3, 40, dtype=torch.float16)
    far = sparse.as_strided(values.shape, ((1 << 30) + 3, 40, 1)).copy_(values).requires_grad_()
    near = values.clone().requires_grad_()
    memkern.alignment(far, backend=path).sum().backward()
    memkern.alignment(near, backend=path).sum().backward()
    assert far.grad is not None
    testing.assert_same_bits(far.grad, near.grad)


def test_saved_and_result_dtypes(dtype):
    """What the compiled library is told about memory: 8 bytes an element of a result for float64, 4 for all others."""
    assert native.accumulate_dtype(dtype) == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert native.saved_shape(torch.empty(5, 4, 3, dtype=dtype), False, True, True) == (5, 6 + 4)
    assert native.saved_shape(torch.empty(5, 4, 3, dtype=dtype), True, False, True) == (5, 3)
