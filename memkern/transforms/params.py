"""The table of parameters of views: one row of numbers says all about a view, for every backend.

Every number is a function of (seed, dataset index, view index, parameter): a counter-based generator is asked for each
of them, so batches, order, workers, devices and the other parameters do not matter.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memkern.checks import views as checks
from memkern.checks.values import IntsLike
from memkern.transforms import philox
from memkern.transforms.presets import named
from memkern.transforms.spec import ViewSpec

STEPS = ("none", "brightness", "contrast", "saturation", "hue", "gray", "invert", "solarize", "blur")
"""Step codes, as in csrc/ops.h: the position is the code."""

_MOST = float(np.finfo(np.float32).max)
BOUNDS = (
    (-_MOST, _MOST), (0.0, _MOST), (0.0, _MOST), (0.0, _MOST), (-0.5, 0.5),
    (-_MOST, _MOST), (-_MOST, _MOST), (0.0, 255.0), (1e-6, _MOST),
)  # fmt: skip
"""Smallest and largest value of each step, in the order of ``STEPS``."""

N_STEPS = 8
COLUMNS = (
    *("top", "left", "height", "width", "flip", "vflip"),
    *(name for k in range(N_STEPS) for name in (f"step{k}", f"value{k}")),
)
"""The columns of the table: the crop box, the flips, then up to eight steps with their values, in order."""

# Blocks of four random words: the last word of a counter.
_FLAGS, _FACTORS, _STAGES, _SIGMA, _CROP = range(5)
# RandomResizedCrop tries ten boxes, then takes the middle; attempt k draws from block _CROP + k. After the
# first they are made in two rounds, each for the views that have no box yet: numpy's cost is the number of calls.
_ROUNDS = (range(1, 4), range(4, 10))
MASK_BLOCK = 64  # blocks from here on belong to view_masks
_ORDERS = np.array(list(itertools.permutations(range(4))))  # of the four color steps

Numbers = NDArray[np.float64]


def view_params(
    transform: str | ViewSpec,
    *,
    n_views: int,
    seed: int,
    index: IntsLike,
    image_size: IntsLike | Sequence[Sequence[int]],
    size: int | tuple[int, int] | None = None,
    clean: bool = False,
    first_view: int = 0,
) -> Tensor:
    """Draws the parameters of views without making them.

    Row ``[i, v]`` depends on ``(seed, index[i], first_view + v)``, the image's size and the spec alone: whatever the
    batch, its order, the process and the device. The numbers are distributed as those of torchvision v2.

    Args:
        transform: A ``ViewSpec`` or the name of a preset.
        n_views: How many random views of each image.
        seed: Seed, a whole number in [0, 2**64).
        index: Dataset index of each image, ``[N]``, each in [0, 2**63).
        image_size: Height and width of the images: one pair, or ``[N, 2]``.
        size: Height and width of a view; only the clean box depends on it. Default: the spec's, else the image's.
        clean: Whether view 0 is the clean one, followed by the ``n_views`` random views.
        first_view: View index of the first random view, for recipes that draw their views in several calls.

    Returns:
        ``[N, n_views + clean, 22]`` float32, on the CPU; the columns are ``memkern.transforms.COLUMNS``. Pass it as
        ``params`` to ``memkern.views``, changed or not.

    Raises:
        TypeError: If an argument is of another kind.
        ValueError: If an argument is out of bounds.

    Example:
        >>> import memkern
        >>> table = memkern.view_params("simclr", n_views=2, seed=0, index=[7], image_size=(32, 32))
        >>> top, left, height, width = table[0, 0, :4].tolist()
        >>> 0 <= top <= 32 - height and 0 <= left <= 32 - width
        True
    """
    spec = named(transform)
    checks.seed(seed)
    n_views = checks.count(n_views, "n_views")
    first_view = checks.count(first_view, "first_view", least=0)
    ids = checks.indices(index)
    sizes = checks.image_sizes(image_size, len(ids))
    wanted = spec.size if size is None else size
    output = sizes if wanted is None else checks.height_width(wanted, "size")
    return torch.from_numpy(draw(spec, n_views, seed, ids, sizes, output, clean, first_view))


def draw(
    spec: ViewSpec,
    n_views: int,
    seed: int,
    ids: NDArray[np.uint64],
    sizes: NDArray[np.int64],
    output: NDArray[np.int64] | tuple[int, int],
    clean: bool,
    first_view: int,
) -> NDArray[np.float32]:
    """Draws the table of checked arguments: ids ``[N]``, sizes ``[N, 2]``, output size one pair or ``[N, 2]``."""
    table = np.zeros((len(ids), n_views + clean, len(COLUMNS)), dtype=np.float32)
    if len(ids) == 0:
        return table
    random = table[:, int(clean) :]
    if clean or spec.scale is None:
        clean_box = _clean_box(spec, sizes, np.broadcast_to(np.asarray(output), sizes.shape))
        table[:, : None if spec.scale is None else 1, :4] = clean_box[:, None]
    if n_views == 0:
        return table
    draws = _Draws(spec, seed, ids, np.arange(first_view, first_view + n_views, dtype=np.uint64))
    if spec.scale is not None:
        random[:, :, :4] = _crop_boxes(spec, spec.scale, draws, sizes)
    flags = draws.block(_FLAGS)
    random[:, :, 4] = philox.unit(flags[0]) < spec.flip
    random[:, :, 5] = philox.unit(flags[1]) < spec.vflip
    column = 6
    for stage in spec.order:
        if getattr(spec, stage) == 0.0:
            continue
        codes, values = _stage(spec, stage, draws, flags)
        end = column + 2 * codes.shape[-1]
        random[:, :, column:end:2], random[:, :, column + 1 : end : 2] = codes, values
        column = end
    return table


class _Draws:
    """Random words of every (image, view): ``block(b)`` gives four arrays [images, views]."""

    def __init__(self, spec: ViewSpec, seed: int, ids: NDArray[np.uint64], views: NDArray[np.uint64]) -> None:
        self.seed, self.views = seed, views
        self.low, self.high = (ids & np.uint64(0xFFFFFFFF))[:, None], (ids >> np.uint64(32))[:, None]
        # The blocks that every view needs, in one go: numpy's cost is as much the number of calls as their size.
        happens = {stage for stage in spec.order if getattr(spec, stage) > 0.0}
        wanted = {
            _FLAGS: True, _FACTORS: "jitter" in happens, _STAGES: bool(happens - {"jitter"}), _SIGMA: "blur" in happens,
            _CROP: spec.scale is not None,
        }  # fmt: skip
        self.places = {block: place for place, block in enumerate(block for block in wanted if wanted[block])}
        blocks = np.array(list(self.places), dtype=np.uint64)[:, None, None]
        self.words = philox.words((self.low, self.high, views, blocks), seed)

    def block(self, block: int) -> tuple[philox.Words, ...]:
        return tuple(word[self.places[block]] for word in self.words)

    def blocks_at(self, blocks: range, image: NDArray[np.intp], view: NDArray[np.intp]) -> tuple[philox.Words, ...]:
        """Four arrays [places, blocks]."""
        counter = (self.low[image], self.high[image], self.views[view][:, None], np.array(blocks, dtype=np.uint64))
        return philox.words(counter, self.seed)


def _clean_box(spec: ViewSpec, sizes: NDArray[np.int64], output: NDArray[np.int64]) -> NDArray[np.int64]:
    """[N, 4]: the whole image, or the largest box in its middle with the aspect ratio of a view."""
    height, width = sizes[:, 0], sizes[:, 1]
    if spec.clean == "resize":
        box_height, box_width = height, width
    else:
        shrink = np.minimum(height / output[:, 0], width / output[:, 1])
        box_height = np.clip(np.rint(output[:, 0] * shrink), 1, height).astype(np.int64)
        box_width = np.clip(np.rint(output[:, 1] * shrink), 1, width).astype(np.int64)
    return np.stack([(height - box_height) // 2, (width - box_width) // 2, box_height, box_width], axis=1)


def _crop_boxes(spec: ViewSpec, scale: tuple[float, float], draws: _Draws, sizes: NDArray[np.int64]) -> Numbers:
    """[N, V, 4]: RandomResizedCrop's rule: ten attempts at a box that fits, then the middle of the image."""
    # The first attempt of all views, then those of the views that have no box yet.
    fits, box = _attempts(spec, scale, draws.block(_CROP), sizes[:, :1], sizes[:, 1:])
    boxes = np.empty((*fits.shape, 4))
    for column, values in enumerate(box):
        boxes[:, :, column] = values
    if fits.all():
        return boxes
    image, view = np.nonzero(~fits)
    boxes[image, view] = _fallback_box(spec, sizes)[image]
    for attempts in _ROUNDS:
        word = draws.blocks_at(range(_CROP + attempts.start, _CROP + attempts.stop), image, view)
        fits, box = _attempts(spec, scale, word, sizes[image, :1], sizes[image, 1:])
        found = fits.any(axis=1)
        place = (np.flatnonzero(found), fits.argmax(axis=1)[found])  # the first attempt that fits
        boxes[image[found], view[found]] = np.stack([column[place] for column in box], axis=1)
        image, view = image[~found], view[~found]
        if len(image) == 0:
            break
    return boxes


def _attempts(
    spec: ViewSpec, scale: tuple[float, float], word: tuple[philox.Words, ...], height: NDArray[np.int64],
    width: NDArray[np.int64],
) -> tuple[NDArray[np.bool_], tuple[NDArray[np.int64] | Numbers, ...]]:  # fmt: skip
    """Finds the attempts that give a box that fits, [n, attempts], and its top, left, height and width."""
    low, high = np.log(spec.ratio)
    area = height * width * (scale[0] + (scale[1] - scale[0]) * philox.unit(word[0]))
    ratio = np.exp(low + (high - low) * philox.unit(word[1]))
    box_width, box_height = np.rint(np.sqrt(area * ratio)), np.rint(np.sqrt(area / ratio))
    fits = (box_width > 0) & (box_width <= width) & (box_height > 0) & (box_height <= height)
    top = philox.below(word[2], np.where(fits, height - box_height + 1, 1))
    left = philox.below(word[3], np.where(fits, width - box_width + 1, 1))
    return fits, (top, left, box_height, box_width)


def _fallback_box(spec: ViewSpec, sizes: NDArray[np.int64]) -> Numbers:
    """[N, 4]: the largest box in the middle whose aspect ratio is allowed."""
    height, width = sizes[:, 0].astype(np.float64), sizes[:, 1].astype(np.float64)
    ratio, (least, most) = width / height, (min(spec.ratio), max(spec.ratio))
    # An extreme image and a ratio near 1 can round to an empty box; torchvision fails on it, one pixel is kept here.
    box_height = np.where(ratio < least, np.clip(np.rint(width / least), 1, height), height)
    box_width = np.where(ratio > most, np.clip(np.rint(height * most), 1, width), width)
    return np.stack([(height - box_height) // 2, (width - box_width) // 2, box_height, box_width], axis=1)


def _stage(
    spec: ViewSpec, stage: str, draws: _Draws, flags: tuple[philox.Words, ...]
) -> tuple[NDArray[np.int64], Numbers]:
    """Codes and values of a stage's steps, [N, V, steps]; code 0 where it does not happen."""
    probability: float = getattr(spec, stage)
    if stage == "jitter":
        applies = philox.unit(flags[2]) < probability
        order = _ORDERS[philox.below(flags[3], len(_ORDERS))]
        ranges = (spec.brightness, spec.contrast, spec.saturation, spec.hue)
        words = draws.block(_FACTORS)
        factors = np.zeros((*applies.shape, 4))
        for k, bounds in enumerate(ranges):
            if isinstance(bounds, tuple):
                factors[..., k] = bounds[0] + (bounds[1] - bounds[0]) * philox.unit(words[k])
        on = applies[..., None] & np.array([isinstance(bounds, tuple) for bounds in ranges])[order]
        places = order + np.arange(0, factors.size, 4).reshape(*applies.shape, 1)
        return np.where(on, order + 1, 0), np.where(on, factors.reshape(-1)[places], 0.0)
    place = ("gray", "invert", "solarize", "blur").index(stage)
    applies = (philox.unit(draws.block(_STAGES)[place]) < probability)[..., None]
    value: float | Numbers = 0.0
    if stage == "solarize":
        value = spec.threshold
    elif stage == "blur":
        value = spec.sigma[0] + (spec.sigma[1] - spec.sigma[0]) * philox.unit(draws.block(_SIGMA)[0])[..., None]
    return np.where(applies, STEPS.index(stage), 0), np.where(applies, value, 0.0)
