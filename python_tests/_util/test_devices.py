"""Devices by name: what torch cannot use is refused before any work."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from memkern._util import devices
from memkern._util.devices import free_memory, usable_device
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


def test_free_memory_is_that_of_the_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert 0 < free_memory(torch.device("cpu")) < 2**50
    files = {
        "proc/meminfo": "MemTotal: 900 kB\nMemAvailable:    600 kB\n",
        "sys/fs/cgroup/memory.max": "500000\n",
        "sys/fs/cgroup/memory.current": "300000\n",
        "sys/fs/cgroup/memory.stat": "anon 1\ninactive_file 100000\nactive_file 7\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(devices, "Path", lambda *parts: tmp_path.joinpath(*(part.lstrip("/") for part in parts)))
    assert free_memory(torch.device("cpu")) == 300_000, "files that are cached make room"
    (tmp_path / "sys/fs/cgroup/memory.max").write_text("max\n")
    assert free_memory(torch.device("cpu")) == 600 * 1024
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 2000))
    assert free_memory(torch.device("cuda")) == 1000
