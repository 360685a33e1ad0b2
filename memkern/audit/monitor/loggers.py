"""Receivers of the scalars of a measurement, told apart by the methods that their documentation has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

from memkern.errors import ArgumentTypeError

Scalars = Mapping[str, float]


@runtime_checkable
class ScalarWriter(Protocol):
    """Writer that takes the scalars of a training one by one, such as TensorBoard's `SummaryWriter`."""

    def add_scalar(self, name: str, value: float, step: int, /) -> object:
        """Takes one scalar."""


@runtime_checkable
class MetricsLogger(Protocol):
    """Logger that takes a mapping and a step: those of Lightning, and the module `mlflow` inside of a run."""

    def log_metrics(self, metrics: dict[str, float], step: int) -> object:
        """Takes the scalars of one step."""


@runtime_checkable
class WandbRun(Protocol):
    """Run of Weights & Biases (or the module `wandb`), whose own steps only grow."""

    def log(self, data: dict[str, float], /) -> object:
        """Takes the scalars as the next step."""

    def define_metric(self, name: str, *, step_metric: str) -> object:
        """Names the scalar over which others are plotted."""


@runtime_checkable
class StepLogger(Protocol):
    """Logger with `log(values, step=...)`, such as an `Accelerator` or one of its trackers."""

    def log(self, values: dict[str, float], step: int) -> object:
        """Takes the scalars of one step."""


Log = ScalarWriter | MetricsLogger | WandbRun | StepLogger | Callable[[dict[str, float], int], object]
"""Receiver of the scalars of a measurement: a logger, or a function of the mapping and the epoch."""


def check(log: object) -> None:
    """Requires something that scalars can be sent to, or `None`.

    Args:
        log: What was given.

    Raises:
        ArgumentTypeError: If `log` has none of the methods of a logger and cannot be called.
    """
    kinds = (ScalarWriter, MetricsLogger, WandbRun, StepLogger)
    if log is None or isinstance(log, kinds) or callable(log):
        return
    fix = "pass the module mlflow inside of a run" if hasattr(log, "log_batch") else "pass one, or a function"
    raise ArgumentTypeError(
        "Expected `log` to have add_scalar (TensorBoard), log_metrics (Lightning, mlflow) or log (Weights & Biases, "
        f"accelerate), or to be a function of the scalars and the epoch, got {type(log).__name__}; {fix}"
    )


def send(log: Log, scalars: dict[str, float], epoch: int) -> None:
    """Sends scalars of an epoch to a receiver that `check` has accepted."""
    if isinstance(log, ScalarWriter):
        for name, value in scalars.items():
            log.add_scalar(name, value, epoch)
    elif isinstance(log, MetricsLogger):
        log.log_metrics(scalars, step=epoch)
    elif isinstance(log, WandbRun):  # its step is the training's: an epoch below it would be dropped
        prefix = next(iter(scalars), "memkern/").partition("/")[0]
        log.define_metric(f"{prefix}/*", step_metric=f"{prefix}/epoch")
        log.log({f"{prefix}/epoch": float(epoch), **scalars})
    elif isinstance(log, StepLogger):
        log.log(scalars, step=epoch)
    else:
        log(scalars, epoch)
