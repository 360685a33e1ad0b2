"""Sizes of a forward pass: height and width of the views, and images per pass."""

from __future__ import annotations

import math
from collections.abc import Sequence

from memkern.audit.data.decode import MAX_PIXELS
from memkern.audit.data.source import Source
from memkern.audit.measure.job import rows_per_image
from memkern.audit.options import Options
from memkern.errors import DataError

MOST_VIEWS = 640
"""Views of 32 x 32 pixels in a forward pass on a CPU, where the user names no batch size."""

FEWEST_VIEWS = {"cpu": 20, "cuda": 320}
"""Device -> views in a forward pass, however large they are, where the user names no batch size."""


def view_size(options: Options, sizes: Sequence[tuple[int, int]], source: Source) -> tuple[int, int]:
    """Finds height and width of the views, pixels: the transform's, or that of the images.

    Args:
        options: Which transform.
        sizes: Height and width of every image.
        source: The images, for the error message.

    Returns:
        Height and width.

    Raises:
        DataError: If neither says: the images have several sizes.
    """
    spec = options.spec()
    if spec.size is not None:
        size = spec.size if isinstance(spec.size, tuple) else (spec.size, spec.size)
        if math.prod(size) > MAX_PIXELS:
            raise DataError(f"Expected --size of at most {MAX_PIXELS} pixels a view, got {size[0]} x {size[1]}")
        return size
    distinct = sorted(set(sizes))
    if len(distinct) > 1:
        raise DataError(
            f"Expected --size, because the images of {source.name} have {len(distinct)} sizes "
            f"(from {distinct[0][0]}x{distinct[0][1]} to {distinct[-1][0]}x{distinct[-1][1]}); views need one"
        )
    return distinct[0]


def images_per_pass(options: Options, size: Sequence[int]) -> int:
    """Images per forward pass where the user names no number.

    A pass has to be large enough that the Python between layers costs little beside their work; beyond that, larger
    passes change little but memory, and large views fill the caches with few images. A GPU, which needs more work to be
    full, takes four times as many views, and more large ones.

    Args:
        options: How many views, and on which device.
        size: Height and width of a view, pixels.

    Returns:
        As many images as make 640 views of 32 x 32 pixels, fewer of larger views, but 20 views; 1 at least.
    """
    device = options.torch_device().type
    most = MOST_VIEWS * (4 if device == "cuda" else 1)
    n_views = min(most, max(FEWEST_VIEWS.get(device, FEWEST_VIEWS["cpu"]), most * 32 * 32 // math.prod(size)))
    return max(1, n_views // rows_per_image(options))
