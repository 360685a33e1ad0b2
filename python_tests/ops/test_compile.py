"""Tracing: opcheck of every op, torch.compile without graph breaks or recompiles, export, fake tensors, vmap."""

import pytest
import torch
from agreement.ops import OPS
from torch._subclasses.fake_tensor import FakeTensorMode

import memkern
from memkern.ops import LIBRARY
from python_tests.helpers.testing import DTYPES, assert_same_bits, in_order, randn, relu_features, running_paths

ops = torch.ops.memkern
BACKENDS = sorted({path.partition("-")[0] for path in running_paths()})
LAYOUTS = {
    "contiguous": lambda x: x.contiguous(),
    "channels last": lambda x: in_order(x, 0, 1, 3, 2) if x.dim() == 4 else x,
    "points innermost": lambda x: in_order(x, *range(1, x.dim()), 0),
    "gapped": lambda x: torch.stack([x, x], -1)[..., 0],
    "expanded": lambda x: x[:, :1].expand_as(x),
    "no points": lambda x: x[:0],
}


# Tracing sees the registered ops, which are the same for every backend: most tests run with the first one only.
@pytest.fixture(params=BACKENDS[:1])
def backend(request):
    return request.param


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()


# ---- opcheck --------------------------------------------------------------------------------------------------------


def arguments(op, x, backend):
    """Arguments of an op for x of shape [N, V, U, S]."""
    return *OPS[op].example(x), backend


EXAMPLES = [name for name, op in OPS.items() if op.example]  # views takes images: test_views.py


def test_every_registered_op_is_checked():
    registered = {name.partition("::")[2].partition(".")[0] for name in torch._C._dispatch_get_all_op_names()
                  if name.startswith("memkern::")}  # fmt: skip
    assert registered == set(OPS)
    assert LIBRARY.ns == "memkern"


@pytest.mark.parametrize("op", EXAMPLES)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_opcheck_of_every_dtype(op, dtype, backend):
    x = relu_features(5, 3, 4, 2, dtype=dtype).requires_grad_(op in ("alignment", "layer_stats"))
    torch.library.opcheck(getattr(ops, op).default, arguments(op, x, backend))


@pytest.mark.parametrize("op", EXAMPLES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_opcheck_of_every_layout(op, layout, backend):
    x = LAYOUTS[layout](relu_features(5, 3, 4, 2))
    if not len(x) and op in ("selectivity", "median_of_others"):
        with pytest.raises(ValueError, match="at least 2 points"):
            memkern.unitmem(x, rest="median", backend=backend)
        return  # the public functions never call these without points
    torch.library.opcheck(getattr(ops, op).default, arguments(op, x, backend))


def test_backward_without_what_it_needs_is_an_error(backend):
    z = randn(3, 2, 4).requires_grad_()
    for op, options in ((ops.alignment, (False, True)), (ops.layer_stats, (2, False, True))):
        out = op(z, *options, False, backend)[0]
        with pytest.raises(RuntimeError, match="was called with keep=False; its backward needs keep=True"):
            out.sum().backward()


# ---- torch.compile --------------------------------------------------------------------------------------------------

LABELS = torch.arange(50) * 2 % 3  # longer than any x: torch.compile takes equal sizes for one symbol
FUNCTIONS = {  # of x [7, 3, 4, 2]
    "alignment": lambda x, b: memkern.alignment(x, backend=b),
    "alignment_loss": lambda x, b: memkern.alignment_loss(x, pairs="anchor", reduction="sum", backend=b),
    "unit_means": lambda x, b: memkern.unit_means(x, view_dim=1, activation="relu", backend=b),
    "unitmem": lambda x, b: memkern.unitmem(x, view_dim=1, backend=b),
    "unitmem, median": lambda x, b: memkern.unitmem(x, view_dim=1, rest="median", backend=b),
    "unitmem_stats": lambda x, b: memkern.unitmem_stats(x, view_dim=1, unit_dim=-1, backend=b),
    "unitmem_stats, ids": lambda x, b: memkern.unitmem_stats(x, view_dim=1, ids=LABELS[: len(x)] * 3, backend=b),
    "classmem": lambda x, b: memkern.classmem(x, LABELS[: len(x)], view_dim=1, num_classes=4, backend=b),
    "classmem_stats": lambda x, b: memkern.classmem_stats(
        x, LABELS[: len(x)], view_dim=1, num_classes=4, rest="median", backend=b
    ),
    "layer_stats": lambda x, b: memkern.layer_stats(x, backend=b),
    "sslmem": lambda x, b: memkern.sslmem(x, x * 2 + 1, normalize=False, scale="range", backend=b),
    "layermem": lambda x, b: memkern.layermem(x, x.flatten(2) + 1, backend=b),
}


def assert_equal_results(got, want):
    got, want = (result if isinstance(result, tuple) else (result,) for result in (got, want))
    for a, b in zip(got, want, strict=True):
        if isinstance(b, torch.Tensor):
            assert_same_bits(a, b)
        else:
            assert a == b


@pytest.mark.parametrize("name", FUNCTIONS)
def test_full_graph(name, backend):
    x = relu_features(7, 3, 4, 2)
    compiled = torch.compile(FUNCTIONS[name], fullgraph=True, backend="aot_eager")
    assert_equal_results(compiled(x, backend), FUNCTIONS[name](x, backend))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_dynamic_shapes_without_recompiles(name, backend):
    compiled = torch.compile(FUNCTIONS[name], fullgraph=True, dynamic=True, backend="aot_eager")
    compiled(relu_features(7, 3, 4, 2), backend)
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    with torch._dynamo.config.patch(error_on_recompile=True):
        for points, positions in ((6, 5), (4, 3), (5, 7)):
            x = relu_features(points, 3, 4, positions)
            assert_equal_results(compiled(x, backend), FUNCTIONS[name](x, backend))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == before == 1


@pytest.mark.parametrize("labels", [[0, 1, 3, 0], [0, -1, 2, 0]], ids=str)
def test_labels_out_of_range_are_found_when_the_compiled_program_runs(labels, backend):
    """Their values cannot be read while tracing, and a kernel would write where they point."""
    labels = torch.tensor(labels)
    with pytest.raises(ValueError, match=r"Expected `labels` to be in \[0, 3\)"):
        ops.class_sums(randn(4, 2), labels, 3, backend)
    compiled = torch.compile(
        lambda x, y: memkern.classmem(x, y, num_classes=3, backend=backend), fullgraph=True, backend="aot_eager"
    )
    compiled(randn(4, 2), torch.tensor([0, 1, 2, 0]))
    with pytest.raises((ValueError, IndexError)):  # torch's own count of the labels may find them first
        compiled(randn(4, 2), labels)


@pytest.mark.parametrize("name", ["alignment", "alignment_loss", "layer_stats", "sslmem", "layermem"])
def test_compiled_gradients(name, backend):
    x = relu_features(7, 3, 4, 2, dtype=torch.float64)
    grads = []
    for function in (FUNCTIONS[name], torch.compile(FUNCTIONS[name], fullgraph=True, backend="aot_eager")):
        leaf = x.clone().requires_grad_()
        result = function(leaf, backend)
        (result[0] if isinstance(result, tuple) else result).square().sum().backward()
        grads.append(leaf.grad)
    torch.testing.assert_close(grads[1], grads[0], rtol=1e-14, atol=1e-14)
    assert grads[0].abs().max() > 0


def test_compiled_streams_keep_python_counters_out_of_the_graph(backend):
    step = torch.compile(lambda x: memkern.unit_means(x.relu(), backend=backend), fullgraph=True, backend="aot_eager")
    metric, want = memkern.UnitMem(backend=backend), memkern.UnitMem(backend=backend)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for seed in range(3):
            batch = randn(5, 4, 3) + seed
            metric.update(step(batch))
            want.update(memkern.unit_means(batch.relu(), backend=backend))
    assert_same_bits(metric.compute(), want.compute())


def test_inductor(backend):
    def training_step(z, x):
        return memkern.alignment_loss(z.relu() + 0.5, backend=backend), memkern.unitmem(x.relu(), backend=backend)

    z, x = randn(6, 3, 8), randn(6, 4, 5)
    results = []
    for function in (training_step, torch.compile(training_step, fullgraph=True)):
        leaf = z.clone().requires_grad_()
        loss, score = function(leaf, x)
        loss.backward()
        results.append((loss.detach(), score, leaf.grad))
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want, rtol=16 * 2**-23, atol=16 * 2**-23)


# ---- export, fake tensors, vmap -------------------------------------------------------------------------------------


class Audit(torch.nn.Module):
    """What one would export: a network with its statistics."""

    def __init__(self, backend):
        super().__init__()
        self.layer, self.backend = torch.nn.Linear(4, 6), backend

    def forward(self, x):
        y = self.layer(x).relu()
        stats = memkern.layer_stats(y, backend=self.backend)
        return stats.alignment, stats.unit_means, memkern.unitmem(y, view_dim=1, backend=self.backend)


def test_export_with_a_dynamic_number_of_points(backend):
    torch.manual_seed(0)
    module = Audit(backend).requires_grad_(False)
    points = torch.export.Dim("points", min=2)
    exported = torch.export.export(module, (randn(5, 3, 4),), dynamic_shapes=({0: points},))
    for size in (5, 9):
        x = randn(size, 3, 4)
        for got, want in zip(exported.module()(x), module(x), strict=True):
            torch.testing.assert_close(got, want, rtol=16 * 2**-23, atol=16 * 2**-23)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_fake_tensors_have_the_shapes_dtypes_and_strides_of_the_real_result(name, backend):
    real = FUNCTIONS[name](relu_features(7, 3, 4, 2), backend)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = FUNCTIONS[name](mode.from_tensor(relu_features(7, 3, 4, 2)), backend)
    real, fake = (result if isinstance(result, tuple) else (result,) for result in (real, fake))
    for a, b in zip(fake, real, strict=True):
        if isinstance(b, torch.Tensor):
            assert (a.shape, a.dtype, a.stride(), a.device) == (b.shape, b.dtype, b.stride(), b.device)


def test_fake_tensors_larger_than_memory():
    with FakeTensorMode():
        z = torch.empty(2**20, 8, 2**20, dtype=torch.bfloat16)
        assert memkern.alignment(z).shape == (2**20,)
        assert memkern.unit_means(z, view_dim=1).shape == (2**20, 2**20)


@pytest.mark.parametrize("device", ["meta"])
def test_meta_tensors_are_refused_or_answered_on_meta(device):
    with pytest.warns(memkern.MemkernWarning, match="slow float64 reference on meta"):
        assert memkern.alignment(torch.ones(3, 2, 4, device=device)).device.type == "meta"


@pytest.mark.parametrize("name", ["alignment", "unit_means", "layer_stats"])
def test_vmap_works_or_is_refused_clearly(name, backend):
    batch = torch.stack([relu_features(7, 3, 4, 2), relu_features(7, 3, 4, 2) + 1])
    try:
        got = torch.vmap(lambda x: FUNCTIONS[name](x, backend))(batch)
    except RuntimeError as error:
        assert "memkern::" in str(error) or "vmap" in str(error)  # noqa: PT017  (either outcome is right)
    else:
        for i, x in enumerate(batch):
            want = FUNCTIONS[name](x, backend)
            assert_equal_results(tuple(part[i] for part in got) if isinstance(got, tuple) else got[i], want)


def test_grad_transforms_work_or_are_refused_clearly(backend):
    z = randn(4, 3, 5, dtype=torch.float64)
    leaf = z.clone().requires_grad_()
    memkern.alignment(leaf, backend=backend).sum().backward()
    try:
        got = torch.func.grad(lambda a: memkern.alignment(a, backend=backend).sum())(z)
    except RuntimeError as error:
        assert "functorch transforms" in str(error)  # noqa: PT017  (either outcome is right)
    else:
        torch.testing.assert_close(got, leaf.grad, rtol=1e-14, atol=1e-14)
