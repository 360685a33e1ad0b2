"""The tests of class_sums, on the CUDA kernels under host emulation."""

import pytest
from gpu.path import kernel, path  # noqa: F401
from test_class_sums import *  # noqa: F403

pytestmark = pytest.mark.gpu_ladder
