"""Columns of the tables of a RUN folder, and their types.

`docs/audit.md` says what a column means. A column that was not measured (no reference encoder, no labels, no
candidates) is there and null.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Column = Sequence[object] | Tensor | NDArray[np.generic]
"""The values of a column, one per row: `None` is null (not measured), NaN is a value (measured and undefined). In a
numpy array NaN is null: a number over trainings that does not exist."""

Columns = dict[str, Column]
"""The columns of a table: name -> values."""

SAMPLES = {
    "id": "string",
    "index": "int64",
    "path": "string",
    "label": "int64",
    "candidate": "bool_",
    "sslmem": "float32",
    "group": "string",
    "picture": "string",
    "n_in": "int64",
    "n_out": "int64",
    "sslmem_ratio": "float64",
    "se": "float64",
    "se_ratio": "float64",
    "se_views": "float64",
    "p": "float64",
    "p_check": "float64",
    "q": "float64",
    "memorized": "bool_",
    "peaks_in": "float64",
    "peaks_out": "float64",
    "leaked_by": "string",
}
"""Columns of samples.parquet and their types; those of `SAMPLES_FAMILIES` follow."""

SAMPLES_FAMILIES = {
    "alignment_f/": "float32",
    "alignment_g/": "float32",
    "a_in/": "float32",
    "a_out/": "float32",
    "member/": "int8",
}
"""Beginning of the further columns of samples.parquet and their types; a layer's name follows, of `member/` an
encoder's."""

UNITS = {
    "encoder": "string",
    "layer": "string",
    "unit": "int64",
    "unitmem": "float32",
    "classmem": "float32",
    "peak": "float32",
    "rest": "float32",
    "peak_id": "string",
    "peak_index": "int64",
    "peak_class": "int64",
    "signed": "bool_",
}
"""Columns of units.parquet."""

LAYERS = {
    "layer": "string",
    "order": "int64",
    "units": "int64",
    "kind": "string",
    "block": "int64",
    "alignment_f": "float64",
    "alignment_g": "float64",
    "layermem": "float64",
    "layermem_range": "float64",
    "delta": "float64",
    "layermem_top50": "float64",
    "layermem_least50": "float64",
    "n_top": "int64",
    "layermem_top50_control": "float64",
    "layermem_least50_control": "float64",
    "layermem_candidates": "float64",
    "delta_candidates": "float64",
    "layermem_others": "float64",
    "layermem_control": "float64",
    "layermem_excess": "float64",
    "delta_excess": "float64",
    "se": "float64",
    "se_images": "float64",
    "se_encoders": "float64",
    "low": "float64",
    "high": "float64",
    "n_memorized": "int64",
    "reliability": "float64",
    "level_sd": "float64",
    "delta_sublayer": "float64",
    "delta_block": "float64",
    "member_peaks": "float64",
    "member_peaks_expected": "float64",
    "member_peaks_p": "float64",
    "unitmem_mean": "float64",
    "unitmem_se": "float64",
    "unitmem_max": "float64",
    "classmem_mean": "float64",
    "classmem_se": "float64",
    "dead": "int64",
    "signed": "int64",
    "undefined": "int64",
    "unbounded": "int64",
}
"""Columns of layers.parquet."""

ATTACKS = {
    attack: tuple(f"{name}{of}{end}" for name in ("auc", "tpr_10", "tpr_01", "tpr_001") for end in ("", "_lo", "_hi"))
    for attack, of in (("alignment", ""), ("sslmem", "_sslmem"), ("lira", "_lira"))
}
"""Attack -> columns of encoders.parquet: area under the curve and rates, each with the ends of its interval."""

ENCODERS = {
    "encoder": "string",
    "role": "string",
    "n_members": "int64",
    "level": "float64",
    "unitmem_mean": "float64",
    "classmem_mean": "float64",
    **{name: "float64" for names in ATTACKS.values() for name in names},
}
"""Columns of encoders.parquet."""

TABLES = {"samples": SAMPLES, "units": UNITS, "layers": LAYERS, "encoders": ENCODERS}
"""Table -> its columns; `<table>.parquet` holds it."""
