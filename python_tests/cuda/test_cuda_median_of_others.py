"""The tests of median_of_others, on the CUDA kernels under host emulation."""

import pytest
from gpu.path import kernel, path  # noqa: F401
from test_median_of_others import *  # noqa: F403

pytestmark = pytest.mark.gpu_ladder
