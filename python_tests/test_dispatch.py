"""Which backend runs, and why the others do not: on builds and machines with and without CUDA, played by stand-ins."""

from __future__ import annotations

import types

import pytest
import torch
from agreement.ops import OPS

import memkern
from memkern import dispatch, native
from memkern.ops.layer_stats import layer_stats_many
from python_tests.helpers import ops
from python_tests.helpers.testing import assert_same_bits, randn

CPU, CUDA, META = torch.device("cpu"), torch.device("cuda", 0), torch.device("meta")
DRIVER = "CUDA driver version is insufficient for CUDA runtime version"
NO_NVCC = "built without CUDA (no nvcc was found)"


def build(monkeypatch: pytest.MonkeyPatch, *, cuda: object) -> None:
    """Makes the loaded library one that was built with (a stand-in for) CUDA, or without."""
    module = types.ModuleType("stand_in")  # hashable, as the real one is
    module.cuda, module.without_cuda = cuda, "" if cuda else NO_NVCC
    monkeypatch.setattr(native, "load", lambda: (module, ""))
    native._without_device.cache_clear()


@pytest.fixture(autouse=True)
def forget():
    yield
    native._without_device.cache_clear()


def with_driver_saying(reason: str) -> object:
    return types.SimpleNamespace(unavailable=lambda: reason, architectures=lambda: "80, 90", by_name=False)


def test_a_build_without_cuda_says_why_and_names_the_fix(monkeypatch):
    build(monkeypatch, cuda=None)
    reason = dispatch.why_not("cuda", CUDA)
    assert reason == f"{NO_NVCC}; `CMAKE_ARGS=-DMEMKERN_CUDA=ON pip install .` builds with it"
    assert dispatch._cuda_info() == dispatch.BackendInfo("cuda", False, reason)


def test_a_machine_without_a_driver_says_so_in_the_drivers_words(monkeypatch):
    build(monkeypatch, cuda=with_driver_saying(DRIVER))
    assert dispatch.why_not("cuda", CUDA) == dispatch._cuda_info().detail == DRIVER
    with pytest.raises(RuntimeError, match=f"backend='cuda' cannot run here: {DRIVER}; see memkern.backends"):
        dispatch.pick("cuda", CUDA, {"cuda": len})


def test_cuda_reads_cuda_tensors_only(monkeypatch):
    build(monkeypatch, cuda=with_driver_saying(""))
    assert dispatch.why_not("cuda", CUDA) == ""
    assert dispatch.why_not("cuda", CPU) == "it reads CUDA tensors only, got cpu"
    assert dispatch.pick("cuda", CUDA, {"cuda": len}) is len
    assert dispatch.pick("auto", CUDA, {"cuda": len, "triton": max, "reference": min}) is len


def test_auto_falls_back_with_every_reason(monkeypatch):
    """On a CUDA tensor: cuda, else triton, else the reference with a warning."""
    build(monkeypatch, cuda=None)
    table = {"cuda": len, "triton": max, "reference": min}
    monkeypatch.setattr(dispatch, "why_not", lambda name, device: "" if name == "triton" else "no reason")
    assert dispatch.pick("auto", CUDA, table) is max
    monkeypatch.setattr(dispatch, "why_not", lambda name, device: f"no {name}")
    with pytest.warns(memkern.MemkernWarning, match="float64 reference on cuda:0: cuda: no cuda; triton: no triton"):
        assert dispatch.pick("auto", CUDA, table) is min
    with pytest.warns(memkern.MemkernWarning, match="on meta: no kernels for such a device"):
        assert dispatch.pick("auto", META, table) is min


@pytest.mark.parametrize(("op", "other"), [(op, other) for op in OPS for other in OPS[op].together[1:]])
def test_tensors_on_two_devices_never_reach_a_kernel(op, other, monkeypatch):
    monkeypatch.setattr(native, "cuda", lambda: pytest.fail("a kernel was asked"))
    arguments = list(OPS[op].example(randn(3, 2, 4, 2)))
    arguments[other] = arguments[other].to("meta")
    with pytest.raises(RuntimeError, match=r"on one device, got (cpu and meta|meta and cpu); move one"):
        OPS[op].rows()["cuda"](*arguments)


def test_layers_on_two_devices_raise():
    with pytest.raises(
        RuntimeError, match=r"Expected `activations\[0\]` and `activations\[1\]` on one device, got cpu"
    ):
        layer_stats_many([randn(2, 3, 4), randn(2, 3, 4).to("meta")])


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_many_layers_are_those_one_by_one(backend):
    layers = [randn(4, 3, 5), randn(4, 3, 6, 2, 2, dtype=torch.float16), randn(2, 2, 8, dtype=torch.float64)]
    for got, layer in zip(layer_stats_many(layers, pairs="anchor", backend=backend), layers, strict=True):
        want = memkern.layer_stats(layer, pairs="anchor", backend=backend)
        assert_same_bits(got.alignment, want.alignment)
        assert_same_bits(got.unit_means, want.unit_means)
    assert layer_stats_many([]) == []


@pytest.mark.parametrize("op", OPS)
def test_every_op_has_a_row_for_every_backend_with_kernels(op):
    rows = set(OPS[op].rows())
    assert {"reference", "cpu"} <= rows
    gpus = {"cuda", "triton"}
    assert rows & gpus == (gpus if op in ops.ON_CUDA else set())
