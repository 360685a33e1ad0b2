"""cuxray on the machine code: bank conflicts of shared memory, spills, registers. A second opinion on gpu/sass.py.

One architecture, and of each kernel that has shared memory one instance: an instance takes seconds.
"""

from __future__ import annotations

ARCH = 90
# By object: a pattern for the demangled kernel, threads of a block, and the gate.
# sum_rows writes its columns a pack a thread apart: 2 ways for doubles.
GATES = {
    "alignment": [("pair_sums<float, 10>", 128, "spill_instrs==0, regs<=168")],
    "layer_stats": [("layer_sums<float, 4>", 128, "spill_instrs==0, regs<=168")],
    "unit_means": [("sum_rows<float, 4>", 256, "spill_instrs==0, regs<=128")],
    "median_of_others": [("median_of_others<float>", 256, "spill_instrs==0, regs<=64, bank_ways<=1")],
}
