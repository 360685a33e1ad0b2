"""DP-SGD through Opacus: gradients of single images, clipped, summed and blurred (arXiv:1607.00133)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from memkern._util.optional_imports import require
from memkern.errors import ArgumentValueError
from memkern.lab.distributed import rank_and_world
from memkern.lab.method import Method
from memkern.lab.training.recipe import Recipe

METHODS = ("mae", "supervised")
"""Methods whose loss of an image does not depend on the other images; the others have no gradient per image."""


def check_private(recipe: Recipe) -> None:
    """Refuses a recipe that cannot be trained privately.

    Args:
        recipe: The recipe.

    Raises:
        ArgumentValueError: If the recipe is private and its method is not one of `METHODS`, it masks an image more than
            once, has an alignment term, or runs in bfloat16 or in several processes.
    """
    if recipe.epsilon is None:
        return
    if recipe.method not in METHODS or recipe.alignment or recipe.options.get("n_masks", 1) != 1:
        raise ArgumentValueError(
            f"Expected a loss that treats images one by one for DP-SGD ({' or '.join(METHODS)}, one mask, "
            f"no alignment term), got {recipe.method} with {recipe.options} and alignment {recipe.alignment}"
        )
    if recipe.precision != "fp32" or rank_and_world()[1] > 1:
        raise ArgumentValueError("Expected precision='fp32' and one process for DP-SGD")


class Privacy:
    """Makes a training private.

    Batches are drawn by Poisson sampling, as the accountant assumes: every image is in every batch with probability
    `recipe.batch / n_images`.

    Args:
        model: The method with its encoder and heads.
        optimizer: The optimizer of their parameters.
        recipe: Its `epsilon`, `delta` and `clip`; an infinite epsilon clips and adds no noise.
        n_images: Size of the training set.
        generator: Source of the batches and, on a CPU, of the noise; on a GPU noise has a generator of its own there.

    Attributes:
        network: What to run instead of the model.
        optimizer: What to step instead of the optimizer.
        noise: Standard deviation of the noise over the clipping norm.

    Raises:
        ArgumentValueError: If the method contains a layer that mixes images (batch norm).
        ImportError: If Opacus is missing.
    """

    def __init__(
        self, model: Method, optimizer: torch.optim.Optimizer, recipe: Recipe, n_images: int, generator: torch.Generator
    ) -> None:
        opacus = require("opacus", "opacus", extra="dp")
        problems = require("opacus.validators", "opacus", extra="dp").ModuleValidator.validate(model, strict=False)
        if problems:
            raise ArgumentValueError(f"Expected layers that treat images one by one for DP-SGD: {problems[0]}")
        assert recipe.epsilon is not None
        self.rate, self.n_images, self.generator = recipe.batch / n_images, n_images, generator
        self.delta, self.accountant = recipe.delta, require("opacus.accountants", "opacus", extra="dp").RDPAccountant()
        self.noise = 0.0
        if recipe.epsilon != float("inf"):
            search = require("opacus.accountants.utils", "opacus", extra="dp").get_noise_multiplier
            steps = recipe.epochs * (n_images // recipe.batch)
            self.noise = float(
                search(
                    target_epsilon=recipe.epsilon,
                    target_delta=recipe.delta,
                    sample_rate=self.rate,
                    steps=steps,
                    accountant="rdp",
                )
            )
        device = next(model.parameters()).device
        self.noises = generator
        if device.type != "cpu":
            self.noises = torch.Generator(device).manual_seed(generator.initial_seed() + 1_000_000)
        self.network: nn.Module = opacus.GradSampleModule(model)
        self.optimizer: torch.optim.Optimizer = opacus.optimizers.DPOptimizer(
            optimizer,
            noise_multiplier=self.noise,
            max_grad_norm=recipe.clip,
            expected_batch_size=recipe.batch,
            generator=self.noises,
        )

    def batches(self, steps: int) -> Iterator[Tensor]:
        """Draws the images of each step.

        A draw without any image is drawn again; for batches of 10 and more that happens less than once in 10^4.
        """
        for _ in range(steps):
            ids = torch.empty(0, dtype=torch.int64)
            while not len(ids):
                ids = torch.nonzero(torch.rand(self.n_images, generator=self.generator) < self.rate).flatten()
            self.accountant.step(noise_multiplier=self.noise, sample_rate=self.rate)
            yield ids

    def epsilon(self) -> float:
        """Returns the budget spent so far, by the accountant of Renyi differential privacy."""
        return float(self.accountant.get_epsilon(self.delta)) if self.noise else float("inf")

    def history(self) -> list[list[float]]:
        """Returns what the accountant has booked, for a checkpoint."""
        return [list(entry) for entry in self.accountant.history]

    def restore(self, history: Iterable[Sequence[float]]) -> None:
        """Puts back what `history` returned."""
        self.accountant.history = [(noise, rate, int(steps)) for noise, rate, steps in history]
