"""The tests of layer_stats, on the CUDA kernels under host emulation."""

from gpu.path import kernel, path  # noqa: F401
from test_layer_stats import *  # noqa: F403
