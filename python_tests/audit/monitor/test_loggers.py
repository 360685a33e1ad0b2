"""Scalars of a monitor reach the loggers of trainings, through the methods that these document."""

import pytest
import torch
from torch import nn

from memkern.audit import Monitor


class SummaryWriter:
    def __init__(self):
        self.got = []

    def add_scalar(self, tag, scalar_value, global_step=None, walltime=None, new_style=False, double_precision=False):
        self.got.append((tag, scalar_value, global_step))


class Mlflow:
    def __init__(self):
        self.got = []

    def log_metrics(self, metrics, step=None, synchronous=None, run_id=None, timestamp=None):
        self.got += [(name, value, step) for name, value in metrics.items()]


class LightningLogger(Mlflow):
    def log_metrics(self, metrics, step=None):
        super().log_metrics(metrics, step)


class WandbRun:
    def __init__(self):
        self.got, self.steps = [], {}

    def define_metric(
        self, name, step_metric=None, step_sync=None, hidden=None, summary=None, goal=None, overwrite=None
    ):
        self.steps[name] = step_metric

    def log(self, data, step=None, commit=None):
        assert step is None, "an epoch below the run's own step would be dropped"
        assert self.steps == {"memkern/*": "memkern/epoch"}
        epoch = data["memkern/epoch"]
        self.got += [(name, value, int(epoch)) for name, value in data.items() if name != "memkern/epoch"]


class Accelerator:
    def __init__(self):
        self.got = []

    def log(self, values, step=None, log_kwargs=None):
        self.got += [(name, value, step) for name, value in values.items()]


class Function:
    def __init__(self):
        self.got = []

    def __call__(self, scalars, epoch):
        self.got += [(name, value, epoch) for name, value in scalars.items()]


def monitor(**options):
    images = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return Monitor(images, layers="0", n_views=2, every=2, show=None, **options)


MODEL = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten())


@pytest.mark.field("program", "TensorBoard, Weights & Biases, MLflow, accelerate and Lightning loggers")
@pytest.mark.parametrize("kind", [SummaryWriter, Mlflow, LightningLogger, WandbRun, Accelerator, Function])
def test_every_kind_of_logger_gets_every_scalar(kind):
    log = kind()
    watch = monitor(log=log)
    want = [(name, value, epoch) for epoch in range(3) for name, value in (watch.step(MODEL, epoch) or {}).items()]
    assert log.got == want
    assert {epoch for _, _, epoch in want} == {0, 2}
    other = kind()
    watch.step(MODEL, 4, log=other)
    assert {epoch for _, _, epoch in other.got} == {4}


def test_the_csv_logger_of_lightning(tmp_path):
    loggers = pytest.importorskip("lightning.pytorch.loggers", reason="lightning is not installed")
    log = loggers.CSVLogger(tmp_path)
    monitor(log=log).step(MODEL, 0)
    log.save()
    assert "memkern/unitmem/0/mean" in next(tmp_path.rglob("metrics.csv")).read_text().splitlines()[0]


def test_tensorboard(tmp_path):
    tensorboard = pytest.importorskip("torch.utils.tensorboard", reason="tensorboard is not installed")
    with tensorboard.SummaryWriter(tmp_path) as log:
        monitor(log=log).step(MODEL, 0)
    assert list(tmp_path.glob("events.*"))


class MlflowClient:
    def log_batch(self, run_id, metrics=(), params=(), tags=()):
        pass


@pytest.mark.parametrize(("log", "words"), [(3, "got int; pass one"), (MlflowClient(), "the module mlflow inside")])
def test_what_is_no_logger_is_refused_before_the_work(log, words):
    with pytest.raises(TypeError, match=words):
        monitor(log=log)
    watch = monitor()
    with pytest.raises(TypeError, match=words):
        watch.step(MODEL, 0, log=log)
    assert not watch.history
