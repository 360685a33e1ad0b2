"""The pass: an image is loaded once, a view drawn once for both encoders, a layer reduced in its hook."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from memkern.audit.data.source import Source
from memkern.audit.measure.shard_files import Shard
from memkern.audit.options import Options
from memkern.audit.taps.hook_points import Layers
from memkern.audit.taps.tap import Tap, TapStats
from memkern.errors import NanError
from memkern.metrics.classes import ClassMem
from memkern.metrics.units import UnitMem
from memkern.ops.views import views

PARTS = ("load", "views", "forward", "metrics", "write")
"""What the work is timed by; "metrics" are the reductions in the hooks and the streaming states."""


@dataclass
class Clock:
    """Seconds by part of the work."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))

    def add(self, part: str, start: float) -> float:
        """Adds the time since `start` to a part; returns the time."""
        now = time.perf_counter()
        self.seconds[part] += now - start
        return now

    def tensor(self) -> Tensor:
        """The seconds in the order of `PARTS`, float64."""
        return torch.tensor([self.seconds[part] for part in PARTS], dtype=torch.float64)


@dataclass(frozen=True)
class Job:
    """All that a shard is made from.

    Attributes:
        options: How to measure.
        source: The images.
        f: The encoder that was trained with the candidates, on the device, in eval mode.
        g: The reference; `None` without one.
        layers: What is read of both.
        batch_size: Images per forward pass.
    """

    options: Options
    source: Source
    f: nn.Module
    g: nn.Module | None
    layers: Layers
    batch_size: int

    @property
    def n_shards(self) -> int:
        """How many shards the images make."""
        return -(-len(self.source) // self.options.shard_size)

    def rows(self, number: int) -> range:
        """The rows of a shard."""
        size = self.options.shard_size
        return range(number * size, min((number + 1) * size, len(self.source)))


def on_device(encoder: nn.Module, options: Options) -> nn.Module:
    """The encoder where and as it runs: on the device, channels of a pixel side by side, in eval mode."""
    # Convolutions of oneDNN and cuDNN gain from channels last; layers without maps are left as they are.
    return encoder.to(device=options.torch_device(), memory_format=torch.channels_last).eval()  # type: ignore[call-overload,no-any-return]


def do_shard(job: Job, number: int, on_images: Callable[[int], None] | None = None) -> Shard:
    """Measures the images of one shard.

    Args:
        job: What to measure.
        number: Which shard.
        on_images: Called with the number of images after each batch.

    Returns:
        The shard; its "write" time is 0.

    Raises:
        NanError: If an encoder gives NaN, unless the options allow it.
        RuntimeError: If a layer does not run.
    """
    options, clock = job.options, Clock()
    rows = job.rows(number)
    units, classes = UnitMem(rest="median" if options.median else "mean"), ClassMem()
    alignment: dict[str, list[Tensor]] = {"f": [], "g": []}
    names = [site.name for site in job.layers.sites]
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        pool = stack.enter_context(ThreadPoolExecutor(options.workers))
        taps = {"f": stack.enter_context(tap(job, job.f, means=True))}
        if job.g is not None:
            taps["g"] = stack.enter_context(tap(job, job.g, means=False))
        for part, images in _batches(job.source, rows, job.batch_size, pool, clock):
            index = torch.tensor([job.source.index[row] for row in part])
            drawn, clean = draw(job, images, index, clock)
            stats = {role: _forward(job, tap, drawn, int(index[0]), clock) for role, tap in taps.items()}
            start = time.perf_counter()
            for role, found in stats.items():
                alignment[role].append(torch.stack([_alignment(found[name]) for name in names]))
            means = torch.cat([_means(stats["f"][name]) for name in names], 1)
            units.update(means, ids=index.to(means.device))
            start = clock.add("metrics", start)
            if job.source.labels is not None:
                if clean is not None:
                    taps["f"].n_views = None
                    stats["f"] = _forward(job, taps["f"], clean, int(index[0]), clock)
                    taps["f"].n_views = rows_per_image(options)
                start = time.perf_counter()
                on_clean = [_clean(stats["f"][name], clean is not None) for name in names]
                labels = torch.tensor([job.source.labels[row] for row in part], device=on_clean[0].device)
                classes.update(torch.cat(on_clean, 1), labels)
                clock.add("metrics", start)
            if on_images is not None:
                on_images(len(part))
    empty = torch.zeros((0, len(rows)))
    shard = Shard(
        (rows.start, rows.stop),
        torch.cat(alignment["f"], 1).cpu(),
        torch.cat(alignment["g"], 1).cpu() if job.g is not None else empty,
        {name: value.cpu() for name, value in units.state_dict().items()},
        {name: value.cpu() for name, value in classes.state_dict().items()},
        clock.tensor(),
    )
    if not options.allow_nan:
        _no_nan(job, shard)
    return shard


def rows_per_image(options: Options) -> int:
    """Rows of a batch that belong to one image: its views, and the clean image where pairs are anchored."""
    return options.views + options.clean


def tap(job: Job, encoder: nn.Module, *, means: bool) -> Tap:
    """What reads the layers of one encoder.

    Args:
        job: The layers and options.
        encoder: ``job.f`` or ``job.g``.
        means: Whether to keep the unit means.
    """
    options = job.options
    return Tap(
        encoder,
        job.layers.sites,
        n_views=rows_per_image(options),
        pairs=options.pairs,
        normalize=options.normalize,
        clean_first=options.clean,
        means=means,
    )


def _batches(
    source: Source, rows: range, size: int, pool: ThreadPoolExecutor, clock: Clock
) -> Iterator[tuple[range, list[Tensor]]]:
    """Batches of images; the next one is loaded by threads while the encoders work on this one."""

    def submit(start: int) -> list[Future[Tensor]]:
        return [pool.submit(source.image, row) for row in range(start, min(start + size, rows.stop))]

    pending = submit(rows.start)
    for start in range(rows.start, rows.stop, size):
        now = time.perf_counter()
        images = [future.result() for future in pending]
        pending = submit(start + size)
        clock.add("load", now)
        yield range(start, start + len(images)), images


def draw(job: Job, images: Sequence[Tensor], index: Tensor, clock: Clock) -> tuple[Tensor, Tensor | None]:
    """The views of a batch of images.

    Args:
        job: What to measure.
        images: `[C, H, W]` each, of any sizes.
        index: Their positions in the list, which key the views.
        clock: Gets the time.

    Returns:
        `[B * rows_per_image, C, h, w]` with the rows of an image next to each other, and the clean images
        `[B, C, h, w]` where ClassMem needs them and they are not among the former.
    """
    start = time.perf_counter()
    options = job.options
    dtype = torch.bfloat16 if options.precision == "bf16" else torch.float32
    device = options.torch_device()
    same = len({(image.shape, image.dtype) for image in images}) == 1
    # Images, bytes of which are few, go to the device; their views are made there.
    batch: Any = torch.stack(list(images)).to(device) if same else [image.to(device) for image in images]
    common: dict[str, Any] = {
        "transform": options.spec(), "seed": options.seed, "index": index, "dtype": dtype, "channels_last": True
    }  # fmt: skip
    drawn = views(batch, n_views=options.views, clean=options.clean, **common)
    clean = None
    if job.source.labels is not None and not options.clean:
        clean = views(batch, n_views=0, clean=True, **common).flatten(0, 1)
    clock.add("views", start)
    return drawn.flatten(0, 1), clean


def _forward(job: Job, tap: Tap, batch: Tensor, seed: int, clock: Clock) -> dict[str, TapStats]:
    """One pass; an encoder that draws random numbers draws the same for f and g, and after a resumption."""
    start, before = time.perf_counter(), tap.seconds
    device = job.options.torch_device()
    bf16 = job.options.precision == "bf16"
    torch.manual_seed(job.options.seed * 1_000_003 + seed)
    with torch.autocast(device.type, torch.bfloat16) if bf16 else nullcontext():
        tap.model(batch)
    stats = tap.take()
    reduced = tap.seconds - before
    clock.add("forward", start + reduced)
    clock.seconds["metrics"] += reduced
    return stats


def _alignment(stats: TapStats) -> Tensor:
    assert stats.alignment is not None
    return stats.alignment.float()


def _means(stats: TapStats) -> Tensor:
    assert stats.unit_means is not None
    return stats.unit_means


def _clean(stats: TapStats, own_pass: bool) -> Tensor:
    if own_pass:
        return _means(stats)
    assert stats.clean_means is not None
    return stats.clean_means


def _no_nan(job: Job, shard: Shard) -> None:
    """Requires numbers; names the first layer and image that gave none."""
    for role, found in (("f", shard.alignment_f), ("g", shard.alignment_g)):
        bad = found.isnan().nonzero()
        if len(bad):
            layer, at = bad[bad[:, 1].argmin()].tolist()
            where = job.source.ids[shard.rows[0] + at]
            raise NanError(
                f"Expected numbers, got NaN from layer {job.layers.sites[layer].name!r} of {role} for image {where!r}; "
                "check the weights, or go on with --allow-nan (such scores are NaN and counted)"
            )
