"""Monitor on models that a trainer has wrapped: mixed precision, copies on several processes, shards."""

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard

from memkern.audit import Monitor
from python_tests.audit.monitor.test_monitor import Net, probe


@pytest.mark.field("program", "accelerate in bf16")
def test_accelerate_in_bf16_changes_no_number():
    accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed")
    model = Net()
    want = Monitor(probe(), n_views=2, show=None).step(model, 0)
    prepared = accelerate.Accelerator(mixed_precision="bf16", cpu=True).prepare(model)
    before = prepared.forward
    assert Monitor(probe(), n_views=2, show=None).step(prepared, 0) == pytest.approx(want, rel=0, abs=0, nan_ok=True)
    assert prepared.forward is before


def _sharded(rank, folder, kind):
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU()), nn.Flatten(), nn.Linear(600, 4))
    want = Monitor(probe(), n_views=2, show=None).step(model, 0)
    if kind == "ddp":
        model = nn.parallel.DistributedDataParallel(model)
    elif kind == "fsdp":
        model[0] = FullyShardedDataParallel(model[0], device_id=torch.device("cpu"))
        model = FullyShardedDataParallel(model, device_id=torch.device("cpu"))
    else:
        for part in (model[0], model):
            fully_shard(part, mesh=dist.init_device_mesh("cpu", (2,)))
    watch = Monitor(probe(), n_views=2, show=None)
    got = watch.step(model, 0)
    model.train()
    model(probe()).sum().backward()
    torch.save((want, got, watch.step(model, 1)), f"{folder}/{rank}.pt")
    dist.barrier()  # a process that ends while the other still works aborts in gloo's threads
    dist.destroy_process_group()


@pytest.mark.long
@pytest.mark.field("program", "DDP, FSDP and fully_shard")
@pytest.mark.parametrize("kind", ["ddp", "fsdp", "fully_shard"])
def test_wrapped_and_sharded_models_give_the_same_numbers_on_every_process(tmp_path, kind):
    torch.multiprocessing.spawn(_sharded, (str(tmp_path), kind), nprocs=2)
    for rank in range(2):
        want, got, again = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert got == pytest.approx(want, rel=0, abs=0, nan_ok=True)
        assert again == pytest.approx(want, rel=0, abs=0, nan_ok=True)
