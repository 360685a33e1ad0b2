"""Batch norm, ReLU and GELU run by the kernel that reduces them: torch's values, and the very bits of layer_stats."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import memkern
from memkern import reference
from memkern.audit.taps.pointwise_modules import pointwise
from memkern.ops.layer_stats import LayerStats, LayerViewStats
from memkern.ops.pointwise_stats import Pointwise, PreparedPointwiseStats, pointwise_stats
from python_tests.helpers import testing

VIEWS = [2, 3, 5, 6, 10, 17, 33]
LAYERS = {"batch_norm": (nn.BatchNorm2d,), "relu": (nn.ReLU,), "gelu": (nn.GELU,), "both": (nn.BatchNorm2d, nn.ReLU)}


def modules_of(which: str, units: int) -> list[nn.Module]:
    modules: list[nn.Module] = [kind(units) if kind is nn.BatchNorm2d else kind() for kind in LAYERS[which]]
    for module in modules:
        if isinstance(module, nn.BatchNorm2d):
            for value in (module.running_mean, module.weight, module.bias):
                assert value is not None
                value.data = testing.randn(units)
            module.running_var = testing.randn(units).abs() + 0.1
    return [module.eval() for module in modules]


def fused(
    x: Tensor, modules: list[nn.Module], unit_dim: int = 2, pairs: str = "all", normalize: bool = True,
    means: bool = True, with_input: bool = True, in_place: bool = False,
) -> tuple[Tensor, list[LayerStats | LayerViewStats]]:  # fmt: skip
    """Sums over views too, where they are defined."""
    assert PreparedPointwiseStats.is_possible(x, unit_dim)
    count = len(modules)
    sums = pairs == "all"
    call = PreparedPointwiseStats(
        x, unit_dim=unit_dim, pairs=pairs, normalize=normalize, means=means, layers=count, view_sums=sums
    )
    layers = [layer.fields() for module in modules if (layer := pointwise(module)) is not None]
    y = x if in_place else torch.full_like(x, math.nan)
    found = call(x, y, layers, with_input)
    return y, [LayerViewStats(*each) if sums else LayerStats(*each[:2]) for each in found]


def run(x: Tensor, modules: list[nn.Module]) -> Tensor:
    """The modules alone, on `[N, V, U, H, W]`."""
    with torch.no_grad():
        return nn.Sequential(*modules)(x.flatten(0, 1)).unflatten(0, x.shape[:2])


def run_in_double(x: Tensor, modules: list[nn.Module]) -> Tensor:
    """The same in float64."""
    y = run(x.double(), [module.double() for module in modules])
    for module in modules:
        module.float()
    return y


def assert_output(got: Tensor, x: Tensor, modules: list[nn.Module]) -> None:
    """Within twice torch's own largest error in float32; of few elements, all may be lucky: one rounding at least."""
    plain, want = run(x, modules), run_in_double(x, modules)
    torch.testing.assert_close(got.isnan(), plain.isnan())
    error, usual = ((value - want).abs().nan_to_num().max() for value in (got, plain))
    rounding = want.abs().nan_to_num().max() * 2**-24
    assert error <= 2 * max(usual, rounding), f"{error} beside {usual} and {rounding}"


def assert_stats(found: list[Any], tensors: list[Tensor], **options: Any) -> None:
    sums = options.get("pairs", "all") == "all"
    assert_same_stats(found, [memkern.layer_stats(tensor, view_sums=sums, **options) for tensor in tensors])


def assert_same_stats(found: list[Any], wanted: list[Any]) -> None:
    for got, want in zip(found, wanted, strict=True):
        for part, expected in zip(got, want, strict=True):
            testing.assert_same_bits(part, expected)


def check(x: Tensor, which: str, unit_dim: int = 2, pairs: str = "all", normalize: bool = True) -> None:
    modules = modules_of(which, x.shape[unit_dim])
    y, found = fused(x, modules, unit_dim, pairs, normalize)
    tensors = [x, y]
    if len(modules) == 2:  # what lies between is what the first layer makes alone
        tensors.insert(1, fused(x, modules[:1], unit_dim, pairs, normalize)[0])
    assert_stats(found, tensors, unit_dim=unit_dim, pairs=pairs, normalize=normalize)
    if unit_dim == 2 and x.ndim == 5:
        assert_output(y, x, modules)
    again, others = fused(x, modules, unit_dim, pairs, normalize, with_input=False)
    testing.assert_same_bits(again, y)
    assert_stats(others[1:], tensors[1:], unit_dim=unit_dim, pairs=pairs, normalize=normalize)


@pytest.mark.parametrize("which", LAYERS)
@pytest.mark.parametrize("views", VIEWS)
def test_view_counts(kernel: str, views: int, which: str) -> None:
    for shape in ((3, views, 5, 3, 3), (1, views, 24, 9, 10)):
        check(testing.randn(*shape), which)


@pytest.mark.parametrize("which", LAYERS)
@pytest.mark.parametrize(("pairs", "normalize"), [("all", False), ("anchor", True), ("anchor", False)])
def test_options(kernel: str, which: str, pairs: str, normalize: bool) -> None:
    check(testing.randn(3, 6, 12, 4, 5), which, 2, pairs, normalize)


@pytest.mark.parametrize("which", LAYERS)
@pytest.mark.parametrize("units", [1, 2, 3, 7, 8, 16, 19, 64])
def test_units(kernel: str, units: int, which: str) -> None:
    """Every end of a row, in both orders of memory; planes of one element; few views, and many in tiles."""
    for size, views in itertools.product((1, 2, 5, 16), (3, 7)):
        x = testing.randn(2, views, units, size, size)
        check(x, which)
        check(x.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, (2, views)), which)


@pytest.mark.parametrize("which", LAYERS)
@pytest.mark.parametrize("shape", [(2, 10, 32, 33, 31), (2, 3, 5, 40, 41), (1, 4, 3000, 2, 2)], ids=str)
def test_larger_than_a_range(kernel: str, shape: tuple[int, ...], which: str) -> None:
    """A view is made 1024 to 4096 dims at a time; a range begins within a row or a plane."""
    x = testing.randn(*shape)
    check(x, which)
    check(x.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, x.shape[:2]), which)


def test_tokens(kernel: str) -> None:
    check(testing.randn(2, 4, 9, 37), "gelu", unit_dim=3)
    check(testing.randn(2, 4, 37), "relu", unit_dim=2)


def test_nearly_identical_views_are_looked_at_again(kernel: str) -> None:
    """Whose sums cannot tell their distance: elements are read once more, those between two layers too."""
    x = testing.near_identical(3, 4, 16, 8, 8, eps=1e-6)
    for which in LAYERS:
        check(x, which)
    x[:, 1] = x[:, 0]
    x[:, 2] = 0
    for which in LAYERS:
        check(x, which)


@pytest.mark.parametrize("which", ["batch_norm", "relu", "gelu"])
def test_in_place(kernel: str, which: str) -> None:
    for views in (4, 9):
        x = testing.randn(3, views, 10, 12, 12)
        modules = modules_of(which, 10)
        y, found = fused(x.clone(), modules, with_input=False)
        z, others = fused(x.clone(), modules, with_input=False, in_place=True)
        testing.assert_same_bits(z, y)
        assert_stats(others[1:], [y])
        assert_stats(found[1:], [y])


def test_without_means(kernel: str) -> None:
    x = testing.randn(3, 6, 10, 6, 6)
    y, found = fused(x, modules_of("both", 10), means=False)
    _, others = fused(x, modules_of("both", 10))
    for one, other in zip(found, others, strict=True):
        assert one.unit_means is None
        testing.assert_same_bits(one.alignment, other.alignment)
    assert not y.isnan().any()


def test_special_values(kernel: str) -> None:
    values = [math.nan, math.inf, -math.inf, 0.0, -0.0, 1e-40, -1e-40, 3e38, -3e38, -13.2, -13.5, 87.0, -200.0]
    for views, units in ((2, 3), (6, 8)):
        x = torch.tensor(values).repeat(2, views, units, 1)[..., None]
        for which in LAYERS:
            modules = modules_of(which, units)
            y, _ = fused(x, modules)
            # Not torch's own float32: its GELU is oneDNN's on some processors, NaN at infinity and infinity at 3e38.
            torch.testing.assert_close(y, run_in_double(x, modules).float(), equal_nan=True)


def test_gelu_keeps_its_digits_below_zero(kernel: str) -> None:
    """Where 1 + erf cancels: 1e-5 of the value down to -12, beside torch's loss of all digits at -6."""
    x = torch.linspace(-12, 12, 24001).reshape(1, 1, 1, -1, 1).repeat(1, 2, 1, 1, 1)
    y, _ = fused(x, modules_of("gelu", 1))
    exact = x.double() * 0.5 * torch.special.erfc(-x.double() / math.sqrt(2))
    torch.testing.assert_close(y.double(), exact, rtol=1e-5, atol=0)
    near = x.abs() < 1
    torch.testing.assert_close(y.double()[near], exact[near], rtol=4 * 2**-23, atol=0)


def test_batch_norms_without_weights(kernel: str) -> None:
    x = testing.randn(2, 3, 9, 4, 4)
    module = nn.BatchNorm2d(9, affine=False, eps=0.5).eval()
    module.running_mean = testing.randn(9)
    y, _ = fused(x, [module])
    assert_output(y, x, [module])


def test_any_number_of_threads_gives_the_same_bits(kernel: str) -> None:
    x = testing.randn(9, 10, 32, 12, 12)
    modules = modules_of("both", 32)
    want, stats = fused(x, modules)
    for count in (1, 2, 5):
        with testing.threads(count):
            got, found = fused(x, modules)
        testing.assert_same_bits(got, want)
        assert_same_stats(found, stats)


def test_what_is_taken() -> None:
    x = testing.randn(4, 3, 8, 5, 6)
    assert PreparedPointwiseStats.is_possible(x, 2)
    assert PreparedPointwiseStats.is_possible(
        x.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, (4, 3)), 2
    )
    assert not PreparedPointwiseStats.is_possible(x, 3)  # units neither first nor last
    assert not PreparedPointwiseStats.is_possible(x[..., ::2], 2)
    assert not PreparedPointwiseStats.is_possible(x[:, 1:], 2)
    assert not PreparedPointwiseStats.is_possible(x.double(), 2)
    assert not PreparedPointwiseStats.is_possible(x.bfloat16(), 2)
    assert not PreparedPointwiseStats.is_possible(x[:0], 2)
    assert not PreparedPointwiseStats.is_possible(x.to("meta"), 2)

    assert not PreparedPointwiseStats.is_possible(
        testing.randn(8, 6, 4).movedim(0, 1).unflatten(0, (2, 3)), 3
    )  # [T, B, C]


# ---- the registered op ----------------------------------------------------------------------------------------------


def layers_of(which: str, units: int) -> list[Pointwise]:
    return [layer for module in modules_of(which, units) if (layer := pointwise(module)) is not None]


@pytest.mark.parametrize("which", LAYERS)
@pytest.mark.parametrize("layout", testing.LAYOUTS)
def test_the_op_in_every_layout(path: str, layout: str, which: str) -> None:
    """The reference's values, wherever the units are; the memory order of the input."""
    x = testing.LAYOUTS[layout](testing.randn(3, 4, 6, 5, 2))
    for unit_dim, (pairs, normalize) in itertools.product((2, 3, 4), (("all", True), ("anchor", False))):
        layers = layers_of(which, x.shape[unit_dim])
        options: dict[str, Any] = {"unit_dim": unit_dim, "pairs": pairs, "normalize": normalize}
        got = pointwise_stats(x, layers, backend=path, **options)
        want = reference.pointwise_stats(x, layers, **options)
        assert got.output.stride() == torch.empty_like(x).stride()
        for one, other in zip(got, want, strict=True):
            assert one.dtype == torch.float32
            torch.testing.assert_close(one, other.float(), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("which", LAYERS)
def test_the_op_is_the_prepared_call(kernel: str, which: str) -> None:
    x, modules = testing.randn(3, 6, 10, 4, 4), modules_of(which, 10)
    y, found = fused(x, modules)
    got = pointwise_stats(x, layers_of(which, 10), backend=kernel)
    testing.assert_same_bits(got.output, y)
    for alignment, means, stats in zip(got.alignment, got.unit_means, found, strict=True):
        testing.assert_same_bits(alignment, stats.alignment)
        testing.assert_same_bits(means, stats.unit_means)


@pytest.mark.parametrize("layout", testing.LAYOUTS)
@pytest.mark.parametrize("which", LAYERS)
@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_opcheck(backend: str, which: str, layout: str) -> None:
    layers = [layer._replace(moments=tuple(map(detached, layer.moments))) for layer in layers_of(which, 4)]
    functions, moments, epsilons = zip(*layers, strict=True)
    layout_of = testing.LAYOUTS[layout]
    for x in (layout_of(testing.randn(3, 2, 4, 5)), torch.empty(0, 2, 4, 5)):
        arguments = (x, functions, list(itertools.chain(*moments)), epsilons, 2, False, True, backend)
        torch.library.opcheck(torch.ops.memkern.pointwise_stats.default, arguments)


def detached(moment: Tensor | None) -> Tensor | None:
    return None if moment is None else moment.detach()


def test_full_graph() -> None:
    x, layers = testing.randn(3, 2, 4, 5), layers_of("both", 4)
    compiled = torch.compile(lambda x: pointwise_stats(x, layers, backend="cpu"), fullgraph=True, backend="aot_eager")
    for got, want in zip(compiled(x), pointwise_stats(x, layers, backend="cpu"), strict=True):
        testing.assert_same_bits(got, want)


def test_no_gradient_gets_lost() -> None:
    x = testing.randn(3, 2, 4).requires_grad_()
    arguments = (["relu"], [None] * 4, [0.0], 2, False, True, "cpu")
    output, _, _ = torch.ops.memkern.pointwise_stats(x, *arguments)
    with pytest.raises(RuntimeError, match="has no backward; run the layers with torch"):
        output.sum().backward()
    assert not pointwise_stats(x, [Pointwise("relu")]).output.requires_grad


RELU, NORM = Pointwise("relu"), Pointwise("batch_norm", (torch.zeros(4), torch.ones(4), None, None))


@pytest.mark.parametrize(("x", "layers", "kind", "says"), [
    (torch.ones(3, 2, 4).double(), [RELU], TypeError, "Expected `x` to be float32, got float64"),
    (torch.ones(3, 1, 4), [RELU], ValueError, r"Expected `x` to have shape \[N, V, ...\] with V >= 2"),
    (torch.ones(3, 2, 4), [], ValueError, "Expected `layers` to have 1 to 2 entries, got 0"),
    (torch.ones(3, 2, 4), [RELU] * 3, ValueError, "Expected `layers` to have 1 to 2 entries, got 3"),
    (torch.ones(3, 2, 4), [Pointwise("silu")], ValueError, r"`layers\[0\].function` to be one of 'batch_norm'"),
    (torch.ones(3, 2, 5), [RELU, NORM], ValueError, r"Expected `layers\[1\].moments\[0\]` to have shape \[5\]"),
    (torch.ones(3, 2, 4), [Pointwise("batch_norm")], ValueError, r"moments\[0\]` to have shape \[4\].*, got None"),
])  # fmt: skip
def test_errors(x: Tensor, layers: list[Pointwise], kind: type[Exception], says: str) -> None:
    with pytest.raises(kind, match=says):
        pointwise_stats(x, layers)


def test_which_modules_have_a_kernel() -> None:
    class Own(nn.ReLU):
        pass

    assert pointwise(nn.BatchNorm2d(3)) is None  # in training mode
    assert pointwise(nn.BatchNorm2d(3, track_running_stats=False).eval()) is None
    assert pointwise(nn.BatchNorm1d(3).double().eval()) is None
    assert pointwise(nn.GELU(approximate="tanh")) is None
    assert pointwise(Own()) is None
    assert pointwise(nn.SiLU()) is None
    assert pointwise(nn.GELU()) is not None
    found = pointwise(nn.BatchNorm3d(3, eps=0.25).eval())
    assert found is not None
    assert found.epsilon == 0.25
