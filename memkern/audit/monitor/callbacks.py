"""The monitor as a callback of Lightning and of the Trainer of transformers; neither is needed by anything else."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

from memkern._util.optional_imports import require
from memkern.audit.monitor.monitor import Monitor
from memkern.errors import ArgumentValueError

NAMESPACES = ("lightning.pytorch", "pytorch_lightning")


def lightning_callback(monitor: Monitor, *, namespace: str | None = None) -> Any:
    """Makes a Lightning callback that measures at the end of training epochs.

    The scalars are logged through the module, so a checkpoint callback can watch them
    (`monitor="memkern/unitmem/layer4.1.bn2/mean"`). The order of callbacks does not matter.

    Args:
        monitor: The monitor; its `encoder` names the part of the Lightning module to run.
        namespace: "lightning.pytorch" or "pytorch_lightning", whose Trainer is used; default: the one that is imported.

    Returns:
        The callback; its attribute `monitor` is the monitor.

    Raises:
        ArgumentValueError: If the namespace is unknown, or both are imported and none is named.
        ImportError: If the namespace's package is not installed.
    """
    if namespace is None:
        imported = [name for name in NAMESPACES if name in sys.modules]
        if len(imported) > 1:
            raise ArgumentValueError(f"Expected `namespace` to be one of {NAMESPACES}: both are imported")
        namespace = imported[0] if imported else NAMESPACES[1]
    if namespace not in NAMESPACES:
        raise ArgumentValueError(f"Expected `namespace` to be one of {NAMESPACES}, got {namespace!r}")
    package = "pytorch-lightning" if namespace == NAMESPACES[1] else "lightning"
    base = require(namespace, package, extra="").Callback

    class MonitorCallback(base):  # type: ignore[misc, valid-type]
        """Measures at the end of training epochs."""

        def __init__(self) -> None:
            self.monitor = monitor

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            """Measures if it is time, and logs."""
            scalars = monitor.step(pl_module, trainer.current_epoch)
            if scalars is not None:
                # every process measured the same: nothing to reduce
                pl_module.log_dict(scalars, sync_dist=False, rank_zero_only=False)

    return MonitorCallback()


def _epoch(passed: float) -> int:
    """Numbers the epoch that ends after so many, a fraction where the training stops within one: from 0 on."""
    return max(0, math.ceil(passed - 1e-6) - 1)


def trainer_callback(monitor: Monitor) -> Any:
    """Makes a callback for the Trainer of transformers that measures at the end of epochs.

    The scalars go into `trainer.state.log_history`; set the callback's attribute `log` to `trainer.log` to send them to
    the Trainer's loggers as well.

    Args:
        monitor: The monitor; its `encoder` names the part of the model to run.

    Returns:
        The callback; its attribute `monitor` is the monitor.

    Raises:
        ImportError: If transformers is not installed.
    """
    base = require("transformers", "transformers", extra="").TrainerCallback

    class MonitorCallback(base):  # type: ignore[misc, valid-type]
        """Measures at the end of epochs."""

        def __init__(self) -> None:
            self.monitor = monitor
            self.log: Callable[[dict[str, float]], object] | None = None

        def on_epoch_end(self, args: object, state: Any, control: object, model: Any = None, **others: object) -> None:
            """Measures if it is time, and logs."""
            scalars = monitor.step(model, _epoch(state.epoch))
            if scalars is None:
                return
            if self.log is not None:
                self.log(scalars)
            else:
                state.log_history.append({"epoch": state.epoch, "step": state.global_step, **scalars})

    return MonitorCallback()
