"""The oracle: every op in plain torch and float64, ten lines each, written to read like the formula.

Slow on purpose; imports nothing of memkern. Tests and benches compare every kernel with these functions.
"""

from memkern.reference.alignment import alignment, alignment_backward
from memkern.reference.class_sums import class_sums
from memkern.reference.layer_stats import layer_stats
from memkern.reference.median_of_others import median_of_others
from memkern.reference.pointwise_stats import pointwise_stats
from memkern.reference.selectivity import selectivity
from memkern.reference.unit_means import unit_means
from memkern.reference.views import views

__all__ = [
    "alignment",
    "alignment_backward",
    "class_sums",
    "layer_stats",
    "median_of_others",
    "pointwise_stats",
    "selectivity",
    "unit_means",
    "views",
]
