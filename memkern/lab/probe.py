"""Probes of frozen features: a linear probe and k nearest neighbors. Features are extracted once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

import memkern
from memkern.lab.data.packaged import ImageSet
from memkern.transforms import ViewSpec


@dataclass(frozen=True)
class Features:
    """Features of labeled images, in two parts.

    Attributes:
        train: `[N, D]`.
        train_labels: int64, `[N]`.
        test: `[M, D]`.
        test_labels: int64, `[M]`.
    """

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor


def extract(encoder: nn.Module, data: ImageSet, ids: Tensor, spec: ViewSpec, *, batch: int = 256) -> Tensor:
    """Encodes clean images in eval mode.

    Args:
        encoder: The encoder; its mode is put back.
        data: The images.
        ids: Which images, int64, `[N]`.
        spec: How images are normalized.
        batch: Images per forward pass.

    Returns:
        `[N, D]`, float32, on the CPU.
    """
    modes = [(module, module.training) for module in encoder.modules()]
    device = next(encoder.parameters()).device
    encoder.eval()
    rows = []
    with torch.inference_mode():
        for part in ids.split(batch):
            images = data.images[part].to(device)
            clean = memkern.views(images, n_views=0, transform=spec, seed=0, index=part, clean=True, channels_last=True)
            rows.append(encoder(clean[:, 0]).float().cpu())
    for module, mode in modes:
        module.training = mode
    return torch.cat(rows).clone()


def halves(data: ImageSet, used: Tensor, seed: int, *, most: int = 2000) -> tuple[Tensor, Tensor]:
    """Chooses the images a probe is trained and tested on.

    The official training and test images where a set has them; else two disjoint random halves of the images that no
    encoder was trained on.

    Args:
        data: The images.
        used: Those that encoders were trained on, int64.
        seed: Seed of the halves.
        most: Largest size of a half, without an official division.

    Returns:
        Positions of the images to train and to test on, int64 `[N]` and `[M]`.
    """
    if data.n_train is not None:
        return torch.arange(data.n_train), torch.arange(data.n_train, len(data))
    free = torch.ones(len(data), dtype=torch.bool)
    free[used] = False
    order = torch.nonzero(free).flatten()
    order = order[torch.randperm(len(order), generator=torch.Generator().manual_seed(seed))]
    half = min(len(order) // 2, most)
    return order[:half], order[half : 2 * half]


def features(encoder: nn.Module, data: ImageSet, train: Tensor, test: Tensor, spec: ViewSpec) -> Features:
    """Extracts the features of both parts, of the images `train`, `[N]`, and `test`, `[M]`."""
    both = extract(encoder, data, torch.cat([train, test]), spec)
    return Features(both[: len(train)], data.labels[train], both[len(train) :], data.labels[test])


def linear_probe(found: Features, *, strength: float = 1.0, steps: int = 100) -> float:
    """Computes the accuracy of logistic regression on standardized features, in percent.

    Args:
        found: The features.
        strength: Inverse of the L2 penalty, scikit-learn's `C`.
        steps: Most iterations of L-BFGS.

    Returns:
        The accuracy on the test part.
    """
    weight, bias = logistic(found, strength, steps)
    right = (_standardized(found, found.test) @ weight.T + bias).argmax(1) == found.test_labels
    return 100 * float(right.double().mean())


def logistic(found: Features, strength: float, steps: int) -> tuple[Tensor, Tensor]:
    """Fits multinomial logistic regression: `C * sum of cross entropies + |W|^2 / 2`, as scikit-learn does.

    Args:
        found: The features; those for training are used, standardized.
        strength: `C`.
        steps: Most iterations.

    Returns:
        Weight `[classes, D]` and bias `[classes]`.
    """
    classes = int(torch.cat([found.train_labels, found.test_labels]).max()) + 1
    rows = _standardized(found, found.train).clone()
    weight = torch.zeros(classes, rows.shape[1], requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=steps, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        # the same minimum as scikit-learn's sum, on the scale of a mean
        penalty = weight.square().sum() / (2 * strength * len(rows))
        value = functional.cross_entropy(rows @ weight.T + bias, found.train_labels) + penalty
        value.backward()
        return value

    optimizer.step(loss)
    return weight.detach(), bias.detach()


def _standardized(found: Features, rows: Tensor) -> Tensor:
    return (rows - found.train.mean(0)) / found.train.std(0).clamp_min(1e-6)


def nearest_neighbors(found: Features, *, k: int = 20) -> float:
    """Computes the accuracy of the majority of the k most similar training features by cosine, in percent."""
    train, test = functional.normalize(found.train), functional.normalize(found.test)
    right = 0
    classes = int(found.train_labels.max()) + 1
    for rows, labels in zip(test.split(1024), found.test_labels.split(1024), strict=True):
        near = found.train_labels[(rows @ train.T).topk(min(k, len(train)), dim=1).indices]
        votes = functional.one_hot(near, classes).sum(1)
        right += int((votes.argmax(1) == labels).sum())
    return 100 * right / len(test)
