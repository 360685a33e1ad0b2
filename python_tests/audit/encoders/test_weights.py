"""Weights from files of every habit; nothing runs code from them, nothing is half loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import audit_helpers
import pytest
import torch
from torch import nn

from memkern.audit.encoders.weights import load_weights
from memkern.errors import WeightsError


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize(
    "nest",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": {f"module.{name}": value for name, value in state.items()}, "optimizer": {"lr": 1.0}},
        lambda state: {f"_orig_mod.backbone.{name}": value for name, value in state.items()},
        lambda state: {"teacher": {**state, "head.weight": torch.zeros(2, 2)}},
        lambda state: {name: value.half() for name, value in state.items()},
        lambda state: {"projection_head.0.weight": torch.ones(1), **{f"backbone.{n}": v for n, v in state.items()}},
    ],
    ids=["plain", "lightning", "ddp", "compiled", "teacher", "half", "head"],
)  # fmt: skip
def test_checkpoints_of_every_habit(tmp_path: Path, nest: Any) -> None:
    wanted = audit_helpers.net(3)
    state = {name: value.half().float() for name, value in wanted.state_dict().items()}
    wanted.load_state_dict(state)
    torch.save(nest(state), tmp_path / "f.pt")
    encoder = audit_helpers.net(4)
    loaded = load_weights(encoder, str(tmp_path / "f.pt"))
    assert same(encoder, wanted)
    assert all("head" in name for name in loaded.left)


def test_safetensors_and_folders(tmp_path: Path) -> None:
    file = audit_helpers.weights(tmp_path, model=3)["model"]
    for text in (file, str(tmp_path)):
        encoder = audit_helpers.net(4)
        load_weights(encoder, text)
        assert same(encoder, audit_helpers.net(3))


def test_the_part_of_a_checkpoint_that_is_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "f.pt"
    student, teacher = audit_helpers.net(1), audit_helpers.net(2)
    torch.save({"student": student.state_dict(), "teacher": teacher.state_dict()}, file)
    encoder = audit_helpers.net(4)
    load_weights(encoder, f"{file}?key=student")
    assert same(encoder, student)
    both = {f"s.{name}": value for name, value in student.state_dict().items()}
    torch.save(both | {f"t.{name}": value for name, value in teacher.state_dict().items()}, file)
    with pytest.raises(WeightsError, match=r"Expected one network in .*, got several, under 's\.', 't\.'; choose with"):
        load_weights(encoder, str(file))
    load_weights(encoder, f"{file}?prefix=t.")
    assert same(encoder, teacher)


def test_an_encoder_inside_a_wrapper(tmp_path: Path) -> None:
    torch.save(audit_helpers.net(3).state_dict(), tmp_path / "f.pt")
    wrapper = nn.Sequential(audit_helpers.net(4))
    load_weights(wrapper, str(tmp_path / "f.pt"))
    assert same(wrapper, audit_helpers.net(3))


class Evil:
    def __reduce__(self) -> Any:
        return (print, ("code ran",))


def test_files_that_do_not_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    encoder, state = audit_helpers.net(4), dict(audit_helpers.net(3).state_dict())
    before = audit_helpers.net(4)
    file = tmp_path / "f.pt"

    def message(content: Any, options: str = "") -> str:
        if isinstance(content, bytes):
            file.write_bytes(content)
        else:
            torch.save(content, file)
        with pytest.raises((WeightsError, FileNotFoundError)) as error:
            load_weights(encoder, f"{file}{options}")
        assert same(encoder, before), "nothing is half loaded"
        return str(error.value).replace(str(file), "F")

    assert message({"conv.weight": Evil()}) == (
        "Expected F to hold tensors by name, got the entries conv.weight (builtins.print)"
    )
    assert message({**state, "conv.weight": Evil()}) == (
        "Expected F to hold all 4 tensors of the encoder, got 3; missing: conv.weight; conv.weight is an object of "
        "builtins.print; the file has: conv.bias, deep.weight, deep.bias"
    )
    assert "code ran" not in capsys.readouterr().out
    assert message(b"garbage") == (
        "Expected F to be written by torch.save or safetensors, got text that begins 'garbage'"
    )
    assert message([1, 2]) == "Expected F to hold a state dict, got list"
    assert message({"epoch": 3}) == "Expected F to hold tensors by name, got the entries epoch"
    assert message(state, "?key=ema").startswith("Expected F to hold a state dict under 'ema'; it does under no name")
    assert message(state, "?kee=ema") == (
        "Expected key, prefix, network, strict, adapter or lora_alpha after the '?' of 'F?kee=ema', got kee"
    )
    missing = {name: value for name, value in state.items() if name != "deep.bias"}
    assert message(missing) == (
        "Expected F to hold all 4 tensors of the encoder, got 3; missing: deep.bias; the file has: conv.weight, "
        "conv.bias, deep.weight"
    )
    wide = dict(audit_helpers.net(3, width=5).state_dict())
    assert message(wide) == (
        "Expected the shapes of the encoder in F: conv.weight [4, 3, 3, 3], got [5, 3, 3, 3]; conv.bias [4], got [5]; "
        "deep.weight [6, 4, 2, 2], got [6, 5, 2, 2] (3 differ); give the constructor's arguments after a '?'"
    )
    larger = {**state, "deep.extra": torch.ones(1)}
    assert message(larger) == (
        "Expected F to hold this encoder, got a larger one with deep.extra; allow it with F?strict=False"
    )
    load_weights(audit_helpers.net(4), f"{file}?strict=False")
    with pytest.raises(FileNotFoundError, match=r"Expected a file of weights, got 'no\.pt'; there is no such file"):
        load_weights(encoder, "no.pt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"Expected model\.safetensors or pytorch_model\.bin in the folder"):
        load_weights(encoder, str(tmp_path / "empty"))
    bad = tmp_path / "f.safetensors"
    bad.write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"f\.safetensors to be written by torch\.save or safetensors, got text"):
        load_weights(encoder, str(bad))


def test_batch_norm_counters_may_be_missing(tmp_path: Path) -> None:
    norm = nn.BatchNorm2d(3)
    state = {name: value for name, value in norm.state_dict().items() if "num_batches" not in name}
    torch.save(state, tmp_path / "f.pt")
    load_weights(nn.BatchNorm2d(3), str(tmp_path / "f.pt"))
