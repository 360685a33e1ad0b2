"""Pairs of encoders f and g, as the experiments of the lab at `small` train them.

One command makes the pairs of some seeds, in minutes of CPU time an encoder, for `memkern lab run --reuse DIR`:

    python -m memkern.lab.encoder_pairs --seeds 0 1 2 --out DIR

A stopped run goes on from its checkpoints; two processes may share DIR if their seeds differ. `DIR/seed-N`
holds the pair of seed N, `DIR/seeds.json` what was measured on every pair that is finished.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import memkern
from memkern._util.files import read_json, replace_atomically, sha256, write_json
from memkern._util.optional_imports import require
from memkern.errors import TrainingError
from memkern.lab.data.packaged import ImageSet, patches
from memkern.lab.data.splits import GROUPS, Sizes, Split, make_split
from memkern.lab.encoders.build import build
from memkern.lab.pair_scores import PairScores, score_pair, separations
from memkern.lab.training.recipe import VIEWS, Recipe, recipe_from
from memkern.lab.training.trainer import Checkpoints, Training, train

MANIFEST = "manifest.json"
SIZES = Sizes(shared=3, candidate=3, extra=10)
"""Images of each of the ten pictures: f and g see 60 images each, 30 of them their own."""

RECIPE = Recipe(epochs=500, batch=20, views=replace(VIEWS, scale=(0.2, 1.0)))
"""The recipe of a pair: few images, seen very often, so that single ones are learned by heart."""


@dataclass(frozen=True)
class TrainedPair:
    """Two encoders, the images each was trained on, and how.

    Attributes:
        f: Trained on shared and candidate images; eval mode.
        g: Trained on shared and independent images; eval mode.
        split: The groups.
        recipe: How both were trained; `recipe.views` are the views to measure with.
        seed: Seed of the split and of both trainings.
        data_sha256: Digest of the image set.
        manifest: What is stored beside the weights.
    """

    f: nn.Module
    g: nn.Module
    split: Split
    recipe: Recipe
    seed: int
    data_sha256: str
    manifest: dict[str, Any]


def training_seed(seed: int, role: str) -> int:
    """Returns the seed of one training; f and g start from different weights."""
    return 10 * seed + {"f": 1, "g": 2}[role]


def train_pair(
    data: ImageSet,
    seed: int,
    *,
    recipe: Recipe = RECIPE,
    sizes: Sizes = SIZES,
    checkpoints: Path | None = None,
    on_epoch: Callable[[str, int, float], None] | None = None,
) -> TrainedPair:
    """Trains f and g.

    Args:
        data: The images.
        seed: Seed of the split, the weights, the order and the views.
        recipe: How to train.
        sizes: Images per class in each group.
        checkpoints: Folder to go on from and to write checkpoints to.
        on_epoch: Called after every epoch with "f" or "g", the epochs done and the loss.

    Returns:
        The pair.

    Raises:
        ValueError: If a class has too few images, or a checkpoint belongs to another training.
    """
    split = make_split(data.labels, sizes, seed)

    def train_role(role: str, ids: Tensor) -> Training:
        return train(
            data.floats(ids) if recipe.pixels == "float32" else data.images[ids],
            recipe,
            training_seed(seed, role),
            labels=data.labels[ids],
            checkpoints=None if checkpoints is None else Checkpoints(checkpoints / f"{role}.checkpoint.safetensors"),
            on_epoch=None if on_epoch is None else partial(on_epoch, role),
        )

    trained = {"f": train_role("f", split.f), "g": train_role("g", split.g)}
    manifest = {
        "seed": seed,
        "data": {
            "name": data.name,
            "sha256": data.sha256,
            "classes": list(data.label_names),
            "size": data.images.shape[-1],
        },
        "sizes_per_class": asdict(sizes),
        "split": {name: ids.tolist() for name, ids in split.groups().items()},
        "recipe": asdict(recipe),
        "training": {role: _note(training) for role, training in trained.items()},
        "threads": torch.get_num_threads(),
        "made_with": versions(),
    }
    return TrainedPair(trained["f"].encoder(), trained["g"].encoder(), split, recipe, seed, data.sha256, manifest)


def _note(training: Training) -> dict[str, object]:
    """Describes one training for the manifest of a pair."""
    note: dict[str, object] = {
        "seed": training.seed,
        "last_loss": training.losses[-1],
        "cpu_seconds": round(training.cpu_seconds, 1),
        "timing": training.timing(),
    }
    return note if training.privacy is None else note | {"epsilon": training.privacy.epsilon()}


def versions() -> dict[str, str]:
    """Returns the versions that results depend on."""
    return {
        "memkern": memkern.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }


def save_pair(pair: TrainedPair, folder: Path) -> None:
    """Writes `f.safetensors` and `g.safetensors` (float16) and, last, `manifest.json` with their digests.

    Args:
        pair: The pair.
        folder: The folder to write; made if it is missing.

    Raises:
        ImportError: If safetensors is missing.
    """
    torch_files = require("safetensors.torch", "safetensors", extra="lab")
    manifest = dict(pair.manifest, files={})
    for role, encoder in (("f", pair.f), ("g", pair.g)):
        path = folder / f"{role}.safetensors"
        state = {name: half(value) for name, value in encoder.state_dict().items()}
        with replace_atomically(path) as part:
            torch_files.save_file(state, part)
        manifest["files"][path.name] = sha256(path)
    write_json(folder / MANIFEST, manifest)


def half(value: Tensor) -> Tensor:
    """Converts a parameter or buffer `[…]` to what is stored of it: numbers in float16, counts as they are."""
    return value.detach().to(torch.float16 if value.is_floating_point() else value.dtype).contiguous()


def load_pair(folder: Path) -> TrainedPair:
    """Loads a pair and checks it against its manifest.

    Args:
        folder: A folder written by `save_pair`.

    Returns:
        The pair, float32, eval mode.

    Raises:
        TrainingError: If a file is missing, damaged, or not the one the manifest lists.
        ImportError: If safetensors is missing.
    """
    torch_files = require("safetensors.torch", "safetensors", extra="lab")
    try:
        manifest = read_json(folder / MANIFEST)
        recipe = recipe_from(manifest["recipe"])
        split = Split(*(torch.tensor(manifest["split"][name]) for name in GROUPS))
        loaded = {}
        for role in "fg":
            path = folder / f"{role}.safetensors"
            if sha256(path) != manifest["files"][path.name]:
                raise TrainingError(f"{path} is damaged: its SHA-256 is not the one in {folder / MANIFEST}")
            loaded[role] = build(recipe.encoder, image_size=manifest["data"].get("size", 32)).eval()
            loaded[role].load_state_dict(torch_files.load_file(path))
        return TrainedPair(
            loaded["f"],
            loaded["g"],
            split,
            recipe,
            manifest["seed"],
            manifest["data"]["sha256"],
            manifest,
        )
    except FileNotFoundError as error:
        raise TrainingError(f"Expected an encoder pair in {folder}: {error.filename} is missing") from error
    except (KeyError, TypeError, ValueError) as error:
        raise TrainingError(f"Expected {folder / MANIFEST} to describe an encoder pair: {error!r}") from error


def summary(pair: TrainedPair, scores: PairScores) -> dict[str, Any]:
    """Returns the headline numbers of a pair, for `seeds.json`."""
    training = pair.manifest["training"]
    return {
        "seed": pair.seed,
        "mean_sslmem": {group: scores.mean(group) for group in GROUPS},
        "candidates_against": {row.group: asdict(row) for row in separations(scores)},
        "layermem_candidates": {layer.name: layer.layermem["candidate"] for layer in scores.layers},
        "mean_unitmem": {layer.name: layer.mean_unitmem for layer in scores.layers},
        "mean_classmem": {layer.name: layer.mean_classmem for layer in scores.layers},
        "last_loss": {role: note["last_loss"] for role, note in training.items()},
        "cpu_seconds": {role: note["cpu_seconds"] for role, note in training.items()},
    }


def summarize(data: ImageSet, out: Path) -> list[dict[str, Any]]:
    """Measures every finished pair under `out` and writes `out/seeds.json`.

    Args:
        data: The images that the pairs were trained on.
        out: Folder of the pairs, `seed-N` each.

    Returns:
        One summary per pair, in the order of the seeds.
    """
    rows = []
    for folder in sorted(path.parent for path in out.glob(f"seed-*/{MANIFEST}")):
        pair = load_pair(folder)
        rows.append(summary(pair, score_pair(pair.f, pair.g, data, pair.split, pair.recipe.views)))
    rows.sort(key=lambda row: int(row["seed"]))
    write_json(out / "seeds.json", {"n_views": 10, "view_seed": 0, "made_with": versions(), "pairs": rows})
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Trains the pairs of some seeds and measures all that are finished."""
    parser = argparse.ArgumentParser(prog="python -m memkern.lab.encoder_pairs", description="Make encoder pairs.")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0], help="seeds to train; none: only measure")
    parser.add_argument("--out", type=Path, required=True, help="folder for the pairs and their checkpoints")
    parser.add_argument("--epochs", type=int, default=RECIPE.epochs, help="epochs of each training")
    parser.add_argument("--threads", type=int, default=1, help="threads; the weights depend on it")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    data = patches()
    recipe = replace(RECIPE, epochs=args.epochs)
    for seed in args.seeds:
        folder = args.out / f"seed-{seed}"

        def report(role: str, epoch: int, loss: float, seed: int = seed) -> None:
            if epoch % 50 == 0:
                print(f"seed {seed} {role} epoch {epoch} of {recipe.epochs} loss {loss:.3f}", flush=True)

        pair = train_pair(data, seed, recipe=recipe, checkpoints=folder, on_epoch=report)
        for role, note in pair.manifest["training"].items():
            print(f"seed {seed} {role}: {note['timing']}", flush=True)
        save_pair(pair, folder)
    for row in summarize(data, args.out):
        means = ", ".join(f"{name} {value:+.4f}" for name, value in row["mean_sslmem"].items())
        print(f"seed {row['seed']}: mean SSLMem {means}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
