"""Readings of an encoder over images in memory, without files: for `Monitor`, the lab and the demo.

```
f = read_encoder(encoder, layers, probe, call)                    # one forward pass over every image's views
g = read_encoder(reference, layers, probe, call)
scores = run_scores(layer_states(probe, f, g), output="output")   # SSLMem, LayerMem, UnitMem, ClassMem
```
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from memkern.audit.measure.draw import draw_clean, draw_views
from memkern.audit.measure.scores import EncoderState, LayerState
from memkern.audit.run_folder.schema import ViewCall
from memkern.audit.taps.hook_points import HookPoint
from memkern.audit.taps.tap import Tap, TapStats
from memkern.checks import values as checks
from memkern.errors import ArgumentValueError
from memkern.metrics.classes import ClassMem
from memkern.metrics.units import UnitMem


@dataclass(frozen=True)
class Probe:
    """Images in memory that encoders are read on.

    Attributes:
        images: `[N, C, H, W]`, or a list of images `[C, H, W]` of several sizes; uint8, or floating in [0, 1].
        index: Position of each image in its data set, `[N]` int64: it keys the views, and units report it.
        labels: Class of each image, `[N]` int64; `None` without labels.
    """

    images: Tensor | Sequence[Tensor]
    index: Tensor
    labels: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class Reading:
    """Alignments and unit means of one encoder on the images of a probe, by layer, on the CPU; U units of a layer.

    Attributes:
        alignment: Layer -> mean distance between the views of each image, `[N]`.
        unit_means: Layer -> mean activation of each unit over views and space, `[N, U]`.
        clean_means: Layer -> mean activation of each unit on the image itself, `[N, U]`; empty if `clean` is "no".
    """

    alignment: Mapping[str, Tensor]
    unit_means: Mapping[str, Tensor]
    clean_means: Mapping[str, Tensor]


def read_encoder(
    encoder: nn.Module,
    layers: Mapping[str, str] | Sequence[HookPoint],
    probe: Probe,
    call: ViewCall,
    *,
    clean: str = "no",
    batch_size: int = 64,
    channels_last: bool = False,
    on_images: Callable[[int], None] | None = None,
) -> Reading:
    """Runs an encoder on seeded views of images and reduces every layer inside the forward pass.

    The views of an image depend on `(call.seed, index, view)` alone, so two encoders that are read with the same probe
    and call see the same views, whatever the batch size. The encoder runs in eval mode, without gradients and autocast,
    and is left as it was, as is every random number generator.

    Args:
        encoder: The encoder; it takes `[rows, C, h, w]` in the dtype of its parameters.
        layers: Label -> name of the submodule, or the `hook_points` of `find_layers`.
        probe: The images.
        call: The views of each image, and how they are compared.
        clean: Whether the images themselves are read too: "no", "first", as the first row of each image, or "apart", in
            forward passes of their own.
        batch_size: Images per forward pass.
        channels_last: Whether the channels of a pixel are neighbors in memory.
        on_images: Called after every forward pass over views with its number of images.

    Returns:
        The reading, in the order of the probe.

    Raises:
        ArgumentValueError: If `clean` is unknown.
        ValueError: If a layer is not there.
    """
    checks.one_of(clean, "clean", ("no", "first", "apart"))
    first = clean == "first"
    rows = call.n_views + first
    like = next((each for each in encoder.parameters() if each.is_floating_point()), torch.empty(0))
    viewed: list[dict[str, TapStats]] = []
    apart: list[dict[str, TapStats]] = []
    with (
        torch.no_grad(),
        Tap(
            encoder,
            layers,
            n_views=rows,
            pairs=call.pairs,
            normalize=call.normalize,
            clean_first=first,
            distance=call.distance,
            activation=call.activation,
        ) as tap,  # fmt: skip
    ):
        torch.manual_seed(call.seed)  # an encoder that draws sees the same draws each time; the tap puts them back
        for start in range(0, len(probe), batch_size):
            images, index = probe.images[start : start + batch_size], probe.index[start : start + batch_size]
            drawn = draw_views(call, images, index, clean=first, channels_last=channels_last)
            viewed.append(_run(tap, drawn.to(like.device, like.dtype), rows))
            if clean == "apart":
                itself = draw_clean(call, images, index, channels_last=channels_last)
                apart.append(_run(tap, itself.to(like.device, like.dtype), None))
            if on_images is not None:
                on_images(len(images))
    clean_means = _joined(viewed, "clean_means") if first else _joined(apart, "unit_means")
    return Reading(_joined(viewed, "alignment"), _joined(viewed, "unit_means"), clean_means)


def _run(tap: Tap, batch: Tensor, n_views: int | None) -> dict[str, TapStats]:
    """Runs one forward pass over a batch with `n_views` rows of each image; `None`: one row, no alignment."""
    tap.n_views = n_views
    with torch.autocast(batch.device.type, enabled=False):
        tap.model(batch)
    return {name: TapStats(*map(_on_cpu, stats)) for name, stats in tap.take().items()}


def _on_cpu(value: Tensor | None) -> Tensor | None:
    return None if value is None else value.float().cpu()


def _joined(batches: Sequence[Mapping[str, TapStats]], field: str) -> dict[str, Tensor]:
    names = list(batches[0]) if batches else []
    return {name: torch.cat([getattr(batch[name], field) for batch in batches]) for name in names}


def layer_states(
    probe: Probe, f: Reading, g: Reading | None = None, *, unit_rows: Tensor | None = None
) -> Iterator[LayerState]:
    """Makes the states of the layers of a reading, for `run_scores`.

    Args:
        probe: The images that were read; with labels, ClassMem is measured on `f.clean_means`.
        f: What was read of the encoder that was trained with the candidates.
        g: What was read of the reference encoder; `None` without one.
        unit_rows: Rows of the images over which UnitMem and ClassMem are measured, int64 `[n]`; default: all.

    Yields:
        The state of each layer, in the order of `f.alignment`.

    Raises:
        ArgumentValueError: If there are labels and `f` was read without the images themselves.
    """
    if probe.labels is not None and not f.clean_means:
        raise ArgumentValueError(
            'Expected `f` to be read with clean="first" or "apart" where the probe has labels, got "no"'
        )
    rows = torch.arange(len(probe)) if unit_rows is None else unit_rows
    for name in f.alignment:
        units, classes = UnitMem(), ClassMem()
        units.update(f.unit_means[name][rows], ids=probe.index[rows])
        if probe.labels is not None:
            classes.update(f.clean_means[name][rows], probe.labels[rows])
        alignment_g = None if g is None else g.alignment[name]
        state = EncoderState("f", units.state_dict(), classes.state_dict())
        yield LayerState(name, f.alignment[name], alignment_g, [state])
