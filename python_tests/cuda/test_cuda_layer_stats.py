"""The tests of layer_stats, on the CUDA kernels under host emulation."""

import pytest
from gpu.path import kernel, path  # noqa: F401
from test_layer_stats import *  # noqa: F403

pytestmark = pytest.mark.gpu_ladder
