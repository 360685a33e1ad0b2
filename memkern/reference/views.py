"""Views: torchvision v2, one image and one step at a time, on given parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def views(
    images: Sequence[Tensor],
    params: Tensor,
    *,
    size: tuple[int, int],
    antialias: bool = True,
    blur_size: int = 23,
    mean: Sequence[float] = (0.5, 0.5, 0.5),
    std: Sequence[float] = (0.5, 0.5, 0.5),
    hidden: Tensor | None = None,
    patch: int = 1,
) -> Tensor:
    """Makes the views of a table of parameters by torchvision's functions, in the dtype of the images.

    Args:
        images: Batches [n, C, H, W] of equally large images, uint8 (0 to 255) or float32 (0 to 1), C = 1 or 3.
        params: [N, V, 22]: crop box, flips and steps of each view, as ``memkern.view_params`` draws them.
        size: Height and width of a view.
        antialias: Whether shrinking averages over all pixels it covers.
        blur_size: Taps of the blur.
        mean: Of each channel.
        std: Of each channel.
        hidden: [N, V, height / patch, width / patch], patches to set to 0; None: none.
        patch: Edge of a patch.

    Returns:
        [N, V, C, height, width] float32.

    Raises:
        ModuleNotFoundError: If torchvision is missing.
    """
    from torchvision.transforms.v2 import functional as tv

    steps: dict[int, Callable[[Tensor, float], Tensor]] = {
        1: tv.adjust_brightness,
        2: tv.adjust_contrast,
        3: tv.adjust_saturation,
        4: tv.adjust_hue,
        5: lambda x, _: tv.rgb_to_grayscale(x, num_output_channels=x.shape[0]),
        6: lambda x, _: tv.invert(x),
        7: lambda x, value: tv.solarize(x, value if x.dtype == torch.uint8 else value / 255),
        8: lambda x, value: tv.gaussian_blur(x, [blur_size, blur_size], [value, value]),
    }

    def view(image: Tensor, row: list[float]) -> Tensor:
        top, left, height, width = (int(number) for number in row[:4])
        x = tv.resized_crop(image, top, left, height, width, list(size), antialias=antialias)
        x = tv.horizontal_flip(x) if row[4] else x
        x = tv.vertical_flip(x) if row[5] else x
        for code, value in zip(row[6::2], row[7::2], strict=True):
            x = steps[int(code)](x, value) if code else x
        x = tv.to_dtype(x, torch.float32, scale=True)
        normal: Tensor = tv.normalize(x, list(mean[: len(image)]), list(std[: len(image)]))
        return normal

    rows = params.tolist()
    each = [image for batch in images for image in batch]
    out = params.new_empty((*params.shape[:2], each[0].shape[0] if each else images[0].shape[1], *size))
    for i, image in enumerate(each):
        for v, row in enumerate(rows[i]):
            out[i, v] = view(image, row)
    if hidden is not None:
        spread = hidden.bool().repeat_interleave(patch, 2).repeat_interleave(patch, 3)
        out = out.masked_fill(spread[:, :, None], 0.0)
    return out
