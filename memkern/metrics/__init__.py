"""The metrics: functions for data in memory, classes for data that streams, on top of the ops and the scores."""

from memkern.metrics.alignment_stats import AlignmentStats, alignment_stats
from memkern.metrics.classes import ClassMem, ClassStats, classmem, classmem_stats
from memkern.metrics.points import LayerMem, LayerMemStats, layermem, removal_score, sslmem
from memkern.metrics.units import UnitMem, UnitStats, unitmem, unitmem_stats

__all__ = [
    "AlignmentStats",
    "ClassMem",
    "ClassStats",
    "LayerMem",
    "LayerMemStats",
    "UnitMem",
    "UnitStats",
    "alignment_stats",
    "classmem",
    "classmem_stats",
    "layermem",
    "removal_score",
    "sslmem",
    "unitmem",
    "unitmem_stats",
]
