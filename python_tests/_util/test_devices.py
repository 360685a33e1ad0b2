"""Devices by name: what torch cannot use is refused before any work."""

from __future__ import annotations

import pytest
import torch

from memkern._util.devices import usable_device
from memkern.errors import ArgumentValueError


def test_devices_that_are_here(monkeypatch: pytest.MonkeyPatch) -> None:
    assert usable_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert usable_device("auto") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert usable_device("auto") == torch.device("cuda")
    assert usable_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(ArgumentValueError, match="to be here, got 'cuda:2'; torch sees 2 GPUs, from cuda:0 on"):
        usable_device("cuda:2")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("tpu9", "Expected `device` to be auto, cpu, cuda or cuda:N, got 'tpu9'"),
        ("cuda", "Expected `device` to be here, got 'cuda'; torch sees no GPU: use --device cpu"),
        ("meta", "Expected `device` to compute here, got 'meta': "),
        ("xpu", "Expected `device` to compute here, got 'xpu': "),
    ],
)
def test_devices_that_are_not(monkeypatch: pytest.MonkeyPatch, name: str, sentence: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ArgumentValueError) as error:
        usable_device(name)
    assert str(error.value).startswith(sentence)
