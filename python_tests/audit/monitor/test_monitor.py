"""The monitor: right numbers, and a training that does not notice it."""

import importlib
import math
import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.utils.data import DataLoader, TensorDataset

import memkern
from memkern.audit import Monitor, lightning_callback, trainer_callback
from memkern.audit.monitor import callbacks


class Net(nn.Module):
    """Batch norm, dropout, and a module that stays in eval mode: all that a careless visitor would disturb."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3)
        self.bn = nn.BatchNorm2d(6)
        self.relu = nn.ReLU()
        self.drop = nn.Dropout(0.5)
        self.frozen = nn.BatchNorm1d(6)
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        x = self.drop(self.relu(self.bn(self.conv(x))).mean((2, 3)))
        return self.head(self.frozen(x))


def probe(n=12):
    return torch.rand(n, 3, 12, 12, generator=torch.Generator().manual_seed(3))


def train(monitor, epochs=4):
    """A short training; everything that could differ at its end, and the draws that would come next."""
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    loader = DataLoader(TensorDataset(torch.rand(16, 3, 12, 12), torch.arange(16) % 4), batch_size=8, shuffle=True)
    model.train()
    model.frozen.eval()
    modes = []
    for epoch in range(epochs):
        for x, y in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
        if monitor is not None:
            monitor.step(model, epoch)
        modes.append([module.training for module in model.modules()])
    tensors = [*model.state_dict().values(), *(parameter.grad for parameter in model.parameters())]
    return tensors, modes, (torch.rand(3), torch.tensor(random.random()), torch.tensor(np.random.rand()))


@pytest.mark.parametrize("options", [{}, {"labels": torch.arange(12) % 3, "layers": "bn,head"}])
def test_training_is_bitwise_the_same_with_and_without(options):
    monitor = Monitor(probe(), n_views=3, every=2, show=None, reference=Net(), **options)
    plain, watched = train(None), train(monitor)
    assert [row["epoch"] for row in monitor.history] == [0, 2]
    for a, b in zip((*plain[0], *plain[2]), (*watched[0], *watched[2]), strict=True):
        assert torch.equal(a, b)
    assert plain[1] == watched[1]


def test_this_test_can_fail():
    """A forward pass in train mode moves batch statistics and draws: the comparison above would see it."""

    class Careless:
        def step(self, model, epoch):
            model(probe())

    plain, disturbed = train(None), train(Careless())
    assert not torch.equal(plain[2][0], disturbed[2][0])
    assert not all(torch.equal(a, b) for a, b in zip(plain[0], disturbed[0], strict=True))


def test_the_numbers_are_those_of_the_metrics():
    torch.manual_seed(0)
    model, reference, images, labels = Net().eval(), Net().eval(), probe(), torch.arange(12) % 3
    monitor = Monitor(images, layers="bn", n_views=4, seed=5, labels=labels, reference=reference, batch=5, show=None)
    found = monitor.measure(model, 7)
    drawn = memkern.views(images, n_views=4, transform="simclr", seed=5, index=torch.arange(12), clean=True)
    with torch.no_grad():
        z, z_g = (net(drawn[:, 1:].flatten(0, 1)).unflatten(0, (12, 4)) for net in (model, reference))
        activations = model.bn(model.conv(drawn[:, 1:].flatten(0, 1))).unflatten(0, (12, 4))
        clean = model.bn(model.conv(drawn[:, 0]))
    output = list(found.alignment)[-1]
    assert next(iter(found.alignment)) == "bn"
    torch.testing.assert_close(found.alignment[output], memkern.alignment(z))
    torch.testing.assert_close(found.sslmem, memkern.sslmem(z, z_g))
    torch.testing.assert_close(found.layermem[output], memkern.sslmem(z, z_g, scale="ratio"))
    unitmem = memkern.unitmem(activations, view_dim=1)
    torch.testing.assert_close(found.unitmem["bn"], unitmem)
    torch.testing.assert_close(found.classmem["bn"], memkern.classmem(clean, labels))
    scalars = found.scalars()
    unitmem = unitmem[(unitmem >= 0) & (unitmem <= 1)]
    assert 0 < len(unitmem) < 4  # of a batch norm, some units have negative means
    assert scalars["memkern/unitmem/bn/mean"] == pytest.approx(float(unitmem.double().mean()))
    assert scalars["memkern/unitmem/bn/p95"] == pytest.approx(float(unitmem.double().quantile(0.95)))
    assert scalars["memkern/unitmem/bn/above_half"] == pytest.approx(float((unitmem > 0.5).double().mean()))
    assert scalars["memkern/sslmem"] == pytest.approx(float(memkern.sslmem(z, z_g).mean()), abs=1e-6)
    assert monitor.history[0]["epoch"] == 7


def test_the_excess_over_control_images():
    """Mean LayerMem of the probe minus that of the control; all else is what it is without a control, bit for bit."""
    model, reference, images, control = Net().eval(), Net().eval(), probe(), torch.rand(7, 3, 12, 12)
    options = {"layers": "bn", "n_views": 3, "seed": 5, "reference": reference, "show": None}
    monitor = Monitor(images, control=control, **options)
    found, plain = monitor.measure(model, 1), Monitor(images, **options).measure(model, 1)
    drawn = memkern.views(control, n_views=3, transform="simclr", seed=5, index=torch.arange(12, 19))
    with torch.no_grad():
        z, z_g = (net(drawn.flatten(0, 1)).unflatten(0, (7, 3)) for net in (model, reference))
    output = list(found.alignment)[-1]
    assert list(found.control) == list(found.layermem) == ["bn", output]
    torch.testing.assert_close(found.control[output], memkern.sslmem(z, z_g, scale="ratio"))
    excess = found.layermem[output].double().mean() - found.control[output].double().mean()
    assert found.layermem_excess[output] == pytest.approx(float(excess))
    scalars = found.scalars()
    assert scalars[f"memkern/layermem_excess/{output}"] == found.layermem_excess[output]
    assert {name: value for name, value in scalars.items() if "excess" not in name} == plain.scalars()
    assert plain.layermem_excess == plain.control == {}
    loader = DataLoader(TensorDataset(control), batch_size=3)
    again = Monitor(images, control=loader, **options).measure(model, 1)
    assert again.layermem_excess == found.layermem_excess
    assert monitor.step(model, 2) == scalars, "the reference is run once"


def test_memorization_that_grows_while_accuracy_does_not():
    """A model that puts the views of the probe closer, step by step, and those of the control as before."""
    images = probe()
    model, reference = Net().eval(), Net().eval()
    reference.load_state_dict(model.state_dict())

    def measured(accuracies, **more):
        monitor = Monitor(images, control=1 - images, reference=reference, layers="bn", n_views=2, **more)
        for epoch, accuracy in enumerate(accuracies):
            monitor.step(model, epoch, accuracy=accuracy)
            row = monitor.history[-1]  # the numbers of a training are put in place of those of this model
            row["memkern/layermem_excess/output"] = 0.1 * epoch
        return monitor

    found = measured([0.5, 0.7, 0.6, 0.6, 0.6], show=None).finding()
    assert found is not None
    assert "rose from 0.100 to 0.400 since epoch 1, where the accuracy was highest (0.700)" in found.sentence
    assert measured([0.5, 0.6, 0.7, 0.8, 0.9], show=None).finding() is None
    assert measured([None] * 5, show=None).finding() is None
    monitor = Monitor(images, layers="bn", n_views=2, show=None)
    for epoch in range(5):
        monitor.step(model, epoch, accuracy=0.5)
    assert monitor.finding() is None, "no control"
    assert Monitor(images, show=None).finding() is None, "not measured yet"
    assert monitor.history[-1]["accuracy"] == 0.5


def test_the_same_images_as_control_exceed_nothing_in_expectation_and_see_other_views():
    monitor = Monitor(probe(), control=probe(), layers="bn", n_views=2, reference=Net().eval(), show=None)
    found = monitor.measure(Net().eval())
    assert not torch.equal(found.control["bn"], found.layermem["bn"]), "views are keyed by the number of the image"


def test_the_same_model_gives_the_same_numbers_each_time():
    class Noisy(Net):
        def forward(self, x):
            return super().forward(x) + torch.rand(len(x), 4)

    model, monitor = Noisy(), Monitor(probe(), layers="bn", n_views=2, show=None)
    rows = [monitor.step(model, epoch) for epoch in range(3)]
    assert rows[0] == rows[1] == rows[2]


def test_images_come_in_any_kind():
    images = (probe() * 255).to(torch.uint8)
    kinds = [
        images,
        images.numpy(),
        list(images),
        DataLoader(TensorDataset(images, torch.arange(12)), batch_size=5),
        ({"pixel_values": part} for part in images.split(5)),
    ]
    model, before = Net(), torch.get_rng_state()
    rows = [Monitor(kind, layers="bn", n_views=2, show=None).measure(model).unitmem["bn"] for kind in kinds]
    assert all(torch.equal(row, rows[0]) for row in rows)
    assert torch.equal(torch.get_rng_state(), before)
    mixed = [probe()[0], torch.rand(3, 20, 14)]
    Monitor(mixed, layers="bn", n_views=2, size=12, show=None).measure(model)


def test_a_part_of_the_model_wrappers_and_logs():
    model = nn.ModuleDict({"backbone": Net(), "other": nn.Linear(1, 1)})
    lines, writer = [], []
    monitor = Monitor(probe(), layers="bn", n_views=2, encoder="backbone", show=lines.append)
    monitor.step(model, 0, log=lambda scalars, epoch: writer.append((epoch, len(scalars))))
    assert writer == [(0, 8)]

    class Writer:
        def add_scalar(self, name, value, step):
            writer.append((name, value, step))

    monitor.step(model, 1, log=Writer())
    assert writer[1][0] == "memkern/unitmem/bn/mean"
    assert "epoch 1 measured in" in lines[1]
    assert "in 2 measurements" in lines[1]
    assert "%" in lines[1]


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"images": probe(1)}, ValueError, "2 or more, got 1"),
        ({"images": probe() * 2 - 1}, ValueError, "before normalization"),
        ({"images": 3}, TypeError, "got int"),
        ({"images": iter([torch.ones(3)])}, TypeError, r"\[n, C, H, W\]"),
        ({"n_views": 1}, ValueError, "n_views"),
        ({"every": 0}, ValueError, "every"),
        ({"labels": [1, 2]}, ValueError, "one label per image, 12"),
        ({"control": probe()}, ValueError, "`reference` with `control`"),
        ({"control": probe(1), "reference": Net()}, ValueError, "`control` to hold 2 or more, got 1"),
        ({"control": probe() * 2 - 1, "reference": Net()}, ValueError, r"floating `control` in \[0, 1\]"),
        ({"control": 3, "reference": Net()}, TypeError, "`control` to be a tensor"),
    ],
)
def test_what_a_monitor_refuses(change, kind, words):
    with pytest.raises(kind, match=words):
        Monitor(**{"images": probe(), **change})


def test_a_wrong_layer_is_named():
    with pytest.raises(ValueError, match="nothing_like_it"):
        Monitor(probe(), layers="nothing_like_it", show=None).step(Net(), 0)


# ---- callbacks -------------------------------------------------------------------------------------------------------


def fit(pl, callbacks, root):
    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.backbone = Net()

        def training_step(self, batch, index):
            return nn.functional.cross_entropy(self.backbone(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    torch.manual_seed(0)
    module = Module()
    loader = DataLoader(TensorDataset(torch.rand(16, 3, 12, 12), torch.arange(16) % 4), batch_size=8, shuffle=True)
    trainer = pl.Trainer(
        max_epochs=3, logger=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu",
        enable_checkpointing=any(type(each).__name__ == "ModelCheckpoint" for each in callbacks),
        callbacks=callbacks, default_root_dir=root,
    )  # fmt: skip
    trainer.fit(module, loader)
    return trainer, [*module.state_dict().values(), torch.rand(1)]


@pytest.mark.parametrize("namespace", ["lightning.pytorch", "pytorch_lightning"])
def test_lightning(tmp_path, namespace):
    pl = pytest.importorskip(namespace, reason=f"{namespace} is not installed")
    ModelCheckpoint = importlib.import_module(f"{namespace}.callbacks").ModelCheckpoint

    monitor = Monitor(probe(), layers="bn", n_views=2, every=2, encoder="backbone", show=None)
    callback = lightning_callback(monitor, namespace=namespace)
    best = ModelCheckpoint(tmp_path, monitor="memkern/unitmem/bn/mean", mode="min")
    _, plain = fit(pl, [], tmp_path)
    trainer, watched = fit(pl, [best, callback], tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(plain, watched, strict=True))
    assert [row["epoch"] for row in monitor.history] == [0, 2]
    logged = float(trainer.callback_metrics["memkern/unitmem/bn/mean"])
    assert logged == pytest.approx(monitor.history[-1]["memkern/unitmem/bn/mean"])
    assert best.best_model_path


def test_the_lightning_namespace_is_named_or_found(monkeypatch):
    import sys
    import types

    base = type("Callback", (), {})
    for name in ("lightning", "lightning.pytorch"):
        monkeypatch.setitem(sys.modules, name, types.SimpleNamespace(Callback=base))
    monkeypatch.delitem(sys.modules, "pytorch_lightning", raising=False)
    monitor = Monitor(probe(), show=None)
    assert isinstance(lightning_callback(monitor), base), "the one that is imported"
    with pytest.raises(ValueError, match="one of"):
        lightning_callback(monitor, namespace="flash")
    monkeypatch.setitem(sys.modules, "pytorch_lightning", types.SimpleNamespace(Callback=type("C", (), {})))
    with pytest.raises(ValueError, match="both are imported"):
        lightning_callback(monitor)
    monkeypatch.setitem(sys.modules, "pytorch_lightning", None)
    with pytest.raises(ImportError, match="pip install 'pytorch-lightning'"):
        lightning_callback(monitor, namespace="pytorch_lightning")


def test_transformers(tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    pytest.importorskip("accelerate", reason="accelerate is not installed")

    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = Net()

        def forward(self, pixel_values, labels):
            logits = self.backbone(pixel_values)
            return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}

    def fitted(callbacks):
        torch.manual_seed(0)
        model = Wrapped()
        data = [{"pixel_values": torch.rand(3, 12, 12), "labels": i % 4} for i in range(16)]
        arguments = transformers.TrainingArguments(
            str(tmp_path), num_train_epochs=3, per_device_train_batch_size=8, report_to=[], save_strategy="no",
            disable_tqdm=True, use_cpu=True, logging_strategy="no",
        )  # fmt: skip
        trainer = transformers.Trainer(model, arguments, train_dataset=data, callbacks=callbacks)
        trainer.train()
        return trainer, [*model.state_dict().values(), torch.rand(1)]

    monitor = Monitor(probe(), layers="bn", n_views=2, every=2, encoder="backbone", show=None)
    callback = trainer_callback(monitor)
    _, plain = fitted([])
    trainer, watched = fitted([callback])
    assert all(torch.equal(a, b) for a, b in zip(plain, watched, strict=True))
    assert [row["epoch"] for row in monitor.history] == [0, 2]
    rows = [row for row in trainer.state.log_history if "memkern/unitmem/bn/mean" in row]
    assert [row["epoch"] for row in rows] == [1.0, 3.0]
    seen = []
    callback.log = seen.append
    callback.on_epoch_end(None, trainer.state, None, model=trainer.model)
    assert not math.isnan(seen[0]["memkern/unitmem/bn/p95"])


@pytest.mark.field("program", "Lightning: the example of the documentation")
def test_the_documented_lightning_example_runs(tmp_path, monkeypatch):
    pytest.importorskip("lightning", reason="lightning is not installed")
    page = (Path(__file__).parents[3] / "docs" / "monitor.md").read_text().partition("## Lightning")[2]
    names = {"__name__": "example"}
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "pytorch_lightning", raising=False)  # another test's: the example imports one
    exec(compile(page.partition("```python\n")[2].partition("```")[0], "docs/monitor.md", "exec"), names)
    assert [row["epoch"] for row in names["monitor"].history] == [0, 2]
    assert names["best"].best_model_path


@pytest.mark.parametrize(("passed", "epoch"), [(0.25, 0), (0.999, 0), (1.0, 0), (1 + 1e-9, 0), (1.5, 1), (3, 2)])
def test_an_epoch_that_stops_early_has_the_number_it_began_with(passed, epoch):
    assert callbacks._epoch(passed) == epoch


@pytest.mark.field("program", "the Trainer of transformers, max_steps below an epoch")
@pytest.mark.parametrize("every", [1, 2])
def test_a_trainer_that_stops_within_an_epoch_measures_epoch_0(tmp_path, every):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    pytest.importorskip("accelerate", reason="accelerate is not installed")
    monitor = Monitor(probe(), layers="bn", n_views=2, every=every, show=None)
    state = transformers.TrainerState(epoch=0.375, global_step=3)
    trainer_callback(monitor).on_epoch_end(None, state, None, model=Net())
    assert [row["epoch"] for row in monitor.history] == [0]
    assert state.log_history[0]["epoch"] == 0.375


@pytest.mark.field("program", "accelerate in bf16")
def test_accelerate_in_bf16_changes_no_number():
    accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed")
    torch.manual_seed(0)
    model = Net()
    want = Monitor(probe(), n_views=2, show=None).step(model, 0)
    prepared = accelerate.Accelerator(mixed_precision="bf16", cpu=True).prepare(model)
    before = prepared.forward
    assert Monitor(probe(), n_views=2, show=None).step(prepared, 0) == want
    assert prepared.forward is before


def _sharded(rank, folder, kind):
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU()), nn.Flatten(), nn.Linear(600, 4))
    want = Monitor(probe(), n_views=2, show=None).step(model, 0)
    if kind == "ddp":
        model = nn.parallel.DistributedDataParallel(model)
    elif kind == "fsdp":
        model[0] = FullyShardedDataParallel(model[0], device_id=torch.device("cpu"))
        model = FullyShardedDataParallel(model, device_id=torch.device("cpu"))
    else:
        for part in (model[0], model):
            fully_shard(part, mesh=dist.init_device_mesh("cpu", (2,)))
    watch = Monitor(probe(), n_views=2, show=None)
    got = watch.step(model, 0)
    model.train()
    model(probe()).sum().backward()
    torch.save((want, got, watch.step(model, 1)), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.long
@pytest.mark.field("program", "DDP, FSDP and fully_shard")
@pytest.mark.parametrize("kind", ["ddp", "fsdp", "fully_shard"])
def test_wrapped_and_sharded_models_give_the_same_numbers_on_every_process(tmp_path, kind):
    torch.multiprocessing.spawn(_sharded, (str(tmp_path), kind), nprocs=2)
    for rank in range(2):
        want, got, again = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert got == want == again
