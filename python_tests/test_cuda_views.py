"""The tests of views, on the CUDA kernels under host emulation."""

from gpu.path import kernel, path  # noqa: F401
from test_views import *  # noqa: F403

# They run on the CPU kernels whatever the path.
del test_two_thousand_draws, test_same_bits_on_every_instruction_set, test_compiles_whole_with_a_table  # noqa: F821
