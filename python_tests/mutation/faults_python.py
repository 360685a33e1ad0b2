# ruff: noqa: E501
"""Faults of the Python around the kernels. A row: what goes wrong, where, how, who must see it."""

from __future__ import annotations

from operations import constant, drop, flip, keep, operator, put, within, without
from places import Fault, Python

FAULTS = [
    Fault("a gradient laid out like a z with gaps", Python("memkern/ops/alignment.py", "_gradient_like", "BoolOp and"), without(2),
          "ops/test_alignment.py::test_backward_layouts"),
    Fault("a block with gaps is read where it lies", Python("memkern/native.py", "view_block", "UnaryOp not"), constant("False"),
          "ops/test_alignment.py::test_layouts"),
    Fault("a stride too small is dense", Python("memkern/native.py", "is_dense", "Compare !=", 2), operator(">"),
          "ops/test_alignment.py::test_expanded"),
    Fault("a pending minus sign is forgotten", Python("memkern/dispatch.py", "can_bypass_dispatcher", "UnaryOp not", 2), constant("True"),
          "ops/test_hazards_memory.py::test_negated_view"),
    Fault("positions are taken as they are sorted", Python("memkern/ops/selectivity.py", "selectivity", "Subscript", 2), keep(2),
          "ops/test_selectivity.py::test_ties_take_the_lowest_id"),
    Fault("of ties the highest index", Python("memkern/scores.py", "merge_peaks", "Compare <"), flip,
          "ops/test_properties.py::test_states_merge_exactly_in_any_order"),
    Fault("equal elements pull apart in l1", Python("memkern/reference/alignment.py", "pull", "Call where"), keep(3),
          "ops/test_gradients.py::test_l1_by_hand"),
    Fault("opposite views as if they were near", Python("memkern/reference/alignment.py", "pull", "Call where", 2), keep(3),
          "ops/test_gradients.py::test_angular_turns_alike_at_every_angle"),
    Fault("the gradient of every distance is that of l2", Python("memkern/ops/alignment.py", "_run_backward", "Compare !="), constant("False"),
          "ops/test_gradients.py::test_a_right_angle_by_hand"),
    # ---- the command
    Fault("merge forgets its exports", Python("memkern/audit/pipeline.py", "merge_runs", "Call write_exports"), drop,
          "audit/measure/test_run_shards.py::test_parts_leave_no_file_out"),
    Fault("tables cut off what is wide", Python("memkern/audit/report/terminal.py", "_table", "keyword overflow"), put(1, '"ellipsis"'),
          "audit/report/test_terminal.py::test_tables_cut_off_nothing"),
    Fault("a file is as narrow as a terminal", Python("memkern/audit/cli.py", "_console", "If"), within("Assign", 1, drop),
          "audit/report/test_terminal.py::test_names_are_whole_in_a_file"),
    # ---- parameters of views
    Fault("color factors in the order of the spec", Python("memkern/transforms/params.py", "_stage", "Call where", 2), put(2, "{Attribute reshape 2.1}"),
          "transforms/test_view_params.py::test_color_factors"),
    Fault("a box never touches the lower edge", Python("memkern/transforms/params.py", "_attempts", "Call where"), within("BinOp +", 1, without(3)),
          "transforms/test_view_params.py::test_crop_boxes"),
    Fault("words that are not exchanged", Python("memkern/transforms/philox.py", "words", "Slice"), constant(":"),
          "transforms/test_view_params.py::test_philox_gives_the_published_words"),
]  # fmt: skip
