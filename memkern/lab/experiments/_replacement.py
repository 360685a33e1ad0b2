"""Replacing layers of an encoder by those of one trained on other data (Tables 21 to 24, 30, 32, 33)."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import torch

import memkern
from memkern.audit.interventions.replace import replace_layers
from memkern.lab.encoders.resnet9 import CONV_TAPS, TAPS
from memkern.lab.experiments._context import ExperimentContext
from memkern.lab.experiments._experiment import Row
from memkern.lab.experiments._statistics import center, kendall, spread
from memkern.lab.training.recipe import Recipe

Layers = tuple[int, ...]
"""Layers by the paper's numbers, from 1."""

MODULES = tuple(TAPS[tap] for tap in CONV_TAPS)
"""The eight layers of ResNet9."""


def measure(
    context: ExperimentContext,
    donor: str,
    choices: Iterable[Layers],
    *,
    recipe: Recipe | None = None,
    modules: Sequence[str] = MODULES,
) -> dict[Layers, list[tuple[float, float]]]:
    """Accuracies of f with layers of an encoder trained on `donor`.

    As in the released code only the weights of the convolutions are replaced; norms and biases stay.

    Args:
        context: What the experiment runs on.
        donor: Data set of the encoder that gives its layers.
        choices: Which layers; the empty choice is the encoder as it is.
        recipe: How both encoders are trained; by default SimCLR on ResNet9.
        modules: The layers, in the order of their numbers.

    Returns:
        Choice -> per seed the accuracy on the preset's data and on the donor's, in percent, each with a probe of its
        own.
    """
    found: dict[Layers, list[tuple[float, float]]] = {}
    listed = list(choices)
    for seed in context.seeds:
        encoder = context.encoder(seed, "f", recipe)
        giver = context.encoder(seed, "f", recipe, data=donor)
        for layers in listed:
            if not layers:
                found.setdefault(layers, []).append(_accuracies(context, encoder, seed, donor))
                continue
            with replace_layers(encoder, giver, [modules[layer - 1] for layer in layers]):
                found.setdefault(layers, []).append(_accuracies(context, encoder, seed, donor))
    return found


def _accuracies(context: ExperimentContext, encoder: torch.nn.Module, seed: int, donor: str) -> tuple[float, float]:
    return context.accuracy(encoder, seed), context.accuracy(encoder, seed, donor)


def rows(
    donor: str,
    found: dict[Layers, list[tuple[float, float]]],
    chosen_by: dict[Layers, str],
    names: Sequence[str] | None = None,
) -> list[Row]:
    """Makes one row per choice; `names` are those of the layers, by default their numbers."""
    return [
        {
            "donor": donor,
            "layers": ",".join(str(layer) if names is None else names[layer - 1] for layer in layers) or "none",
            "chosen_by": chosen_by.get(layers, ""),
            "accuracy": center(own for own, _ in values),
            "accuracy_std": spread(own for own, _ in values),
            "donor_accuracy": center(other for _, other in values),
            "donor_accuracy_std": spread(other for _, other in values),
        }
        for layers, values in found.items()
    ]


COLUMNS = ("donor", "layers", "chosen_by", "accuracy", "accuracy_std", "donor_accuracy", "donor_accuracy_std")


def layer_scores(context: ExperimentContext) -> tuple[list[float], list[float]]:
    """LayerMem and its differences by convolution, means over the seeds; the first difference is LayerMem itself."""
    mem = [center(float(context.measure(seed).ratios(tap).mean()) for seed in context.seeds) for tap in CONV_TAPS]
    deltas = memkern.delta_layermem(mem)
    return mem, [mem[0], *deltas[1:]]


def best(scores: Sequence[float], count: int, *, most: bool = True) -> Layers:
    """The layers from 2 to 8 with the largest or smallest scores, as the paper leaves the first layer alone."""
    places = sorted(range(1, len(scores)), key=lambda place: scores[place], reverse=most)[:count]
    return tuple(sorted(place + 1 for place in places))


def all_choices(count: int) -> list[Layers]:
    """The encoder as it is, then every choice of `count` layers."""
    return [(), *itertools.combinations(range(1, 9), count)]


def cost_and_memory(found: dict[Layers, list[tuple[float, float]]], delta: Sequence[float], seeds: int) -> list[float]:
    """Per seed, Kendall's tau of what a replacement costs with the summed differences of LayerMem of its layers."""
    choices = [layers for layers in found if layers]
    summed = torch.tensor([sum(delta[layer - 1] for layer in layers) for layers in choices])
    effects = []
    for place in range(seeds):
        whole = found[()][place][0]
        cost = torch.tensor([whole - found[layers][place][0] for layers in choices])
        effects.append(kendall(summed, cost)[0])
    return effects
