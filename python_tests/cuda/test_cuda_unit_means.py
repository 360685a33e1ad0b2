"""The tests of unit_means, on the CUDA kernels under host emulation."""

from gpu.path import kernel, path  # noqa: F401
from test_unit_means import *  # noqa: F403
