"""Transforms: what a view does to an image, and which numbers are drawn for it; no image is made here.

``ViewSpec`` describes a set of transformations, ``PRESETS`` names the sets of the papers and of common recipes, and
``view_params`` draws the table of parameters from which every backend makes the same views.
"""

from memkern.transforms.masks import draw_masks, view_masks
from memkern.transforms.params import BOUNDS, COLUMNS, N_STEPS, STEPS, draw, view_params
from memkern.transforms.presets import PRESETS, named
from memkern.transforms.spec import ViewSpec

__all__ = [
    "BOUNDS",
    "COLUMNS",
    "N_STEPS",
    "PRESETS",
    "STEPS",
    "ViewSpec",
    "draw",
    "draw_masks",
    "named",
    "view_masks",
    "view_params",
]
