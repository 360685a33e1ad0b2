"""The pass over a shard: an image is loaded once, a view drawn once for both encoders, a layer reduced in its hook."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from memkern.audit.measure.draw import draw_clean, draw_views
from memkern.audit.measure.job import Job, rows_per_image
from memkern.audit.measure.shard_files import Shard
from memkern.audit.taps.tap import Tap, TapStats
from memkern.errors import NanError
from memkern.metrics.classes import ClassMem
from memkern.metrics.units import UnitMem

PHASES = ("load", "views", "forward", "metrics", "write")
"""Phases by which the work is timed; "metrics" are the reductions in the hooks and the streaming states."""


@dataclass
class PhaseTimer:
    """Seconds by phase of the work."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PHASES, 0.0))

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Adds the time that the block takes to a phase."""
        start = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - start

    def tensor(self) -> Tensor:
        """Returns the seconds in the order of `PHASES`, `[len(PHASES)]` float64."""
        return torch.tensor([self.seconds[name] for name in PHASES], dtype=torch.float64)


@dataclass(frozen=True)
class Batch:
    """Batch of images of a shard.

    Attributes:
        rows: Their rows.
        index: Their positions in the list, `[B]` int64, which key their views.
        images: `[C, H, W]` each, of any sizes.
        labels: Class of each image, `[B]` int64; `None` without labels.
    """

    rows: range
    index: Tensor
    images: list[Tensor]
    labels: Tensor | None


def measure_shard(job: Job, number: int, on_images: Callable[[int], None] | None = None) -> Shard:
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
    timer, rows = PhaseTimer(), job.rows(number)
    units, classes = UnitMem(rest="median" if job.options.median else "mean"), ClassMem()
    alignment: dict[str, list[Tensor]] = {"f": [], "g": []}
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        pool = stack.enter_context(ThreadPoolExecutor(job.options.workers))
        taps = {role: stack.enter_context(tap(job, each, means=role == "f")) for role, each in job.encoders.items()}
        for batch in _batches(job, rows, pool, timer):
            drawn, clean = draw(job, batch.images, batch.index, timer)
            seed = int(batch.index[0])
            stats = {role: _forward(job, each, drawn, seed, timer) for role, each in taps.items()}
            with timer.phase("metrics"):
                for role, found in stats.items():
                    alignment[role].append(torch.stack([_alignment(found[name]) for name in job.names]))
                means = torch.cat([_means(stats["f"][name]) for name in job.names], 1)
                units.update(means, ids=batch.index.to(means.device))
            if batch.labels is not None:
                on_clean = _on_clean(job, taps["f"], stats["f"], clean, seed, timer)
                with timer.phase("metrics"):
                    classes.update(on_clean, batch.labels.to(on_clean.device))
            if on_images is not None:
                on_images(len(batch.rows))
    shard = Shard(
        (rows.start, rows.stop),
        torch.cat(alignment["f"], 1).cpu(),
        torch.cat(alignment["g"], 1).cpu() if job.g is not None else torch.zeros((0, len(rows))),
        {name: value.cpu() for name, value in units.state_dict().items()},
        {name: value.cpu() for name, value in classes.state_dict().items()},
        timer.tensor(),
    )
    if not job.options.allow_nan:
        _require_numbers(job, shard)
    return shard


def tap(job: Job, encoder: nn.Module, *, means: bool) -> Tap:
    """Makes the tap that reads the layers of one encoder.

    Args:
        job: The layers and options.
        encoder: `job.f` or `job.g`.
        means: Whether to keep the unit means.

    Returns:
        The tap.
    """
    options = job.options
    return Tap(
        encoder,
        job.layers.hook_points,
        n_views=rows_per_image(options),
        pairs=options.pairs,
        normalize=options.normalize,
        clean_first=options.clean,
        means=means,
    )


def _batches(job: Job, rows: range, pool: ThreadPoolExecutor, timer: PhaseTimer) -> Iterator[Batch]:
    """Batches of images; the next one is loaded by threads while the encoders work on this one."""
    source, size = job.source, job.batch_size

    def submit(start: int) -> list[Future[Tensor]]:
        return [pool.submit(source.image, row) for row in range(start, min(start + size, rows.stop))]

    pending = submit(rows.start)
    for start in range(rows.start, rows.stop, size):
        with timer.phase("load"):
            images = [future.result() for future in pending]
            pending = submit(start + size)
        own = range(start, start + len(images))
        index = torch.tensor([source.index[row] for row in own])
        labels = None if source.labels is None else torch.tensor([source.labels[row] for row in own])
        yield Batch(own, index, images, labels)


def draw(job: Job, images: Sequence[Tensor], index: Tensor, timer: PhaseTimer) -> tuple[Tensor, Tensor | None]:
    """Draws the views of a batch of images.

    Args:
        job: What to measure.
        images: `[C, H, W]` each, of any sizes.
        index: Their positions in the list, which key the views.
        timer: Adds up the time of loading and drawing.

    Returns:
        `[B * rows_per_image, C, h, w]` with the rows of an image next to each other, and the clean images
        `[B, C, h, w]` where ClassMem needs them and they are not among the former.
    """
    with timer.phase("views"):
        options = job.options
        dtype = torch.bfloat16 if options.precision == "bf16" else torch.float32
        device = options.torch_device()
        same = len({(image.shape, image.dtype) for image in images}) == 1
        # Images go to the device and views are made there, because images are fewer bytes than their views.
        batch = torch.stack(list(images)).to(device) if same else [image.to(device) for image in images]
        drawn = draw_views(job.views, batch, index, clean=options.clean, dtype=dtype, channels_last=True)
        clean = None
        if job.source.labels is not None and not options.clean:
            clean = draw_clean(job.views, batch, index, dtype=dtype, channels_last=True)
    return drawn, clean


def _forward(job: Job, tap: Tap, batch: Tensor, seed: int, timer: PhaseTimer) -> Mapping[str, TapStats]:
    """Runs one forward pass; an encoder that draws random numbers draws the same for f, g, and a resumed audit."""
    start, before = time.perf_counter(), tap.seconds
    device = job.options.torch_device()
    bf16 = job.options.precision == "bf16"
    torch.manual_seed(job.options.seed * 1_000_003 + seed)
    with torch.autocast(device.type, torch.bfloat16) if bf16 else nullcontext():
        tap.model(batch)
    stats = tap.take()
    reduced = tap.seconds - before
    timer.seconds["forward"] += time.perf_counter() - start - reduced
    timer.seconds["metrics"] += reduced
    return stats


def _on_clean(
    job: Job, tap: Tap, stats: Mapping[str, TapStats], clean: Tensor | None, seed: int, timer: PhaseTimer
) -> Tensor:
    """Computes unit means on the images themselves, all layers side by side, `[B, U]`."""
    if clean is None:  # the images themselves were the first row of each image: no pass of their own is needed
        return torch.cat([_clean_means(stats[name]) for name in job.names], 1)
    tap.n_views = None
    stats = _forward(job, tap, clean, seed, timer)
    tap.n_views = rows_per_image(job.options)
    return torch.cat([_means(stats[name]) for name in job.names], 1)


def _alignment(stats: TapStats) -> Tensor:
    assert stats.alignment is not None
    return stats.alignment.float()


def _means(stats: TapStats) -> Tensor:
    assert stats.unit_means is not None
    return stats.unit_means


def _clean_means(stats: TapStats) -> Tensor:
    assert stats.clean_means is not None
    return stats.clean_means


def _require_numbers(job: Job, shard: Shard) -> None:
    """Requires states without NaN; the error names the first layer and image that gave one."""
    for role, found in (("f", shard.alignment_f), ("g", shard.alignment_g)):
        bad = found.isnan().nonzero()
        if len(bad):
            layer, at = bad[bad[:, 1].argmin()].tolist()
            where = job.source.ids[shard.rows[0] + at]
            raise NanError(
                f"Expected numbers, got NaN from layer {job.names[layer]!r} of {role} for image {where!r}; "
                "check the weights, or go on with --allow-nan (such scores are NaN and counted)"
            )
