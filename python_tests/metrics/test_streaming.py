"""Every streaming metric: any split, any order of merging, empty batches, NaN, ties, copies, saved states, devices."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from streaming_suite import CASES, assert_same_stats, batches, points, some_points, through_pickle

import memkern
from memkern.metrics.base import Streaming
from python_tests.helpers.testing import forced_path, relu_features, running_paths

MEMKERNS = [name for name in CASES if name != "torchmetrics"]


@pytest.fixture(params=CASES)
def case(request):
    made = CASES[request.param]
    made.new()  # skips where an extra is missing
    return made


@pytest.fixture(params=MEMKERNS)
def own(request):
    return CASES[request.param]


def twelve():
    """Twelve points of which some tie, one unit is dead, and one holds a NaN."""
    x = (relu_features(12, 2, 4)[:, 0] * 4).round()
    x[:, 1] = 0
    x[7, 2] = torch.nan
    return points(x)


def test_every_streaming_metric_has_a_case():
    assert {each.__name__ for each in Streaming.__subclasses__()} == {
        CASES[name].new().__class__.__name__ for name in MEMKERNS
    }


@settings(max_examples=40, deadline=None)
@given(data=st.data(), whole=some_points())
def test_any_split_and_any_order_of_merging_give_the_same_bits(case, data, whole):
    rows = data.draw(batches(len(whole.x)))
    # Any tree of merges: the place of a metric that takes in the one behind it, until one is left.
    merges = [data.draw(st.integers(0, left - 2)) for left in range(len(rows), 1, -1)]
    for path in running_paths():
        with forced_path(path) as backend:
            want = case.in_memory(whole, backend)
            streamed = case.new(backend=backend)
            for part in rows:
                case.update(streamed, whole[part])
            assert_same_stats(streamed.stats(), want)
            parts = [case.of(whole[part], backend=backend) for part in rows]
            for place in merges:
                taken = parts.pop(place + 1)
                case.merge(parts[place], taken)
            assert_same_stats(parts[0].stats(), want)


def test_batches_without_points_change_nothing(case):
    whole = twelve()
    metric = case.new()
    for rows in ([], [0, 1], [], list(range(2, 12)), []):
        case.update(metric, whole[rows])
    assert_same_stats(metric.stats(), case.of(whole).stats())


@pytest.mark.parametrize("copied", [copy.deepcopy, copy.copy, through_pickle], ids=["deepcopy", "copy", "pickle"])
def test_a_copy_is_the_same_and_goes_its_own_way(case, copied):
    whole = twelve()
    metric = case.of(whole[:8])
    before = metric.stats()
    twin = copied(metric)
    assert_same_stats(twin.stats(), before)
    case.update(twin, whole[8:])
    assert_same_stats(metric.stats(), before)
    assert_same_stats(twin.stats(), case.of(whole).stats())


@pytest.mark.parametrize("through", ["dict", "torch.save", "safetensors"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_state_dict_round_trip(case, through, dtype, tmp_path):
    whole = twelve().to(dtype)
    metric = case.of(whole[[5, 2]])
    case.update(metric, whole[[3, 4, 9]])
    state = metric.state_dict()
    assert tuple(state) == case.entries
    if through == "torch.save":
        torch.save(state, tmp_path / "state.pt")
        state = torch.load(tmp_path / "state.pt", weights_only=True)
    elif through == "safetensors":
        pytest.importorskip("safetensors", reason="safetensors is an extra (memkern[lab])")
        from safetensors.torch import load_file, save_file

        save_file(dict(state), tmp_path / "state.safetensors")
        state = load_file(tmp_path / "state.safetensors")
    loaded = case.new()
    loaded.load_state_dict(state)
    assert_same_stats(loaded.stats(), metric.stats())
    assert loaded.compute().dtype == dtype
    for each in (loaded, metric):  # and both go on
        case.update(each, whole[[0, 1, 7]])
    assert_same_stats(loaded.stats(), metric.stats())


def test_states_that_are_refused_and_leave_the_metric_alone(own):
    metric = own.of(twelve())
    want, state = metric.stats(), metric.state_dict()
    missing = dict(list(state.items())[1:])
    for bad, kind in ((missing, ValueError), ({**state, "more": torch.ones(1)}, ValueError), ([1], TypeError)):
        with pytest.raises(kind, match="Expected `state` to") as caught:
            metric.load_state_dict(bad)
        assert isinstance(caught.value, memkern.MemkernError)
        assert_same_stats(metric.stats(), want)


def test_empty_metrics_reset_and_what_merging_leaves_alone(own):
    whole = twelve()
    assert getattr(own.new(), "count", 0) == 0
    empty, metric, other = own.new(), own.of(whole), own.of(whole[6:])
    assert empty.state_dict() == {}
    metric.reset()
    assert metric.state_dict() == {}
    assert getattr(metric, "count", 0) == 0
    own.update(metric, whole[:6])
    before = other.stats()
    state = {name: value.clone() for name, value in other.state_dict().items()}
    metric.merge(other)
    metric.merge(empty)
    assert empty.state_dict() == {}
    empty.merge(metric)
    assert_same_stats(metric.stats(), own.of(whole).stats())
    assert_same_stats(empty.stats(), metric.stats())
    own.update(metric, whole)  # into what was merged, not into what it was merged from
    assert_same_stats(other.stats(), before)
    assert_same_stats(empty.stats(), own.of(whole).stats())
    for name, value in other.state_dict().items():
        assert torch.equal(value.nan_to_num(9e9), state[name].nan_to_num(9e9)), name
    assert getattr(metric, "count", 24) == 24
    metric.load_state_dict({})
    assert metric.state_dict() == {}
    assert metric.to("cpu").state_dict() == {}


def test_merges_with_another_class_or_other_options_are_refused(own):
    metric = own.of(twelve())
    want = metric.stats()
    with pytest.raises(TypeError, match="Expected `other` to be a"):
        metric.merge(object())
    for name in own.make._OPTIONS:
        other = own.of(twelve())
        setattr(other, name, "another")
        with pytest.raises(ValueError, match=f"Expected `other` to have {name}="):
            metric.merge(other)
    assert_same_stats(metric.stats(), want)


def test_to_moves_all_but_numbers(own):
    metric = own.of(twelve())
    before = metric.stats()
    assert metric.to("cpu") is metric
    assert_same_stats(metric.stats(), before)
    moved = metric.to("meta").state_dict()
    assert tuple(moved) == own.entries
    for name, value in moved.items():
        assert value.device.type == ("meta" if value.dim() and name != "wide" else "cpu"), name


def test_too_few_points_are_an_error(own):
    metric = own.new()
    with pytest.raises(ValueError, match="to hold at least"):
        metric.compute()
    with pytest.raises(ValueError, match="to hold at least"):
        metric.stats()


def test_sync_without_a_process_group_changes_nothing(own):
    metric, empty = own.of(twelve()), own.new()
    before = metric.stats()
    for each in (metric, empty):
        each.sync()
    assert_same_stats(metric.stats(), before)
    assert empty.state_dict() == {}


def test_plot_is_a_histogram_of_the_scores(own):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    metric = own.of(twelve())
    stats = metric.stats()
    each = stats.sslmem if isinstance(metric, memkern.LayerMem) else stats.score
    axes = metric.plot().axes[0]
    heights, undefined = sum(bar.get_height() for bar in axes.patches), int(each.isnan().sum())
    assert heights == len(each) - undefined
    assert (f"{undefined} undefined" in axes.get_title()) == bool(undefined)
    assert str(len(each)) in axes.get_title()
    with pytest.raises(ValueError, match="point"):
        own.new().plot()


def test_a_state_from_a_gpu_is_computed_where_it_is_now():
    there, here = memkern.ClassMem(backend="cuda"), memkern.ClassMem()
    here.update(torch.tensor([[1.0], [3.0], [6.0]]), torch.tensor([0, 0, 1]))
    there.load_state_dict(here.state_dict())
    assert there.compute().tolist() == here.compute().tolist() == [0.5]
