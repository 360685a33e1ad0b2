"""Every kind of array in and the same kind out; inputs are never modified; importing costs torch and numpy only."""

import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch

import memkern
from python_tests.helpers.testing import assert_same_bits, forced_path, randn, relu_features, running_paths

LABELS = torch.tensor([0, 1, 2, 0, 1, 2])


@pytest.fixture(params=running_paths())
def backend(request):
    with forced_path(request.param) as name:
        yield name


CALLS = {  # every public function of one array [6, 3, 4, 2]
    "alignment": memkern.alignment,
    "alignment_loss": memkern.alignment_loss,
    "layer_stats": memkern.layer_stats,
    "unit_means": lambda x, **kw: memkern.unit_means(x, view_dim=1, **kw),
    "unitmem": lambda x, **kw: memkern.unitmem(x, view_dim=1, **kw),
    "unitmem, median": lambda x, **kw: memkern.unitmem(x, view_dim=1, rest="median", **kw),
    "unitmem_stats": lambda x, **kw: memkern.unitmem_stats(x, view_dim=1, ids=[3, 1, 0, 5, 4, 9], **kw),
    "classmem": lambda x, **kw: memkern.classmem(x, LABELS, view_dim=1, **kw),
    "classmem_stats": lambda x, **kw: memkern.classmem_stats(x, LABELS, view_dim=1, rest="median", **kw),
    "sslmem": lambda x, **kw: memkern.sslmem(x, x * 2 + 1, normalize=False, **kw),
    "layermem": lambda x, **kw: memkern.layermem(x, x * 2 + 1, normalize=False, **kw),
}
DIFFERENTIABLE = {"alignment", "alignment_loss", "layer_stats", "sslmem", "layermem"}


def parts(result):
    """The arrays of a result: itself, or those of a NamedTuple."""
    return [part for part in (result if isinstance(result, tuple) else (result,)) if not isinstance(part, int)]


def assert_equal_results(got, want):
    for a, b in zip(parts(got), parts(want), strict=True):
        assert_same_bits(torch.as_tensor(a), torch.as_tensor(b))


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_numpy_in_numpy_out(name, dtype, backend):
    array = relu_features(6, 3, 4, 2, dtype=torch.float64).numpy().astype(dtype)
    got, want = CALLS[name](array, backend=backend), CALLS[name](torch.from_numpy(array), backend=backend)
    assert type(got) is type(want) or isinstance(got, np.ndarray | np.generic)
    for a, b in zip(parts(got), parts(want), strict=True):
        assert isinstance(a, np.ndarray | np.generic), type(a)
        assert_same_bits(torch.as_tensor(a), b)


@pytest.mark.parametrize("name", CALLS)
def test_read_only_and_strided_numpy(name, backend):
    array = relu_features(6, 3, 4, 2).numpy().copy()
    want = CALLS[name](array, backend=backend)
    array.flags.writeable = False
    assert_equal_results(CALLS[name](array, backend=backend), want)
    wide = np.full((6, 3, 4, 4), np.nan, dtype=np.float32)
    wide[..., ::2] = array
    # Another layout is summed in another order: at most 6 non-negative elements, so 6 roundings of either mean.
    tolerance = 16 * torch.finfo(torch.float32).eps
    for got, part in zip(parts(CALLS[name](wide[..., ::2], backend=backend)), parts(want), strict=True):
        np.testing.assert_allclose(got, part, rtol=tolerance, atol=tolerance)


class DLPackOnly:
    """An array of some other library: nothing but the exchange protocol."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


@pytest.mark.parametrize("name", [name for name in CALLS if name not in ("sslmem", "layermem")])
@pytest.mark.parametrize("producer", [lambda x: x, lambda x: x.numpy()], ids=["torch", "numpy"])
def test_dlpack_objects(name, producer, backend):
    x = relu_features(6, 3, 4, 2)
    got = CALLS[name](DLPackOnly(producer(x)), backend=backend)
    assert all(isinstance(part, torch.Tensor) for part in parts(got))
    assert_equal_results(got, CALLS[name](x, backend=backend))


def test_streams_take_every_kind_of_array(backend):
    x = relu_features(6, 3, 4, 2)
    want = memkern.unitmem_stats(x, view_dim=1, ids=torch.arange(6) + 5, backend=backend)
    for kind in (lambda a: a, lambda a: a.numpy(), DLPackOnly):
        metric = memkern.UnitMem(view_dim=1, backend=backend)
        metric.update(kind(x), ids=np.arange(6) + 5)
        assert_equal_results(metric.stats(), want)
    each = memkern.LayerMem(backend=backend)
    each.update(x.numpy(), DLPackOnly(x + 1))
    assert_same_bits(each.compute(), memkern.layermem(x, x + 1, backend=backend))
    classes = memkern.ClassMem(view_dim=1, backend=backend)
    classes.update(x.numpy(), LABELS.numpy())
    assert_same_bits(classes.compute(), memkern.classmem(x, LABELS, view_dim=1, backend=backend))


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_is_read_as_it_stands_and_answered_in_float32(name, dtype, backend):
    x = relu_features(6, 3, 4, 2, dtype=dtype)
    if name in ("sslmem", "layermem"):  # their second stack is computed from the first
        got = getattr(memkern, name)(x, x + x, normalize=False, backend=backend)
        want = getattr(memkern, name)(x.float(), (x + x).float(), normalize=False, backend=backend)
    else:
        got, want = CALLS[name](x, backend=backend), CALLS[name](x.float(), backend=backend)
    for a, b in zip(parts(got), parts(want), strict=True):
        assert a.dtype == b.dtype != dtype
        torch.testing.assert_close(
            a, b, rtol=64 * torch.finfo(torch.float32).eps, atol=64 * torch.finfo(torch.float32).eps
        )


@pytest.mark.parametrize("name", CALLS)
def test_inputs_are_never_modified(name, backend):
    x = randn(6, 3, 4, 2)
    for given in (x.clone(), x.transpose(1, 2).clone().transpose(1, 2), x.double(), x.bfloat16()):
        before, version = given.clone(), given._version
        CALLS[name](given, backend=backend)
        assert given._version == version
        assert_same_bits(given, before)


@pytest.mark.parametrize("name", CALLS)
def test_inputs_that_require_grad(name, backend):
    x = relu_features(6, 3, 4, 2)
    want = CALLS[name](x, backend=backend)
    got = CALLS[name](x.clone().requires_grad_(), backend=backend)
    assert_equal_results(got, want)
    assert parts(got)[0].requires_grad == (name in DIFFERENTIABLE)
    assert not any(part.requires_grad for part in parts(got)[1:])
    with torch.no_grad():
        assert not parts(CALLS[name](x.clone().requires_grad_(), backend=backend))[0].requires_grad
    assert_equal_results(CALLS[name](torch.nn.Parameter(x), backend=backend), want)


def test_streams_keep_no_graph():
    x = relu_features(6, 3, 4).requires_grad_()
    units, classes, points = memkern.UnitMem(view_dim=1), memkern.ClassMem(view_dim=1), memkern.LayerMem()
    units.update(x)
    classes.update(x, LABELS)
    points.update(x, x * 2)
    for metric in (units, classes, points):
        assert not any(value.requires_grad for value in metric.state_dict().values())


@pytest.mark.parametrize("name", CALLS)
def test_inference_mode(name, backend):
    x = relu_features(6, 3, 4, 2)
    want = CALLS[name](x, backend=backend)
    with torch.inference_mode():
        assert_equal_results(CALLS[name](x.clone(), backend=backend), want)


@pytest.mark.parametrize("name", CALLS)
def test_autocast_changes_nothing(name, backend):
    x = relu_features(6, 3, 4, 2)
    want = CALLS[name](x, backend=backend)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = CALLS[name](x, backend=backend)
    assert_equal_results(got, want)


@pytest.mark.parametrize("name", CALLS)
def test_default_dtype_and_device_change_nothing(name, backend):
    x = relu_features(6, 3, 4, 2)
    want = CALLS[name](x, backend=backend)
    torch.set_default_dtype(torch.float64)
    try:
        assert_equal_results(CALLS[name](x, backend=backend), want)
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.device("meta"):  # a kernel that wrote to memory on the default device would write to address 0
        got = CALLS[name](x, backend=backend)
    assert_equal_results(got, want)


def test_streams_ignore_the_default_device():
    x = relu_features(6, 3, 4)
    units, classes, points = memkern.UnitMem(view_dim=1), memkern.ClassMem(view_dim=1), memkern.LayerMem()
    with torch.device("meta"):
        units.update(x, ids=[3, 2, 1, 0, 4, 5])
        classes.update(x, [0, 1, 2, 0, 1, 2])
        points.update(x, x + 1)
        for metric in (units, classes, points):
            metric.load_state_dict(metric.state_dict())
            metric.to("cpu")
        results = [metric.compute() for metric in (units, classes, points)]
    assert_same_bits(results[0], memkern.unitmem(x, view_dim=1))
    assert_same_bits(results[1], memkern.classmem(x, LABELS, view_dim=1))
    assert_same_bits(results[2], memkern.layermem(x, x + 1))


@pytest.mark.parametrize("name", CALLS)
def test_results_are_on_the_device_of_the_input(name):
    if not torch.cuda.is_available():
        pytest.skip("no GPU in this machine")
    x = relu_features(6, 3, 4, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", memkern.MemkernWarning)  # a build without GPU kernels runs the reference
        got = CALLS[name](x.cuda())
    assert {part.device.type for part in parts(got)} == {"cuda"}


# ---- what an import costs -------------------------------------------------------------------------------------------


def test_import_needs_torch_and_numpy_only():
    code = """
import sys, numpy, torch
before = {name.partition(".")[0] for name in sys.modules}
import memkern
memkern.unitmem(torch.ones(2, 3), backend="reference")
after = {name.partition(".")[0] for name in sys.modules}
print(sorted(name for name in after - before if name not in sys.stdlib_module_names))
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['memkern']"


def test_import_has_no_side_effects():
    code = """
import os, random, threading, torch, numpy
def world():
    return (dict(os.environ), torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled(),
            torch.random.get_rng_state().tolist(), random.getstate(), numpy.random.get_state()[1].tolist(),
            threading.active_count(), torch.are_deterministic_algorithms_enabled(), sorted(os.listdir(".")))
before = world()
import memkern
memkern.backends()
assert world() == before
"""
    subprocess.run([sys.executable, "-c", code], check=True)
