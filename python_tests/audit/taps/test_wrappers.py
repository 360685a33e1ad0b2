"""Models inside DDP, FSDP, DataParallel and `torch.compile`, and models whose parts are compiled alone."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from memkern.audit.taps.hook_points import find_layers
from memkern.audit.taps.tap import Tap


@pytest.fixture
def x() -> Tensor:
    return torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def test_wrappers_are_taken_off(x: Tensor) -> None:
    inner = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    compiled = torch.compile(inner, backend="eager")
    compiled(x)
    with Tap(compiled, ["0"], n_views=2) as tap, torch.no_grad():
        tap.model(x)
    wanted = tap.take()["0"].unit_means
    in_place = nn.Sequential(inner[0], inner[1])
    in_place.compile(backend="eager")
    with torch.no_grad():
        in_place(x)
        with Tap(in_place, ["0"], n_views=2) as tap:
            tap.model(x)
        assert torch.equal(tap.take()["0"].unit_means, wanted)
    assert in_place._compiled_call_impl is not None
    parallel = nn.DataParallel(inner)
    assert [hook_point.name for hook_point in find_layers(parallel, x).hook_points] == ["0", "1"]
    nested = nn.Sequential(torch.compile(inner, backend="eager"))
    assert [hook_point.name for hook_point in find_layers(nested, x).hook_points] == ["0.0", "0.1"]


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("ran", [False, True])
def test_submodules_that_are_compiled_alone(in_place: bool, ran: bool, x: Tensor) -> None:
    """They run as plain Python inside the block, under their own names, and are compiled again after it."""
    from torch._dynamo.utils import counters

    def layers() -> nn.Sequential:
        torch.manual_seed(0)
        return nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), nn.Conv2d(4, 2, 1), nn.Flatten())

    def stats(model: nn.Module) -> dict[str, Tensor]:
        with torch.inference_mode(), Tap(model, "*", n_views=2, example=x[:2]) as tap:
            for _ in range(2):
                tap.model(x)
                found = {name: each.unit_means for name, each in tap.take().items() if each.unit_means is not None}
        return found

    torch.compiler.reset()
    wanted, model = stats(layers()), layers().eval()
    for name in ("0", "1"):
        if in_place:
            model.get_submodule(name).compile(backend="eager")
        else:
            model[int(name)] = torch.compile(model[int(name)], backend="eager")
    if ran:
        with torch.no_grad():
            model(x)
    counters.clear()
    found = stats(model)
    assert not counters["frames"]
    assert list(found) == list(wanted) == ["0.0", "0.1", "1"]
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    with torch.no_grad():
        model(torch.cat([x, x]))
    assert counters["frames"]["ok"] >= 1  # nothing was compiled inside, and compilation works again


@pytest.fixture
def group() -> Iterator[None]:
    from torch import distributed

    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.usefixtures("group")
def test_distributed_data_parallel(x: Tensor) -> None:
    inner = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    with Tap(nn.parallel.DistributedDataParallel(inner), ["0"], n_views=2) as tap, torch.no_grad():
        tap.model(x)
    assert tap.model is inner
    assert tap.take()["0"].unit_means.shape == (3, 4)


def _tapped(model: nn.Module) -> list[Tensor]:
    x = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    with Tap(model, ["0", "3"], n_views=3) as tap, torch.no_grad():
        tap.model(x)
    return [part for stats in tap.take().values() for part in stats[:2] if part is not None]


def _tap_shards(rank: int, kind: str, store: str) -> None:
    """One of two processes that each hold half of a model's weights."""
    from torch import distributed
    from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard

    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5))
    wanted = _tapped(model)
    if kind == "fully_shard":
        mesh = distributed.device_mesh.init_device_mesh("cpu", (2,))
        for part in (model[0], model[3], model):
            fully_shard(part, mesh=mesh)
        sharded: nn.Module = model
    else:
        sharded = FullyShardedDataParallel(model, device_id=torch.device("cpu"), use_orig_params=True)
    for got, want in zip(_tapped(sharded), wanted, strict=True):
        assert torch.equal(got, want)
    distributed.destroy_process_group()


@pytest.mark.parametrize("kind", ["fully_shard", "FullyShardedDataParallel"])
def test_weights_shared_by_processes(kind: str, tmp_path: Path) -> None:
    from torch import multiprocessing

    multiprocessing.spawn(_tap_shards, (kind, str(tmp_path / "store")), nprocs=2)
