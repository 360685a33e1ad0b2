"""The pass over a shard: an image is loaded once, a view drawn once for all encoders, a layer reduced in its hook."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from memkern.audit.data.check import pixels_digest
from memkern.audit.measure.draw import draw_clean, draw_views
from memkern.audit.measure.encoder_readings import EncoderReadings, Peaks
from memkern.audit.measure.job import Job, rows_per_image
from memkern.audit.taps.tap import Tap, TapStats
from memkern.errors import DataError, NanError
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

    def tensor(self, share: int = 1) -> Tensor:
        """Returns the seconds in the order of `PHASES`, divided by `share`, `[len(PHASES)]` float64."""
        return torch.tensor([self.seconds[name] for name in PHASES], dtype=torch.float64) / share


@dataclass(frozen=True)
class Batch:
    """Batch of images of a shard.

    Attributes:
        rows: Their rows.
        index: Their positions in the list, `[B]` int64, which key their views.
        images: `[C, H, W]` each, of any sizes.
        labels: Class of each image, `[B]` int64, -1 of one without a label; `None` without labels.
        contents: Digest of the pixels of each image.
    """

    rows: range
    index: Tensor
    images: list[Tensor]
    labels: Tensor | None
    contents: list[bytes]


class EncoderPass:
    """Pass of the batches of a shard through one encoder, which adds up what its layers give.

    Args:
        job: What to measure.
        name: Name of the encoder.
        tap: What reads its layers.
    """

    def __init__(self, job: Job, name: str, tap: Tap) -> None:
        self.job, self.name, self.tap = job, name, tap
        self.timer = PhaseTimer()
        self._units = UnitMem(rest="median" if job.options.median else "mean")
        self._classes, self._peaks = ClassMem(), Peaks()
        self._alignment: list[Tensor] = []
        self._halves: list[Tensor] = []
        self._rows: list[Tensor] = []
        self._contents = hashlib.sha256()

    def read(self, batch: Batch, drawn: Tensor, clean: Tensor | None) -> None:
        """Runs the encoder on a batch and adds what its layers give.

        Args:
            batch: The images.
            drawn: Their views, `[B * rows_per_image, C, h, w]`, as `draw` gives them.
            clean: The images themselves, `[B, C, h, w]`, where `draw` gives them.
        """
        job, seed = self.job, int(batch.index[0])
        self._contents.update(b"".join(batch.contents))
        stats = _forward(job, self.tap, drawn, seed, self.timer)
        with self.timer.phase("metrics"):
            self._alignment.append(torch.stack([_known(stats[name].alignment) for name in job.names]))
            if job.view_sums:
                self._rows.append(_known(stats[job.output].rows))
                self._halves.append(torch.stack([_known(stats[name].halves) for name in job.names], 1))  # [2, L, B]
            means = torch.cat([_means(stats[name]) for name in job.names], 1)
            self._units.update(means, ids=batch.index.to(means.device))
            if job.balanced is not None:
                among = job.balanced[batch.rows.start : batch.rows.stop].to(means.device)
                self._peaks.update(means[among], batch.index.to(means.device)[among])
        if batch.labels is not None and self.name in job.by_class:
            on_clean = _on_clean(job, self.tap, stats, clean, seed, self.timer)
            labels = batch.labels.to(on_clean.device)
            labeled = labels >= 0
            with self.timer.phase("metrics"):
                if bool(labeled.all()):
                    self._classes.update(on_clean, labels)
                elif bool(labeled.any()):  # of images without a label nothing is known
                    self._classes.update(on_clean[labeled], labels[labeled])

    def result(self, seconds: Tensor) -> EncoderReadings:
        """Returns what was read; `seconds`, `[len(PHASES)]`, is this encoder's part of loading and drawing."""
        job, alignment = self.job, torch.cat(self._alignment, 1).cpu()
        has_halves = job.view_sums and job.options.views >= 4  # of fewer views a half has no pair
        states = [
            {name: value.cpu() for name, value in state.items()}
            for state in (self._units.state_dict(), self._classes.state_dict(), self._peaks.state())
        ]
        return EncoderReadings(
            alignment=alignment,
            halves=torch.cat(self._halves, 2).cpu() if has_halves else alignment.new_zeros((2, len(alignment), 0)),
            rows=torch.cat(self._rows).cpu() if job.view_sums else alignment.new_zeros((alignment.shape[1], 0)),
            units=states[0],
            classes=states[1],
            peaks=states[2],
            seconds=self.timer.tensor() + seconds,
            contents=self._contents.hexdigest(),
        )


def measure_shard(
    job: Job, number: int, encoders: Mapping[str, nn.Module], on_images: Callable[[int], None] | None = None
) -> dict[str, EncoderReadings]:
    """Reads some encoders on the images of one shard.

    Args:
        job: What to measure.
        number: Which shard.
        encoders: Name -> encoder, on the device, in eval mode.
        on_images: Called with the number of images after each batch.

    Returns:
        Name -> what was read; the "write" time is 0.

    Raises:
        NanError: If an encoder gives NaN, unless the options allow it.
        RuntimeError: If a layer does not run.
    """
    timer, rows = PhaseTimer(), job.rows(number)
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        pool = stack.enter_context(ThreadPoolExecutor(job.options.workers))
        passes = [EncoderPass(job, name, stack.enter_context(tap(job, name, each))) for name, each in encoders.items()]
        for batch in _batches(job, rows, pool, timer):
            drawn, clean = draw(job, batch.images, batch.index, timer, clean=not job.by_class.isdisjoint(encoders))
            for each in passes:
                each.read(batch, drawn, clean)
            if on_images is not None:
                on_images(len(batch.rows))
    found = {each.name: each.result(timer.tensor(len(passes))) for each in passes}
    if not job.options.allow_nan:
        for name, reading in found.items():
            _require_numbers(job, rows, name, reading.alignment)
    return found


def tap(job: Job, name: str, encoder: nn.Module) -> Tap:
    """Makes the tap that reads the layers of an encoder, by its name."""
    options = job.options
    return Tap(
        encoder,
        job.layers_of(name).hook_points,
        n_views=rows_per_image(options),
        pairs=options.pairs,
        normalize=options.normalize,
        distance=options.distance,
        activation=options.activation,
        clean_first=options.clean,
        view_sums=job.view_sums,
    )


def _batches(job: Job, rows: range, pool: ThreadPoolExecutor, timer: PhaseTimer) -> Iterator[Batch]:
    """Batches of images; the next one is loaded by threads while the encoders work on this one."""
    source, size = job.source, job.batch_size

    def submit(start: int) -> list[Future[tuple[Tensor, bytes]]]:
        return [pool.submit(_load, job, row) for row in range(start, min(start + size, rows.stop))]

    pending = submit(rows.start)
    for start in range(rows.start, rows.stop, size):
        with timer.phase("load"):
            loaded = [future.result() for future in pending]
            pending = submit(start + size)
        own = range(start, start + len(loaded))
        index = torch.tensor([source.index[row] for row in own])
        labels = None if source.labels is None else torch.tensor([source.labels[row] for row in own])
        yield Batch(own, index, [image for image, _ in loaded], labels, [digest for _, digest in loaded])


def _load(job: Job, row: int) -> tuple[Tensor, bytes]:
    """Loads an image, which must be the one that was looked at; and the digest of its pixels."""
    stored = job.source.stored(row)
    digest = pixels_digest(stored)
    if job.contents is not None and digest != job.contents[row].tobytes():
        raise DataError(
            f"Expected {job.source.ids[row]} to have the pixels that it had when it was looked at, got others: its "
            "file changed meanwhile, or is not the same for all processes; restore it and go on with --resume"
        )
    return job.source.taken(stored), digest


def draw(
    job: Job, images: Sequence[Tensor], index: Tensor, timer: PhaseTimer, *, clean: bool = True
) -> tuple[Tensor, Tensor | None]:
    """Draws the views of a batch of images.

    Args:
        job: What to measure.
        images: `[C, H, W]` each, of any sizes.
        index: Their positions in the list, which key the views.
        timer: Adds up the time of loading and drawing.
        clean: Whether an encoder needs the images themselves, for ClassMem.

    Returns:
        `[B * rows_per_image, C, h, w]` with the rows of an image next to each other, and the clean images
        `[B, C, h, w]` where ClassMem needs them and they are not among the former.
    """
    with timer.phase("views"):
        options = job.options
        dtype = torch.bfloat16 if options.precision == "bf16" else torch.float32
        device, last = options.torch_device(), job.encoders.channels_last
        same = len({(image.shape, image.dtype) for image in images}) == 1
        # Images go to the device and views are made there, because images are fewer bytes than their views.
        batch = torch.stack(list(images)).to(device) if same else [image.to(device) for image in images]
        drawn = draw_views(job.views, batch, index, clean=options.clean, dtype=dtype, channels_last=last)
        itself = None
        if clean and job.source.labels is not None and not options.clean:
            itself = draw_clean(job.views, batch, index, dtype=dtype, channels_last=last)
    return drawn, itself


def _forward(job: Job, tap: Tap, batch: Tensor, seed: int, timer: PhaseTimer) -> Mapping[str, TapStats]:
    """Runs one forward pass; an encoder that draws random numbers draws the same in any order of work."""
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


def _known(sums: Tensor | None) -> Tensor:
    assert sums is not None
    return sums.float()


def _means(stats: TapStats) -> Tensor:
    assert stats.unit_means is not None
    return stats.unit_means


def _clean_means(stats: TapStats) -> Tensor:
    assert stats.clean_means is not None
    return stats.clean_means


def _require_numbers(job: Job, rows: range, name: str, alignment: Tensor) -> None:
    """Requires alignments without NaN; the error names the first layer and image that gave one."""
    bad = alignment.isnan().nonzero()
    if len(bad):
        layer, at = bad[bad[:, 1].argmin()].tolist()
        raise NanError(
            f"Expected numbers, got NaN from layer {job.names[layer]!r} of {name} for image "
            f"{job.source.ids[rows.start + at]!r}; check the weights, or go on with --allow-nan (such scores "
            "are NaN and counted)"
        )
