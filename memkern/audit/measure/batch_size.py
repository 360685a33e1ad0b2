"""How large views are, and how many images go through an encoder at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence

from memkern.audit.data.source import Source
from memkern.audit.measure.job import rows_per_image
from memkern.audit.options import Options
from memkern.errors import DataError

MOST_VIEWS = 640
"""Views of 32 x 32 pixels in a forward pass on a CPU, where the user names no batch size."""

FEWEST_VIEWS = {"cpu": 20, "cuda": 320}
"""Device -> views in a forward pass, however large they are, where the user names no batch size."""


def view_size(options: Options, sizes: Sequence[tuple[int, int]], source: Source) -> tuple[int, int]:
    """Height and width of the views, pixels: the transform's, or that of the images.

    Args:
        options: Which transform.
        sizes: Height and width of every image.
        source: The images, for the error message.

    Raises:
        DataError: If neither says: the images have several sizes.
    """
    spec = options.spec()
    if spec.size is not None:
        return spec.size if isinstance(spec.size, tuple) else (spec.size, spec.size)
    distinct = sorted(set(sizes))
    if len(distinct) > 1:
        raise DataError(
            f"Expected --size, because the images of {source.name} have {len(distinct)} sizes "
            f"(from {distinct[0][0]}x{distinct[0][1]} to {distinct[-1][0]}x{distinct[-1][1]}); views need one"
        )
    return distinct[0]


def images_per_pass(options: Options, size: Sequence[int]) -> int:
    """Images per forward pass where the user names no number.

    On two cores, ResNet18 takes 5 % less time per view in passes of 640 than of 320 views of 32 x 32 pixels, and the
    Python between its layers half as much; larger passes of such views, and larger passes of views of 64 pixels and
    more, change little but memory. Twenty views of 224 pixels take ResNet50 no longer each than 80 do, and a quarter of
    the memory. A GPU, which needs more work to be full, takes four times as many views, and more large ones.

    Args:
        options: How many views, and on which device.
        size: Height and width of a view, pixels.

    Returns:
        As many as make 640 views of 32 x 32 pixels, fewer of larger views, but 20 views; 1 at least.
    """
    device = options.torch_device().type
    most = MOST_VIEWS * (4 if device == "cuda" else 1)
    n_views = min(most, max(FEWEST_VIEWS.get(device, FEWEST_VIEWS["cpu"]), most * 32 * 32 // math.prod(size)))
    return max(1, n_views // rows_per_image(options))
