"""memkern: fused kernels that measure memorization in self-supervised vision encoders."""

from importlib.metadata import PackageNotFoundError, version

import torch as _torch  # noqa: F401  (first: its OpenMP runtime is then the only one in the process)

from memkern.dispatch import MemkernWarning, backends
from memkern.errors import MemkernError
from memkern.metrics import (
    AlignmentStats,
    ClassMem,
    ClassStats,
    LayerMem,
    LayerMemStats,
    UnitMem,
    UnitStats,
    alignment_stats,
    classmem,
    classmem_stats,
    layermem,
    removal_score,
    sslmem,
    unitmem,
    unitmem_stats,
)
from memkern.ops.alignment import alignment, alignment_loss
from memkern.ops.layer_stats import LayerStats, LayerViewStats, layer_stats
from memkern.ops.unit_means import unit_means
from memkern.ops.views import views
from memkern.scores import delta_layermem
from memkern.transforms import ViewSpec, view_params

try:
    __version__ = version("memkern")
except PackageNotFoundError:  # a source tree on the path that was never installed
    __version__ = "0+unknown"

__all__ = [
    "AlignmentStats",
    "ClassMem",
    "ClassStats",
    "LayerMem",
    "LayerMemStats",
    "LayerStats",
    "LayerViewStats",
    "MemkernError",
    "MemkernWarning",
    "UnitMem",
    "UnitStats",
    "ViewSpec",
    "alignment",
    "alignment_loss",
    "alignment_stats",
    "backends",
    "classmem",
    "classmem_stats",
    "delta_layermem",
    "layer_stats",
    "layermem",
    "removal_score",
    "sslmem",
    "unit_means",
    "unitmem",
    "unitmem_stats",
    "view_params",
    "views",
]
