"""Linear layers that an audit runs as convolutions: torch's values up to rounding, all else left to torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from audit_helpers import options
from torch import Tensor, nn

from memkern import testing
from memkern.audit.data.source import from_arrays
from memkern.audit.measure.prepare import prepare
from memkern.audit.measure.shard import do_shard
from memkern.audit.taps import linears
from memkern.audit.taps.linears import ROWS, faster_linears
from memkern.audit.taps.tap import Tap


@pytest.fixture
def convolved(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of what is convolved, on a processor that gains from it."""
    monkeypatch.setattr(linears, "_gains", lambda: True)
    seen: list[tuple[int, ...]] = []
    conv2d = torch.nn.functional.conv2d

    def spy(x: Tensor, *others: Any) -> Tensor:
        seen.append(tuple(x.shape))
        assert x.is_contiguous(memory_format=torch.channels_last)
        return conv2d(x, *others)

    monkeypatch.setattr(linears.functional, "conv2d", spy)
    return seen


def layer(features: int = 24, outputs: int = 37, bias: bool = True) -> nn.Linear:
    torch.manual_seed(1)
    return nn.Linear(features, outputs, bias=bias).eval()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("shape", "pixels"), [
    ((ROWS, 24), (1, 24, ROWS, 1)),
    ((ROWS + 5, 24), (1, 24, ROWS + 5, 1)),
    ((100, 65, 24), (100, 24, 65, 1)),
    ((1500, 3, 24), (1, 24, 4500, 1)),
    ((1, 5000, 24), (1, 24, 5000, 1)),
    ((20, 15, 16, 24), (1, 24, 4800, 1)),
    ((ROWS, 1), (1, 1, ROWS, 1)),
], ids=str)  # fmt: skip
def test_values(shape: tuple[int, ...], pixels: tuple[int, ...], bias: bool, convolved: list[Any]) -> None:
    """No further from float64 than twice torch's own largest error."""
    one, x = layer(shape[-1], bias=bias), testing.randn(*shape)
    with torch.inference_mode():
        want = one(x)
        with faster_linears(one):
            got = one(x)
        exact = one.double()(x.double())
    assert convolved == [pixels]
    assert got.shape == want.shape
    assert got.stride() == want.stride()
    error, usual = ((value - exact).abs().max() for value in (got, want))
    assert error <= 2 * usual, f"{error} beside {usual}"


class Derived(nn.Linear):
    pass


def test_what_is_left_to_torch(convolved: list[Any]) -> None:
    one, x = layer(), testing.randn(ROWS, 24)
    derived = Derived(24, 37)
    with faster_linears(nn.ModuleList([one, derived])):
        assert one(x).requires_grad
        with torch.inference_mode():
            torch.testing.assert_close(one(x[:-1]), nn.functional.linear(x[:-1], one.weight, one.bias), rtol=0, atol=0)
            derived(x)
            one(x.t().contiguous().t())
            with torch.autocast("cpu", torch.bfloat16):
                assert one(x).dtype == torch.bfloat16
            with pytest.raises(RuntimeError, match="shapes"):
                one(testing.randn(ROWS, 25))
            one.double()(x.double())
            assert convolved == []
            one.float()(x)
            assert len(convolved) == 1


def test_weights_are_those_of_the_moment(convolved: list[Any]) -> None:
    one, x = layer(), testing.randn(ROWS, 24)
    with faster_linears(one), torch.inference_mode():
        one(x)
        one.weight = nn.Parameter(testing.randn(37, 24))
        want = nn.functional.linear(x, one.weight, one.bias)
        torch.testing.assert_close(one(x), want, rtol=1e-5, atol=1e-5)
    assert len(convolved) == 2


def test_modules_are_as_before(convolved: list[Any]) -> None:
    model = nn.Sequential(layer(), layer(37, 24))
    model[1].forward = lambda x: x - 1  # type: ignore[method-assign]
    x = testing.randn(9, 24)
    with faster_linears(model), torch.inference_mode():
        assert "forward" in model[0].__dict__
        torch.testing.assert_close(model(x), model[0](x) - 1)

    def fail() -> None:
        with faster_linears(model):
            raise KeyError("on purpose")

    with pytest.raises(KeyError):
        fail()
    assert "forward" not in model[0].__dict__
    assert "forward" in model[1].__dict__


def test_only_where_it_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    one = layer()
    for amd, mkl, onednn in ((False, True, True), (True, False, True), (True, True, False), (True, True, True)):
        monkeypatch.setattr(linears, "_is_amd", lambda amd=amd: amd)
        monkeypatch.setattr(torch.backends.mkl, "is_available", lambda mkl=mkl: mkl)
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda onednn=onednn: onednn)
        with faster_linears(one):
            assert ("forward" in one.__dict__) == (amd and mkl and onednn)


def test_taps_read_them_as_others(convolved: list[Any]) -> None:
    """Hooks fire, and a GELU is still the one that reduces what the layer before it makes."""
    model = nn.Sequential(layer(24, 37), nn.GELU(), layer(37, 24))
    x = testing.randn(ROWS, 24)
    found = []
    for fuse in (False, True):
        tap = Tap(model, "*", n_views=4, example=x[:2], fuse=fuse, overwrite=True)
        with tap, torch.inference_mode(), faster_linears(model):
            tap.model(x)
            found.append(tap.take())
            assert tap._fused is None or tap._fused._held is None
    assert len(convolved) == 4
    for name, stats in found[0].items():
        for one, other in zip(stats, found[1][name], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_an_audit_takes_them(convolved: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(linears, "ROWS", 1)
    encoders = [nn.Sequential(nn.Flatten(), nn.Linear(192, 9)).eval() for _ in range(2)]
    images = torch.randint(256, (5, 3, 8, 8), dtype=torch.uint8)
    ready = prepare(options(tmp_path), encoders=(encoders[0], encoders[1]), source=from_arrays(images))
    shard = do_shard(ready.job, 0)
    assert len(convolved) == 6  # both encoders, 2 + 2 + 1 images
    monkeypatch.setattr(linears, "_gains", lambda: False)
    want = do_shard(ready.job, 0)
    assert len(convolved) == 6
    torch.testing.assert_close(shard.alignment_f, want.alignment_f, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(shard.alignment_g, want.alignment_g, rtol=1e-5, atol=1e-6)
