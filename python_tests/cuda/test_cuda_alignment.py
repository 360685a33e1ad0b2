"""The tests of alignment, on the CUDA kernels under host emulation."""

from gpu.path import kernel, path  # noqa: F401
from test_alignment import *  # noqa: F403
