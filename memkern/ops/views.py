"""Views: images and a table of parameters -> augmented, normalized views, [N, V, C, H, W]."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from memkern import autodiff, dispatch, native, transforms
from memkern.checks import registered
from memkern.checks import values as checks
from memkern.checks import views as checks_views
from memkern.checks.values import Array, IntsLike, TensorLike
from memkern.ops import LIBRARY
from memkern.reference.views import views as reference

# ---- schema and fake ----------------------------------------------------------------------------------------------
# `images` are batches [n, C, H, W], each of equally large images; the params of all images stand in one table.
# `stages`: a backend that launches one after the other cannot look into a table on a GPU.

LIBRARY.define(
    "views(Tensor[] images, Tensor params, Tensor? hidden, int height, int width, int patch, int stages, "
    "bool antialias, int blur_size, float[] mean, float[] std, ScalarType dtype, bool channels_last, str backend) "
    "-> Tensor"
)


class ViewRequest(NamedTuple):
    """Request to the kernels beside images ``[n, C, H, W]`` and their table of parameters ``[N, V, 22]``.

    Attributes:
        hidden: ``[N, V, height / patch, width / patch]`` bool, patches to hide, or ``None``.
        height: Height of a view, pixels.
        width: Width of a view, pixels.
        patch: Edge of a patch, pixels.
        stages: Most stages of a view, one more than its contrasts and blurs.
        antialias: Whether the triangle filter is widened when shrinking.
        blur_size: Taps of the blur, odd; 0 if no view is blurred.
        mean: Mean of each channel, in 0 to 1.
        std: Standard deviation of each channel, in 0 to 1.
        dtype: Dtype of the views.
        channels_last: Whether the channels of a pixel are neighbours in memory.
    """

    hidden: Tensor | None
    height: int
    width: int
    patch: int
    stages: int
    antialias: bool
    blur_size: int
    mean: Sequence[float]
    std: Sequence[float]
    dtype: torch.dtype
    channels_last: bool


def _empty(images: Sequence[Tensor], params: Tensor, request: ViewRequest) -> Tensor:
    (points, views), channels, size = params.shape[:2], images[0].shape[1], (request.height, request.width)
    if request.channels_last:
        return images[0].new_empty((points, views, *size, channels), dtype=request.dtype).permute(0, 1, 4, 2, 3)
    return images[0].new_empty((points, views, channels, *size), dtype=request.dtype)


@torch.library.register_fake("memkern::views", lib=LIBRARY)
def _fake(images: Sequence[Tensor], params: Tensor, *arguments: Any) -> Tensor:
    return _empty(images, params, ViewRequest(*arguments[:-1]))


# ---- autograd: none; the parameters are drawn, the images are data --------------------------------------------------
# ---- backend table ------------------------------------------------------------------------------------------------


def _batch(images: Tensor) -> native.Record:
    """Lists the fields of the record of a batch of equally large images."""
    stride, channel_stride, row_stride, column_stride = images.stride()
    return {
        "data": images.data_ptr(), "images": images.shape[0], "image_stride": stride, "height": images.shape[2],
        "width": images.shape[3], "channel_stride": channel_stride, "row_stride": row_stride,
        "column_stride": column_stride,
    }  # fmt: skip


def _compiled(
    kernels: native.Kernels, where: object, images: Sequence[Tensor], params: Tensor, request: ViewRequest
) -> Tensor:
    out = _empty(images, params, request)
    params = params.contiguous()  # kept in names, as the patches: the kernel reads their memory
    hidden = None if request.hidden is None else request.hidden.to(torch.uint8).contiguous()
    kernels.views(
        where, batches=[_batch(batch) for batch in images], pixel=native.PIXELS[images[0].dtype],
        views=params.shape[1], channels=images[0].shape[1], height=request.height, width=request.width,
        params=params.data_ptr(), antialias=request.antialias, blur_size=request.blur_size, mean=request.mean,
        std=request.std, hidden=0 if hidden is None else hidden.data_ptr(), patch=request.patch, out=out.data_ptr(),
        dtype=native.DTYPES[request.dtype], channels_last=request.channels_last,
    )  # fmt: skip
    return out


def _cpu(images: Sequence[Tensor], params: Tensor, request: ViewRequest) -> Tensor:
    return _compiled(native.library(), torch.get_num_threads(), images, params, request)


def _cuda(images: Sequence[Tensor], params: Tensor, request: ViewRequest) -> Tensor:
    _one_device(images, params, request.hidden)
    return _compiled(native.cuda(), native.cuda_launch_context(images[0]), images, params, request)


def _one_device(images: Sequence[Tensor], params: Tensor, hidden: Tensor | None) -> None:
    for batch in images:
        checks.same_device(images[0], batch, "images[0]", "images")
    checks.same_device(images[0], params, "images", "params")
    if hidden is not None:
        checks.same_device(images[0], hidden, "images", "masks")


def _reference(images: Sequence[Tensor], params: Tensor, request: ViewRequest) -> Tensor:
    if importlib.util.find_spec("torchvision") is None:
        raise checks.no_extra("memkern.reference.views", "torchvision", "dev")
    views = reference(
        images, params, size=(request.height, request.width), antialias=request.antialias, blur_size=request.blur_size,
        mean=request.mean, std=request.std, hidden=request.hidden, patch=request.patch,
    )  # fmt: skip
    return _empty(images, params, request).copy_(views)


def _triton(images: Sequence[Tensor], params: Tensor, request: ViewRequest) -> Tensor:
    from memkern.triton_kernels import views as kernels

    _one_device(images, params, request.hidden)
    out = _empty(images, params, request)
    kernels.views(
        images, params, request.hidden, request.patch, request.stages, request.antialias, request.blur_size,
        request.mean, request.std, out,
    )  # fmt: skip
    return out


TABLE = {"cpu": _cpu, "triton": _triton, "cuda": _cuda, "reference": _reference}


def _run(images: Sequence[Tensor], params: Tensor, *arguments: Any) -> Tensor:
    """Runs for the registered op: ``arguments`` are the fields of a ``ViewRequest``, then the backend."""
    run = dispatch.pick(arguments[-1], images[0].device, TABLE)
    return run(images, params, ViewRequest(*arguments[:-1]))


_CHECK = registered.views_table(len(transforms.COLUMNS), transforms.BOUNDS, transforms.STEPS.index("blur"))
LIBRARY.impl("views", registered.checked(_run, _CHECK), "CompositeExplicitAutograd")

# ---- public function ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Draw:
    """Views that are drawn: the arguments of ``views`` of these names."""

    n_views: int | None
    seed: int | None
    index: IntsLike | None
    clean: bool
    first_view: int


class _Table(NamedTuple):
    """Parameters ``[N, V, 22]``, hidden patches, whether any view is blurred, and the most stages of a view."""

    params: Tensor
    hidden: Tensor | None
    blurs: bool
    stages: int


def _drawn(spec: transforms.ViewSpec, batches: Sequence[Tensor], draw: _Draw, size: tuple[int, int]) -> _Table:
    """Draws the table of parameters of some images and, if the spec masks, the hidden patches."""
    ids = checks_views.indices(draw.index, sum(len(batch) for batch in batches))
    n_views = checks_views.count(draw.n_views, "n_views", least=0 if draw.clean else 1)
    seed = checks_views.seed(draw.seed)
    first_view = checks_views.count(draw.first_view, "first_view", least=0)
    sizes = np.repeat([batch.shape[2:] for batch in batches], [len(batch) for batch in batches], axis=0)
    params = torch.from_numpy(transforms.draw(spec, n_views, seed, ids, sizes, size, draw.clean, first_view))
    hidden = None
    if spec.mask != 0.0:
        hidden = torch.from_numpy(transforms.draw_masks(spec, n_views, seed, ids, size, first_view))
        hidden = torch.cat([torch.zeros_like(hidden[:, :1]), hidden], 1) if draw.clean else hidden
    device = batches[0].device
    blurs = spec.blur > 0.0 and "blur" in spec.order
    stages = 1 + blurs + (spec.jitter > 0.0 and spec.contrast is not None and "jitter" in spec.order)
    return _Table(_sent(params, device), None if hidden is None else _sent(hidden, device), blurs, stages)


def _sent(drawn: Tensor, device: torch.device) -> Tensor:
    """Moves what was drawn to the device of the images; a GPU copies pinned memory while the host goes on."""
    return drawn.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else drawn.to(device)


def _given(
    spec: transforms.ViewSpec, batches: Sequence[Tensor], params: TensorLike, masks: TensorLike | None,
    size: tuple[int, int],
) -> _Table:  # fmt: skip
    """Checks a table that the caller has drawn, and moves it to the device of the images."""
    table = checks_views.params(params, batches, len(transforms.COLUMNS), transforms.BOUNDS)
    hidden = checks_views.masks(masks, table, size, spec.patch, spec.mask)
    # Values that may not be read (traced, or on a GPU): taps for a blur wherever it fits, or if the spec blurs.
    fits = spec.blur_size // 2 < min(size)
    unknown = fits or spec.blur > 0.0, 1 + transforms.N_STEPS
    blurs, stages = _blurs_and_stages(table) if checks.readable(table) else unknown
    device = batches[0].device
    return _Table(table.to(device), None if hidden is None else hidden.to(device), blurs, stages)


def _blurs_and_stages(table: Tensor) -> tuple[bool, int]:
    """Finds whether any view is blurred, which needs working memory, and the most stages of a view."""
    codes = table[..., 6::2]
    blurs, contrasts = codes == transforms.STEPS.index("blur"), codes == transforms.STEPS.index("contrast")
    most = (blurs | contrasts).sum(-1).max() if codes.numel() else 0
    return bool(blurs.any()), 1 + int(most)


def views(
    images: TensorLike | Sequence[Tensor],
    *,
    n_views: int | None = None,
    transform: str | transforms.ViewSpec = "simclr",
    seed: int | None = None,
    index: IntsLike | None = None,
    size: int | tuple[int, int] | None = None,
    clean: bool = False,
    first_view: int = 0,
    params: TensorLike | None = None,
    masks: TensorLike | None = None,
    dtype: torch.dtype = torch.float32,
    channels_last: bool = False,
    backend: str = "auto",
) -> Array:
    r"""Draws random views of images: cropped, flipped, recolored, blurred and normalized in one pass over each view.

    Each view is what torchvision v2 makes with the same parameters (uint8 images rounded to uint8 after every step):

    .. math:: x_{iv} = (T_{\theta_{iv}}(x_i) - \mathrm{mean}) / \mathrm{std},
        \qquad \theta_{iv} = \theta(\mathrm{seed}, \mathrm{index}_i, v)

    A view depends on its own image, seed, index and number alone: the same bits for any batch, order or number of
    threads, so two encoders can be shown the same views at any time.

    Args:
        images: ``[N, C, H, W]``, or a list of images ``[C, H, W]`` of any sizes, C = 1 or 3; uint8 (0 to 255) or
            floating (0 to 1; read as float32). Any strides are read in place.
        n_views: How many random views of each image.
        transform: The name of a preset (``memkern.transforms.PRESETS``) or a ``ViewSpec``.
        seed: Seed, a whole number in [0, 2**64).
        index: Dataset index of each image, ``[N]``, which keys the views.
        size: Height and width of a view, or one number; default: the spec's, else that of the images.
        clean: Whether to put the clean view (resized, normalized, not augmented) before the random ones, as view 0.
        first_view: View index of the first random view, for recipes that draw their views in several calls.
        params: ``[N, V, 22]`` table as drawn by ``memkern.view_params``, instead of ``n_views``, ``seed`` and
            ``index``; of ``transform``, the size, blur size, antialiasing, mean and std are used. ``torch.compile``
            traces calls with a table only: drawing is numpy's work.
        masks: ``[N, V, h / patch, w / patch]`` bool, patches to hide, beside ``params``. Else they are drawn if the
            spec masks.
        dtype: Dtype of the views: torch.float32, torch.bfloat16 or torch.float16.
        channels_last: Whether the channels of a pixel are neighbors in memory.
        backend: "auto", "reference", "cpu", "triton" or "cuda"; one that is named but cannot run raises.

    Returns:
        ``[N, n_views + clean, C, h, w]`` on the device of the images; numpy for numpy. ``flatten(0, 1)`` is a batch for
        an encoder, channels-last if asked for.

    Raises:
        TypeError: If an argument is of another kind, or neither ``params`` nor all of the rest are given.
        ValueError: If a shape, size or option does not fit.
        RuntimeError: If the named backend cannot run here.

    Example:
        >>> import torch, memkern
        >>> photos = torch.randint(256, (4, 3, 32, 32), dtype=torch.uint8)
        >>> memkern.views(photos, n_views=10, transform="simclr", seed=0, index=[11, 5, 7, 2]).shape
        torch.Size([4, 10, 3, 32, 32])
    """
    batches, was_numpy = checks_views.images(images)
    spec = transforms.named(transform)
    checks_views.output_dtype(dtype)
    checks.one_of(backend, "backend", dispatch.NAMES)
    checks_views.drawn_or_given({"n_views": n_views, "seed": seed, "index": index}, params)
    asked = spec.size if size is None else size
    height, width = checks_views.one_size(batches) if asked is None else checks_views.height_width(asked, "size")
    if params is None:
        draw = _Draw(n_views, seed, index, bool(clean), first_view)
        table = _drawn(spec, batches, draw, (height, width))
    else:
        table = _given(spec, batches, params, masks, (height, width))
    if table.blurs:
        checks_views.blur_fits((height, width), spec.blur_size)
    request = ViewRequest(
        table.hidden, height, width, spec.patch, table.stages, spec.antialias, spec.blur_size if table.blurs else 0,
        spec.mean, spec.std, dtype, bool(channels_last),
    )  # fmt: skip
    bypass = all(dispatch.can_bypass_dispatcher(batch) for batch in batches)
    if not bypass:
        for batch in batches:
            autodiff.refuse_derivative(batch, "images")
    run = _run if bypass else torch.ops.memkern.views.default
    out = run(batches, table.params, *request, backend)
    return checks.as_numpy(out) if was_numpy else out
