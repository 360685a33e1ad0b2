"""Images per second of a training loop with memkern's views beside the same loop with torchvision's.

    python -m bench.bench_training [--encoders resnet9 resnet18] [--precision bf16 fp32] [--epochs N] [--store FILE]

The loop is the lab's trainer (SimCLR, two views). Beside it stands what most training scripts do: a DataLoader with two
workers that draws the views image by image, with the same transforms of torchvision v2, while the step before runs.
Both train on the same images in turn, an epoch each; the fastest epoch counts, without the first.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from bench.data import smooth_pictures
from bench.markdown import markdown_table
from bench.torchvision_views import Drawn, as_torchvision
from memkern.lab.method import Batch
from memkern.lab.training.recipe import VIEWS, Recipe
from memkern.lab.training.trainer import Training

EDGE, IMAGES, BATCH, WORKERS = 32, 1024, 128, 2


class Order:
    """The batches of an epoch, as a DataLoader takes them."""

    batches: Sequence[Tensor] = ()

    def __iter__(self) -> Iterator[list[int]]:
        return iter([batch.tolist() for batch in self.batches])

    def __len__(self) -> int:
        return len(self.batches)


class WithDataLoader(Training):
    """The same trainer; its views come from a DataLoader, whose workers live as long as it does."""

    def __init__(self, images: Tensor, recipe: Recipe, seed: int) -> None:
        super().__init__(images, recipe, seed)
        self.order, pairs = Order(), Drawn(images, 2, as_torchvision(VIEWS, EDGE))
        self.loader = DataLoader(pairs, batch_sampler=self.order, num_workers=WORKERS, persistent_workers=True)

    def _batches(self) -> Iterator[Tensor]:
        self.order.batches = list(super()._batches())
        self.drawn = iter(self.loader)
        yield from self.order.batches

    def _batch(self, ids: Tensor, progress: float) -> Batch:
        views = next(self.drawn).transpose(0, 1)
        views = [view.contiguous(memory_format=torch.channels_last) for view in views]
        return Batch(views, self.labels[ids], ids, self.seed, self.epoch, progress)


def measure(encoder: str, precision: Any, epochs: int) -> dict[str, Any]:
    """Images per second of both loops, and what memkern's spends its steps on."""
    images = smooth_pictures(IMAGES, EDGE)
    recipe = Recipe(epochs=10 * epochs, batch=BATCH, encoder=encoder, precision=precision, pixels="uint8")
    loops = {"memkern": Training(images, recipe, 0), "torchvision": WithDataLoader(images, recipe, 0)}
    times: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(epochs + 1):
        for name, loop in loops.items():
            start = perf_counter()
            loop.run_epoch()
            times[name].append(perf_counter() - start)
    rates = {name: IMAGES / min(each[1:]) for name, each in times.items()}
    return {"encoder": encoder, "precision": precision, **rates, "step": loops["memkern"].timing()}


def main() -> None:
    """Runs the cases and prints the table."""
    parser = argparse.ArgumentParser(description="Time training with memkern's views and with torchvision's.")
    parser.add_argument("--encoders", nargs="*", default=["resnet9", "resnet18"])
    parser.add_argument("--precision", nargs="*", choices=("bf16", "fp32"), default=["bf16", "fp32"])
    parser.add_argument("--epochs", type=int, default=4, help="of each loop, beside one to warm up")
    parser.add_argument("--store", type=Path, help="JSON file to write the results to")
    args = parser.parse_args()
    rows = [measure(encoder, each, args.epochs) for encoder in args.encoders for each in args.precision]
    if args.store is not None:
        args.store.write_text(json.dumps(rows, indent=1) + "\n")
    head = ("encoder", "precision", "memkern, images/s", "torchvision, images/s", "factor", "a step of memkern's loop")
    print(markdown_table(head, [
        (row["encoder"], row["precision"], f"{row['memkern']:.0f}", f"{row['torchvision']:.0f}",
         f"{row['memkern'] / row['torchvision']:.2f} x", row["step"])
        for row in rows
    ]))  # fmt: skip


if __name__ == "__main__":
    main()
