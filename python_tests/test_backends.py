"""Which backend runs a call, and why another does not: the rules of memkern.dispatch, without a GPU."""

import subprocess
import sys
import warnings

import pytest
import torch
from agreement.ops import OPS

import memkern
from memkern import dispatch
from memkern.dispatch import MemkernWarning
from python_tests.helpers.testing import randn

CPU, GPU = torch.device("cpu"), torch.device("cuda")
TABLE = {name: (lambda name=name: name) for name in ("reference", "cpu", "triton", "cuda")}


@pytest.fixture
def triton(monkeypatch):
    """A machine with Triton and a GPU, whatever this one has."""
    monkeypatch.delenv(dispatch.INTERPRETER_VARIABLE, raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    return monkeypatch


def test_triton_reads_gpu_tensors(triton):
    assert dispatch.why_not("triton", GPU) == ""
    assert dispatch.why_not("triton", CPU) == "it reads tensors on a CUDA or ROCm GPU, got cpu"


def test_triton_missing(triton):
    triton.setattr("importlib.util.find_spec", lambda name: None)
    for device in (CPU, GPU):
        assert dispatch.why_not("triton", device) == "Triton is not installed (`pip install triton`)"


def test_triton_without_a_driver(triton):
    triton.setattr("torch.cuda.is_available", lambda: False)
    assert dispatch.why_not("triton", GPU) == "torch finds no usable GPU or driver"


def test_tritons_interpreter_reads_any_tensor(triton):
    triton.setattr("torch.cuda.is_available", lambda: False)
    triton.setenv("TRITON_INTERPRET", "1")
    assert dispatch.why_not("triton", CPU) == dispatch.why_not("triton", GPU) == ""
    assert dispatch.pick("auto", CPU, TABLE)() != "triton"  # it must be named


def test_backends_says_what_triton_runs_on(triton):
    triton.setattr("torch.cuda.get_device_name", lambda: "a card")
    triton.setattr("memkern.native.without_cuda", lambda: "no driver")  # a build by NVRTC would ask it
    row = memkern.backends()[2]
    assert row == dispatch.BackendInfo("triton", True, "a card")
    triton.setenv("TRITON_INTERPRET", "1")
    assert "in its interpreter (TRITON_INTERPRET=1)" in memkern.backends()[2].detail
    triton.delenv("TRITON_INTERPRET")
    triton.setattr("torch.cuda.is_available", lambda: False)
    assert memkern.backends()[2] == dispatch.BackendInfo("triton", False, "torch finds no usable GPU or driver")


@pytest.mark.parametrize(
    ("unusable", "chosen"),
    [((), "cuda"), (("cuda",), "triton"), (("triton",), "cuda"), (("cuda", "triton"), "reference")],
    ids=str,
)
def test_auto_on_a_gpu_tensor(monkeypatch, unusable, chosen):
    """CUDA C++ first, then Triton, then the reference, which warns with every reason."""
    monkeypatch.setattr(dispatch, "why_not", lambda name, device: "broken" if name in unusable else "")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert dispatch.pick("auto", GPU, TABLE)() == chosen
    said = [str(warning.message) for warning in caught if warning.category is MemkernWarning]
    want = ["memkern runs its slow float64 reference on cuda: cuda: broken; triton: broken"]
    assert said == (want if chosen == "reference" else [])


def test_auto_passes_over_a_kernel_that_an_op_lacks(monkeypatch):
    monkeypatch.setattr(dispatch, "why_not", lambda name, device: "")
    without = {name: call for name, call in TABLE.items() if name != "cuda"}
    assert dispatch.pick("auto", GPU, without)() == "triton"


def test_auto_on_a_device_without_kernels():
    with pytest.warns(MemkernWarning, match="on mps: no kernels for such a device"):
        assert dispatch.pick("auto", torch.device("mps"), TABLE)() == "reference"


@pytest.mark.parametrize(("op", "other"), [(op, other) for op in OPS for other in OPS[op].together[1:]])
def test_tensors_on_two_devices_never_reach_a_triton_kernel(op, other):
    pytest.importorskip("triton")
    arguments = list(OPS[op].example(randn(3, 2, 4, 2)))
    arguments[other] = arguments[other].to("meta")
    with pytest.raises(RuntimeError, match=r"on one device, got (cpu and meta|meta and cpu); move one"):
        OPS[op].rows()["triton"](*arguments)


def test_triton_is_imported_only_when_it_is_chosen():
    code = """
import sys, torch
assert "triton" not in sys.modules, "torch imports it by itself: this test shows nothing"
import memkern
memkern.backends()
memkern.unitmem(torch.ones(2, 3))
memkern.alignment(torch.ones(2, 3, 4), backend="reference")
try:
    memkern.alignment(torch.ones(2, 3, 4), backend="triton")
except RuntimeError as error:
    assert "cannot run here" in str(error)
assert "triton" not in sys.modules
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
