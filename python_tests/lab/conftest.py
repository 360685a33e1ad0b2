"""A small set of images, and a pair and a family of encoders that were hardly trained on it."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from memkern.lab.data.packaged import ImageSet, image_set
from memkern.lab.data.splits import Sizes
from memkern.lab.encoder_cache import EncoderCache
from memkern.lab.encoder_pairs import TrainedPair, save_pair, train_pair
from memkern.lab.family import halves_family, write_family
from memkern.lab.training.recipe import Recipe

TINY = Recipe(epochs=1, batch=6)


@pytest.fixture(scope="module")
def small_set() -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (24, 3, 32, 32), generator=generator, dtype=torch.uint8)
    return image_set("noise", images, torch.arange(24) % 3, ("a_x", "b_y", "c_z"))


@pytest.fixture(scope="module")
def small_pair(small_set: ImageSet) -> TrainedPair:
    return train_pair(small_set, 0, recipe=TINY, sizes=Sizes(2, 2, 2))


@pytest.fixture
def stored(small_pair: TrainedPair, tmp_path: Path) -> Path:
    save_pair(small_pair, tmp_path / "pair")
    return tmp_path / "pair"


@pytest.fixture(scope="module")
def small_family(small_set: ImageSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("family")
    family = halves_family(small_set, torch.arange(len(small_set)), 4, 0)
    recipe = replace(TINY, encoder="resnet9-narrow")
    write_family(family, recipe, EncoderCache(folder / "cache"), folder)
    shutil.rmtree(folder / "cache")
    return folder


@pytest.fixture
def stored_family(small_family: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_family, tmp_path / "family"))
