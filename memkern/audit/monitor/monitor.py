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
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from memkern.audit.measure.draw import draw_views
from memkern.audit.measure.in_memory import Probe, Reading, layer_states, read_encoder
from memkern.audit.measure.scores import RunScores, bounded, defined, mean, run_scores
from memkern.audit.monitor import loggers
from memkern.audit.monitor.loggers import Log
from memkern.audit.run_folder.schema import ViewCall
from memkern.audit.taps.hook_points import Layers, find_layers
from memkern.audit.taps.modules import in_own_precision, unwrapped
from memkern.audit.taps.rng import kept_rng
from memkern.checks.values import one_of
from memkern.errors import ArgumentTypeError, ArgumentValueError
from memkern.families.findings import Finding, grows_without_accuracy
from memkern.metrics.options import ACTIVATIONS
from memkern.transforms import ViewSpec, named


@dataclass(frozen=True)
class Measurement:
    """Scores of the probe images at one time of a training.

    Attributes:
        epoch: Number of the epoch that `step` or `measure` was given.
        seconds: Time that the measurement took.
        alignment: Layer -> mean distance between the views of each probe image, `[N]`.
        unitmem: Layer -> UnitMem of each unit over the probe images, `[U]`.
        classmem: Layer -> ClassMem of each unit, `[U]`; empty without labels.
        layermem: Layer -> (A_g - A_f) / (A_g + A_f) of each probe image, `[N]`; empty without a reference.
        sslmem: A_g - A_f of each probe image at the output, `[N]`, or `None` without a reference.
        control: Layer -> (A_g - A_f) / (A_g + A_f) of each control image, `[M]`; empty without control images.
    """

    epoch: int
    seconds: float
    alignment: dict[str, Tensor]
    unitmem: dict[str, Tensor]
    classmem: dict[str, Tensor]
    layermem: dict[str, Tensor]
    sslmem: Tensor | None
    control: dict[str, Tensor] = field(default_factory=dict)

    @property
    def layermem_excess(self) -> dict[str, float]:
        """Layer -> mean of `layermem` over the probe minus that over the control images; empty without them."""
        return {
            layer: _mean(defined(self.layermem[layer])) - _mean(defined(values))
            for layer, values in self.control.items()
        }

    def scalars(self, prefix: str = "memkern") -> dict[str, float]:
        """Lists the numbers to log: "memkern/unitmem/<layer>/mean" and so on; scores outside of [0, 1] are in none."""
        found: dict[str, float] = {}
        for layer, values in self.unitmem.items():
            known = bounded(values).double()
            found[f"{prefix}/unitmem/{layer}/mean"] = _mean(known)
            found[f"{prefix}/unitmem/{layer}/p95"] = float(known.quantile(0.95)) if len(known) else math.nan
            found[f"{prefix}/unitmem/{layer}/above_half"] = _mean(known > 0.5)
        for name, scores in (("alignment", self.alignment), ("classmem", self.classmem), ("layermem", self.layermem)):
            select = bounded if name == "classmem" else defined
            for layer, values in scores.items():
                found[f"{prefix}/{name}/{layer}"] = _mean(select(values))
        for layer, excess in self.layermem_excess.items():
            found[f"{prefix}/layermem_excess/{layer}"] = excess
        if self.sslmem is not None:
            found[f"{prefix}/sslmem"] = _mean(self.sslmem)
        return found


def _measurement(scores: RunScores, control: RunScores | None, epoch: int, seconds: float) -> Measurement:
    layers = scores.layers
    compared = () if control is None else control.layers
    return Measurement(
        epoch,
        seconds,
        alignment={layer.name: layer.alignment_f for layer in layers if layer.alignment_f is not None},
        unitmem={layer.name: layer.unitmem for layer in layers},
        classmem={layer.name: layer.classmem for layer in layers if layer.classmem is not None},
        layermem={layer.name: layer.ratio for layer in layers if layer.ratio is not None},
        sslmem=scores.sslmem,
        control={layer.name: layer.ratio for layer in compared if layer.ratio is not None},
    )


def _mean(values: Tensor) -> float:
    found = mean(values)
    return math.nan if found is None else found


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
        control: Images of the same source that neither the model nor the reference is trained with, of any kind that
            `images` may be: `layermem_excess` is LayerMem of `images` beyond that of these. Needs a reference.
        encoder: Name of the submodule to run, "backbone" say; "" for the model itself.
        every: Measure in every how many epochs.
        activation: What activations are before they are averaged to means of units: "raw", "relu" or "abs".
        batch: Images per forward pass.
        log: Takes the scalars of every `step`: a `SummaryWriter` of TensorBoard, a run of Weights & Biases, the module
            `mlflow` inside of a run, a logger of Lightning, an `Accelerator`, or a function that is called with the
            mapping and the epoch. In a distributed training give it to one process only.
        show: Takes a line about the cost after every measurement; `None` for silence.

    Attributes:
        history: The scalars of every measurement, with "epoch" and "seconds".
        last: The last measurement, `None` before the first.

    Raises:
        TypeError: If the images are of another kind, or nothing can be sent to `log`.
        ValueError: If there are fewer than 2 images, control images or views, they look normalized, an option is out of
            bounds, or there are control images and no reference.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten())
        >>> monitor = Monitor(torch.rand(8, 3, 16, 16), layers="1", n_views=2, show=None)
        >>> monitor.step(model, 0)["memkern/unitmem/1/mean"] == monitor.step(model, 1)["memkern/unitmem/1/mean"]
        True
    """

    def __init__(
        self,
        images: object,
        *,
        layers: str = "*",
        n_views: int = 8,
        transform: str | ViewSpec = "simclr",
        seed: int = 0,
        size: int | tuple[int, int] | None = None,
        labels: object = None,
        reference: nn.Module | None = None,
        control: object = None,
        encoder: str = "",
        every: int = 1,
        activation: str = "raw",
        batch: int = 64,
        log: Log | None = None,
        show: Callable[[str], None] | None = print,
    ) -> None:
        for value, name, least in ((n_views, "n_views", 2), (every, "every", 1), (batch, "batch", 1)):
            if value < least:
                raise ArgumentValueError(f"Expected `{name}` to be {least} or more, got {value}")
        if control is not None and reference is None:
            raise ArgumentValueError("Expected a `reference` with `control`: LayerMem compares the model with it")
        loggers.check(log)
        self.log = log
        self._probe = _probe(images, labels)
        self._control = None if control is None else _probe(control, None, "control", first=len(self._probe))
        one_of(activation, "activation", ACTIVATIONS)
        pixels = (size, size) if isinstance(size, int) else size
        self._call = ViewCall(n_views, str(transform), named(transform), seed, pixels, activation=activation)
        self.layers, self.encoder, self.reference = layers, encoder, reference
        self.every, self.batch, self.show = every, batch, show
        self.history: list[dict[str, float]] = []
        self.last: Measurement | None = None
        self._of_reference: list[Reading] = []
        self._found: tuple[nn.Module, Layers] | None = None
        self._begun = time.perf_counter()

    def step(
        self, model: nn.Module, epoch: int, *, log: Log | None = None, accuracy: float | None = None
    ) -> dict[str, float] | None:
        """Measures if it is time: in epochs 0, `every`, 2 `every` and so on.

        Args:
            model: The model that is being trained; wrappers of DDP and `torch.compile` are taken off.
            epoch: Number of the epoch.
            log: Takes the scalars, instead of the monitor's own `log`.
            accuracy: Of a classifier on the model's outputs for images that were not trained on, for `finding`.

        Returns:
            The scalars, or `None` if it was not time.

        Raises:
            TypeError: If nothing can be sent to `log`.
            ValueError: If a layer or the encoder is not there.
        """
        log = self.log if log is None else log
        loggers.check(log)
        if epoch % self.every:
            return None
        scalars = self.measure(model, epoch, accuracy=accuracy).scalars()
        if log is not None:
            loggers.send(log, scalars, epoch)
        return scalars

    def measure(self, model: nn.Module, epoch: int = 0, *, accuracy: float | None = None) -> Measurement:
        """Measures now.

        Args:
            model: The model that is being trained; wrappers of DDP and `torch.compile` are taken off.
            epoch: Number of the epoch, for the measurement and the history.
            accuracy: Of a classifier on the model's outputs for images that were not trained on, for `finding`.

        Returns:
            The measurement; its scalars are also added to `history`.

        Raises:
            ValueError: If a layer or the encoder is not there, or all images have one label.
        """
        start = time.perf_counter()
        encoder = unwrapped(model)
        if self.encoder:
            encoder = encoder.get_submodule(self.encoder)
        with in_own_precision(encoder):
            layers = self._layers_of(encoder)
        probes = [self._probe] if self._control is None else [self._probe, self._control]
        of_f = [self._read(encoder, layers, probe) for probe in probes]
        if self.reference is not None and not self._of_reference:
            self._of_reference = [self._read(unwrapped(self.reference), layers, probe) for probe in probes]
        of_g: Sequence[Reading | None] = self._of_reference or [None]
        scores, *rest = [
            run_scores(layer_states(probe, f, g), output=layers.output)
            for probe, f, g in zip(probes, of_f, of_g, strict=True)
        ]
        self.last = _measurement(scores, rest[0] if rest else None, epoch, time.perf_counter() - start)
        self.history.append({"epoch": epoch, "seconds": self.last.seconds, **self.last.scalars()})
        if accuracy is not None:
            self.history[-1]["accuracy"] = accuracy
        if self.show is not None:
            self.show(f"memkern: epoch {epoch} measured in {self.last.seconds:.2f} s; {self.cost()}")
            found = self.finding()
            if found is not None:
                self.show(f"memkern: {found.sentence}")
        return self.last

    def finding(self) -> Finding | None:
        """Tells whether memorization at the output, beyond the control, grows while the accuracy does not.

        Returns:
            The finding; `None` if it is not so, no accuracy was given, or there are no control images.
        """
        output = "" if self._found is None else self._found[1].output
        columns = ("epoch", f"memkern/layermem_excess/{output}", "accuracy")
        rows = [row for row in self.history if all(name in row for name in columns)]
        return grows_without_accuracy(*([row[name] for row in rows] for name in columns)) if rows else None

    def cost(self) -> str:
        """Tells what the monitor took so far: seconds, measurements, and the share of the time since it was made."""
        spent = sum(row["seconds"] for row in self.history)
        share = spent / max(time.perf_counter() - self._begun, 1e-9)
        count = len(self.history)
        return f"{spent:.1f} s in {count} measurement{'s' * (count != 1)}, {share:.1%} of the time since it was made"

    def _layers_of(self, encoder: nn.Module) -> Layers:
        """The layers, looked up once per model."""
        if self._found is None or self._found[0] is not encoder:
            with torch.no_grad():
                image, index = self._probe.images[:1], self._probe.index[:1]
                rows = draw_views(self._call, image, index, clean=self._probe.labels is not None)
                like = next((each for each in encoder.parameters() if each.is_floating_point()), torch.empty(0))
                self._found = (encoder, find_layers(encoder, rows.to(like.device, like.dtype), self.layers))
        return self._found[1]

    def _read(self, encoder: nn.Module, layers: Layers, probe: Probe) -> Reading:
        clean = "no" if probe.labels is None else "first"
        with in_own_precision(encoder):
            return read_encoder(encoder, layers.hook_points, probe, self._call, clean=clean, batch_size=self.batch)


def _probe(images: object, labels: object, name: str = "images", first: int = 0) -> Probe:
    """The images and labels that were given, checked; the views of the first image are those of number `first`."""
    found = _images(images, name)
    count = len(found)
    if count < 2:
        raise ArgumentValueError(f"Expected `{name}` to hold 2 or more, got {count}")
    classes = None if labels is None else torch.as_tensor(labels).long().cpu()
    if classes is not None and classes.shape != (count,):
        raise ArgumentValueError(f"Expected one label per image, {count}, got shape {list(classes.shape)}")
    return Probe(found, torch.arange(first, first + count), classes)


def _images(images: object, name: str) -> Tensor | list[Tensor]:
    """The images as one tensor, or a list where the sizes differ; `name` is that of the argument."""
    if not isinstance(images, (Tensor, list)) and not hasattr(images, "__array__"):
        if not isinstance(images, Iterable):
            raise ArgumentTypeError(
                f"Expected `{name}` to be a tensor, a list or a loader, got {type(images).__name__}"
            )
        with kept_rng():  # a loader draws a seed for its workers
            images = [image for batch in images for image in _images_of(batch, name)]
    if isinstance(images, list):
        images = [torch.as_tensor(image).detach().cpu() for image in images]
        if images and all(image.shape == images[0].shape for image in images):
            images = torch.stack(images)
    else:
        images = torch.as_tensor(images).detach().cpu()
    for image in images if isinstance(images, list) else [images]:
        if image.is_floating_point() and image.numel() and not (image.min() >= 0 and image.max() <= 1):
            low, high = float(image.min()), float(image.max())
            raise ArgumentValueError(
                f"Expected floating `{name}` in [0, 1], got values from {low:.3g} to {high:.3g}; give them before "
                "normalization, the transform normalizes"
            )
    checked: Tensor | list[Tensor] = images
    return checked


def _images_of(batch: object, name: str) -> Tensor:
    if isinstance(batch, Mapping):
        batch = next((batch[key] for key in ("pixel_values", "image", "images") if key in batch), None)
    elif isinstance(batch, (tuple, list)):
        batch = batch[0]
    if not isinstance(batch, Tensor) or batch.ndim != 4:
        raise ArgumentTypeError(
            f"Expected each batch of `{name}` to be a tensor [n, C, H, W], a tuple that begins with one or a mapping "
            f'with "pixel_values" or "image", got {type(batch).__name__}'
        )
    return batch
