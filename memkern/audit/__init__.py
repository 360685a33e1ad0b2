"""Audits of encoders: what an encoder memorized, layer by layer, unit by unit and image by image."""

from memkern.audit.compare.comparison import Comparison, compare
from memkern.audit.data.dataset import from_dataset
from memkern.audit.data.source import Source
from memkern.audit.interventions.advise import Advice, AdvisedLayer, AdvisedUnits, advise_layers, advise_units
from memkern.audit.interventions.finetune import finetune_layers
from memkern.audit.interventions.handles import FineTuning, Surgery
from memkern.audit.interventions.prune import prune_units
from memkern.audit.interventions.replace import replace_layers
from memkern.audit.monitor.callbacks import lightning_callback, trainer_callback
from memkern.audit.monitor.monitor import Measurement, Monitor
from memkern.audit.options import Options
from memkern.audit.pipeline import dry_run, merge_runs, run_audit
from memkern.audit.report import write_report
from memkern.audit.run_folder.arrays import RunArrays
from memkern.audit.run_folder.reader import Run, read_run
from memkern.audit.taps.tap import Tap, TapStats
from memkern.errors import CompareError

__all__ = [
    "Advice",
    "AdvisedLayer",
    "AdvisedUnits",
    "CompareError",
    "Comparison",
    "FineTuning",
    "Measurement",
    "Monitor",
    "Options",
    "Run",
    "RunArrays",
    "Source",
    "Surgery",
    "Tap",
    "TapStats",
    "advise_layers",
    "advise_units",
    "compare",
    "dry_run",
    "finetune_layers",
    "from_dataset",
    "lightning_callback",
    "merge_runs",
    "prune_units",
    "read_run",
    "replace_layers",
    "run_audit",
    "trainer_callback",
    "write_report",
]
