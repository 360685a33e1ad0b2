"""Audits of encoders: taps, data, runs and reports."""

from memkern.audit.callbacks import lightning_callback, trainer_callback
from memkern.audit.compare import CompareError, Comparison, compare
from memkern.audit.monitor import Measurement, Monitor
from memkern.audit.surgery import FineTuning, Surgery, finetune_layers, prune_units, replace_layers
from memkern.audit.taps import Tap, TapStats

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
