"""Audits of encoders: taps, data, runs and reports."""

from memkern.audit.surgery import FineTuning, Surgery, finetune_layers, prune_units, replace_layers

__all__ = ["FineTuning", "Surgery", "finetune_layers", "prune_units", "replace_layers"]
