"""Tensors whose first dimension is not the batch, layers with several tensors, and where the units are."""

from __future__ import annotations

import types
from collections.abc import Callable

import pytest
import torch
from helpers.plain_hooks import check_layers
from torch import Tensor, nn

from memkern.audit.taps.batch_layout import SECOND, BatchLayout, images_first, layout_of, profile
from memkern.audit.taps.hook_points import NO_FIXED_DIM, TOKENS, HookPoint, Layers, find_layers, parse_label
from memkern.audit.taps.tap import Tap


class Tokens(nn.Module):
    """`[n, 3, H, W]` -> tokens through a layer of tokens in some order -> `[n, 5]`."""

    def __init__(self, inner: nn.Module, order: str) -> None:
        super().__init__()
        self.patch, self.inner, self.head, self.order = nn.Conv2d(3, 6, 4, 4), inner, nn.Linear(6, 5), order

    def forward(self, x: Tensor) -> Tensor:
        n, tokens = len(x), self.patch(x).flatten(2)  # [n, 6, T]
        if self.order == "sequence":
            y = self.inner(tokens.permute(2, 0, 1))  # [T, n, 6]
            return self.head((y[0] if isinstance(y, tuple) else y).mean(0))
        if self.order == "windows":
            y = self.inner(tokens.transpose(1, 2).reshape(2 * n, -1, 6))
            return self.head(y.view(n, -1, 6).mean(1))
        if self.order == "turns":
            y = self.inner(tokens.transpose(1, 2).reshape(n, 2, -1, 6).transpose(0, 1).flatten(0, 1))
            return self.head(y.unflatten(0, (2, n)).mean((0, 2)))
        assert self.order == "shuffled"
        y = tokens.transpose(1, 2).reshape(n, 4, -1, 6)
        y = self.inner(torch.cat([y[:, :1].flatten(0, 1), y[:, 1:].flatten(0, 1)]))
        return self.head(y.mean(1)[:n])


@pytest.fixture
def x() -> Tensor:
    return torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def point_of(found: Layers, name: str) -> HookPoint:
    return next(point for point in found.hook_points if point.name == name)


@pytest.mark.parametrize(
    ("order", "layout", "shape"),
    [
        ("sequence", BatchLayout(1, 1, images_first=True), (16, 6)),
        ("windows", BatchLayout(0, 2, images_first=True), (2, 8, 6)),
        ("turns", BatchLayout(0, 2, images_first=False), (2, 8, 6)),
    ],
)
def test_tokens_in_any_order_are_read(order: str, layout: BatchLayout, shape: tuple[int, ...], x: Tensor) -> None:
    torch.manual_seed(0)
    found = check_layers(Tokens(nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 6), nn.GELU()), order).double(), x)
    assert found.left_out == {}
    for name in ("inner.0", "inner.1", "inner.2"):
        point = point_of(found, name)
        assert (point.layout, point.shape, point.units) == (layout, shape, 6)
        assert point.unit_dim == len(shape)


def test_rows_in_an_order_that_cannot_be_told_are_left_out(x: Tensor) -> None:
    found = check_layers(Tokens(nn.Linear(6, 6), "shuffled").double(), x)
    reason = "4 rows of an image along dimension 0, in an order that cannot be told"
    assert found.left_out == {"inner": reason}
    with pytest.raises(ValueError, match=f"got 'inner'; 'inner' gave {reason}"):
        find_layers(Tokens(nn.Linear(6, 6), "shuffled").double(), x, "inner")


def test_sequence_first_transformers_are_read(x: Tensor) -> None:
    """PyTorch's default, `batch_first=False`."""
    torch.manual_seed(0)
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(6, 2, 12), 2, enable_nested_tensor=False)
    found = check_layers(Tokens(encoder, "sequence").double(), x)
    names = {point.name for point in found.hook_points}
    assert {"inner.layers.0.self_attn", "inner.layers.0.linear1", "inner.layers.1.norm2", "head"} <= names
    assert found.left_out == {}


def test_of_several_tensors_the_first_is_read_and_the_others_by_their_names(x: Tensor) -> None:
    torch.manual_seed(0)
    model = Tokens(nn.LSTM(6, 6, 2), "sequence").double()
    found = check_layers(model, x)
    assert point_of(found, "inner").layout == BatchLayout(1)
    assert found.left_out == {
        f"inner:{place}": f"tensor {place + 1} of what the layer makes, [2, 6] of an image; it is read if "
        f"'inner:{place}' is among the names of the layers"
        for place in (1, 2)
    }
    named = check_layers(model, x, "inner,inner:1,inner:2")
    assert [point.name for point in named.hook_points] == ["inner", "inner:1", "inner:2", "output"]
    assert named.left_out == {}
    by_name = Tap(model, ["head", "patch"], n_views=2)
    assert by_name.left_out == {}


def test_a_layer_named_without_an_example_has_the_batch_first_or_is_refused(x: Tensor) -> None:
    model = Tokens(nn.Linear(6, 6), "sequence").double()
    with Tap(model, ["inner"], n_views=2) as tap, pytest.raises(ValueError, match="a row for each of 4 views"):
        tap.model(x)


def test_the_dimension_of_the_images_by_hand() -> None:
    assert layout_of((2, 8, 4), 2, (3, 8, 4), 3) == BatchLayout()
    assert layout_of((9, 2, 4), 2, (9, 3, 4), 3) == BatchLayout(1)
    assert layout_of((2, 2, 4), 2, (2, 3, 4), 3) == BatchLayout(1)  # two tokens are no batch of two
    assert layout_of((128, 49, 4), 2, (192, 49, 4), 3) == BatchLayout(0, 64)
    for shape, other in (((2, 2), (3, 3)), ((5, 4), (6, 4)), ((2, 4), (2, 4)), ((2, 4), (3, 4, 1))):
        assert isinstance(layout_of(shape, 2, other, 3), str)
    assert layout_of((2, 4), 2, None, 3) == BatchLayout()
    assert isinstance(layout_of((4, 2), 2, None, 3), str)


def test_the_order_of_the_rows_by_hand() -> None:
    x = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    y = x[list(SECOND)]

    def order(a: Tensor, b: Tensor) -> bool | None:
        return images_first(profile(a, 0), profile(b, 0))

    assert order(x.flatten(0, 1), y.flatten(0, 1)) is True
    assert order(x.transpose(0, 1).flatten(0, 1), y.transpose(0, 1).flatten(0, 1)) is False
    assert order(x.flatten(0, 1).roll(1, 0), y.flatten(0, 1).roll(1, 0)) is None
    assert order(x.flatten(0, 1), y.flatten(0, 1) + 0.3 * x.flatten(0, 1)) is None
    same = x[:1].expand(3, 4, 5)
    assert order(same.flatten(0, 1), same.flatten(0, 1)) is True  # all images look alike, in any order


# ---- units ------------------------------------------------------------------------------------------------


class ChannelsFirstLayerNorm(nn.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ChannelsLast(nn.Module):
    """A block on `[n, H, W, C]` with no norm or linear layer of that shape before it."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).sigmoid()


class Fixed(nn.Module):
    """Takes images of 16 x 16 pixels alone."""

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2:] != (16, 16):
            raise RuntimeError("16 x 16 alone")
        return x


@pytest.mark.parametrize("channels", [6, 8, 16])
def test_units_are_found_by_size(channels: int, x: Tensor) -> None:
    """Also where the sides of a map, 16 or 8, are as many as its channels."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, channels, 1), ChannelsFirstLayerNorm(channels), nn.AvgPool2d(2), ChannelsLast(),
        nn.Linear(channels, 5),
    )  # fmt: skip
    found = check_layers(model.double(), x)
    units = {point.name: (point.unit_dim, point.units) for point in found.hook_points}
    assert units == {"0": (1, channels), "1": (1, channels), "2": (1, channels), "3": (3, channels), "4": (3, 5)}
    assert found.notes == {}
    assert found.units_by == "dimensions that keep their size with images of another size"


def test_unfolded_patches_have_their_elements_as_units(x: Tensor) -> None:
    found = check_layers(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Unfold(2, stride=2)).double(), x)
    assert [(point.unit_dim, point.units) for point in found.hook_points] == [(1, 4), (1, 16)]


def test_a_norm_called_layer_norm_by_its_weight_where_one_size_is_taken(x: Tensor) -> None:
    found = check_layers(nn.Sequential(Fixed(), nn.Conv2d(3, 6, 1), ChannelsFirstLayerNorm(6)).double(), x)
    assert [point.unit_dim for point in found.hook_points] == [1, 1]
    assert found.units_by.endswith("the encoder does not take larger images (16 x 16 alone)")


def test_a_layer_without_a_kind_has_its_units_where_the_next_one_has_them(x: Tensor) -> None:
    found = check_layers(nn.Sequential(Fixed(), ChannelsLast(), nn.LayerNorm(3)).double(), x)
    assert [point.unit_dim for point in found.hook_points] == [3, 3]


class Mixer(nn.Module):
    """One block of an MLP-Mixer, of 16 tokens with `c` channels."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.patch, self.norm1, self.norm2 = nn.Conv2d(3, c, 4, 4), nn.LayerNorm(c), nn.LayerNorm(c)
        self.tokens = nn.Sequential(nn.Linear(16, 7), nn.GELU(), nn.Linear(7, 16))
        self.channels = nn.Sequential(nn.Linear(c, 9), nn.GELU(), nn.Linear(9, c))

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return (x + self.channels(self.norm2(x))).mean(1)


@pytest.mark.parametrize("channels", [6, 16])
def test_layers_that_mix_tokens_are_said_to_have_tokens_as_units(channels: int, x: Tensor) -> None:
    """With as many channels as tokens too, where shapes do not tell them apart."""
    torch.manual_seed(0)
    found = check_layers(Mixer(channels).double(), x)
    assert found.notes == dict.fromkeys(("tokens.0", "tokens.1", "tokens.2"), TOKENS)
    tap = Tap(Mixer(channels).double(), "*", n_views=2, example=x[:2])
    assert tap.notes == found.notes


def test_layers_behind_an_expanded_image_do_not_mix_tokens(x: Tensor) -> None:
    class Clip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv3d(3, 5, 3, padding=1)

        def forward(self, images: Tensor) -> Tensor:
            return self.conv(images[:, :, None].expand(-1, -1, 4, -1, -1)).mean((2, 3, 4))

    assert check_layers(Clip().double(), x).notes == {}


def test_units_that_grow_with_the_image_are_said(x: Tensor) -> None:
    class Attention(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            flat = x.flatten(2)
            return flat.transpose(1, 2) @ flat

    found = check_layers(nn.Sequential(nn.Conv2d(3, 6, 4, 4), Attention(), nn.Softmax(-1)).double(), x)
    assert found.notes == dict.fromkeys(("1", "2"), NO_FIXED_DIM)


# ---- names ------------------------------------------------------------------------------------------------


class Colliding(nn.Module):
    """The second call of `relu`, and a module of that name; a module called like the model's own output."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu, self.relu_1, self.output = nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Sigmoid(), nn.Tanh()

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.relu_1(self.relu(self.relu(self.conv(x)) - 0.1))).mean((2, 3)) + 1


def test_no_two_layers_have_one_name(x: Tensor) -> None:
    torch.manual_seed(0)
    model = Colliding().double()
    found = check_layers(model, x)
    assert [point.name for point in found.hook_points] == [
        "conv", "relu", "relu#1", "relu_1", "output", "model output"
    ]  # fmt: skip
    assert found.output == "model output"
    modules = dict(model.named_modules())
    with torch.no_grad(), Tap(model, ["relu#1", "relu_1"], n_views=2) as tap:
        tap.model(x)
    for name, stats in tap.take().items():
        assert torch.equal(stats.unit_means, _means(model, found, name, x))
        assert parse_label(name, modules).module == {"relu#1": "relu", "relu_1": "relu_1"}[name]
    with pytest.raises(ValueError, match=r"a name of its own, got \['a'\] more than once"):
        Tap(model, [HookPoint("a", "conv"), HookPoint("a", "relu")], n_views=2)


def _means(model: nn.Module, found: Layers, name: str, x: Tensor) -> Tensor:
    with torch.no_grad(), Tap(model, found.hook_points, n_views=2) as tap:
        tap.model(x)
    means = tap.take()[name].unit_means
    assert means is not None
    return means


def test_labels_are_read() -> None:
    modules = {"a": 0, "a_1": 0}
    for label, (module, call, is_input, tensor) in {
        "a": ("a", 0, False, 0), "a_1": ("a_1", 0, False, 0), "a#1": ("a", 1, False, 0), "a_2": ("a", 2, False, 0),
        "a_1_3:in": ("a_1", 3, True, 0), "a#1:2": ("a", 1, False, 2), "b_1": ("b_1", 0, False, 0),
    }.items():  # fmt: skip
        point = parse_label(label, modules)
        assert (point.module, point.call, point.input, point.tensor) == (module, call, is_input, tensor), label


@pytest.mark.parametrize(
    ("output", "got"),
    [
        (lambda x: (x.mean(), x), "shape []: no units"),
        (lambda x: {"mask": x > 0, "features": x}, "torch.bool [4, 5]"),
        (lambda x: types.SimpleNamespace(features=x), "no tensor"),
    ],
    ids=["loss first", "mask first", "object"],
)
def test_an_output_without_features_is_refused_with_the_way_on(
    output: Callable[[Tensor], object], got: str, x: Tensor
) -> None:
    class Returns(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 5, 4)

        def forward(self, images: Tensor) -> object:
            return output(self.conv(images).mean((2, 3)))

    with pytest.raises(ValueError, match="to return a float tensor with a row for each image") as raised:
        find_layers(Returns().double(), x)
    assert f"got {got}; have it return its features first or alone" in str(raised.value)
