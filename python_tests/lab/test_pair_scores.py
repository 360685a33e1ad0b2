"""The scores of a pair, computed once more from state dicts and plain torch."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import memkern
import memkern.reference
from memkern.lab.data.packaged import patches
from memkern.lab.data.splits import GROUPS, Split
from memkern.lab.encoder_pairs import RECIPE, train_pair
from memkern.lab.encoders.build import build, described
from memkern.lab.encoders.resnet9 import TAPS, ResNet9
from memkern.lab.experiments._context import ExperimentContext
from memkern.lab.pair_scores import read_images, score_pair, separation
from memkern.lab.presets import PRESETS


def plain_layers(model: ResNet9, x: Tensor) -> dict[str, Tensor]:
    """The forward pass once more, from state-dict tensors and torch functions alone."""
    state, out = model.state_dict(), {}

    def block(x: Tensor, name: str, pool: bool) -> Tensor:
        x = functional.conv2d(x, state[f"{name}.conv.weight"], state[f"{name}.conv.bias"], padding=1)
        stats = [state[f"{name}.bn.{key}"] for key in ("running_mean", "running_var", "weight", "bias")]
        x = functional.batch_norm(x, *stats, training=False).relu()
        return functional.max_pool2d(x, 2) if pool else x

    x = out["conv1"] = block(x, "conv1", True)
    skip = x = out["conv2-0"] = block(x, "conv2_0", True)
    x = out["conv2-1"] = block(x, "conv2_1", False)
    x = out["conv2-2"] = block(x, "conv2_2", False)
    x = out["Res2"] = x + skip
    x = out["conv3"] = block(x, "conv3", True)
    skip = x = out["conv4-0"] = block(x, "conv4_0", True)
    x = out["conv4-1"] = block(x, "conv4_1", False)
    x = out["conv4-2"] = block(x, "conv4_2", False)
    x = out["Res6"] = x + skip
    out["output"] = functional.max_pool2d(x, 2).flatten(1)
    return out


def plain_alignment(z: Tensor, n_views: int) -> Tensor:
    points = functional.normalize(z.flatten(1).double(), dim=1).view(-1, n_views, z[0].numel())
    return torch.stack([torch.pdist(point).mean() for point in points])


def plain_selectivity(rows: Tensor) -> Tensor:
    rows = rows.double().sort(0).values
    peak, rest = rows[-1], rows[:-1].mean(0)
    return torch.where(peak + rest == 0, 0.0, (peak - rest) / (peak + rest))


def unit_rows(x: Tensor) -> Tensor:
    return x.flatten(2).mean(2) if x.ndim > 2 else x


def test_scores_of_a_pair_equal_plain_torch() -> None:
    data, n_views = patches(), 3
    pair = train_pair(data, 0, recipe=replace(RECIPE, epochs=8))
    few = Split(*(ids[:: len(ids) // 6][:6] for ids in pair.split.groups().values()))
    scores = score_pair(pair.f, pair.g, data, few, pair.recipe.views, n_views=n_views, seed=4)
    ids = torch.cat(list(few.groups().values()))
    images = data.images[ids].float() / 255
    table = memkern.view_params(pair.recipe.views, n_views=n_views, seed=4, index=ids, image_size=(32, 32))
    x = memkern.reference.views([data.images[ids]], table, size=(32, 32)).flatten(0, 1)
    with torch.no_grad():
        of_f, of_g = plain_layers(pair.f, x), plain_layers(pair.g, x)
        clean = plain_layers(pair.f, (images - 0.5) / 0.5)
    a_f = {name: plain_alignment(z, n_views) for name, z in of_f.items()}
    a_g = {name: plain_alignment(z, n_views) for name, z in of_g.items()}
    sslmem = a_g["output"] - a_f["output"]
    close = {"rtol": 1e-4, "atol": 1e-5, "check_dtype": False}
    torch.testing.assert_close(scores.sslmem, sslmem, **close)
    for column, name in enumerate(GROUPS):
        part = slice(6 * column, 6 * column + 6)
        assert scores.mean(name) == pytest.approx(sslmem[part].mean().item(), abs=1e-5)
    trained = torch.arange(12)  # shared, candidate
    for row, name in zip(scores.layers, TAPS, strict=True):
        ratio = (a_g[name] - a_f[name]) / (a_g[name] + a_f[name])
        assert row.layermem["candidate"] == pytest.approx(ratio[6:12].mean().item(), abs=1e-5)
        units = unit_rows(of_f[name]).view(len(ids), n_views, -1).mean(1)[trained]
        torch.testing.assert_close(row.unitmem, plain_selectivity(units), rtol=1e-3, atol=1e-4, check_dtype=False)
        assert torch.equal(units.gather(0, units.argmax(0, keepdim=True))[0], units.max(0).values)
        alive = units.max(0).values > 0
        assert torch.equal(scores.peak_ids(name)[alive], ids[trained][units.argmax(0)][alive])
        rows, labels = unit_rows(clean[name])[trained], data.labels[ids[trained]]
        by_class = torch.stack([rows[labels == label].mean(0) for label in labels.unique()])
        torch.testing.assert_close(row.classmem, plain_selectivity(by_class), rtol=1e-3, atol=1e-4, check_dtype=False)
    mem = [layer.layermem["candidate"] for layer in scores.layers]
    deltas = [layer.delta["candidate"] for layer in scores.layers]
    assert deltas[0] != deltas[0]
    assert deltas[1] == pytest.approx(mem[1] - mem[0])


def test_separation_by_hand() -> None:
    row = separation(torch.tensor([3.0, 4.0, 5.0]), torch.tensor([1.0, 2.0]), "extra")
    assert row.group == "extra"
    assert row.superiority == 1
    assert row.p == pytest.approx(0.1)  # the most extreme of the 10 ways to choose 2 of 5
    assert row.cohens_d == pytest.approx((4 - 1.5) / ((2 * 1 + 1 * 0.5) / 3) ** 0.5)


@pytest.mark.parametrize("activation", ["raw", "relu", "abs"])
def test_units_of_activations_that_are_asked_for(activation: str, tmp_path: Path) -> None:
    """Of a transformer, whose units are signed; distances are the same, and an experiment passes the option on."""
    data, views, ids = patches(), PRESETS["tiny"].recipe().views, torch.arange(6)
    torch.manual_seed(0)
    encoder = build("vit-nano-8", image_size=32).eval()
    found = read_images(encoder, data, ids, views, n_views=2, activation=activation)
    drawn = memkern.views(data.images[ids], n_views=2, transform=views, seed=0, index=ids).flatten(0, 1)
    kept: dict[str, Tensor] = {}
    name, module = next(iter(described(encoder).taps.items()))
    handle = encoder.get_submodule(module).register_forward_hook(lambda _, args, out: kept.update(out=out))
    with torch.no_grad():
        encoder(drawn)
    handle.remove()
    signed = kept["out"].unflatten(0, (6, 2))
    assert (signed < 0).any()
    changed = {"raw": signed, "relu": signed.relu(), "abs": signed.abs()}[activation]
    torch.testing.assert_close(found.unit_means[name], changed.mean((1, 2)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.alignment[name], memkern.alignment(signed), rtol=1e-4, atol=1e-5)
    context = ExperimentContext(PRESETS["tiny"], cache=tmp_path, activation=activation)
    read = context.read(encoder, ids, views)
    assert torch.equal(read.unit_means[name], found.unit_means[name])
