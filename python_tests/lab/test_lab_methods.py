"""The training methods: each loss beside an independent computation, a few steps of each, exact resume."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from memkern.lab import method
from memkern.lab.encoders import build as encoders
from memkern.lab.method import Batch, HeadSettings, Output
from memkern.lab.methods.simclr import nt_xent
from memkern.lab.training import recipe, registry, trainer
from memkern.lab.training.recipe import Recipe
from python_tests.helpers import testing

for package in ("lightly", "timm", "torchvision"):
    pytest.importorskip(package, reason=f"{package} is not installed; pip install 'memkern[ssl]'")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small only wait for each other's threads."""
    with testing.threads(1):
        yield


SETTINGS = HeadSettings(hidden=16, out=8, temperature=0.2)
OPTIONS = {"mae": {"depth": 1, "heads": 2}, "dino": {"bottleneck": 8, "n_local": 1, "local_size": 8}}
SHORT = Recipe(epochs=4, batch=8, hidden=16, out=8, encoder="vit-nano-8")


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def build(name: str, encoder: str = "vit-nano-8", size: int = 16) -> method.Method:
    torch.manual_seed(0)
    return registry.load_method(name)(encoders.build(encoder, image_size=size), SETTINGS, **OPTIONS.get(name, {}))


def batch(*views: Tensor) -> Batch:
    n = len(views[0])
    return Batch(list(views), torch.arange(n) % 3, torch.arange(n), seed=3, epoch=0, progress=0.0)


def loss(of: method.Method, *parts: Tensor) -> float:
    return of.loss(Output(torch.empty(0), parts), batch(torch.empty(len(parts[0])))).item()


# ---- losses, computed a second time ------------------------------------------------------------------------------


def cosines(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))


def test_all_methods_are_found_by_name() -> None:
    assert registry.method_names() == ["byol", "dino", "mae", "simclr", "simsiam", "supervised", "vicreg"]
    with pytest.raises(ValueError, match="byol, dino"):
        registry.load_method("moco")


def test_simclr_is_lightlys_nt_xent() -> None:
    from lightly.loss import NTXentLoss

    a, b = rand(6, 8) - 0.5, rand(6, 8, seed=1) - 0.5
    assert nt_xent(a, b, temperature=0.3).item() == pytest.approx(NTXentLoss(0.3)(a, b).item(), rel=1e-5)


def test_simsiam_and_byol() -> None:
    z0, z1, p0, p1 = (rand(5, 8, seed=seed).double() - 0.5 for seed in range(4))
    crossed = cosines(p0, z1).mean() + cosines(p1, z0).mean()
    assert loss(build("simsiam"), z0, z1, p0, p1) == pytest.approx(-crossed.item() / 2, rel=1e-5)
    unit = [functional.normalize(z, dim=1) for z in (p0, p1, z0, z1)]
    squared = [(unit[i] - unit[j]).square().sum(1).mean().item() for i, j in ((0, 3), (1, 2))]
    assert loss(build("byol"), p0, p1, z0, z1) == pytest.approx(sum(squared) / 2, rel=1e-5)


def test_vicreg_by_its_formula() -> None:
    a, b = rand(7, 4).double(), 3 * rand(7, 4, seed=1).double()

    def spread(z: Tensor) -> float:
        return sum(max(0.0, 1 - math.sqrt(column.var().item() + 1e-4)) for column in z.T) / z.shape[1]

    def mixed(z: Tensor) -> float:
        covariance = torch.cov(z.T)
        return sum(covariance[i, j].item() ** 2 for i in range(4) for j in range(4) if i != j) / 4

    expected = 25 * (a - b).square().mean().item() + 25 * (spread(a) + spread(b)) / 2 + mixed(a) + mixed(b)
    assert loss(build("vicreg"), a, b) == pytest.approx(expected, rel=1e-5)


def test_dino_sums_over_different_views_and_moves_its_center() -> None:
    model = build("dino")
    teacher, student = [rand(5, 8, seed=s) for s in (0, 1)], [rand(5, 8, seed=s) for s in (2, 3, 4)]
    center = torch.zeros(8)
    for _ in range(2):  # the second time with a center
        terms = [
            -(((t - center) / 0.04).softmax(1) * (s / 0.2).log_softmax(1)).sum(1).mean()
            for i, t in enumerate(teacher)
            for j, s in enumerate(student)
            if i != j
        ]
        assert loss(model, *teacher, *student) == pytest.approx(sum(terms).item() / 4, rel=1e-5)
        center = 0.9 * center + 0.1 * torch.cat(teacher).mean(0)


def test_mae_paints_hidden_patches_only() -> None:
    model = build("mae")
    images = rand(3, 3, 16, 16)
    output = model(batch(images))
    painted, true, hidden = output.parts
    assert hidden.sum(1).tolist() == [3, 3, 3]  # three quarters of 2 x 2 patches
    assert torch.equal(true[1, 2].view(8, 8, 3).permute(2, 0, 1), images[1, :, 8:, :8])  # row by row
    total = [(painted[n, t] - true[n, t]).square().mean().item() for n in range(3) for t in range(4) if hidden[n, t]]
    assert model.loss(output, batch(images)).item() == pytest.approx(sum(total) / len(total), rel=1e-5)
    with torch.no_grad():  # what is hidden does not reach the output
        blind = torch.where(hidden.view(3, 1, 2, 2).repeat_interleave(8, 2).repeat_interleave(8, 3), 9.0, images)
        torch.testing.assert_close(model(batch(blind)).parts[0], painted)
    again = model.hidden(replace(batch(images), epoch=1))
    assert not torch.equal(again, hidden)
    assert torch.equal(model.hidden(batch(images)), hidden)
    with pytest.raises(ValueError, match="vit-"):
        build("mae", "resnet9", 32)


def test_supervised_is_cross_entropy() -> None:
    logits = rand(4, 3).double()
    picked = [logits[i].exp()[i % 3] / logits[i].exp().sum() for i in range(4)]
    expected = -sum(math.log(value) for value in picked) / 4
    assert loss(build("supervised"), logits) == pytest.approx(expected, rel=1e-5)


# ---- training --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", registry.method_names())
def test_the_loss_falls_on_a_fixed_batch(name: str) -> None:
    model = build(name).train()
    views = [rand(8, 3, 16, 16, seed=seed) for seed in range(2)]
    fixed = batch(*views) if name not in ("mae", "supervised") else batch(views[0])
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05)
    losses = []
    for _ in range(8):
        if name == "dino":
            model.cross_entropy.center.zero_()  # the loss is compared with a center that holds still
        output = model(fixed)
        value = model.loss(output, fixed)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    assert output.representations.shape == (8, len(fixed.views), 48)
    assert all(p.grad is not None for n, p in model.named_parameters() if p.requires_grad and "token" not in n)
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", registry.method_names())
def test_a_stopped_training_goes_on_with_the_same_bits(name: str, tmp_path: Path) -> None:
    short = replace(SHORT, epochs=3, method=name, options=OPTIONS.get(name, {}))
    data = {"images": rand(16, 3, 16, 16), "recipe": short, "seed": 1, "labels": torch.arange(16) % 3}
    whole, path = trainer.train(**data), tmp_path / "f.safetensors"

    def stop(epoch: int, value: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer.train(**data, checkpoints=trainer.Checkpoints(path, 1), on_epoch=stop)
    resumed = trainer.train(**data, checkpoints=trainer.Checkpoints(path))
    assert resumed.losses == whole.losses
    for (key, a), b in zip(whole.model.state_dict().items(), resumed.model.state_dict().values(), strict=True):
        assert torch.equal(a, b), key


def test_targets_follow_and_are_not_trained() -> None:
    model = build("byol")
    before = [p.clone() for p in model.target.parameters()]
    with torch.no_grad():
        for parameter in (*model.encoder.parameters(), *model.projector.parameters()):
            parameter.add_(1.0)
    model.after_step(0.0)  # momentum 0.996: 0.4 % of the way
    for old, new in zip(before, model.target.parameters(), strict=True):
        torch.testing.assert_close(new - old, torch.full_like(old, 0.004), rtol=1e-3, atol=1e-6)
        assert not new.requires_grad
    model.after_step(1.0)
    torch.testing.assert_close(before[0] + 0.004, next(model.target.parameters()))


# ---- encoders, optimizers, schedules ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "millions", "rows"),
    [
        ("resnet18", 11.177, 1 + 1 + 16 + 1),
        ("resnet18-cifar", 11.169, 1 + 16 + 1),
        ("resnet34", 21.285, 1 + 1 + 32 + 1),
        ("resnet50", 23.508, 1 + 1 + 48 + 1),
        ("vit-tiny-4", 5.361, 48),
        ("vit-nano-8", 0.094, 12),
    ],
)
def test_encoders(name: str, millions: float, rows: int) -> None:
    from memkern.audit.taps.tap import Tap

    encoder = encoders.build(name, image_size=32)
    described = encoders.described(encoder)
    assert sum(p.numel() for p in encoder.parameters()) / 1e6 == pytest.approx(millions, abs=0.001)
    assert len(described.taps) == rows
    assert not any(getattr(module, "inplace", False) for module in encoder.modules())
    modules = {**described.taps, "output": described.output}
    taken = set(modules.values())
    modules |= {f"units of {row}": path for row, path in described.unit_taps.items() if path not in taken}
    with torch.no_grad(), Tap(encoder, modules, n_views=2) as tap:
        assert encoder(rand(2, 3, 32, 32)).shape == (2, described.dim)
    stats = tap.take()
    assert stats["output"].unit_means.shape == (1, described.dim)
    if name.startswith("resnet"):
        assert all(stats[f"units of {row}"].unit_means.min() >= 0 for row in described.unit_taps)
    with pytest.raises(ValueError, match="resnet9"):
        encoders.build("resnet10", image_size=32)


def test_resnet_and_vit_blocks_are_the_libraries_own() -> None:
    import timm
    import torchvision

    ours = encoders.build("resnet50", image_size=32).eval()
    theirs = torchvision.models.resnet50(weights=None).eval()
    theirs.fc = torch.nn.Identity()
    theirs.load_state_dict({name.removeprefix("net."): value for name, value in ours.state_dict().items()})
    with torch.no_grad():
        torch.testing.assert_close(ours(rand(2, 3, 32, 32)), theirs(rand(2, 3, 32, 32)))
        tiny = encoders.build("vit-tiny-16", image_size=32).eval()
        model = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=0).eval()
        model.blocks.load_state_dict(tiny.blocks.state_dict())
        tokens = rand(2, 5, 192)
        torch.testing.assert_close(tiny.blocks(tokens), model.blocks(tokens))


def test_learning_rates_and_optimizers() -> None:
    simclr = recipe.published("simclr", "resnet9")
    assert (simclr.lr, simclr.batch, simclr.epochs, simclr.optimizer) == (4.8, 4096, 600, "lars")
    rates = [simclr.learning_rate(step, 600) for step in range(600)]
    assert rates.index(max(rates)) == pytest.approx(59, abs=1)
    assert rates[0] == pytest.approx(4.8 / 60)
    model = torch.nn.Linear(3, 2)
    model.weight.grad, model.bias.grad = torch.ones(2, 3), torch.ones(2)
    weight, bias = model.weight.detach().clone(), model.bias.detach().clone()
    decayed = replace(simclr, lr=2.0, weight_decay=0.1)
    recipe.build_optimizer(model, decayed).step()
    norm = weight.norm()
    rate = 0.001 * norm / (math.sqrt(6) + 0.1 * norm)
    torch.testing.assert_close(model.weight.detach(), weight - 2.0 * rate * (1 + 0.1 * weight))
    torch.testing.assert_close(model.bias.detach(), bias - 2.0)
    with pytest.raises(ValueError, match="optimizer"):
        recipe.build_optimizer(model, replace(simclr, optimizer="adam"))


def test_alignment_term_has_both_signs() -> None:
    images = rand(16, 3, 16, 16)
    means = {}
    for weight in (-5.0, 0.0, 5.0):
        done = trainer.train(images, replace(SHORT, epochs=20, lr=3e-3, alignment=weight, precision="fp32"), 1)
        with torch.no_grad():
            views = [functional.normalize(done.encoder()(images + 0.1 * rand(16, 3, 16, 16, seed=s))) for s in (1, 2)]
        means[weight] = (views[0] - views[1]).norm(dim=1).mean().item()
    assert means[5.0] < means[0.0] < means[-5.0], means
