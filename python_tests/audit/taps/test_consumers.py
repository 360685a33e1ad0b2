"""Which layer alone reads what another one makes: on chains, branches, repeats, views and overwritten memory."""

from __future__ import annotations

import torch
from fused_models import batch, made

from memkern.audit.taps.consumers import memory_of
from memkern.audit.taps.hook_points import find_layers


def test_consumers_are_those_that_read_alone() -> None:
    def consumers(which: str) -> dict[str, str]:
        return {
            hook_point.name: hook_point.consumer for hook_point in find_layers(made(which), batch()[:2]).hook_points
        }

    assert consumers("block") == {
        "conv1": "bn1",
        "bn1": "relu",
        "relu": "conv2",
        "conv2": "bn2",
        "bn2": "",
        "relu_1": "",
    }
    assert consumers("before") == {"bn": "", "relu": "conv", "conv": "", "output": ""}
    assert consumers("changed") == {"conv": "", "bn": "relu", "relu": ""}
    assert consumers("branches") == {"conv": "", "right": "", "left": "relu", "relu": "", "relu_1": "", "output": ""}
    again = {"conv_1": "bn", "bn_1": "", "relu_1": "", "output": ""}
    assert consumers("shared") == {"conv": "bn", "bn": "relu", "relu": "conv", **again}
    assert consumers("viewed") == {"conv": "bn", "bn": "", "relu": "", "output": ""}
    assert consumers("vgg") == {"0": "1", "1": "2", "2": "3", "3": ""}


def test_memory_of_what_has_none() -> None:
    assert memory_of(torch.eye(3).to_sparse()) is None
    assert memory_of(None) is None
    x = torch.rand(4)
    assert memory_of(x[1:]) == memory_of(x) != memory_of(x.clone())
