"""Every table and figure of the two papers (arXiv:2401.12233: P1-..., arXiv:2409.19069: Table ..., Figure ...)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from memkern._util.registry import records
from memkern.lab import experiments
from memkern.lab.experiments._experiment import Experiment

ENTRIES: Mapping[str, str] = {
    "P1-a": "Gallery of images with their SSLMem",
    "P1-b": "SSLMem of shared, candidate, independent and extra images, with t-tests",
    "P1-c": "Memorization across methods, encoders and data sets",
    "P1-d": "Which points different methods memorize, against supervised training",
    "P1-e": "Removal of memorized points before training",
    "P1-f": "A penalty on alignment lowers memorization and accuracy",
    "P1-g": "DP training lowers memorization and accuracy",
    "P1-h": "Comparison with Deja Vu",
    "P1-i": "One-dimensional drawing of in- and outliers",
    "P1-j": "Memorization over training time",
    "Table 1": "LayerMem by layer, ResNet9",
    "Table 2": "Attention against MLP layers, ViT-Tiny",
    "Table 3": "Consistency between layers",
    "Table 4": "LayerMem of ImageNet encoders, four frameworks",
    "Table 5": "Fine-tuning of selected layers",
    "Table 6": "Pruning by UnitMem",
    "Table 7": "Settings of the data sets",
    "Table 8": "Architecture of ResNet9",
    "Table 9": "Hyper-parameters",
    "Table 10": "Attention against MLP layers, all blocks",
    "Table 11": "UnitMem on the most and the least memorized points, t-tests",
    "Table 12": "How often a point is the peak of a unit, and its SSLMem",
    "Table 13": "Training a single unit on a single point",
    "Table 14": "Training single units on many points, on a point many times",
    "Table 15": "LayerMem by layer, ResNet18",
    "Table 16": "LayerMem by layer, ResNet34",
    "Table 17": "LayerMem by layer, ResNet50",
    "Table 18": "LayerMem by layer, ResNet9 with norms, pools and head",
    "Table 19": "LayerMem and the number of points",
    "Table 20": "Probe accuracies of the self-supervised and supervised encoders",
    "Table 21": "Replacement of three layers by those of an STL10 encoder",
    "Table 22": "Replacement of three layers, STL10 and SVHN",
    "Table 23": "Replacement of single layers",
    "Table 24": "Replacement of blocks, ResNet50",
    "Table 25": "Batch norm parameters of encoders trained on different data",
    "Table 26": "LayerMem with four distances",
    "Table 27": "LayerMem and the strength of augmentation",
    "Table 28": "Overlap between two random seeds",
    "Table 29": "LayerMem of every layer, ResNet50 on ImageNet",
    "Table 30": "Replacement of every single layer",
    "Table 31": "LayerMem of every block, ViT-Base on ImageNet",
    "Table 32": "Replacement of every pair of layers",
    "Table 33": "Replacement of every three layers",
    "Table 34": "UnitMem on data of one concept",
    "Figure 1a": "UnitMem of the last convolution on three data sets",
    "Figure 1b": "UnitMem against SSLMem of the peak image",
    "Figure 1c": "UnitMem under differential privacy",
    "Figure 2": "UnitMem and ClassMem by layer, self-supervised and supervised",
    "Figure 3": "UnitMem and ClassMem of every unit",
    "Figure 4": "UnitMem over training",
    "Figure 5": "UnitMem with and without views",
    "Figure 6": "UnitMem and the choice of the data",
    "Figure 7": "UnitMem on the most and the least memorized points",
    "Figure 8": "Median against mean in UnitMem",
    "Figure 9": "UnitMem and the augmentation of the measurement",
    "Figure 10": "UnitMem and the augmentation of the training",
    "Figure 11": "UnitMem and weight decay",
    "Figure 12": "UnitMem of ImageNet encoders",
    "Figure 13": "The ten most memorized images of each layer",
    "App. C.11": "LayerMem after replacing a layer",
}

LEFT_OUT: Mapping[str, str] = {
    "P1-h": "needs the Deja Vu pipeline (FFCV, faiss, corner crops of ImageNet)",
    "P1-i": "a drawing, nothing is computed",
    "Table 7": "settings, nothing is computed",
    "Table 8": "settings: memkern.lab.encoders.resnet9",
    "Table 9": "settings: memkern.lab.training.recipe.published",
}
"""Entries that will not be made, and why."""


@dataclass(frozen=True)
class Entry:
    """Line of `memkern lab list`.

    Attributes:
        name: The table or figure.
        title: What it shows.
        experiment: What makes it; `None`: nothing yet.
        why: Why nothing does.
    """

    name: str
    title: str
    experiment: Experiment | None
    why: str


def implemented() -> dict[str, Experiment]:
    """Returns all experiments by id: the files of `memkern.lab.experiments`, helpers (`_name`) left out."""
    return {experiment.id: experiment for experiment in records(experiments, "EXPERIMENT", Experiment)}


def entries() -> list[Entry]:
    """Returns all tables and figures with the experiments that make them."""
    makers = {name: experiment for experiment in implemented().values() for name in experiment.covers}
    return [
        Entry(name, title, makers.get(name), "" if name in makers else LEFT_OUT.get(name, "not implemented"))
        for name, title in ENTRIES.items()
    ]
