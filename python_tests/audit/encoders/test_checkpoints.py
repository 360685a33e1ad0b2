"""Files of weights of every kind: wrappers, shards, adapters, old formats, and what is no file of weights."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import tarfile
import types
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import audit_helpers
import numpy as np
import pytest
import torch
from safetensors.torch import save, save_file
from torch import Tensor, nn

from memkern.audit.encoders.checkpoints.files import NUMPY
from memkern.audit.encoders.weights import Loaded, find_weights, load_weights
from memkern.errors import MissingFileError, WeightsError


def state(seed: int = 3) -> dict[str, Tensor]:
    return dict(audit_helpers.net(seed).state_dict())


def load(file: Path, arguments: str = "", seed: int = 3) -> Loaded:
    """Loads a file and requires the weights of the network of that seed."""
    encoder = audit_helpers.net(4)
    loaded = load_weights(encoder, f"{file}{arguments}")
    wanted = audit_helpers.net(seed).state_dict()
    assert all(torch.equal(value, wanted[name]) for name, value in encoder.state_dict().items())
    return loaded


def refused(file: Path, arguments: str = "", encoder: nn.Module | None = None) -> str:
    with pytest.raises((WeightsError, MissingFileError)) as error:
        load_weights(encoder or audit_helpers.net(4), f"{file}{arguments}")
    return str(error.value).replace(str(file), "F")


def renamed(name: Callable[[str], str]) -> dict[str, Tensor]:
    return {name(each): value for each, value in state().items()}


@pytest.mark.field("checkpoint", "names with parts of wrappers, nests of any depth, modules saved as a whole")
@pytest.mark.parametrize(
    "content",
    [
        renamed(lambda name: name.replace("conv.", "conv._checkpoint_wrapped_module.")),
        renamed(lambda name: name.replace("deep.", "deep._orig_mod.")),
        renamed(lambda name: f"_fsdp_wrapped_module.{name.replace('conv.', 'conv._fsdp_wrapped_module.')}"),
        renamed(lambda name: f"_fsdp_wrapped_module._fpw_module.{name.replace('conv.', 'conv._fpw_module.')}"),
        {f"{'_orig_mod.module' if name < 'd' else 'module._orig_mod'}.{name}": each for name, each in state().items()},
        renamed(lambda name: name.replace("conv.", "conv.base_layer.")),
        renamed(lambda name: f"model.module.{name.replace('conv.', 'conv._orig_mod.module.')}"),
        {"epoch": torch.tensor(3), "state_dict": state()},
        {"a": {"b": {"c": {"net.": None, "d": renamed(lambda name: f"x.y.{name}")}}}},
        {"model": types.SimpleNamespace(**{}), "weights": state()},
        {"model": audit_helpers.net(3)},
        audit_helpers.net(3),
        nn.DataParallel(audit_helpers.net(3)),
        (state(), 3),
        {**state(), "optimizer": {"state": {0: {"exp_avg": torch.rand(2)}}}, 7: "a name that is no text"},
    ],
    ids=[
        "checkpointed", "compiled", "fsdp", "fairscale", "mixed", "peft", "ddp", "tensor beside", "deep",
        "empty object", "module in a dict", "module", "module in ddp", "tuple", "optimizer",
    ],
)  # fmt: skip
def test_names_and_nests_of_wrappers(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "f.pt")
    load(tmp_path / "f.pt")


def test_an_encoder_whose_own_names_have_a_wrapper_s_parts(tmp_path: Path) -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = nn.Linear(2, 3)
            self.base_layer = nn.Linear(2, 3)

    torch.manual_seed(0)
    wanted, encoder = Own(), Own()
    torch.save({"model": wanted.state_dict()}, tmp_path / "f.pt")
    load_weights(encoder, str(tmp_path / "f.pt"))
    assert all(torch.equal(value, wanted.state_dict()[name]) for name, value in encoder.state_dict().items())


@pytest.mark.field("checkpoint", "files of torch before 1.6, pickle protocols 2 to 5")
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_formats_of_torch(zipped: bool, protocol: int, tmp_path: Path) -> None:
    tied = torch.rand(6)
    content = {"model": state(), "tied": {"a": tied[:4].half().float(), "b": tied[2:], "c": tied.view(2, 3).T}}
    torch.save(content, tmp_path / "f.pt", _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    load(tmp_path / "f.pt")


@pytest.mark.field("checkpoint", "TorchScript files")
def test_programs_are_not_run_and_give_their_weights(tmp_path: Path) -> None:
    x = torch.rand(1, 3, 8, 8)
    torch.jit.save(torch.jit.trace(audit_helpers.net(3), x), tmp_path / "traced.pt")
    load(tmp_path / "traced.pt")
    torch.export.save(torch.export.export(audit_helpers.net(3), (x,)), tmp_path / "f.pt2")
    assert refused(tmp_path / "f.pt2").startswith("Expected F to hold weights, got a program of torch.export: save its")


def test_tensors_in_a_file_s_shapes_and_dtypes(tmp_path: Path) -> None:
    kinds = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
    for kind in kinds:
        wanted = {name: value.bfloat16().to(kind) for name, value in state().items()}
        torch.save(wanted, tmp_path / "f.pt")
        encoder = audit_helpers.net(4)
        notes = load_weights(encoder, str(tmp_path / "f.pt")).notes
        assert all(torch.equal(value, wanted[name].float()) for name, value in encoder.state_dict().items())
        assert notes == (("4 tensors of float64 were rounded to float32.",) if kind is torch.float64 else ())


@pytest.mark.field("checkpoint", "harmful pickles: not run")
def test_what_a_file_says_is_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"

    class Harmful:
        def __init__(self, call: Callable[..., object], *arguments: object) -> None:
            self.call, self.arguments = call, arguments

        def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
            return self.call, self.arguments

    command = f"open({str(mark)!r}, 'w').close()"
    for zipped in (True, False):
        beside = [
            Harmful(exec, command),
            Harmful(os.system, f"touch {mark}"),
            Harmful(eval, command),
            Harmful(open, str(mark), "w"),
        ]
        torch.save({"model": state(), "beside": beside}, tmp_path / "f.pt", _use_new_zipfile_serialization=zipped)
        load(tmp_path / "f.pt")
    module = b"cbuiltins\n__import__\n(X\x02\x00\x00\x00ostR"
    attribute = b"\x80\x02cbuiltins\ngetattr\n(" + module + b"X\x06\x00\x00\x00systemtR(X\x04\x00\x00\x00truetR."
    (tmp_path / "f.pkl").write_bytes(attribute)
    refused(tmp_path / "f.pkl")
    assert not mark.exists()
    # A pickle can set attributes of what it names; what it gets must not be anybody else's.
    for attribute in (b"__code__", b"__defaults__", b"_call"):
        length = len(attribute).to_bytes(4, "little")
        changed = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}X" + length + attribute + b"NsN\x86b."
        (tmp_path / "f.pkl").write_bytes(changed.replace(b"NsN\x86b.", b"Ns\x86b."))
        assert "sets" in refused(tmp_path / "f.pkl")
    torch.save(state(), tmp_path / "f.pt")
    load(tmp_path / "f.pt")


@pytest.mark.field("checkpoint", "student and teacher, weights and their moving average in one file")
def test_two_networks_in_one_file(tmp_path: Path) -> None:
    file = tmp_path / "f.pt"
    torch.save({"student": state(1), "teacher": state(2)}, file)
    loaded = load(file, seed=2)
    assert (loaded.network, loaded.others) == ("teacher", ("student",))
    assert load(file, "?network=student", 1).others == ("teacher",)
    assert refused(file, "?network=ema") == (
        "Expected a network 'ema' in F that fits the encoder, got 'teacher', 'student'"
    )
    torch.save({"state_dict": state(1), "state_dict_ema": state(2)}, file)
    assert load(file, seed=1).network == "state_dict"
    load(file, "?network=ema", 2)
    torch.save({**renamed(lambda name: f"encoder_k.{name}"), **renamed(lambda name: f"encoder_q.{name}")}, file)
    assert (load(file).network, load(file).prefix) == ("", "encoder_q."), "two copies of one network are one"
    torch.save({"model": {f"a.{name}": value for name, value in state(1).items()} | renamed(lambda n: f"b.{n}")}, file)
    assert refused(file).startswith("Expected one network in F, got several, under 'a.', 'b.'; choose with F?prefix=…")
    load(file, "?network=b")


@pytest.mark.field("checkpoint", "indices of shards, safetensors and bin")
@pytest.mark.parametrize("ending", ["safetensors", "bin"])
def test_shards(ending: str, tmp_path: Path) -> None:
    stem = {"safetensors": "model", "bin": "pytorch_model"}[ending]
    where = {}
    for number, name in enumerate(state()):
        shard = f"{stem}-{number // 2 + 1:05d}-of-00002.{ending}"
        where[name] = shard
    for shard in set(where.values()):
        part = {name: value for name, value in state().items() if where[name] == shard}
        (save_file if ending == "safetensors" else torch.save)(part, tmp_path / shard)
    index = tmp_path / f"{stem}.{ending}.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": where}))
    assert len(load(index).files) == 3
    digest = load(tmp_path).digest
    first = tmp_path / min(where.values())
    first.write_bytes(first.read_bytes() + b" ")
    assert load_digest(index) != digest
    first.unlink()
    assert refused(index).startswith("Expected every shard that F names beside it; missing: ")
    index.write_text(json.dumps({"weight_map": {"a": "../f.bin"}}))
    assert refused(index) == "Expected F to name files beside it, got ../f.bin"
    index.write_text("{}")
    assert refused(index).startswith("Expected F to name the shard of each tensor, got: ")


def test_folders_and_names_that_are_near(tmp_path: Path) -> None:
    torch.save(state(), tmp_path / "checkpoint_0199.pth")
    assert refused(tmp_path / "checkpoint_0198.pth").endswith(
        "there is no such file; did you mean `checkpoint_0199.pth`?"
    )
    os.mkfifo(tmp_path / "pipe.pth")
    assert refused(tmp_path / "pipe.pth").endswith("it is a FIFO, socket or device")
    (tmp_path / "pipe.pth").unlink()
    assert refused(tmp_path).endswith("in the folder F; it has checkpoint_0199.pth: name one of them")
    (tmp_path / "__0_0.distcp").touch()
    assert "dcp_to_torch" in refused(tmp_path)


def load_digest(file: Path) -> str:
    from memkern.audit.encoders.checkpoints.files import files_digest

    return files_digest(find_weights(str(file)))


def lora(prefix: str = "base_model.model.", adapter: str = "") -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """An adapter of rank 2 of both convolutions, and the weights that it makes of `state()` with alpha 6."""
    torch.manual_seed(7)
    changes, merged = {}, state()
    for name in ("conv", "deep"):
        weight = merged[f"{name}.weight"]
        a = torch.rand(2, *weight.shape[1:])
        b = torch.rand(len(weight), 2, 1, 1)
        changes |= {f"{prefix}{name}.lora_A{adapter}.weight": a, f"{prefix}{name}.lora_B{adapter}.weight": b}
        change = torch.einsum("or,rihw->oihw", b[:, :, 0, 0].double(), a.double()) * 3
        merged[f"{name}.weight"] = (weight.double() + change).float()
    return changes, merged


def close(encoder: nn.Module, wanted: Mapping[str, Tensor]) -> bool:
    return all(torch.allclose(value, wanted[name], rtol=1e-6) for name, value in encoder.state_dict().items())


@pytest.mark.field("checkpoint", "LoRA adapters of PEFT")
def test_adapters_are_merged(tmp_path: Path) -> None:
    folder, base = tmp_path / "adapter", tmp_path / "base.pt"
    folder.mkdir()
    changes, merged = lora()
    torch.save(state(), base)
    save_file(changes, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 6}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    encoder = audit_helpers.net(4)
    assert len(load_weights(encoder, f"{base}?adapter={folder}").files) == 3
    assert close(encoder, merged)
    assert (
        refused(folder) == "Expected weights in F, got an adapter, which changes those of another file: BASE?adapter=F"
    )
    (folder / "adapter_config.json").write_text(
        json.dumps(config | {"alpha_pattern": {"conv": 12}, "use_rslora": True})
    )
    load_weights(encoder, f"{base}?adapter={folder}")
    change = (merged["conv.weight"] - state()["conv.weight"]) / 3 * 12 / 2**0.5
    assert torch.allclose(encoder.conv.weight, state()["conv.weight"] + change, rtol=1e-5)
    (folder / "adapter_config.json").write_text(json.dumps(config | {"use_dora": True}))
    assert "to be an adapter of LoRA, got LORA use_dora: merge it" in refused(base, f"?adapter={folder}")
    save_file({f"x.{name}": value for name, value in lora("blocks.")[0].items()}, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(config))
    assert "to change parts of the encoder" not in refused_or_loaded(f"{base}?adapter={folder}")
    save_file(
        {name.replace("conv", "other"): value for name, value in changes.items()}, folder / "adapter_model.safetensors"
    )
    assert "to change parts of the encoder, got base_model.model.other.weight" in refused(base, f"?adapter={folder}")


def refused_or_loaded(text: str) -> str:
    try:
        load_weights(audit_helpers.net(4), text)
    except WeightsError as error:
        return str(error)
    return ""


def test_a_file_with_weights_and_an_adapter(tmp_path: Path) -> None:
    changes, merged = lora(adapter=".default")
    base = renamed(
        lambda name: (
            "base_model.model." + name.replace("weight", "base_layer.weight").replace("bias", "base_layer.bias")
        )
    )
    torch.save(base | changes, tmp_path / "f.pt")
    assert refused(tmp_path / "f.pt").endswith("give it with F?lora_alpha=NUMBER")
    encoder = audit_helpers.net(4)
    assert load_weights(encoder, f"{tmp_path / 'f.pt'}?lora_alpha=6").left == ()
    assert close(encoder, merged)


@pytest.mark.field("checkpoint", "integers, bools, complex numbers, quantised files: refused")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x.to(torch.int64), "conv.weight in F to be of torch.float32, got torch.int64 (4 like it); save"),
        (lambda x: x.to(torch.int8), "got torch.int8 (4 like it); a quantised file: save the weights as floats"),
        (lambda x: x.to(torch.float8_e4m3fn), "got torch.float8_e4m3fn (4 like it); a quantised file: save"),
        (lambda x: x > 0, "got torch.bool (4 like it); save the weights as floats"),
        (lambda x: x.to(torch.complex64), "got torch.complex64 (4 like it); save the weights as floats"),
    ],
)  # fmt: skip
def test_weights_that_are_no_floats(change: Callable[[Tensor], Tensor], message: str, tmp_path: Path) -> None:
    torch.save({name: change(value) for name, value in state().items()}, tmp_path / "f.pt")
    assert message in refused(tmp_path / "f.pt")


def test_quantised_modules(tmp_path: Path) -> None:
    quantised = {**state(), "conv.weight": torch.quantize_per_tensor(state()["conv.weight"], 0.1, 0, torch.qint8)}
    torch.save(quantised, tmp_path / "f.pt")
    assert "conv.weight is an object of torch._utils._rebuild_qtensor; a quantised file" in refused(tmp_path / "f.pt")


@pytest.mark.field("checkpoint", "cut files, text, pointers of Git LFS: refused")
def test_what_is_no_file_of_weights(tmp_path: Path) -> None:
    file = tmp_path / "f.pt"

    def message(content: bytes) -> str:
        file.write_bytes(content)
        return refused(file)

    torch.save(state(), file)
    whole = file.read_bytes()
    for cut in (whole[:100], whole[: len(whole) // 2], whole[:-200]):
        assert message(cut).startswith("Expected F to be a whole file")
    torch.save(state(), file, _use_new_zipfile_serialization=False)
    old = file.read_bytes()
    assert message(old[:-10]).startswith(
        "Expected F to be a whole file written by torch.save or safetensors, got one that"
    )
    assert message(save(state())[:-4]).startswith("Expected F to be a whole file written by torch.save or safetensors")
    assert message(b"") == "Expected F to be written by torch.save or safetensors, got an empty file"
    assert message(b"<!DOCTYPE html>").endswith("got text that begins '<!DOCTYPE html>'")
    assert message(b"version https://git-lfs.github.com/spec/v1\n").endswith("fetch the file with `git lfs pull`")
    assert message(b"\0\1\2\3" * 20).endswith("got something else")
    assert message(pickle.dumps(state())).endswith("tensors that torch.save did not write; save them with it")
    arrays = {name: value.numpy() for name, value in state().items()}
    for content in (arrays, {"model": arrays, "__author__": "x"}):
        wanted = f"Expected F to hold tensors by name, got numpy arrays: {NUMPY}"
        assert message(pickle.dumps(content)) == wanted
        torch.save(content, file)
        assert refused(file) == wanted
    for save_arrays, words in ((np.savez, "an archive of numpy arrays"), (np.save, "a numpy array")):
        with file.open("wb") as opened:
            save_arrays(opened, arrays["conv.weight"])
        assert refused(file).endswith(f"got {words}: {NUMPY}")
    assert message(gzip.compress(whole)).endswith("got a file packed by gzip: unpack it with gunzip")
    with zipfile.ZipFile(file, "w") as packed:
        packed.writestr("f.pth", whole)
    assert refused(file).endswith("got a zip archive with f.pth: unpack it, and name the file inside")
    torch.save({}, file)
    assert refused(file) == "Expected F to hold tensors by name, got the entries none"
    torch.save({0: torch.rand(2), 1: torch.rand(2)}, file)
    assert refused(file) == "Expected F to name its tensors by text, got names like 0"
    torch.save({name.encode(): value for name, value in state().items()}, file)
    assert refused(file) == "Expected F to name its tensors by text, got names like b'conv.weight'"
    with tarfile.open(file, "w") as archive:
        archive.add(tmp_path, "x", recursive=False)
    assert refused(file).startswith("Expected weights in F, got a tar archive")


def test_a_safetensors_file_by_any_name(tmp_path: Path) -> None:
    save_file(state(), tmp_path / "f.pt")
    load(tmp_path / "f.pt")
    torch.save(state(), tmp_path / "f.safetensors")
    load(tmp_path / "f.safetensors")
