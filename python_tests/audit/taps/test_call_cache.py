"""Passes of a tap after the first, whose reductions are made ready beforehand: the same bits, whatever changes."""

import pytest
import torch
from torch import Tensor, nn

from memkern.audit.taps.tap import Tap


@pytest.fixture
def x() -> Tensor:
    return torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def tapped(tap: Tap, x: Tensor) -> dict[str, tuple[Tensor | None, ...]]:
    with tap, torch.inference_mode():
        tap.model(x)
        return {name: tuple(stats) for name, stats in tap.take().items()}


def ordinary(model: nn.Module, x: Tensor, n_views: int, means: bool) -> dict[str, tuple[Tensor | None, ...]]:
    """What a new tap finds, all of whose calls are checked ones."""
    return tapped(Tap(model, "*", n_views=n_views, means=means, example=x), x)


def assert_bits(got: dict[str, tuple[Tensor | None, ...]], want: dict[str, tuple[Tensor | None, ...]]) -> None:
    assert list(got) == list(want)
    for name in want:
        for one, other in zip(got[name], want[name], strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0)


class Plain(nn.Module):
    """Maps, tokens, and an output with gaps, which has to be copied every time."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.gaps = Every()
        self.linear = nn.Linear(3, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.gaps(self.conv(x)))


class Every(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[..., ::2]


@pytest.mark.parametrize("means", [True, False])
def test_later_passes_find_what_a_first_one_does(means: bool) -> None:
    torch.manual_seed(0)
    model = Plain().eval()
    tap = Tap(model, "*", n_views=3, means=means, example=torch.rand(6, 3, 8, 8))
    changes = [
        torch.rand(6, 3, 8, 8), torch.rand(6, 3, 8, 8), torch.rand(12, 3, 8, 8),
        torch.rand(12, 3, 8, 8).contiguous(memory_format=torch.channels_last), torch.rand(6, 3, 8, 8),
    ]  # fmt: skip
    found = [tapped(tap, x) for x in changes]  # none overwrites one before it
    assert [call is not None for _, call in tap._cache._calls.values()] == [True, False, True]
    for got, x in zip(found, changes, strict=True):
        assert_bits(got, ordinary(model, x, 3, means))
    tap.n_views = 2
    assert_bits(tapped(tap, changes[0]), ordinary(model, changes[0], 2, means))
    model.double()
    assert_bits(tapped(tap, changes[0].double()), ordinary(model, changes[0].double(), 2, means))


def test_later_passes_of_a_submodule_that_is_run_alone(x: Tensor) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    tap = Tap(model, {"first": "0"}, n_views=2)
    want = tapped(tap, x)
    with tap, torch.inference_mode():
        for _ in range(2):
            model[0](x)
            assert_bits({name: tuple(stats) for name, stats in tap.take().items()}, want)


class Marked(Tensor):
    """A tensor of a class of its own, whose memory nobody may read past it."""


def test_a_later_pass_with_a_tensor_of_another_class_is_checked(x: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(nn.ReLU())
    tap = Tap(model, "0", n_views=2, example=x)
    want = tapped(tap, x)
    checked = []
    monkeypatch.setattr(tap, "_reduce_new", lambda *given: checked.append(given) or Tap._reduce_new(tap, *given))
    assert_bits(tapped(tap, x), want)
    assert not checked
    tapped(tap, x.as_subclass(Marked))
    assert len(checked) == 1
