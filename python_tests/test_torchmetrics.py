"""The torchmetrics class agrees with the functional form through updates, forward, merges, saving and moving."""

import builtins
import copy
import importlib
import itertools
import pickle
import sys

import pytest
import torch

import memkern
from python_tests.helpers.testing import assert_same_bits, relu_features

pytest.importorskip("torchmetrics", reason="torchmetrics is an extra (memkern[metrics])")
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy
from torchmetrics.wrappers import Running

from memkern.torchmetrics import UnitMem, merge_packed

MATRIX = torch.tensor([[0.0, 2, 1, 0], [0, 2, 3, 0], [1, 2, 9, 0], [8, 2, 9, 0]])


def assert_same_stats(got, want):
    for name, a, b in zip(got._fields, got, want, strict=True):
        if isinstance(a, torch.Tensor):
            assert_same_bits(a, b, name)
        else:
            assert a == b, name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("options", [{}, {"activation": "abs"}, {"view_dim": 1}, {"unit_dim": -1}], ids=str)
def test_it_is_the_functional_form(options, dtype):
    x = relu_features(9, 3, 4, dtype=dtype)
    metric = UnitMem(**options)
    for batch in x.split([4, 1, 4]):
        metric.update(batch)
    want = memkern.unitmem_stats(x, **options)
    assert_same_bits(metric.stats().peak, want.peak)
    assert metric.stats().index.tolist() == want.index.tolist()
    tolerance = 2 * torch.finfo(want.score.dtype).eps  # the sum of the others in another order, rounded once
    torch.testing.assert_close(metric.compute(), want.score, rtol=tolerance, atol=tolerance)
    assert metric.compute().dtype == want.score.dtype


def test_hand_worked_values_whatever_the_order_of_batches():
    for order in itertools.permutations(range(4)):
        metric = UnitMem()
        for row in order:
            metric.update(MATRIX[row : row + 1], ids=[10 + row])
        assert_same_stats(metric.stats(), memkern.unitmem_stats(MATRIX, ids=torch.arange(10, 14)))


def test_states_without_points_change_nothing():
    negative = UnitMem()
    negative.update(MATRIX - 100)
    empty = negative.state.new_zeros(negative.state.shape)
    for order in ([negative.state, empty], [empty, negative.state], [empty, negative.state, empty]):
        assert torch.equal(merge_packed(torch.stack(order)), negative.state)


def test_nan_ties_and_dead_units():
    x = MATRIX.clone()
    x[1, 0] = torch.nan
    metric = UnitMem()
    metric.update(x[2:], ids=[2, 3])
    metric.update(x[:2], ids=[0, 1])
    stats = metric.stats()
    assert stats.score.isnan().tolist() == [True, False, False, False]
    assert stats.index.tolist() == [1, 0, 2, 0]
    assert int(stats.n_dead) == 1


def test_the_class_attributes_that_spare_a_second_update(monkeypatch):
    metric = UnitMem()
    assert isinstance(metric, Metric)
    assert (metric.full_state_update, metric.is_differentiable, metric.higher_is_better) == (False, False, None)
    calls, original = [], memkern.torchmetrics.selectivity
    monkeypatch.setattr(memkern.torchmetrics, "selectivity", lambda *a, **kw: (calls.append(1), original(*a, **kw))[1])
    metric(MATRIX)
    assert len(calls) == 1


def test_forward_returns_the_batch_and_keeps_the_whole():
    metric = UnitMem()
    first = metric(MATRIX[:2])
    second = metric(MATRIX[2:])
    assert_same_bits(first, memkern.unitmem(MATRIX[:2]))
    assert_same_bits(second, memkern.unitmem(MATRIX[2:]))
    assert_same_stats(metric.stats(), memkern.unitmem_stats(MATRIX))  # ids counted on: 0 to 3


def test_the_state_is_one_tensor_of_constant_size():
    metric = UnitMem()
    assert list(metric.metric_state) == ["state"]
    for batch in relu_features(40, 4).split(7):
        metric.update(batch)
        assert metric.state.shape == (6, 4)
        assert metric.state.dtype == torch.float64


def test_reset_and_merge_state():
    one, two, empty = UnitMem(), UnitMem(), UnitMem()
    one.update(torch.full((2, 4), 99.0))
    one.reset()
    one.update(MATRIX[:2], ids=[0, 1])
    two.update(MATRIX[2:], ids=[2, 3])
    before = two.stats()
    want = memkern.unitmem_stats(MATRIX)
    for metric in (one, empty):
        metric.merge_state(two)
    assert_same_stats(one.stats(), want)
    assert_same_stats(empty.stats(), before)
    one.merge_state(UnitMem())
    assert_same_stats(one.stats(), want)
    assert_same_stats(two.stats(), before)
    again = UnitMem()
    again.update(MATRIX[:2], ids=[0, 1])
    again.merge_state(two.metric_state)
    assert_same_stats(again.stats(), want)


def test_merges_that_are_refused():
    metric = UnitMem()
    metric.update(MATRIX)
    other = UnitMem(activation="abs")
    with pytest.raises(ValueError, match="activation='raw' like this metric, got 'abs'"):
        metric.merge_state(other)
    for batch, kind in ((MATRIX[:, :3], ValueError), (MATRIX.double(), TypeError)):
        other = UnitMem()
        other.update(batch)
        with pytest.raises(kind, match="like those before"):
            metric.merge_state(other)
        with pytest.raises(kind, match="like those before"):
            metric.update(batch)
    assert_same_stats(metric.stats(), memkern.unitmem_stats(MATRIX))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_state_dict_only_when_persistent(dtype, tmp_path):
    metric = UnitMem()
    metric.update(MATRIX.to(dtype), ids=[7, 5, 3, 1])
    assert metric.state_dict() == {}
    metric.persistent(True)
    torch.save(metric.state_dict(), tmp_path / "state.pt")
    loaded = UnitMem()
    loaded.persistent(True)
    loaded.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert_same_stats(loaded.stats(), metric.stats())
    assert loaded.stats().index.tolist() == [1, 1, 1, 1]
    assert_same_stats(copy.deepcopy(metric).stats(), metric.stats())


def test_a_dtype_that_rounds_ids_is_never_taken():
    metric = UnitMem()
    metric.update(MATRIX, ids=[2**52 + 1, 2**52 + 3, 2**52 + 5, 2**52 + 7])
    want = metric.stats()
    parent = torch.nn.Module()
    parent.metric = metric
    for change in (
        parent.half, parent.bfloat16, lambda: parent.to(torch.float16), lambda: metric.set_dtype(torch.float32),
    ):  # fmt: skip
        change()
        assert metric.state.dtype == torch.float64
        assert_same_stats(metric.stats(), want)
    parent.to("cpu")
    assert_same_stats(metric.stats(), want)
    parent.to("meta")
    assert metric.state.device.type == "meta"


@pytest.mark.parametrize("bad", [2**53, -(2**53)])
def test_ids_that_float64_cannot_hold(bad):
    metric = UnitMem()
    with pytest.raises(
        ValueError, match=r"^Expected `ids` below 2\*\*53 \(they are kept in float64\), got 9007199254740992$"
    ):
        metric.update(MATRIX, ids=[0, 1, 2, bad])
    metric.update(MATRIX, ids=[0, 1, 2, 2**53 - 1])
    assert metric.stats().index[0].item() == 2**53 - 1


def test_other_errors():
    with pytest.raises(ValueError, match="Expected `activation` to be one of"):
        UnitMem(activation="gelu")
    with pytest.raises(ValueError, match="Expected `backend` to be one of"):
        UnitMem(backend="gpu")
    with pytest.raises(RuntimeError, match="Expected `activations` and `the metric` on one device, got meta and cpu"):
        UnitMem().update(MATRIX.to("meta"))
    with pytest.raises(TypeError, match="Expected `activations` to be float32"):
        UnitMem().update(MATRIX.long())
    with pytest.raises(ValueError, match=r"Expected `activations` to have shape \[N, U, ...\], got \[\]"):
        UnitMem().update(torch.tensor(1.0))
    with pytest.raises(ValueError, match="one id per point"):
        UnitMem().update(MATRIX, ids=[1])
    metric = UnitMem()
    metric.update(MATRIX[:1])
    with pytest.raises(ValueError, match="Expected `UnitMem` to hold at least 2 points, got 1"):
        metric.compute()


def test_metric_collection():
    both = MetricCollection({"raw": UnitMem(), "abs": UnitMem(activation="abs"), "twin": UnitMem()})
    for batch in (MATRIX, -2 * MATRIX):  # equal after the first batch, not after the second
        both.update(batch)
    whole = torch.cat([MATRIX, -2 * MATRIX])
    got = both.compute()
    for name, activation in (("raw", "raw"), ("abs", "abs"), ("twin", "raw")):
        torch.testing.assert_close(
            got[name], memkern.unitmem(whole, activation=activation), rtol=2**-22, atol=2**-22, equal_nan=True
        )
    values = both(MATRIX, ids=torch.arange(20, 24))
    assert set(values) == {"raw", "abs", "twin"}
    assert both["raw"].stats().count == both["abs"].stats().count == 12


def test_without_torchmetrics_the_extra_is_named(monkeypatch):
    real = builtins.__import__

    def missing(name, *rest):
        if name.partition(".")[0] == "torchmetrics":
            raise ModuleNotFoundError("No module named 'torchmetrics'", name="torchmetrics")
        return real(name, *rest)

    monkeypatch.delitem(sys.modules, "memkern.torchmetrics")
    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ModuleNotFoundError) as caught:
        importlib.import_module("memkern.torchmetrics")
    text = "memkern.torchmetrics needs torchmetrics; install it with `pip install 'memkern[metrics]'`"
    assert (str(caught.value), caught.value.name) == (text, "torchmetrics")


@pytest.mark.field("program", "torchmetrics: forward over a last batch of one image")
def test_forward_over_a_last_batch_of_one():
    x, metric = relu_features(33, 5), UnitMem()
    values = [metric(batch) for batch in x.split(16)]
    assert values[-1].isnan().all()
    assert values[-1].shape == (5,)
    assert not values[0].isnan().any()
    torch.testing.assert_close(metric.stats(), memkern.unitmem_stats(x))
    one = UnitMem(reduction="mean")
    assert one(x[:1]).isnan()
    with pytest.raises(ValueError, match="at least 2 points, got 1"):
        one.compute()


@pytest.mark.parametrize("bad", [torch.ones(4, 3), MATRIX.double(), torch.ones(4, 4).long(), torch.ones(4)])
def test_an_error_in_forward_leaves_the_metric_as_it_was(bad):
    metric = UnitMem()
    metric.update(MATRIX)
    with pytest.raises((ValueError, TypeError)):
        metric(bad)
    assert_same_stats(metric.stats(), memkern.unitmem_stats(MATRIX))
    metric(MATRIX)
    assert (metric.count, metric.update_count) == (8, 2)


@pytest.mark.field("program", "torchmetrics.wrappers.Running")
def test_running_is_the_metric_of_the_last_batches():
    batches, running = relu_features(40, 5).split(8), Running(UnitMem(), window=2)
    for index, batch in enumerate(batches):
        torch.testing.assert_close(running(batch), memkern.unitmem(batch))
        window = torch.cat(batches[max(0, index - 1) : index + 1])
        torch.testing.assert_close(running.compute(), memkern.unitmem(window))
    running.reset()
    running.update(batches[0])
    torch.testing.assert_close(running.compute(), memkern.unitmem(batches[0]))


@pytest.mark.field("program", "torchmetrics: plot")
def test_plots():
    pytest.importorskip("matplotlib").use("Agg")
    metric = UnitMem()
    steps = [metric(batch) for batch in relu_features(24, 5).split(8)]
    axes = metric.plot()[1]
    assert [float(line.get_ydata()[0]) for line in axes.lines] == pytest.approx(metric.compute().tolist())
    curves = metric.plot(steps)[1].lines
    assert torch.tensor([list(curve.get_ydata()) for curve in curves]).T.tolist() == torch.stack(steps).tolist()
    figure, axes = UnitMem(reduction="mean").plot(steps[0].mean(), ax=axes)
    assert figure is None


@pytest.mark.field("program", "torchmetrics.MetricCollection with metrics of (preds, target)")
def test_labels_never_become_ids():
    x, y = relu_features(16, 5), torch.arange(16) % 5
    both = MetricCollection({"acc": MulticlassAccuracy(5), "um": UnitMem()})
    for call in (both.update, both):
        with pytest.raises(TypeError, match="pass `ids` by name; labels are not taken"):
            call(x, y)
    both.reset()
    both.update(preds=x, target=y, activations=x)
    assert_same_stats(both["um"].stats(), memkern.unitmem_stats(x))


def test_compute_groups_hold_metrics_of_equal_options_only():
    options = ({}, {"unit_dim": 1}, {"unit_dim": 2}, {"view_dim": 1}, {"activation": "abs"})
    metrics = MetricCollection({str(index): UnitMem(**each) for index, each in enumerate(options)})
    metrics.update(torch.zeros(4, 3, 3))  # every metric has the same numbers so far
    x = relu_features(6, 3, 3)
    metrics.update(x)
    assert len(metrics.compute_groups) == len(options)
    whole = torch.cat([torch.zeros(4, 3, 3), x])
    for index, each in enumerate(options):
        torch.testing.assert_close(metrics[str(index)].compute(), memkern.unitmem(whole, **each))
    twins = MetricCollection({"units": UnitMem(), "mean": UnitMem(reduction="mean")})
    twins.update(MATRIX)
    twins.update(MATRIX)
    assert len(twins.compute_groups) == 1
    assert float(twins.compute()["mean"]) == pytest.approx(float(twins.compute()["units"].mean()))


def test_the_mean_is_one_number_over_defined_scores():
    x = torch.tensor([[1.0, 0.0, torch.nan], [3.0, 0.0, 1.0], [1.0, 0.0, 2.0]])
    metric = UnitMem(reduction="mean")
    metric.update(x)
    assert metric.compute().shape == ()
    assert float(metric.compute()) == pytest.approx((0.5 + 0) / 2)
    with pytest.raises(ValueError, match="Expected `reduction` to be one of 'none', 'mean', got 'sum'"):
        UnitMem(reduction="sum")


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
@pytest.mark.parametrize("options", [{}, {"view_dim": 1, "reduction": "mean"}], ids=str)
def test_it_can_be_scripted(options):
    metric = UnitMem(**options)
    metric.update(relu_features(4, 3, 2))
    assert_same_bits(torch.jit.script(metric).state, metric.state, "state")


def test_what_torchmetrics_own_tester_asks_of_a_metric():
    metric = UnitMem()
    for name in ("is_differentiable", "higher_is_better", "full_state_update"):
        with pytest.raises(RuntimeError, match=name):
            setattr(metric, name, True)
    with pytest.warns(UserWarning, match="before the ``update`` method"), pytest.raises(ValueError, match="got 0"):
        metric.compute()
    other = UnitMem()
    assert hash(metric) == hash(metric) != hash(other)  # as torchmetrics' own: by the object and its states
    before = hash(metric)
    metric.update(MATRIX)
    assert hash(metric) != before
    again = pickle.loads(pickle.dumps(metric))
    for other in (metric.clone(), again, copy.deepcopy(metric)):
        assert_same_stats(other.stats(), metric.stats())
        other.update(MATRIX)
        assert (other.count, metric.count) == (8, 4)
    assert metric.compute() is metric.compute()  # cached
    metric.reset()
    assert (metric.count, metric.state.shape) == (0, (6, 0))
    leaf = MATRIX.clone().requires_grad_()
    assert not metric(leaf).requires_grad


def _sync(rank, folder):
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    x = relu_features(21, 5)
    mine = (x[:16], x[16:])[rank]  # a last batch of one on the second process alone
    ids = (torch.arange(16), torch.arange(16, 21))[rank]
    metric, mean, steps = UnitMem(), UnitMem(reduction="mean"), UnitMem(dist_sync_on_step=True)
    for batch, number in zip(mine.split((8, 4)[rank]), ids.split((8, 4)[rank]), strict=True):
        metric(batch, ids=number)
        mean.update(batch, ids=number)
        found = steps(batch, ids=number)
    torch.save((metric.stats(), metric.count, mean.compute(), found, steps.compute()), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.long
@pytest.mark.field("program", "torchmetrics over processes")
def test_two_processes(tmp_path):
    torch.multiprocessing.spawn(_sync, (str(tmp_path),), nprocs=2)
    x = relu_features(21, 5)
    for rank, own in enumerate((16, 5)):
        stats, count, mean, step, whole = torch.load(tmp_path / f"{rank}.pt", weights_only=False)
        torch.testing.assert_close(stats, memkern.unitmem_stats(x))
        assert count == own
        torch.testing.assert_close(mean, memkern.unitmem(x).mean())
        torch.testing.assert_close(step, memkern.unitmem(torch.cat([x[8:16], x[20:]])))
        torch.testing.assert_close(whole, memkern.unitmem(x))
