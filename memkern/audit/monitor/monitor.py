"""Memorization during training: a fixed probe set, seen through fixed views, every few epochs.

```
monitor = Monitor(images, layers="layer*", every=5)
for epoch in range(100):
    train(model)
    monitor.step(model, epoch, log=writer)
```
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from memkern.audit.taps.hook_points import Layers, find_layers, unwrapped
from memkern.audit.taps.rng import kept_rng
from memkern.audit.taps.tap import Tap
from memkern.metrics.classes import classmem_stats
from memkern.metrics.units import unitmem_stats
from memkern.ops.views import views
from memkern.scores import sslmem_score


@dataclass(frozen=True)
class Measurement:
    """What a monitor saw at one time.

    Attributes:
        epoch: The epoch it was told.
        seconds: What the measurement took.
        alignment: Layer -> mean distance between the views of each probe image, `[N]`.
        unitmem: Layer -> UnitMem of each unit over the probe images, `[U]`.
        classmem: Layer -> ClassMem of each unit, `[U]`; empty without labels.
        layermem: Layer -> (A_g - A_f) / (A_g + A_f) of each probe image, `[N]`; empty without a reference.
        sslmem: A_g - A_f of each probe image at the output, `[N]`, or `None` without a reference.
    """

    epoch: int
    seconds: float
    alignment: dict[str, Tensor]
    unitmem: dict[str, Tensor]
    classmem: dict[str, Tensor]
    layermem: dict[str, Tensor]
    sslmem: Tensor | None

    def scalars(self, prefix: str = "memkern") -> dict[str, float]:
        """The numbers to log: "memkern/unitmem/<layer>/mean" and so on; undefined units are left out of means."""
        found: dict[str, float] = {}
        for layer, values in self.unitmem.items():
            known = values[~values.isnan()].double()
            found[f"{prefix}/unitmem/{layer}/mean"] = _mean(known)
            found[f"{prefix}/unitmem/{layer}/p95"] = float(known.quantile(0.95)) if len(known) else math.nan
            found[f"{prefix}/unitmem/{layer}/above_half"] = _mean((known > 0.5).double())
        for name, scores in (("alignment", self.alignment), ("classmem", self.classmem), ("layermem", self.layermem)):
            for layer, values in scores.items():
                found[f"{prefix}/{name}/{layer}"] = _mean(values[~values.isnan()].double())
        if self.sslmem is not None:
            found[f"{prefix}/sslmem"] = _mean(self.sslmem.double())
        return found


def _mean(values: Tensor) -> float:
    return float(values.mean()) if len(values) else math.nan


class Monitor:
    """Measures memorization while a model trains, and leaves the training bit for bit as it was.

    The probe images and the seeds of their views stay the same, so curves over epochs are comparable. The model runs in
    eval mode and without gradients; every submodule's mode and every random number generator is put back. Every process
    of a distributed training measures the same; nothing is communicated.

    Args:
        images: The probe: `[N, C, H, W]` or a list of `[C, H, W]`, uint8 or floating in [0, 1], not normalized.
            Anything else that can be iterated, a DataLoader say, is read once, now: of each batch the images, the first
            entry of a tuple or "pixel_values" or "image" of a mapping.
        layers: Names or globs separated by commas, or "re:" and a regular expression; the output is always measured.
        n_views: Views of each image.
        transform: A preset or a `ViewSpec`: the views of the training.
        seed: Seed of the views.
        size: Height and width of a view.
        labels: Class of each image, `[N]`, for ClassMem.
        reference: An encoder that is not trained with the images, for LayerMem and SSLMem; it is run once.
        encoder: Name of the submodule to run, "backbone" say; "" for the model itself.
        every: Measure in every how many epochs.
        batch: Images per forward pass.
        show: Takes a line about the cost after every measurement; `None` for silence.

    Attributes:
        history: The scalars of every measurement, with "epoch" and "seconds".
        last: The last measurement, `None` before the first.

    Raises:
        TypeError: If the images are of another kind.
        ValueError: If there are fewer than 2 images or views, they look normalized, or an option is out of bounds.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten())
        >>> monitor = Monitor(torch.rand(8, 3, 16, 16), layers="0", n_views=2, show=None)
        >>> monitor.step(model, 0)["memkern/unitmem/0/mean"] == monitor.step(model, 1)["memkern/unitmem/0/mean"]
        True
    """

    def __init__(
        self,
        images: Any,
        *,
        layers: str = "*",
        n_views: int = 8,
        transform: Any = "simclr",
        seed: int = 0,
        size: int | tuple[int, int] | None = None,
        labels: Any = None,
        reference: nn.Module | None = None,
        encoder: str = "",
        every: int = 1,
        batch: int = 64,
        show: Callable[[str], None] | None = print,
    ) -> None:
        self.images = _probe(images)
        if len(self.images) < 2:
            raise ValueError(f"Expected `images` to hold 2 or more, got {len(self.images)}")
        for value, name, least in ((n_views, "n_views", 2), (every, "every", 1), (batch, "batch", 1)):
            if value < least:
                raise ValueError(f"Expected `{name}` to be {least} or more, got {value}")
        self.labels = None if labels is None else torch.as_tensor(labels).long().cpu()
        if self.labels is not None and self.labels.shape != (len(self.images),):
            raise ValueError(f"Expected one label per image, {len(self.images)}, got shape {list(self.labels.shape)}")
        self.layers, self.n_views, self.transform, self.seed, self.size = layers, n_views, transform, seed, size
        self.reference, self.encoder, self.every, self.batch, self.show = reference, encoder, every, batch, show
        self.history: list[dict[str, float]] = []
        self.last: Measurement | None = None
        self._reference_alignment: dict[str, Tensor] = {}
        self._found: tuple[nn.Module, Layers] | None = None
        self._begun = time.perf_counter()

    def step(self, model: nn.Module, epoch: int, *, log: Any = None) -> dict[str, float] | None:
        """Measures if it is time: in epochs 0, `every`, 2 `every` and so on.

        Args:
            model: The model that is being trained; wrappers of DDP and `torch.compile` are taken off.
            epoch: Number of the epoch.
            log: Takes the scalars: a `SummaryWriter` (its `add_scalar`), or a function that is called with the mapping
                and the epoch.

        Returns:
            The scalars, or `None` if it was not time.

        Raises:
            ValueError: If a layer or the encoder is not there.
        """
        if epoch % self.every:
            return None
        scalars = self.measure(model, epoch).scalars()
        if hasattr(log, "add_scalar"):
            for name, value in scalars.items():
                log.add_scalar(name, value, epoch)
        elif log is not None:
            log(scalars, epoch)
        return scalars

    def measure(self, model: nn.Module, epoch: int = 0) -> Measurement:
        """Measures now.

        Args:
            model: As for `step`.
            epoch: What to call the time.

        Returns:
            The measurement; it is also added to `history`.
        """
        start = time.perf_counter()
        encoder = unwrapped(model)
        if self.encoder:
            encoder = encoder.get_submodule(self.encoder)
        alignment, means, clean = self._read(encoder, self._sites(encoder))
        layermem: dict[str, Tensor] = {}
        sslmem = None
        if self.reference is not None:
            if not self._reference_alignment:
                self._reference_alignment = self._read(unwrapped(self.reference), self._sites(encoder))[0]
            known = self._reference_alignment
            layermem = {name: sslmem_score(alignment[name], known[name], "ratio") for name in alignment}
            output = self._sites(encoder).output
            sslmem = sslmem_score(alignment[output], known[output])
        classmem = {}
        if self.labels is not None:
            classmem = {name: classmem_stats(values, self.labels).score for name, values in clean.items()}
        unitmem = {name: unitmem_stats(values).score for name, values in means.items()}
        self.last = Measurement(epoch, time.perf_counter() - start, alignment, unitmem, classmem, layermem, sslmem)
        self.history.append({"epoch": epoch, "seconds": self.last.seconds, **self.last.scalars()})
        if self.show is not None:
            self.show(f"memkern: epoch {epoch} measured in {self.last.seconds:.2f} s; {self.cost()}")
        return self.last

    def cost(self) -> str:
        """What the monitor took so far, in words: "2.1 s in 5 measurements, 0.8% of the time since it was made"."""
        spent = sum(row["seconds"] for row in self.history)
        share = spent / max(time.perf_counter() - self._begun, 1e-9)
        count = len(self.history)
        return f"{spent:.1f} s in {count} measurement{'s' * (count != 1)}, {share:.1%} of the time since it was made"

    def _sites(self, encoder: nn.Module) -> Layers:
        """The layers, looked up once per model."""
        if self._found is None or self._found[0] is not encoder:
            with torch.no_grad():
                self._found = (encoder, find_layers(encoder, self._views(encoder, 0, 1)[0], self.layers))
        return self._found[1]

    def _views(self, encoder: nn.Module, start: int, stop: int) -> tuple[Tensor, int]:
        """The views of some images as a batch for the encoder, and how many there are of each."""
        clean = self.labels is not None
        drawn = views(
            self.images[start:stop], n_views=self.n_views, transform=self.transform, seed=self.seed,
            index=torch.arange(start, min(stop, len(self.images))), size=self.size, clean=clean,
        )  # fmt: skip
        like = next((parameter for parameter in encoder.parameters() if parameter.is_floating_point()), torch.empty(0))
        return drawn.flatten(0, 1).to(like.device, like.dtype), self.n_views + clean

    @torch.no_grad()
    def _read(
        self, encoder: nn.Module, layers: Layers
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
        """Alignment `[N]`, unit means `[N, U]` and those of the clean images, by layer, on the CPU."""
        seen: list[dict[str, Any]] = []
        clean = self.labels is not None
        with Tap(encoder, layers.sites, n_views=self.n_views + clean, clean_first=clean) as tap:
            torch.manual_seed(self.seed)  # an encoder that draws sees the same draws each time; the tap puts them back
            for start in range(0, len(self.images), self.batch):
                batch, _ = self._views(encoder, start, start + self.batch)
                with torch.autocast(batch.device.type, enabled=False):
                    tap.model(batch)
                seen.append({name: [_cpu(part) for part in stats] for name, stats in tap.take().items()})
        names = [site.name for site in layers.sites]
        parts = [{name: torch.cat([row[name][i] for row in seen]) for name in names} for i in range(2 + clean)]
        return parts[0], parts[1], parts[2] if clean else {}


def _cpu(value: Tensor | None) -> Tensor | None:
    return None if value is None else value.float().cpu()


def _probe(images: Any) -> Tensor | list[Tensor]:
    """The probe as one tensor, or a list where the sizes differ."""
    if not isinstance(images, (Tensor, list)) and not hasattr(images, "__array__"):
        if not isinstance(images, Iterable):
            raise TypeError(f"Expected `images` to be a tensor, a list or a loader, got {type(images).__name__}")
        with kept_rng():  # a loader draws a seed for its workers
            images = [image for batch in images for image in _images_of(batch)]
    if isinstance(images, list):
        images = [torch.as_tensor(image).detach().cpu() for image in images]
        if images and all(image.shape == images[0].shape for image in images):
            images = torch.stack(images)
    else:
        images = torch.as_tensor(images).detach().cpu()
    for image in images if isinstance(images, list) else [images]:
        if image.is_floating_point() and image.numel() and not (image.min() >= 0 and image.max() <= 1):
            low, high = float(image.min()), float(image.max())
            raise ValueError(
                f"Expected floating `images` in [0, 1], got values from {low:.3g} to {high:.3g}; give them before "
                "normalization, the transform normalizes"
            )
    checked: Tensor | list[Tensor] = images
    return checked


def _images_of(batch: Any) -> Tensor:
    if isinstance(batch, Mapping):
        batch = next((batch[key] for key in ("pixel_values", "image", "images") if key in batch), None)
    elif isinstance(batch, (tuple, list)):
        batch = batch[0]
    if not isinstance(batch, Tensor) or batch.ndim != 4:
        raise TypeError(
            "Expected each batch of `images` to be a tensor [n, C, H, W], a tuple that begins with one or a mapping "
            f'with "pixel_values" or "image", got {type(batch).__name__}'
        )
    return batch
