"""The laboratory: views, splits, encoder, loss, training, files."""

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

import memkern
from memkern._util import files
from memkern._util.optional_imports import require
from memkern.audit.taps.tap import Tap
from memkern.lab.data import packaged as data
from memkern.lab.data import splits
from memkern.lab.encoders import resnet9
from memkern.lab.methods.simclr import nt_xent
from memkern.lab.training import trainer
from memkern.lab.training.recipe import VIEWS, Recipe


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


# ---- loss --------------------------------------------------------------------------------------------------


def test_nt_xent_by_hand() -> None:
    # Rows after normalization: e1, e2 twice. Row e1 sees its partner at 1 and two rows at 0.
    a = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    expected = -math.log(math.e / (math.e + 2))
    assert nt_xent(a, a, temperature=1.0).item() == pytest.approx(expected, rel=1e-6)
    # Temperature 0.5 doubles the cosines; swapped partners are at 0 and each row sees one other row at 1.
    expected = -math.log(1 / (2 + math.exp(2)))
    assert nt_xent(a, a.flip(0), temperature=0.5).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("a", "b", "t"), [((2, 3), (3, 3), 1.0), ((2, 3, 1), (2, 3, 1), 1.0), ((2, 3), (2, 3), 0.0)])
def test_nt_xent_refuses(a: tuple[int, ...], b: tuple[int, ...], t: float) -> None:
    with pytest.raises(ValueError, match="Expected"):
        nt_xent(torch.ones(a), torch.ones(b), temperature=t)


# ---- encoder -----------------------------------------------------------------------------------------------


def test_resnet9_size_and_shapes() -> None:
    model = resnet9.ResNet9(10).eval()
    assert sum(p.numel() for p in model.parameters()) == 1_647_242
    with torch.no_grad(), Tap(model, resnet9.TAPS, n_views=2) as tap:
        assert model(rand(4, 3, 32, 32)).shape == (4, 10)
    stats = tap.take()
    assert sum(stats[name].unit_means.shape[1] for name in resnet9.CONV_TAPS) == 1120
    assert list(stats) == list(resnet9.TAPS)
    assert resnet9.ResNet9()(rand(2, 3, 32, 32)).shape == (2, 256)
    assert not any(getattr(module, "inplace", False) for module in model.modules())


@pytest.mark.parametrize(("add", "skip", "last"), [("res2", "conv2_0", "conv2_2"), ("res6", "conv4_0", "conv4_2")])
def test_skips_are_real(add: str, skip: str, last: str) -> None:
    model, seen = resnet9.ResNet9().eval(), {}
    for name in (add, skip, last):
        getattr(model, name).register_forward_hook(lambda m, i, out, name=name: seen.update({name: out.clone()}))
    with torch.no_grad():
        model(rand(2, 3, 32, 32))
        assert torch.equal(seen[add], seen[last] + seen[skip])
        assert seen[skip].abs().sum() > 0
        bn = getattr(model, last).bn
        bn.weight.zero_()
        bn.bias.zero_()
        model(rand(2, 3, 32, 32))
    assert torch.equal(seen[add], seen[skip])


@pytest.mark.parametrize("size", [2, 4, 8])
def test_conv3x3_trains_like_conv2d(size: int) -> None:
    conv = resnet9.Conv3x3(5, 7).double().train()
    x = rand(3, 5, size, size).double().requires_grad_()
    out = conv(x)
    grads = torch.autograd.grad(out.square().sum(), [x, *conv.parameters()])
    expected = functional.conv2d(x, conv.weight, conv.bias, padding=1)
    expected_grads = torch.autograd.grad(expected.square().sum(), [x, *conv.parameters()])
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(grads, expected_grads)


# ---- views -------------------------------------------------------------------------------------------------


def test_training_views_follow_seed_epoch_and_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step asks for two views of each image, keyed by the image's place and numbered by the epoch."""
    calls = []

    def views(images: torch.Tensor, **options: Any) -> torch.Tensor:
        calls.append(options)
        return real(images, **options)

    real = memkern.views
    monkeypatch.setattr(memkern, "views", views)
    training = trainer.Training(rand(8, 3, 32, 32), Recipe(epochs=2, batch=4), seed=5)
    training.run_epoch()
    training.run_epoch()
    assert [call["first_view"] for call in calls] == [0, 0, 2, 2]
    assert {(call["n_views"], call["seed"], call["transform"]) for call in calls} == {(2, 5, VIEWS)}
    for epoch in (calls[:2], calls[2:]):
        assert torch.cat([call["index"] for call in epoch]).sort().values.tolist() == list(range(8))


# ---- data and splits ---------------------------------------------------------------------------------------


def test_patches_are_real_and_labeled() -> None:
    patches = data.patches()
    assert patches.images.shape[1:] == (3, 32, 32)
    assert len(patches.label_names) == 10
    assert "stereo_motorcycle" not in patches.label_names
    assert patches.labels.bincount().min() >= 24
    assert patches.images.float().flatten(2).std(2, correction=0).mean(1).min() > data.MIN_CONTRAST


def test_digest_covers_images_and_labels() -> None:
    images, labels = (rand(4, 3, 8, 8) * 255).byte(), torch.tensor([0, 1, 0, 1])
    names = ("a", "b")
    first = data.image_set("x", images, labels, names)
    assert first.sha256 == data.image_set("y", images.clone(), labels, names).sha256
    assert first.sha256 != data.image_set("x", images, labels.flip(0), names).sha256
    assert first.sha256 != data.image_set("x", images.flip(0), labels, names).sha256
    with pytest.raises(TypeError, match="uint8"):
        data.image_set("x", images.float(), labels, names)


def test_splits_are_disjoint_balanced_and_seeded() -> None:
    labels = torch.arange(60) % 3
    sizes = splits.Sizes(shared=5, candidate=2, extra=4)
    split = splits.make_split(labels, sizes, seed=1)
    every = torch.cat(list(split.groups().values()))
    assert len(every) == len(every.unique()) == 3 * (5 + 2 + 2 + 4)
    assert [len(ids) for ids in split.groups().values()] == [15, 6, 6, 12]
    for ids in split.groups().values():
        assert labels[ids].bincount().unique().numel() == 1
    assert len(split.f) == len(split.g) == 21
    assert set(split.f.tolist()) & set(split.g.tolist()) == set(split.shared.tolist())
    again, other = splits.make_split(labels, sizes, seed=1), splits.make_split(labels, sizes, seed=2)
    assert torch.equal(split.f, again.f)
    assert not torch.equal(split.f, other.f)
    with pytest.raises(ValueError, match="class 0"):
        splits.make_split(labels, splits.Sizes(15, 2, 4), seed=0)


# ---- training ----------------------------------------------------------------------------------------------

SHORT = Recipe(epochs=3, batch=4)


def test_training_stops_and_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    images = rand(8, 3, 32, 32)
    whole = trainer.train(images, SHORT, 1)
    path = tmp_path / "f.pt"

    def stop(epoch: int, loss: float) -> None:
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer.train(images, SHORT, 1, checkpoints=trainer.Checkpoints(path, 1), on_epoch=stop)
    resumed = trainer.train(images, SHORT, 1, checkpoints=trainer.Checkpoints(path))
    assert resumed.losses == whole.losses
    for a, b in zip(whole.model.state_dict().values(), resumed.model.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert not whole.encoder().training
    with pytest.raises(ValueError, match="checkpoint of this recipe"):
        trainer.train(images, SHORT, 2, checkpoints=trainer.Checkpoints(path))
    assert [p.name for p in tmp_path.iterdir()] == ["f.pt"]


def test_training_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    trainer.train(rand(4, 3, 32, 32), Recipe(epochs=1, batch=4), 1)
    assert torch.equal(torch.rand(3), expected)
    with pytest.raises(ValueError, match="one batch"):
        trainer.Training(rand(3, 3, 32, 32), SHORT, 0)


def test_learning_rate_rises_and_falls() -> None:
    rates = [Recipe(epochs=1, batch=1, lr=2.0).learning_rate(step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.4)
    assert max(rates) == rates[4] <= 2.0
    assert 0 <= rates[-1] < 0.001


# ---- taps --------------------------------------------------------------------------------------------------


def test_tap_reads_reduces_and_restores() -> None:
    model = resnet9.ResNet9().train()
    model.conv2_0.bn.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x = rand(6, 3, 32, 32)
    with torch.no_grad(), Tap(model, {"Res6": "res6", "out": "pool"}, n_views=3) as tap:
        assert not any(module.training for module in model.modules())
        out = model(x)
    stats = tap.take()
    assert model.training
    assert not model.conv2_0.bn.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not model.res6._forward_hooks
    z = functional.normalize(out.view(2, 3, 256), dim=-1)
    expected = torch.stack([torch.pdist(point).mean() for point in z])
    torch.testing.assert_close(stats["out"].alignment, expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(stats["out"].unit_means, out.view(2, 3, 256).mean(1))
    assert stats["Res6"].unit_means.shape == (2, 256)


def test_tap_names_a_layer_that_did_not_run() -> None:
    model = resnet9.ResNet9()
    model.unused = torch.nn.Linear(2, 2)
    with Tap(model, ["conv1", "unused"], n_views=None) as tap, torch.no_grad():
        model(rand(2, 3, 32, 32))
    with pytest.raises(RuntimeError, match="unused"):
        tap.take()
    with pytest.raises(ValueError, match="no_such_layer"):
        Tap(model, ["no_such_layer"], n_views=2)
    with pytest.raises(ValueError, match="n_views"):
        Tap(model, ["conv1"], n_views=1)
    with Tap(model, ["conv1"], n_views=3) as tap, pytest.raises(ValueError, match="'conv1'"):
        model(rand(4, 3, 32, 32))
    with Tap(model, ["conv1"], n_views=None) as tap, torch.no_grad():
        model(rand(2, 3, 32, 32))
        with pytest.raises(RuntimeError, match="twice"):
            model(rand(2, 3, 32, 32))


def test_tap_unwraps_compiled_models() -> None:
    model = resnet9.ResNet9()
    wrapper = torch.nn.Module()
    wrapper._orig_mod = model
    assert Tap(wrapper, ["conv1"], n_views=2).model is model


# ---- files and extras --------------------------------------------------------------------------------------


def test_replace_atomically(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "x.json"
    files.write_json(path, {"a": 1})

    def break_off() -> None:
        with files.replace_atomically(path) as part:
            part.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        break_off()
    assert files.read_json(path) == {"a": 1}
    assert [p.name for p in path.parent.iterdir()] == ["x.json"]
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(path, math.nan)
    assert files.read_json(path) == {"a": 1}


def test_a_missing_package_names_the_extra() -> None:
    with pytest.raises(ImportError, match=r"memkern\[lab\]"):
        require("no_such_module_of_memkern", "no-such-package", extra="lab")


def test_import_memkern_imports_no_extra() -> None:
    extras = "skimage sklearn scipy safetensors pyarrow matplotlib rich memkern.lab memkern.audit memkern.cli"
    code = f"import memkern, sys; sys.exit(str([m for m in {extras.split()!r} if m in sys.modules] or ''))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.stderr.strip() == ""
