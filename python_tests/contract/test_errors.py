"""Every error that a user can provoke, word for word, and none of them after any work was done."""

import re

import numpy as np
import pytest
import torch

import memkern
from memkern import dispatch

Z = torch.ones(4, 2, 8)
X = torch.ones(4, 3)
LABELS = torch.tensor([0, 1, 0, 1])


@pytest.fixture(autouse=True)
def no_work(monkeypatch):
    """Every op asks `dispatch.pick` for its kernel: none may, before the arguments are found to be right."""

    def refuse(*_):
        raise AssertionError("an op ran before the arguments were checked")

    monkeypatch.setattr(dispatch, "pick", refuse)


def message(text):
    return f"^{re.escape(text)}$"


# ---- what an array must be ------------------------------------------------------------------------------------------

FLOATS = "float32, float64, bfloat16 or float16"
NO_ARRAY = (
    "to be a torch tensor, a numpy array or an object with __dlpack__, got list; build a tensor with torch.as_tensor"
)
VIEWS = "to have shape [N, V, ...] with V >= 2, got"

ONE_ARRAY = {  # function of an array -> the argument's name in messages
    "alignment": (memkern.alignment, "z"),
    "alignment_loss": (memkern.alignment_loss, "z"),
    "layer_stats": (memkern.layer_stats, "activations"),
    "unit_means": (memkern.unit_means, "activations"),
    "unitmem": (memkern.unitmem, "activations"),
    "unitmem_stats": (memkern.unitmem_stats, "activations"),
    "classmem": (lambda x: memkern.classmem(x, LABELS), "activations"),
    "classmem_stats": (lambda x: memkern.classmem_stats(x, LABELS), "activations"),
    "sslmem, first": (lambda z: memkern.sslmem(z, Z), "z_f"),
    "sslmem, second": (lambda z: memkern.sslmem(Z, z), "z_g"),
    "layermem, first": (lambda z: memkern.layermem(z, Z), "z_f"),
    "layermem, second": (lambda z: memkern.layermem(Z, z), "z_g"),
    "LayerMem": (lambda z: memkern.LayerMem().update(z, Z), "z_f"),
}
STREAMED = {
    "UnitMem": lambda x: memkern.UnitMem().update(x),
    "ClassMem": lambda x: memkern.ClassMem().update(x, LABELS),
}


@pytest.mark.parametrize("name", ONE_ARRAY)
def test_no_array(name):
    call, argument = ONE_ARRAY[name]
    with pytest.raises(TypeError, match=message(f"Expected `{argument}` {NO_ARRAY} first")):
        call([[1.0]])


@pytest.mark.parametrize("name", STREAMED)
def test_no_array_in_a_stream(name):
    with pytest.raises(TypeError, match=message(f"Expected `batch` {NO_ARRAY} first")):
        STREAMED[name]([[1.0]])


@pytest.mark.parametrize("dtype", ["int64", "int8", "bool", "complex64", "uint8"])
@pytest.mark.parametrize("name", ONE_ARRAY)
def test_dtypes_that_are_not_floating(name, dtype):
    call, argument = ONE_ARRAY[name]
    expected = message(f"Expected `{argument}` to be {FLOATS}, got {dtype}; call .float() first")
    with pytest.raises(TypeError, match=expected):
        call(torch.ones(4, 2, 8).to(getattr(torch, dtype)))
    with pytest.raises(TypeError, match=expected):
        call(np.ones((4, 2, 8), dtype=dtype))


@pytest.mark.parametrize("name", ONE_ARRAY)
def test_sparse_memory(name):
    call, argument = ONE_ARRAY[name]
    text = f"Expected `{argument}` to be a dense strided tensor, got layout torch.sparse_coo; call .to_dense() first"
    with pytest.raises(TypeError, match=message(text)):
        call(torch.ones(4, 2, 8).to_sparse())


@pytest.mark.parametrize("name", ONE_ARRAY)
@pytest.mark.parametrize(
    ("array", "got"),
    [
        (np.ones((4, 2, 8), dtype=">f4"), "ndarray of >f4"),
        (np.ones((4, 2, 8), dtype="f4")[:, ::-1], "ndarray of float32"),
    ],
    ids=["byte order", "negative stride"],
)
def test_numpy_memory_that_torch_cannot_share(name, array, got):
    call, argument = ONE_ARRAY[name]
    wanted = "an array that torch can share (native byte order, no negative strides)"
    start = f"Expected `{argument}` to be {wanted}, got {got}: "
    end = "; copy it first, e.g. with numpy.array(value, dtype='float32')"
    with pytest.raises(TypeError, match=f"^{re.escape(start)}.*{re.escape(end)}$"):
        call(array)


# ---- views ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["alignment", "alignment_loss", "sslmem, first", "layermem, second", "LayerMem"])
@pytest.mark.parametrize("shape", [[], [4], [4, 8], [4, 1, 8], [4, 0, 8], [0, 1, 8]], ids=str)
def test_stacks_without_two_views(name, shape):
    call, argument = ONE_ARRAY[name]
    with pytest.raises(ValueError, match=message(f"Expected `{argument}` {VIEWS} {shape}")):
        call(torch.ones(shape))


@pytest.mark.parametrize("name", ["alignment", "sslmem, second", "LayerMem"])
@pytest.mark.parametrize("shape", [[4, 2, 0], [4, 2, 3, 0, 2]], ids=str)
def test_views_without_an_element(name, shape):
    call, argument = ONE_ARRAY[name]
    text = f"Expected `{argument}` to have at least one element per view, got {shape}"
    with pytest.raises(ValueError, match=message(text)):
        call(torch.ones(shape))


def test_layer_stats_with_one_view():
    with pytest.raises(ValueError, match=message(f"Expected `activations` {VIEWS} [4, 1, 3]")):
        memkern.layer_stats(torch.ones(4, 1, 3))
    with pytest.raises(ValueError, match=message(f"Expected `activations` {VIEWS} [4, 1, 3, 5]")):
        memkern.layer_stats(torch.ones(4, 3, 5, 1), view_dim=3, unit_dim=1)


PAIRS = {
    "sslmem": memkern.sslmem,
    "layermem": memkern.layermem,
    "LayerMem": lambda f, g: memkern.LayerMem().update(f, g),
}


@pytest.mark.parametrize("name", PAIRS)
def test_two_stacks_that_do_not_belong_together(name):
    call = PAIRS[name]
    start = "Expected `z_f` and `z_g` to hold the same points and views (equal [N, V]), got [4, 2] and"
    for shape in ((4, 3), (5, 2)):
        with pytest.raises(ValueError, match=message(f"{start} {list(shape)}")):
            call(Z, torch.ones(*shape, 8))
    with pytest.raises(
        TypeError, match=message("Expected `z_f` and `z_g` to have one dtype, got torch.float32 and torch.float64")
    ):
        call(Z, Z.double())
    with pytest.raises(
        RuntimeError,
        match=message("Expected `z_f` and `z_g` on one device, got cpu and meta; move one with .to(device)"),
    ):
        call(Z, Z.to("meta"))


# ---- activations and their dimensions -------------------------------------------------------------------------------

ACTIVATIONS = {
    "unit_means": memkern.unit_means,
    "unitmem": memkern.unitmem,
    "unitmem_stats": memkern.unitmem_stats,
    "classmem": lambda x, **kw: memkern.classmem(x, LABELS, **kw),
    "classmem_stats": lambda x, **kw: memkern.classmem_stats(x, LABELS, **kw),
    "UnitMem": lambda x, **kw: memkern.UnitMem(**kw).update(x),
    "ClassMem": lambda x, **kw: memkern.ClassMem(**kw).update(x, LABELS),
}
BAD_ACTIVATIONS = [
    ([], {}, ValueError, "Expected `activations` to have shape [N, U, ...], got []"),
    ([4], {}, ValueError, "Expected `activations` to have shape [N, U, ...], got [4]"),
    ([4, 2], {"view_dim": 1}, ValueError, "Expected `activations` to have shape [N, V, U, ...], got [4, 2]"),
    (
        [4] + 9 * [1],
        {},
        ValueError,
        "Expected `activations` to have at most 9 dimensions, got 10; flatten the space first",
    ),
    (
        [4, 2, 3],
        {"unit_dim": 3},
        ValueError,
        "Expected `unit_dim` to be a dimension of activations of shape [4, 2, 3], got 3",
    ),
    (
        [4, 2, 3],
        {"view_dim": -4},
        ValueError,
        "Expected `view_dim` to be a dimension of activations of shape [4, 2, 3], got -4",
    ),
    (
        [4, 2, 3],
        {"unit_dim": 0},
        ValueError,
        "Expected `unit_dim` to be a dimension after the points, got dim 0, which holds the points",
    ),
    (
        [4, 2, 3],
        {"view_dim": -3},
        ValueError,
        "Expected `view_dim` to be a dimension after the points, got dim 0, which holds the points",
    ),
    (
        [4, 2, 3],
        {"view_dim": 1, "unit_dim": -2},
        ValueError,
        "Expected `view_dim` and `unit_dim` to differ, got 1 and -2",
    ),
    ([4, 2, 3], {"unit_dim": 1.0}, TypeError, "Expected `unit_dim` to be an int or None, got float"),
    ([4, 2, 3], {"view_dim": True}, TypeError, "Expected `view_dim` to be an int or None, got bool"),
    (
        [4, 2, 0],
        {},
        ValueError,
        "Expected `activations` to have at least one element per point and unit, got [4, 2, 0]",
    ),
    (
        [4, 2, 3],
        {"activation": "gelu"},
        ValueError,
        "Expected `activation` to be one of 'raw', 'relu', 'abs', got 'gelu'",
    ),
    (
        [4, 2, 3],
        {"backend": "gpu"},
        ValueError,
        "Expected `backend` to be one of 'auto', 'reference', 'cpu', 'triton', 'cuda', got 'gpu'",
    ),
]


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize(
    ("shape", "options", "kind", "text"), BAD_ACTIVATIONS, ids=[case[-1] for case in BAD_ACTIVATIONS]
)
def test_activations(name, shape, options, kind, text):
    with pytest.raises(kind, match=message(text)):
        ACTIVATIONS[name](torch.ones(shape), **options)


def test_layer_stats_dimensions():
    for shape, options, kind, text in BAD_ACTIVATIONS[2:]:
        if "activation" not in options and shape != [4, 2, 0] and "view_dim" not in options.keys() - {"backend"}:
            with pytest.raises(kind, match=message(text)):
                memkern.layer_stats(torch.ones(shape), **{"unit_dim": 2, **options})
    with pytest.raises(ValueError, match=message("Expected `view_dim` and `unit_dim` to differ, got 1 and 1")):
        memkern.layer_stats(torch.ones(4, 2, 3), unit_dim=1)


@pytest.mark.parametrize("points", [0, 1])
def test_too_few_points(points):
    text = f"Expected `activations` to hold at least 2 points, got {points}: there is nothing to compare with"
    for call in (memkern.unitmem, memkern.unitmem_stats):
        with pytest.raises(ValueError, match=message(text)):
            call(torch.ones(points, 3))
    with pytest.raises(
        ValueError,
        match=message(
            "Expected `labels` to hold at least 2 classes with points, got 0: there is nothing to compare with"
        ),
    ):
        memkern.classmem(torch.ones(0, 3), torch.ones(0, dtype=torch.int64))
    with pytest.raises(ValueError, match=message("Expected `z_f` to hold at least 1 point, got 0")):
        memkern.layermem(torch.ones(0, 2, 3), torch.ones(0, 2, 3))
