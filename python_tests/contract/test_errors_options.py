"""Errors of options, ids, labels and states, word for word, and none of them after any work was done."""

import pytest
import torch
from test_errors import LABELS, X, Z, message, no_work  # noqa: F401  (no_work is used by every test)

import memkern
from memkern import dispatch, native

# ---- options --------------------------------------------------------------------------------------------------------

BAD_OPTIONS = [
    (memkern.alignment, (Z,), "pairs", "'all', 'anchor'"),
    (memkern.alignment_loss, (Z,), "pairs", "'all', 'anchor'"),
    (memkern.alignment_loss, (Z,), "reduction", "'mean', 'sum', 'none'"),
    (memkern.layer_stats, (Z,), "pairs", "'all', 'anchor'"),
    (memkern.sslmem, (Z, Z), "pairs", "'all', 'anchor'"),
    (memkern.sslmem, (Z, Z), "scale", "'none', 'ratio', 'range'"),
    (memkern.sslmem, (Z, Z), "compat", "'scripts'"),
    (memkern.layermem, (Z, Z), "pairs", "'all', 'anchor'"),
    (memkern.layermem, (Z, Z), "scale", "'none', 'ratio', 'range'"),
    (memkern.layermem, (Z, Z), "compat", "'scripts'"),
    (memkern.LayerMem, (), "scale", "'none', 'ratio', 'range'"),
    (memkern.LayerMem, (), "pairs", "'all', 'anchor'"),
    (memkern.unitmem, (X,), "rest", "'mean', 'median'"),
    (memkern.unitmem, (X,), "compat", "'scripts'"),
    (memkern.unitmem_stats, (X,), "rest", "'mean', 'median'"),
    (memkern.UnitMem, (), "rest", "'mean', 'median'"),
    (memkern.UnitMem, (), "activation", "'raw', 'relu', 'abs'"),
    (memkern.classmem, (X, LABELS), "rest", "'mean', 'median'"),
    (memkern.classmem, (X, LABELS), "compat", "'scripts'"),
    (memkern.ClassMem, (), "rest", "'mean', 'median'"),
    (memkern.ClassMem, (), "activation", "'raw', 'relu', 'abs'"),
]
BACKENDS = "'auto', 'reference', 'cpu', 'triton', 'cuda'"
EVERY_BACKEND = {call: arguments for call, arguments, _, _ in BAD_OPTIONS}


def option_id(value: object) -> str:
    """The same in every worker of a parallel run: no addresses."""
    return getattr(value, "__name__", None) or (value if isinstance(value, str) else "arguments")


@pytest.mark.parametrize(("call", "arguments", "option", "wanted"), BAD_OPTIONS, ids=option_id)
@pytest.mark.parametrize("bad", ["nonsense", None, 3, ["all"]], ids=str)
def test_unknown_options(call, arguments, option, wanted, bad):
    if option == "compat" and bad is None:
        return  # the default
    with pytest.raises(ValueError, match=message(f"Expected `{option}` to be one of {wanted}, got {bad!r}")):
        call(*arguments, **{option: bad})


@pytest.mark.parametrize("call", EVERY_BACKEND, ids=lambda call: call.__name__)
def test_unknown_backend(call):
    with pytest.raises(ValueError, match=message(f"Expected `backend` to be one of {BACKENDS}, got 'gpu'")):
        call(*EVERY_BACKEND[call], backend="gpu")


@pytest.mark.parametrize(
    "call", [call for call in EVERY_BACKEND if not isinstance(call, type)], ids=lambda c: c.__name__
)
@pytest.mark.parametrize("backend", ["triton", "cuda"])
def test_a_backend_that_cannot_run_says_why(call, backend, monkeypatch):
    monkeypatch.undo()  # here `pick` itself is asked
    reason = dispatch.why_not(backend, torch.device("cpu"))
    assert reason
    text = f"backend={backend!r} cannot run here: {reason}; see memkern.backends() for those that can"
    with pytest.raises(RuntimeError, match=message(text)):
        call(*EVERY_BACKEND[call], backend=backend)


def test_a_missing_library_says_so_and_auto_warns(monkeypatch):
    monkeypatch.undo()
    reason = "the compiled library is missing (gone); install memkern with `pip install .`"
    monkeypatch.setattr(native, "load", lambda: (None, reason))
    text = f"backend='cpu' cannot run here: {reason}; see memkern.backends() for those that can"
    with pytest.raises(RuntimeError, match=message(text)):
        memkern.unitmem(X, backend="cpu")
    with pytest.warns(
        memkern.MemkernWarning, match=message(f"memkern runs its slow float64 reference on cpu: cpu: {reason}")
    ) as warned:
        memkern.alignment(Z)
    assert [record.filename for record in warned] == [__file__]  # it points at the caller
    with pytest.raises(RuntimeError, match=message(f"memkern: {reason}")):
        native.library()


# ---- ids and labels -------------------------------------------------------------------------------------------------

ONE_PER_POINT = {
    "ids": [
        lambda value: memkern.unitmem_stats(X, ids=value),
        lambda value: memkern.UnitMem().update(X, ids=value),
        lambda value: memkern.LayerMem().update(Z, Z, ids=value),
        lambda value: memkern.LayerMem().update_alignments(torch.ones(4), torch.ones(4), ids=value),
    ],
    "labels": [
        lambda value: memkern.classmem(X, value),
        lambda value: memkern.ClassMem().update(X, value),
    ],
}


@pytest.mark.parametrize("name", ONE_PER_POINT)
def test_one_int64_per_point(name):
    for call in ONE_PER_POINT[name]:
        for value, got in (
            ([0.0, 1, 2, 3], "float32"),
            (torch.ones(4, dtype=torch.int32), "int32"),
            ([True] * 4, "bool"),
        ):
            with pytest.raises(
                TypeError, match=message(f"Expected `{name}` to be int64, got {got}; call .long() first")
            ):
                call(value)
        for value, got in (([0, 1, 2], [3]), ([[0], [1], [2], [3]], [4, 1]), (5, [])):
            text = f"Expected `{name}` to have shape [4], one {name[:-1]} per point, got {got}"
            with pytest.raises(ValueError, match=message(text)):
                call(value)


def test_label_values():
    for call in (memkern.classmem, lambda x, y, **kw: memkern.ClassMem(**kw).update(x, y)):
        with pytest.raises(ValueError, match=message("Expected `labels` to be at least 0, got values from -1 to 2")):
            call(X, torch.tensor([0, -1, 2, 1]))
        with pytest.raises(ValueError, match=message("Expected `labels` to be in [0, 2), got values from 0 to 2")):
            call(X, torch.tensor([0, 0, 2, 1]), num_classes=2)
        with pytest.raises(ValueError, match=message("Expected `num_classes` to be at least 1, got 0")):
            call(X, LABELS, num_classes=0)


# ---- states ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", [memkern.UnitMem, memkern.ClassMem, memkern.LayerMem])
def test_state_dicts_that_do_not_fit(call):
    with pytest.raises(TypeError, match=message("Expected `state` to be a dict from state_dict(), got list")):
        call().load_state_dict([])
    with pytest.raises(ValueError, match=r"^Expected `state` to have the entries \[.*\], got \['peak'\]$"):
        call().load_state_dict({"peak": torch.ones(3)})


def test_a_median_state_is_no_mean_state():
    entries = ["count", "index", "low", "peak", "rest"]
    text = f"Expected `state` to have the entries {sorted([*entries, 'means'])}, got {entries}"
    with pytest.raises(ValueError, match=message(text)):
        memkern.UnitMem(rest="median").load_state_dict({name: torch.ones(1) for name in entries})


@pytest.mark.parametrize(
    ("call", "one", "two", "text"),
    [
        (memkern.UnitMem, {}, {"rest": "median"}, "rest='mean' like this metric, got 'median'"),
        (memkern.UnitMem, {"activation": "abs"}, {}, "activation='abs' like this metric, got 'raw'"),
        (memkern.ClassMem, {}, {"num_classes": 3}, "num_classes=None like this metric, got 3"),
        (memkern.LayerMem, {}, {"scale": "none"}, "scale='ratio' like this metric, got 'none'"),
        (memkern.LayerMem, {}, {"pairs": "anchor"}, "pairs='all' like this metric, got 'anchor'"),
        (memkern.LayerMem, {}, {"normalize": False}, "normalize=True like this metric, got False"),
    ],
)
def test_merging_metrics_of_other_options(call, one, two, text):
    with pytest.raises(ValueError, match=message(f"Expected `other` to have {text}")):
        call(**one).merge(call(**two))


def test_merging_other_things():
    with pytest.raises(TypeError, match=message("Expected `other` to be a UnitMem, got ClassMem")):
        memkern.UnitMem().merge(memkern.ClassMem())
    with pytest.raises(TypeError, match=message("Expected `other` to be a LayerMem, got dict")):
        memkern.LayerMem().merge({})


def test_states_of_other_units_dtypes_and_devices():
    metric = memkern.UnitMem()
    state = {"peak": torch.ones(3), "index": torch.zeros(3), "rest": torch.ones(3), "low": torch.ones(3)}
    metric.load_state_dict({**state, "count": torch.tensor(2)})
    for change, kind, text in (
        (lambda x: x[:2], ValueError, "Expected a batch or state of 3 units like those before, got 2"),
        (
            lambda x: x.double(),
            TypeError,
            "Expected results of torch.float32 like those before, got torch.float64; cast the batch first",
        ),
        (
            lambda x: x.to("meta"),
            RuntimeError,
            "Expected `the state` and `the batch` on one device, got cpu and meta; move one with .to(device)",
        ),
    ):
        other = memkern.UnitMem()
        other.load_state_dict({**{name: change(value) for name, value in state.items()}, "count": torch.tensor(2)})
        with pytest.raises(kind, match=message(text)):
            metric.merge(other)


def test_alignments_of_unequal_shape():
    for a, b in ((torch.ones(3), torch.ones(4)), (torch.ones(3, 1), torch.ones(3, 1))):
        text = (
            f"Expected `alignment_f` and `alignment_g` to have one shape [N], got {list(a.shape)} and {list(b.shape)}"
        )
        with pytest.raises(ValueError, match=message(text)):
            memkern.LayerMem().update_alignments(a, b)


def test_delta_of_something_else():
    with pytest.raises(TypeError, match=message("Expected `values` to hold one number per tap, got ['a', 1.0]")):
        memkern.delta_layermem(["a", 1.0])
