"""How often a point of unit vectors is read a second time on real layers, and what that costs.

python -m bench.second_looks                # ResNet18, ResNet50, ViT-Tiny, ConvNeXt, and an encoder that ships

The kernels take the distance of unit vectors from raw sums, |a-b|^2 / p - (|a|-|b|)^2 / p with p = |a||b|,
and look at a point again where the second term leaves too few digits of the first. Two changes could spare looks:
- relative norms: sums of (x_i - x_0)(x_i + x_0) in place of x_i^2, so that |a|-|b| carries an error of its own size;
- rescaling: views divided by guesses of their lengths while they are read, so that |a|-|b| is small.
The table counts pairs and points in doubt with neither, each and both, by the rules of csrc/cpu/alignment/distances.h
in float64, and times normalized calls beside plain ones: what all looks cost together, the most that both could save.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np
import timm
import torch
from torch import Tensor, nn

import memkern
from bench.markdown import markdown_table
from memkern.audit.encoders.weights import load_weights
from memkern.audit.taps.hook_points import find_layers
from memkern.lab.demo import ASSETS
from memkern.lab.encoders.build import build

IMAGES, VIEWS, ROUNDS = 12, 10, 7
FAIR_SHARE, NORM_ERROR, SLOPE = 0.25, 4e-8, 10.0  # of float32 with 16 lanes
SUM_ERROR = 2 * NORM_ERROR  # of a sum of squares, relative
SAMPLES, BLOCK = 32, 16  # elements that a length is guessed from: so many blocks, or all of a short row


def encoders() -> Iterator[tuple[str, nn.Module, int]]:
    """Name, encoder and edge of its images; timm's are untrained, because their weights are not in the package."""
    shipped = build("resnet9-narrow", image_size=32)
    load_weights(shipped, str(ASSETS / "e1.safetensors"))
    yield "shipped ResNet9, trained", shipped, 32
    for name, size in (("resnet18", 64), ("resnet50", 64), ("vit_tiny_patch16_224", 224), ("convnext_atto", 64)):
        torch.manual_seed(1)
        yield f"{name}, untrained", timm.create_model(name, num_classes=0), size


def layers(model: nn.Module, size: int) -> list[Tensor]:
    """Outputs `[IMAGES, VIEWS, ...]` of the layers on images of the demo, resized."""
    images = torch.from_numpy(np.load(ASSETS / "images.npz")["images"][:IMAGES]).float() / 255
    images = nn.functional.interpolate(images, size=(size, size), mode="bilinear").clamp(0, 1)
    x = memkern.views(images, n_views=VIEWS, transform="simclr", seed=0, index=range(IMAGES)).flatten(0, 1)
    points = find_layers(model.eval(), x[:2]).hook_points
    modules, found = dict(model.named_modules()), []
    hooks = [
        modules[name].register_forward_hook(lambda module, inputs, output: found.append(output.detach()))
        for name in dict.fromkeys(point.module for point in points if not point.input and point.tensor == 0)
    ]
    with torch.inference_mode():
        model(x)
    for hook in hooks:
        hook.remove()
    return [z.unflatten(0, (IMAGES, VIEWS)).contiguous() for z in found if len(z) == IMAGES * VIEWS]


def in_doubt(z: Tensor, *, relative: bool, rescaled: bool) -> Tensor:
    """Pairs `[N, pairs]` that the sums of a layer cannot tell."""
    views = z.flatten(2).double()
    dims = views.shape[2]
    if rescaled:
        some = views
        if dims > 2 * SAMPLES * BLOCK:
            starts = torch.arange(SAMPLES) * (dims // SAMPLES)
            some = views[:, :, (starts[:, None] + torch.arange(BLOCK)).flatten()]
        guess = some.norm(dim=2, keepdim=True)
        views = views / torch.where(guess > 0, guess, 1.0)
    lengths = views.norm(dim=2)
    i, j = np.triu_indices(VIEWS, 1)
    exact = "donot_use_mm_for_euclid_dist"
    distances, product = torch.cdist(views, views, compute_mode=exact)[:, i, j], lengths[:, i] * lengths[:, j]
    square, gap = distances**2 / product, (lengths[:, i] - lengths[:, j]) ** 2 / product
    errors = min(1.0, max(0.25, (1024 / dims) ** 0.5))
    rest, fair = square - gap, square - gap >= FAIR_SHARE * errors * square
    if relative:
        to_first = torch.cdist(views, views[:, :1], compute_mode=exact)[..., 0]
        error = SUM_ERROR * errors * (to_first[:, i] + to_first[:, j]) / product.sqrt()
        trusted = fair & (gap.sqrt() * error <= 4e-7 * rest)
    else:
        allowed = SLOPE / errors * rest - NORM_ERROR * errors
        trusted = fair & (((allowed > 0) & (allowed**2 >= gap)) | (0.01 * rest >= gap))
    return ~trusted & (distances > 0) & (product > 0)


def ratio(call: Callable[[bool], object]) -> float:
    """Time of the normalized call over that of the plain one: the median of rounds in turn."""

    def seconds(normalize: bool) -> float:
        start = time.perf_counter()
        call(normalize)
        return time.perf_counter() - start

    call(True), call(False)
    return statistics.median(seconds(True) / seconds(False) for _ in range(ROUNDS))


def main() -> None:
    """Prints the table."""
    ways = list(itertools.product((False, True), repeat=2))
    rows = []
    for name, model, size in encoders():
        found = layers(model, size)
        cells = []
        for relative, rescaled in ways:
            doubt = [in_doubt(z, relative=relative, rescaled=rescaled) for z in found]
            pairs = torch.cat([each.flatten() for each in doubt]).double().mean()
            points = torch.cat([each.any(1) for each in doubt]).double().mean()
            cells.append(f"{pairs:.1%} / {points:.1%}")
        times = (
            ratio(lambda unit, found=found: [memkern.alignment(z, normalize=unit) for z in found]),
            ratio(lambda unit, found=found: [memkern.layer_stats(z, normalize=unit) for z in found]),
        )
        rows.append((name, str(len(found)), *cells, *(f"{each:.2f}" for each in times)))
    head = ("encoder", "layers", "pairs / points in doubt", "rescaled", "relative norms", "both")
    print(markdown_table((*head, "alignment, unit over plain", "layer_stats"), rows))


if __name__ == "__main__":
    main()
