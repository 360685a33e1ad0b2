"""A small set of images and a pair of encoders that was hardly trained on it."""

from pathlib import Path

import pytest
import torch

from memkern.lab.data.packaged import ImageSet, image_set
from memkern.lab.data.splits import Sizes
from memkern.lab.encoder_pairs import TrainedPair, save_pair, train_pair
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
