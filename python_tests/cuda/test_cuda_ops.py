"""The tests of every op, on the CUDA kernels under host emulation; that of units of class_sums: class_sums__units."""

import importlib

import pytest
from gpu import path as emulation

from python_tests.helpers import ops

pytestmark = pytest.mark.gpu_ladder
# The gradient is tested in test_alignment.py; the tests of views have a file of their own, for what is left out there.
FILES = [name for name in ops.ON_CUDA if name not in ("alignment_backward", "views")]

for op in FILES:
    for name, value in vars(importlib.import_module(f"test_{op}")).items():
        if name.startswith("test_"):
            globals()[f"test_{op}__{name.removeprefix('test_')}"] = value
        elif isinstance(value, type(emulation.path)):
            globals()[name] = value

path, kernel = emulation.path, emulation.kernel


def test_every_op_is_here():
    for op in FILES:
        assert any(name.startswith(f"test_{op}__") for name in globals()), op
