"""Two processes over gloo: every metric ends up with all points, also where one process saw none."""

import os
import pickle

import pytest
import torch
import torch.distributed as dist

import memkern
from python_tests.helpers.testing import assert_same_bits, randn, relu_features

POINTS = 11
LABELS = torch.arange(POINTS) % 4
# Case -> the points of each process, out of order and of unequal number.
SHARES = {
    "both": ([10, 0, 4, 2, 6], [1, 3, 5, 7, 8, 9]),
    "first only": (list(range(POINTS)), []),
    "second only": ([], [*range(5, POINTS), *range(5)]),
}


def data():
    # Small integers, so that float64 sums are exact and every bit must agree.
    x = (relu_features(POINTS, 3, 5) * 8).round() * 3
    x[..., 4] -= 99  # a unit below zero everywhere: a process without points must not pass for one with peak 0
    return x, randn(POINTS, 3, 6), randn(POINTS, 3, 4)


def metrics():
    made = {
        "UnitMem": memkern.UnitMem(view_dim=1),
        "UnitMem, median": memkern.UnitMem(view_dim=1, rest="median"),
        "ClassMem": memkern.ClassMem(view_dim=1),
        "LayerMem": memkern.LayerMem(),
    }
    try:
        from memkern.torchmetrics import UnitMem
    except ModuleNotFoundError:
        return made
    return {**made, "torchmetrics": UnitMem(view_dim=1)}


def fill(name, metric, chosen):
    x, z_f, z_g = data()
    for batch in (chosen[:2], chosen[2:]):
        if not batch:
            continue
        ids = torch.tensor(batch) * 3
        if name == "LayerMem":
            metric.update(z_f[batch], z_g[batch], ids=ids)
        elif name == "ClassMem":
            metric.update(x[batch], LABELS[batch])
        else:
            metric.update(x[batch], ids=ids)


def plain(stats):
    """Named tuples of torch results as something that any process can unpickle."""
    return {
        name: value.numpy() if isinstance(value, torch.Tensor) else value for name, value in stats._asdict().items()
    }


def process(rank, folder):
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    found = {}
    for case, shares in SHARES.items():
        for name, metric in metrics().items():
            fill(name, metric, shares[rank])
            if name == "torchmetrics":
                own = metric.count
                score = metric.compute()  # syncs, and goes back to this process's own points
                stats = metric.stats()
                assert torch.equal(score, stats.score)
                assert metric.count == own
                metric.sync()
                assert metric.count == POINTS
                metric.unsync()
                assert metric.count == own
            else:
                metric.sync()
                stats = metric.stats()
            found[case, name] = plain(stats)
    collectives = count_collectives()
    with open(f"{folder}/{rank}.pickle", "wb") as file:
        pickle.dump((found, collectives), file)
    dist.destroy_process_group()


def count_collectives():
    """How many data collectives one sync of each metric makes."""
    counts, real = {}, dist.all_gather_object
    for name, metric in metrics().items():
        if name == "torchmetrics":
            continue
        calls = []
        dist.all_gather_object = lambda *a, calls=calls, **kw: (calls.append(1), real(*a, **kw))[1]
        fill(name, metric, [1, 2])
        metric.sync()
        dist.all_gather_object = real
        counts[name] = len(calls)
    return counts


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    if not dist.is_available() or not dist.is_gloo_available():
        pytest.skip("this torch has no gloo")
    folder = tmp_path_factory.mktemp("gloo")
    torch.multiprocessing.spawn(process, args=(str(folder),), nprocs=2)
    return [pickle.loads((folder / f"{rank}.pickle").read_bytes()) for rank in range(2)]


@pytest.mark.parametrize("case", SHARES)
@pytest.mark.parametrize("name", ["UnitMem", "UnitMem, median", "ClassMem", "LayerMem", "torchmetrics"])
def test_both_processes_hold_the_statistics_of_all_points(name, case, results):
    if name not in metrics():
        pytest.skip("torchmetrics is an extra (memkern[metrics])")
    alone = metrics()[name]
    fill(name, alone, list(range(POINTS)))
    want = plain(alone.stats())
    for found, _ in results:
        got = found[case, name]
        assert got.keys() == want.keys()
        for field, value in want.items():
            assert_same_bits(torch.as_tensor(got[field]), torch.as_tensor(value), f"{name}, {case}, {field}")
    if name != "ClassMem" and "index" in want:
        assert set(want["index"]) <= {3 * point for point in range(POINTS)}  # dataset ids, not places


def test_one_collective_per_metric(results):
    for _, collectives in results:
        assert set(collectives.values()) == {1}
        assert len(collectives) == 4


def test_without_a_process_group_sync_changes_nothing():
    for name, metric in metrics().items():
        fill(name, metric, list(range(POINTS)))
        before = plain(metric.stats())
        metric.sync()
        for field, value in plain(metric.stats()).items():
            assert_same_bits(torch.as_tensor(value), torch.as_tensor(before[field]))
