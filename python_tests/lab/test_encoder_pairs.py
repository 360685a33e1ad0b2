"""Pairs that are stored and loaded."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from memkern._util.files import read_json
from memkern.errors import TrainingError
from memkern.lab.data.packaged import ImageSet
from memkern.lab.data.splits import GROUPS
from memkern.lab.encoder_pairs import TrainedPair, load_pair, save_pair, summarize


def test_a_pair_comes_back_as_float16_left_it(small_pair: TrainedPair, stored: Path) -> None:
    loaded = load_pair(stored)
    for a, b in zip(small_pair.f.state_dict().values(), loaded.f.state_dict().values(), strict=True):
        assert torch.equal(a.half().to(a.dtype) if a.is_floating_point() else a, b)
    assert loaded.recipe == small_pair.recipe
    assert torch.equal(loaded.split.candidate, small_pair.split.candidate)
    assert not loaded.f.training


def test_damaged_and_missing_pairs(stored: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"manifest\.json is missing"):
        load_pair(tmp_path / "nowhere")
    weights = stored / "g.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(TrainingError, match=r"g\.safetensors is damaged"):
        load_pair(stored)
    weights.unlink()
    with pytest.raises(TrainingError, match=r"g\.safetensors is missing"):
        load_pair(stored)
    (stored / "manifest.json").write_text("{}")
    with pytest.raises(TrainingError, match="describe an encoder pair"):
        load_pair(stored)
    (stored / "manifest.json").write_text("{")
    with pytest.raises(TrainingError, match="describe an encoder pair"):
        load_pair(stored)


def test_summaries_of_the_pairs_of_a_folder(small_pair: TrainedPair, small_set: ImageSet, tmp_path: Path) -> None:
    for seed in (10, 2):
        manifest = {**small_pair.manifest, "seed": seed}
        save_pair(replace(small_pair, seed=seed, manifest=manifest), tmp_path / f"seed-{seed}")
    rows = summarize(small_set, tmp_path)
    assert [row["seed"] for row in rows] == [2, 10]
    assert read_json(tmp_path / "seeds.json")["pairs"] == rows
    assert set(rows[0]["mean_sslmem"]) == set(GROUPS)
