"""Taps that run batch norms, ReLUs and GELUs themselves: what a model makes and what is found are as without."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from fused_models import MODELS, VIEWS, assert_same, batch, made, passed, tap_of
from torch import Tensor, nn

from memkern.audit.taps.hook_points import HookPoint, find_layers
from memkern.audit.taps.modules import tensors_in
from memkern.audit.taps.tap import Tap
from memkern.ops.pointwise_stats import PreparedPointwiseStats


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bool]]:
    """(layers, with the input) of each call of the kernel."""
    seen: list[tuple[int, bool]] = []
    call = PreparedPointwiseStats.__call__

    def spy(self: PreparedPointwiseStats, x: Tensor, y: Tensor, layers: Any, with_input: bool) -> Any:
        seen.append((len(layers), with_input))
        return call(self, x, y, layers, with_input)

    monkeypatch.setattr(PreparedPointwiseStats, "__call__", spy)
    return seen


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("which", MODELS)
def test_as_without(which: str, memory: torch.memory_format, runs: list[Any]) -> None:
    model = made(which)
    for means, view_sums in ((True, False), (False, False), (True, True), (False, True)):
        plain, fused = (tap_of(model, fuse=fuse, means=means, view_sums=view_sums) for fuse in (False, True))
        for seed in range(3):  # the first pass, and those that are made ready
            x = batch(seed, 3 + (seed == 2)).contiguous(memory_format=memory)
            want, want_stats = passed(plain, x)
            assert not runs
            output, stats = passed(fused, x)
            assert bool(runs) == (which != "transposed")  # memory that the kernel does not read
            runs.clear()
            assert_output(model, output, want)
            assert_same(stats, want_stats)
    assert_untouched(model)


def assert_output(model: nn.Module, got: Any, want: Any) -> None:
    """Torch's own bits; behind a GELU within 2e-6 of the largest value."""
    gelu = any(isinstance(module, nn.GELU) for module in model.modules())
    for one, other in zip(tensors_in(got), tensors_in(want), strict=True):
        assert (one - other).abs().max() <= 2e-6 * other.abs().max() if gelu else torch.equal(one, other)


def assert_untouched(model: nn.Module) -> None:
    """No hook, and everybody's own forward pass."""
    for module in model.modules():
        assert "forward" not in vars(module)
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


@pytest.mark.parametrize(("which", "calls"), [
    ("block", [(2, True), (1, True), (1, False)]),
    ("block in place", [(2, True), (1, True), (1, False)]),
    ("before", [(1, False), (1, False)]),
    ("changed", [(2, False)]),
    ("returned", [(1, False), (1, False)]),
    ("tokens", [(1, True)]),
    ("vgg", [(1, False), (1, False)]),
    ("gelu behind a norm", [(1, True), (1, False)]),
    ("points", [(2, True)]),
    ("one pixel", [(2, True)]),
    ("first", [(1, False), (2, False)]),
    ("branches", [(1, False), (2, False), (1, False)]),
    ("shared", [(2, True), (1, True), (1, False)]),
    ("viewed", [(1, True), (1, False)]),
    ("transposed", []),
])  # fmt: skip
def test_what_is_done_together(which: str, calls: list[tuple[int, bool]], runs: list[Any]) -> None:
    tap = tap_of(made(which))
    for _ in range(2):
        passed(tap, batch())
        assert runs == calls
        runs.clear()


@pytest.mark.parametrize("layer", [nn.ReLU(), nn.GELU(), nn.BatchNorm2d(5)], ids=["relu", "gelu", "batch norm"])
def test_maps_of_one_pixel_lie_in_memory_as_torchs(layer: nn.Module, runs: list[Any]) -> None:
    """Contiguous and channels last at once: a convolution that reads them may round by their strides."""
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 5, 1), layer).eval()
    x = torch.randn(2 * VIEWS, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        want = model(x)
        with Tap(model, "*", n_views=VIEWS, example=x[:2]) as tap:
            assert tap.model(x).stride() == want.stride()
    assert runs


def test_without_an_example_each_layer_is_run_alone(runs: list[Any]) -> None:
    tap = Tap(made("block"), ["conv1", "bn1", "relu", "conv2", "bn2", "relu_1"], n_views=VIEWS)
    _, want = passed(tap_of(made("block"), fuse=False), batch())
    _, stats = passed(tap, batch())
    assert runs == []  # nobody knows where the units of a ReLU are, or what a batch norm's are for
    assert_same(stats, want)


@pytest.mark.parametrize("pairs", ["all", "anchor"])
def test_options_reach_the_kernel(pairs: str, runs: list[Any]) -> None:
    model = made("block")
    for normalize in (True, False):
        options: dict[str, Any] = {"pairs": pairs, "normalize": normalize}
        want = passed(tap_of(model, fuse=False, **options), batch())[1]
        assert_same(passed(tap_of(model, **options), batch())[1], want)
        assert runs
        runs.clear()


def test_what_is_left_to_torch(runs: list[Any]) -> None:
    model = made("block")
    tap = tap_of(model)
    with tap:  # autograd
        assert tap.model(batch()).requires_grad
        tap.take()
    passed(Tap(model, "*", n_views=None, example=batch()[:1]), batch())
    passed(tap_of(model, clean_first=True), batch())
    model.double()
    passed(Tap(model, "*", n_views=VIEWS, example=batch()[:2].double()), batch().double())
    model.float()
    assert runs == []
    with tap, torch.no_grad():
        model.bn1.train()
        model.bn2.train()
        tap.model(batch())
        tap.take()
    assert runs == [(1, True), (1, False)]  # the ReLU, twice


def test_what_is_left_to_torch_is_read_before_it_is_overwritten() -> None:
    model = made("vgg")
    found = []
    for fuse in (False, True):
        with tap_of(model, fuse=fuse) as tap:
            tap.model(batch())  # with autograd, which the kernel leaves to torch
            found.append(tap.take())
    assert_same(found[1], found[0])


def test_no_grad_counts_the_version_of_what_is_overwritten(runs: list[Any]) -> None:
    model = nn.Sequential(nn.ReLU(inplace=True)).eval()
    x = batch()
    with tap_of(model) as tap, torch.no_grad():
        before = x._version
        tap.model(x)
        tap.take()
    assert runs == [(1, False)]
    assert x._version == before + 1
    assert x.min() == 0


def test_hooks_of_others_see_what_a_layer_makes() -> None:
    """Before the tap, inside it, and of every module: the kernel steps back."""
    model = made("block")
    want = passed(tap_of(model, fuse=False), batch())[1]
    seen: list[Tensor] = []

    def keep(module: nn.Module, args: Any, output: Tensor) -> None:
        seen.append(output.clone())

    true = model.bn1(model.conv1(batch()))
    tap = tap_of(model)
    passed(tap, batch())
    with model.bn1.register_forward_hook(keep):
        assert_same(passed(tap, batch())[1], want)
    with tap, torch.inference_mode(), model.bn1.register_forward_hook(keep):
        tap.model(batch())
        assert_same(tap.take(), want)
    with model.relu.register_forward_pre_hook(lambda module, args: seen.append(args[0].clone())):
        assert_same(passed(tap, batch())[1], want)
    assert len(seen) == 4
    for tensor in seen[:3]:
        torch.testing.assert_close(tensor, true)
    with nn.modules.module.register_module_forward_hook(keep):
        assert_same(passed(tap, batch())[1], want)


def test_a_second_tap_inside() -> None:
    model = made("block")
    want = passed(tap_of(model, fuse=False), batch())[1]
    outer, inner = tap_of(model), tap_of(model)
    with outer:
        assert_same(passed(inner, batch())[1], want)
        outer.take()
    assert_same(passed(outer, batch())[1], want)


def test_inputs_that_are_tapped_are_those_of_the_layer(runs: list[Any]) -> None:
    model = made("block")
    sites = find_layers(model, batch()[:2]).hook_points
    stats = passed(Tap(model, [*sites, HookPoint("into", "relu", 0, True, 1)], n_views=VIEWS), batch())[1]
    assert (2, True) not in runs  # the ReLU is shown what the batch norm made, so it is not done with it
    assert (1, True) in runs
    assert_same({"bn1": stats["into"]}, {"bn1": stats["bn1"]})


def test_what_has_no_kernel_is_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = made("block").double()
    tap = Tap(model, "*", n_views=VIEWS, example=batch()[:2].double())
    asked = []
    possible = PreparedPointwiseStats.is_possible
    spy = staticmethod(lambda *given: asked.append(given) or possible(*given))
    monkeypatch.setattr(PreparedPointwiseStats, "is_possible", spy)
    for _ in range(3):
        passed(tap, batch().double())
    assert len(asked) == 4  # two batch norms, a ReLU in two places


def test_weights_may_change_between_passes() -> None:
    model = made("block")
    fused, plain = tap_of(model), tap_of(model, fuse=False)
    passed(fused, batch())
    model.bn1.weight = nn.Parameter(torch.rand(6))
    model.bn2.running_var = torch.rand(6) + 1
    model.bn1.eps = 0.5
    assert_same(passed(fused, batch())[1], passed(plain, batch())[1])
    model.load_state_dict(copy.deepcopy(made("block").state_dict()))
    assert_same(passed(fused, batch())[1], passed(plain, batch())[1])


def test_weights_that_are_no_parameters(runs: list[Any]) -> None:
    """As FSDP and some hooks leave them: attributes, at another place in every pass."""
    model = made("block")
    fused, plain = tap_of(model), tap_of(model, fuse=False)
    del model.bn1._parameters["weight"]
    for seed in range(3):
        model.bn1.weight = torch.rand(6, generator=torch.Generator().manual_seed(seed))
        assert_same(passed(fused, batch())[1], passed(plain, batch())[1])
    assert (2, True) in runs


def test_weights_the_kernel_cannot_read() -> None:
    model = made("block")
    fused, plain = tap_of(model), tap_of(model, fuse=False)
    memory = torch.rand(12)
    model.bn1.weight.data = memory[:6]
    passed(fused, batch())
    model.bn1.weight.data = memory[::2]  # the same parameter at the same address, now with gaps
    assert_same(passed(fused, batch())[1], passed(plain, batch())[1])


def test_layers_that_are_fused_have_no_hook() -> None:
    model = made("block")
    with tap_of(model):
        assert [name for name, module in model.named_modules() if module._forward_hooks] == ["", "conv1", "conv2"]


def test_a_layer_that_is_run_on_its_own_gives_its_own_output() -> None:
    model = made("block")
    tap = tap_of(model)
    passed(tap, batch())
    want = model.bn1(batch())
    with Tap(model, ["bn1"], n_views=VIEWS) as alone, torch.inference_mode():
        torch.testing.assert_close(alone.model.bn1(input=batch()), want)
        alone.take()
    with tap, torch.inference_mode():
        torch.testing.assert_close(tap.model.bn1(batch()), want)


class Fickle(nn.Module):
    """Reads the batch norm's output past the ReLU when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.bn, self.relu, self.way = nn.BatchNorm2d(6), nn.ReLU(), 0

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn(x)
        return self.relu(y) if self.way == 0 else self.relu(y + 1) if self.way == 1 else y * self.relu(x)


def test_a_model_that_reads_something_else_than_before() -> None:
    model = Fickle().eval()
    tap = tap_of(model)
    for model.way in (1, 2):
        with pytest.raises(RuntimeError, match="fuse=False"):
            passed(tap, batch())
    assert "forward" not in model.relu.__dict__
    model.way = 0
    passed(tap, batch())  # and nothing is left behind


def test_a_pass_that_breaks_off() -> None:
    model = nn.Sequential(nn.Conv2d(6, 6, 3), nn.Identity(), nn.BatchNorm2d(6), nn.ReLU()).eval()
    tap = tap_of(model)
    want = passed(tap, batch())[1]

    def fail(module: nn.Module, args: Any) -> None:
        raise KeyError("on purpose")

    with pytest.raises(KeyError), model[2].register_forward_pre_hook(fail):
        passed(tap, batch())
    assert "forward" not in model[2].__dict__
    assert_same(passed(tap, batch())[1], want)


def test_a_module_with_a_forward_of_its_own() -> None:
    model = nn.Sequential(nn.Conv2d(6, 6, 3), nn.ReLU()).eval()
    model[1].forward = lambda x: x - 1  # type: ignore[method-assign]
    with tap_of(model) as tap, torch.inference_mode():
        output = tap.model(batch())
        tap.take()
    assert "forward" in model[1].__dict__
    torch.testing.assert_close(output, model[0](batch()) - 1)


def test_real_networks() -> None:
    torchvision = pytest.importorskip("torchvision")
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    for model in (
        torchvision.models.resnet18(num_classes=5),
        torchvision.models.densenet121(num_classes=5),
        torchvision.models.mobilenet_v2(num_classes=5),
        timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, num_classes=5),
    ):
        x = torch.randn(2 * VIEWS, 3, 32, 32)
        plain, fused = (Tap(model, "*", n_views=VIEWS, example=x[:2], fuse=fuse) for fuse in (False, True))
        want, want_stats = passed(plain, x)
        for _ in range(2):
            output, stats = passed(fused, x)
            torch.testing.assert_close(output, want)
            assert_same(stats, want_stats)


def test_every_instruction_set_gives_torchs_bits(kernel: str) -> None:
    """Kernels that round otherwise than torch leave batch norms to torch."""
    for which in ("block", "points", "one pixel", "shared"):
        model = made(which)
        for memory in (torch.contiguous_format, torch.channels_last):
            x = batch().contiguous(memory_format=memory)
            assert_output(model, passed(tap_of(model), x)[0], passed(tap_of(model, fuse=False), x)[0])


OTHER = """
from fused_models import MODELS, batch, made, passed, tap_of
import torch
assert torch.backends.cpu.get_cpu_capability() == {capability!r}, "torch has no such kernels"
for which in ("block", "points", "one pixel", "shared"):
    assert torch.equal(passed(tap_of(made(which)), batch())[0], passed(tap_of(made(which), fuse=False), batch())[0])
"""


@pytest.mark.skipif(torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"), reason="torch has one path")
@pytest.mark.parametrize("capability", ["AVX2", "DEFAULT"])
def test_torchs_other_kernels_have_their_bits(capability: str) -> None:
    """Without fused multiplications in torch, as on old processors, batch norms are torch's."""
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": capability.lower(), "PYTHONPATH": os.pathsep.join(sys.path)}
    code = OTHER.format(capability=capability)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr


def test_nothing_is_left_behind_where_entering_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    model = made("block").train()
    tap = tap_of(model)
    monkeypatch.setattr(Tap, "_after", lambda *given: 1 / 0)
    with pytest.raises(ZeroDivisionError), tap:
        pass
    assert_untouched(model)
    assert all(module.training for module in model.modules())


def test_nothing_is_left_behind_where_a_pass_fails() -> None:
    model = made("block")
    with pytest.raises(RuntimeError, match="channels"), tap_of(model) as tap, torch.inference_mode():
        tap.model(batch()[:, :5])
    assert_untouched(model)
