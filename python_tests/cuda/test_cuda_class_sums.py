"""The tests of class_sums, on the CUDA kernels under host emulation."""

from gpu.path import kernel, path  # noqa: F401
from test_class_sums import *  # noqa: F403
