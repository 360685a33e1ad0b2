"""Which checks know which kernels: what hunt_mutants.py hunts the mutants of a file with."""

from __future__ import annotations

# The files of checks that know a kernel file, quick ones first, and its cases in the compile gate.
CHECKS = {
    "alignment": ("check_offsets check_alignment", "^alignment( raw)? [|]"),
    "alignment_backward": ("check_offsets check_alignment_backward", "^backward"),
    "pair_sums": ("check_alignment check_layer_stats", "^alignment( anchor)? [|] _sum_pairs"),
    "view_sums": ("check_alignment", "^alignment view sums [|] _sum_views"),
    "exact": ("check_alignment", "^alignment f64 [|] _finish"),
    "unit_means": ("check_units check_offsets", "^means (7x7|56x56) [|]"),
    "unit_sums": ("check_units check_layer_stats", "^means 7x7 "),
    "layer_stats": ("check_layer_stats", "^layer (maps [|] _sum_maps|tokens bf16 [|] _sum_layer)"),
    "selectivity": ("check_units check_offsets", "^selectivity [|]"),
    "class_sums": ("check_units", "^class sums [|]"),
    "views": ("check_views", "^views (32 [|]|sizes masked [|]|224 float [|] _blur_rows)"),
    "views_colors": ("check_views", "^views 32 [|]"),
    "views_taps": ("check_views", "^views (32|224 float) [|]"),
}
# Which checks of these files, as an expression for -k: check_units knows four kernel files.
ABOUT = {
    "unit_means": "means",
    "unit_sums": "means or layouts",
    "selectivity": "state or selectivity",
    "view_sums": "view_sums",
    "class_sums": "class_sums",
}
