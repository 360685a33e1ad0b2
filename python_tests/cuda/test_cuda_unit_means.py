"""The tests of unit_means, on the CUDA kernels under host emulation."""

import pytest
from gpu.path import kernel, path  # noqa: F401
from test_unit_means import *  # noqa: F403

pytestmark = pytest.mark.gpu_ladder
