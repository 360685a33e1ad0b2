"""Finding and reading layers: every one that makes a tensor, once, in order; the model is left as it was."""

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import memkern
from memkern.audit.taps.hook_points import find_layers, matches
from memkern.audit.taps.modules import first_tensor
from memkern.audit.taps.reduction import Reduction
from memkern.audit.taps.tap import Tap
from memkern.audit.taps.transformer_blocks import Block, find_blocks, sublayer_deltas
from memkern.audit.taps.unit_dims import unit_dimension


class Tricky(nn.Module):
    """What real models do: a reused module, an in-place one, a container, a dead branch, a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout(0.5))
        self.relu = nn.ReLU(inplace=True)
        self.bn = nn.BatchNorm2d(4)
        self.unused = nn.Linear(2, 2)
        self.pair = Pair()
        self.calls = 0

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        self.calls += 1
        x = self.relu(self.stem(x))
        x = self.relu(self.bn(x))
        return {"logits": self.pair(x)[0] + torch.rand(()), "mask": x > 0}


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        return x.mean((2, 3)), None


@pytest.fixture
def model() -> Tricky:
    torch.manual_seed(0)
    return Tricky()


@pytest.fixture
def x() -> Tensor:
    return torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def test_every_layer_once_in_forward_order(model: Tricky, x: Tensor) -> None:
    found = find_layers(model, x)
    assert [hook_point.name for hook_point in found.hook_points] == ["stem.0", "relu", "bn", "relu_1", "pair", "output"]
    assert found.output == "output"
    assert found.same == {"stem.1": "stem.0", "stem": "stem.0"}  # the dropout hands on what came in and is no layer
    assert [hook_point.units for hook_point in found.hook_points] == [4] * 6
    assert found.hook_points[0].shape == (4, 6, 6)


def test_in_place_activations_are_read_before_they_are_overwritten(model: Tricky, x: Tensor) -> None:
    with Tap(model, "stem.0,relu,bn,relu_1", n_views=2, example=x) as tap, torch.inference_mode():
        tap.model(x)
    stats = tap.take()
    model.eval()
    before = model.stem[0](x).detach()
    norm = model.bn(before.relu()).detach()
    for name, wanted in {"stem.0": before, "relu": before.relu(), "bn": norm, "relu_1": norm.relu()}.items():
        means = wanted.unflatten(0, (3, 2)).mean((1, 3, 4))
        torch.testing.assert_close(stats[name].unit_means, means, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(stats[name].alignment, memkern.alignment(wanted.unflatten(0, (3, 2))))


def test_nothing_is_changed(model: Tricky, x: Tensor) -> None:
    model.train()
    model.bn.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    states = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    with Tap(model, "*", n_views=2, example=x) as tap:
        random.random()
        np.random.rand()
        tap.model(x)
    assert random.getstate() == states[0]
    assert np.array_equal(np.random.get_state()[1], states[1])
    assert torch.equal(torch.get_rng_state(), states[2])
    assert model.training
    assert not model.bn.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_layer_that_does_not_run_is_named(model: Tricky, x: Tensor) -> None:
    with pytest.raises(ValueError, match=r"got 'unused'; layers that run: stem\.0, stem\.1, stem, relu, bn"):
        find_layers(model, x, "bn,unused")
    with pytest.raises(ValueError, match=r"got 'layer4\.\*'"):
        find_layers(model, x, "layer4.*")
    with pytest.raises(ValueError, match="Expected a regular expression after 're:' in `layers`, got 're:\\('"):
        find_layers(model, x, "re:(")
    with Tap(model, ["bn", "relu_2"], n_views=2) as tap, torch.no_grad():
        tap.model(x)
    with pytest.raises(RuntimeError, match=r"these did not: \['relu_2'\]"):
        tap.take()
    with pytest.raises(TypeError, match="Expected `example`"):
        Tap(model, "*", n_views=2)


def test_layers_are_found_in_inference_mode_too(model: Tricky, x: Tensor) -> None:
    wanted = find_layers(model, x)
    with torch.inference_mode():
        assert find_layers(model, x + 0) == wanted


def test_what_cannot_be_read_is_left_out(x: Tensor) -> None:
    class Correlations(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            flat = x.flatten(1)
            return flat @ flat.T

    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.ones(len(x[0]), 5)

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = Correlations(), Constant()

        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1) + self.a(x).sum() + self.b(x).sum()

    found = find_layers(Both(), x)
    assert [point.name for point in found.hook_points] == ["output"]
    assert found.left_out == {
        "a": "shape [6, 6] for 6 images, [7, 7] for 7: no single dimension holds the images",
        "b": "shape [3, 5] for any number of images: it does not tell one image from another",
    }
    with pytest.raises(ValueError, match=r"got 'a'; 'a' gave shape \[6, 6\] for 6 images"):
        find_layers(Both(), x, "a")
    assert Tap(Both(), "*", n_views=2, example=x).left_out == found.left_out


def test_a_submodule_run_alone_twice(model: Tricky, x: Tensor) -> None:
    with Tap(model, ["bn"], n_views=None), torch.no_grad():
        model.bn(torch.rand(2, 4, 3, 3))
        with pytest.raises(RuntimeError, match="'bn' to run once between two calls of `take`; it ran twice"):
            model.bn(torch.rand(2, 4, 3, 3))


def test_clean_view_first(x: Tensor) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3))
    with torch.no_grad():
        maps = model(x).unflatten(0, (2, 3))
        for pairs in ("anchor", "all"):
            with Tap(model, ["0"], n_views=3, pairs=pairs, clean_first=True) as tap:
                tap.model(x)
            stats = tap.take()["0"]
            torch.testing.assert_close(stats.unit_means, memkern.unit_means(maps[:, 1:], view_dim=1))
            torch.testing.assert_close(stats.clean_means, memkern.unit_means(maps[:, 0]))
            wanted = memkern.alignment(maps if pairs == "anchor" else maps[:, 1:], pairs=pairs)
            torch.testing.assert_close(stats.alignment, wanted)
    with pytest.raises(ValueError, match="Expected `n_views` to be None or 3 or more, got 2"):
        Tap(model, ["0"], n_views=2, clean_first=True)


@pytest.mark.parametrize(
    ("module", "shape", "dim"),
    [
        (nn.Conv2d(3, 4, 1), (2, 4, 5, 5), 1),
        (nn.Linear(4, 6), (2, 5, 6), 2),
        (nn.Linear(4, 6), (2, 6), 1),
        (nn.LayerNorm(6), (2, 7, 7, 6), 3),
        (nn.GroupNorm(2, 6), (2, 6, 7), 1),
        (nn.GELU(), (2, 5, 6), 2),
        (nn.ReLU(), (2, 6, 3, 3), 1),
    ],
)
def test_where_the_units_are(module: nn.Module, shape: tuple[int, ...], dim: int) -> None:
    assert unit_dimension(module, shape) == dim


def test_units_are_where_the_size_of_the_image_does_not_show() -> None:
    class ChannelsLast(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.permute(0, 2, 3, 1) + 1

    model = nn.Sequential(nn.Conv2d(3, 6, 1), nn.ReLU(), ChannelsLast(), nn.Linear(6, 5), nn.GELU())
    dims = [hook_point.unit_dim for hook_point in find_layers(model, torch.rand(2, 3, 4, 4)).hook_points]
    assert dims == [1, 1, 3, 3, 3]


def test_an_activation_has_its_units_where_the_layer_before_has_them() -> None:
    class OneSize(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.reshape(len(x), 4, 4, 6) + 1

    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 96), OneSize(), nn.Linear(6, 5), nn.GELU())
    found = find_layers(model, torch.rand(2, 3, 4, 4))
    assert [hook_point.unit_dim for hook_point in found.hook_points] == [1, 1, 3, 3]
    assert found.units_by.startswith("the kinds and shapes of layers alone: the encoder does not take larger images")


def test_first_tensor_and_matches() -> None:
    a, b = torch.zeros(1), torch.ones(1)
    assert first_tensor((None, [a], b)) is a
    assert first_tensor({"attentions": (a,), "last_hidden_state": b}) is b
    assert first_tensor({"loss": None, "x": a}) is a
    assert first_tensor(3) is None
    assert matches("layer1.0.conv1", "layer?.*, fc")
    assert not matches("layer1.0.conv1", "*.conv")
    assert matches("layer1.0.conv1", r"re:layer\d\.\d\.conv\d")
    assert not matches("xlayer1", "re:layer1")


SMALL_VIT = {"img_size": 32, "patch_size": 8, "depth": 2, "embed_dim": 24, "num_heads": 2, "num_classes": 0}

# ---- vision transformers ----------------------------------------------------------------------------------


def test_sublayers_of_timm_and_torchvision() -> None:
    timm = pytest.importorskip("timm", reason="timm is not installed")
    models = pytest.importorskip("torchvision.models", reason="torchvision is not installed")
    x = torch.rand(2, 3, 32, 32)
    vit = timm.create_model(
        "vit_tiny_patch16_224", img_size=32, patch_size=8, depth=2, embed_dim=24, num_heads=2, num_classes=0
    ).eval()
    found = find_layers(vit, x, "sublayers")
    assert [hook_point.name for hook_point in found.hook_points] == [
        "blocks.0.attn", "blocks.0.norm2:in", "blocks.0.mlp", "blocks.0",
        "blocks.1.attn", "blocks.1.norm2:in", "blocks.1.mlp", "blocks.1", "output",
    ]  # fmt: skip
    kept: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        return lambda module, args, output: kept.update({name: output})

    for part in ("attn", "mlp"):
        getattr(vit.blocks[1], part).register_forward_hook(keep(part))
    vit.blocks[0].register_forward_hook(keep("before"))
    vit.blocks[1].register_forward_hook(keep("after"))
    with torch.no_grad(), Tap(vit, found.hook_points, n_views=2) as tap:
        tap.model(x)
    stats = tap.take()
    middle = kept["before"] + kept["attn"]
    for name, wanted in {
        "blocks.1.attn": kept["attn"],
        "blocks.1.norm2:in": middle,
        "blocks.1.mlp": kept["mlp"],
        "blocks.1": middle + kept["mlp"],
    }.items():
        torch.testing.assert_close(stats[name].unit_means, wanted.mean((0, 1))[None], rtol=1e-4, atol=1e-5)
    other = models.VisionTransformer(32, 16, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=8)
    names = [hook_point.name for hook_point in find_layers(other, x, "sublayers").hook_points]
    block = "encoder.layers.encoder_layer_0"
    assert names[:4] == [f"{block}.self_attention", f"{block}.ln_2:in", f"{block}.mlp", block]
    with pytest.raises(ValueError, match="no blocks of their kinds"):
        find_layers(nn.Linear(2, 2), torch.rand(2, 2), "sublayers")


def test_layers_agree_with_timm_and_torchvision_features() -> None:
    timm = pytest.importorskip("timm", reason="timm is not installed")
    extraction = pytest.importorskip("torchvision.models.feature_extraction", reason="torchvision is not installed")
    from torchvision.models import resnet18

    x = torch.rand(4, 3, 32, 32)
    vit = timm.create_model(
        "vit_tiny_patch16_224", img_size=32, patch_size=8, depth=2, embed_dim=24, num_heads=2, num_classes=0
    ).eval()
    with torch.no_grad():
        wanted = vit.forward_intermediates(x, output_fmt="NLC", intermediates_only=True, return_prefix_tokens=True)
        with Tap(vit, "blocks.?", n_views=2, example=x) as tap:
            tap.model(x)
        stats = tap.take()
        for number, (patches, prefix) in enumerate(wanted):
            tokens = torch.cat([prefix, patches], 1).unflatten(0, (2, 2))
            torch.testing.assert_close(stats[f"blocks.{number}"].alignment, memkern.alignment(tokens))
        net = resnet18().eval()
        names = ["layer1.0.bn1", "layer1.0.relu_1", "layer2.1.add", "avgpool"]
        features = extraction.create_feature_extractor(net, names)(x)
        ours = {"layer1.0.bn1": 0, "layer1.0.relu_1": 1, "avgpool": 3}
        with Tap(net, list(ours), n_views=2) as tap:
            tap.model(x)
        stats = tap.take()
        for name in ("layer1.0.relu_1", "avgpool"):
            # bn1 is left out: FX hands out the tensor that the in-place relu overwrote
            torch.testing.assert_close(stats[name].alignment, memkern.alignment(features[name].unflatten(0, (2, 2))))


def test_the_three_deltas_by_hand() -> None:
    blocks = find_blocks(
        [f"b.{n}.{part}" for n in (1, 0) for part in ("norm1", "attn", "norm2", "mlp")] + ["b.0", "b.1"]
    )
    assert blocks[0] == Block("b.0.attn", "b.0.norm2:in", "b.0.mlp", "b.0")
    values = dict(
        zip([name for block in blocks for name in block], [0.1, 0.2, 0.25, 0.3, 0.4, 0.45, 0.6, 0.65], strict=True)
    )
    deltas = sublayer_deltas(values, blocks)
    assert deltas["b.1.attn"].sublayer == pytest.approx(0.4 - 0.3)
    assert deltas["b.1.mlp"].sublayer == pytest.approx(0.6 - 0.45)
    assert deltas["b.1"].block_delta == pytest.approx(0.65 - 0.3)
    assert deltas["b.0.mlp"].sublayer == pytest.approx(0.25 - 0.2)
    assert np.isnan(deltas["b.0.attn"].sublayer)
    assert np.isnan(deltas["b.0"].block_delta)
    assert (deltas["b.1.norm2:in"].kind, deltas["b.1"].block) == ("res_att", 2)


def test_a_place_with_two_labels_is_read_for_both_and_reduced_once(x: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    reduced = []
    whole = Reduction.reduce
    monkeypatch.setattr(Reduction, "reduce", lambda self, *rest: (reduced.append(rest[0]), whole(self, *rest))[1])
    with Tap(nn.Sequential(nn.Conv2d(3, 4, 3)), {"a": "0", "b": "0"}, n_views=2) as tap:
        tap.model(x)
    stats = tap.take()
    assert list(stats) == ["a", "b"]
    assert stats["a"].unit_means is stats["b"].unit_means
    assert reduced == ["a"]
