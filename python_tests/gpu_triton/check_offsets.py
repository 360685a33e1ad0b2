"""Offsets past 2^31: points, views and units that far apart, in memory of which only a few pages are ever touched."""

from __future__ import annotations

import pytest
import torch
from support import DEVICE, on_cpu
from torch import Tensor

from memkern import reference
from memkern.triton_kernels.alignment import alignment
from memkern.triton_kernels.alignment_backward import alignment_backward
from memkern.triton_kernels.selectivity import selectivity
from memkern.triton_kernels.unit_means import unit_means
from memkern.triton_kernels.views import views
from python_tests.helpers import testing

# ttsem fills and copies all of the memory, 24 GB.
pytestmark = pytest.mark.numbers
FAR = 2**31 + 16


@pytest.fixture(scope="module")
def memory() -> Tensor:
    return torch.empty(FAR + 4096, dtype=torch.bfloat16, device=DEVICE)


def place(memory: Tensor, shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Values on the CPU, and the same in that memory."""
    values = testing.randn(*shape, dtype=torch.bfloat16)
    there = memory.as_strided(shape, strides)
    there.copy_(values.to(DEVICE))
    return values, there


# Every stride fits 31 bits, so that it is passed as such; times 2 it does not.
@pytest.mark.parametrize("strides", [(FAR // 2, 20, 1), (60, FAR // 2, 1)], ids=["points", "views"])
def test_alignment(memory, strides, monkeypatch):
    z, there = place(memory, (3, 3, 20), strides)
    out, saved = alignment(there, False, True, True)
    torch.testing.assert_close(on_cpu(out).double(), reference.alignment(z), rtol=1e-6, atol=0)
    # The gradient as far apart: empty_like would put it together.
    far, empty_like = torch.empty(FAR + 4096, dtype=torch.bfloat16, device=DEVICE), torch.empty_like
    monkeypatch.setattr(
        torch, "empty_like", lambda x: far.as_strided(x.shape, x.stride()) if x is there else empty_like(x)
    )
    got = on_cpu(alignment_backward(torch.ones(3, device=DEVICE), there, saved, False, True))
    want = reference.alignment_backward(torch.ones(3), z)
    torch.testing.assert_close(got.double(), want, rtol=0.02, atol=1e-3)


@pytest.mark.parametrize(
    "strides", [(FAR, 20, 1), (60, FAR // 2, 1), (20, 40, FAR // 19)], ids=["points", "units", "space"]
)
def test_unit_means(memory, strides):
    x, there = place(memory, (2, 3, 20), strides)
    got = on_cpu(unit_means(there, 1, "raw"))
    torch.testing.assert_close(got.double(), reference.unit_means(x), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("strides", [(FAR // 4, 1), (1, FAR // 2)], ids=["points", "units"])
def test_selectivity(memory, strides):
    x, there = place(memory, (5, 3), strides)
    peak, index, rest, _ = on_cpu(selectivity(there, 1, "raw", None))
    want = reference.selectivity(x)
    assert torch.equal(peak.double(), want[0])
    assert torch.equal(index, want[1])
    torch.testing.assert_close(rest, want[2])


@pytest.mark.parametrize("strides", [(FAR // 2, 12, 4, 1), (40, FAR // 2, 4, 1), (20, 60, FAR // 2, 1)], ids=str)
def test_views(memory, strides):
    """Images, channels and rows that far apart."""
    near = torch.randint(256, (3, 3, 3, 4), generator=testing.rng("far"), dtype=torch.uint8)
    far = memory.view(torch.uint8).as_strided(near.shape, strides)
    far.copy_(near.to(DEVICE))
    table = torch.zeros(3, 1, 22)
    table[..., 2:4] = torch.tensor([3.0, 4.0])

    def made(images: Tensor) -> Tensor:
        out = torch.empty(3, 1, 3, 2, 5, device=DEVICE)
        views([images], table.to(DEVICE), None, 1, 1, True, 0, (0.5,) * 3, (0.5,) * 3, out)
        return on_cpu(out)

    assert torch.equal(made(far), made(near.to(DEVICE)))
