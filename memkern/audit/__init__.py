"""Audits of encoders: taps, data, runs and reports."""

from memkern.audit.compare import CompareError, Comparison, compare
from memkern.audit.surgery import FineTuning, Surgery, finetune_layers, prune_units, replace_layers

__all__ = [
    "CompareError",
    "Comparison",
    "FineTuning",
    "Surgery",
    "compare",
    "finetune_layers",
    "prune_units",
    "replace_layers",
]
