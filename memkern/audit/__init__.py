"""Audits of encoders: taps, data, runs and reports."""

from memkern.audit.compare.comparison import Comparison, compare
from memkern.audit.interventions.finetune import finetune_layers
from memkern.audit.interventions.handles import FineTuning, Surgery
from memkern.audit.interventions.prune import prune_units
from memkern.audit.interventions.replace import replace_layers
from memkern.audit.monitor.callbacks import lightning_callback, trainer_callback
from memkern.audit.monitor.monitor import Measurement, Monitor
from memkern.audit.taps.tap import Tap, TapStats
from memkern.errors import CompareError

__all__ = [
    "CompareError",
    "Comparison",
    "FineTuning",
    "Measurement",
    "Monitor",
    "Surgery",
    "Tap",
    "TapStats",
    "compare",
    "finetune_layers",
    "lightning_callback",
    "prune_units",
    "replace_layers",
    "trainer_callback",
]
