# ruff: noqa: E501
"""Faults of layers that are run while they are reduced. A row: what goes wrong, where, how, who must see it."""

from __future__ import annotations

from operations import both, constant, drop, keep, operator, put, rewrite, swap, within, without
from places import Fault, Mark, Python

KERNELS = [
    Fault("relu of a layer eats NaN", Mark("relu of a layer", "IfExp"), both(within("Compare", 1, operator(">")), swap(2, 3)),
          "ops/test_pointwise_stats.py::test_special_values"),
    Fault("an exponential of what is far below zero", Mark("exponential", "IfExp"), keep(3), "ops/test_pointwise_stats.py::test_special_values"),
    Fault("a GELU without digits below zero", Mark("gelu", "IfExp"), rewrite("1 - ({1} ? {3} : {2})"),
          "ops/test_pointwise_stats.py::test_gelu_keeps_its_digits_below_zero"),
    Fault("every range begins with the first unit", Mark("norm of a range", "BinOp %"), constant("0"), "ops/test_pointwise_stats.py::test_larger_than_a_range"),
    Fault("every range begins with a whole plane", Mark("rest of a plane", "BinOp -"), keep(1), "ops/test_pointwise_stats.py::test_larger_than_a_range"),
    Fault("a mean that is not scaled", Mark("shift", "BinOp *"), keep(1), "ops/test_pointwise_stats.py::test_batch_norms_without_weights"),
    Fault("no layer goes round", Mark("goes round", "Compare >="), constant("false"), "cpu/test_slices.py::test_fused_layers"),
    Fault("half of what lies between is made again", Mark("made again", "Call make"), put(4, "{4} / 2"),
          "cpu/test_slices.py::test_what_lies_between_is_made_again"),
    Fault("the second layer reads what the first reads", Mark("from layer to layer"), drop, "ops/test_pointwise_stats.py::test_view_counts"),
    Fault("a norm is taken again in every range", Mark("norms of ranges", "Call norm"), put(3, "{1} > 0"),
          "ops/test_pointwise_stats.py::test_larger_than_a_range"),
    Fault("scales of the first units", Mark("scales of a range", "Statement"),
          both(within("BinOp %", 1, constant("0")), within("BinOp %", 2, constant("0"))), "ops/test_pointwise_stats.py::test_larger_than_a_range"),
    Fault("scales past the last are the first one", Mark("scales go round", "Statement"),
          both(within("BinOp -", 1, constant("0")), within("BinOp -", 2, constant("0"))), "ops/test_pointwise_stats.py::test_larger_than_a_range"),
    Fault("tiles of views that are no whole groups", Mark("in tiles", "BoolOp &&"), without(4), "ops/test_pointwise_stats.py::test_view_counts"),
    Fault("a scale is read past its end", Mark("room of scales", "BinOp +"), keep(1), "cpu/test_sanitizers.py::test_no_sanitizer_complains"),
]  # fmt: skip

_FUSION, _CONSUMERS = "memkern/audit/taps/fusion.py", "memkern/audit/taps/consumers.py"
_MODULES = "memkern/audit/taps/pointwise_modules.py"
TAPS = [
    Fault("weights that have gaps", Python(_MODULES, "PointwiseModule._state_now", "AugAssign"), within("Tuple", 1, without(3)),
          "audit/taps/test_audit_fused.py::test_weights_the_kernel_cannot_read"),
    Fault("weights that have moved", Python(_MODULES, "PointwiseModule._state_now", "AugAssign"), within("Tuple", 1, without(1)),
          "audit/taps/test_audit_fused.py::test_weights_may_change_between_passes"),
    Fault("weights that are no parameters", Python(_MODULES, "_is_plain", "Compare in"), rewrite("issubclass({1}, nn.Parameter)"),
          "audit/taps/test_audit_fused.py::test_weights_that_are_no_parameters"),
    Fault("a layer overwrites what nobody has read yet", Python(_FUSION, "Fusion._forward.forward", "Call _flush"), drop,
          "audit/taps/test_audit_fused.py::test_what_is_left_to_torch_is_read_before_it_is_overwritten"),
    Fault("a layer in place is run with others", Python(_FUSION, "Fusion._run", "BoolOp and"), without(3),
          "audit/taps/test_audit_fused.py::test_what_is_done_together"),
    Fault("a model may read something else", Python(_FUSION, "Fusion._forward.forward", "BoolOp or"), constant("False"),
          "audit/taps/test_audit_fused.py::test_a_model_that_reads_something_else_than_before"),
    Fault("a reader beside others", Python(_CONSUMERS, "Consumers.only_consumer", "IfExp"), within("BoolOp and", 1, without(2)),
          "audit/taps/test_audit_fused.py::test_as_without"),
    Fault("a reader of what is kept", Python(_CONSUMERS, "Consumers.only_consumer", "IfExp"), within("BoolOp and", 1, without(3)),
          "audit/taps/test_audit_fused.py::test_as_without"),
]  # fmt: skip

FAULTS = [*KERNELS, *TAPS]
