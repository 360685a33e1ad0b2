"""Bits of every op, dtype, layout and option on one path: an instruction set, or another backend.

A name is "<path>/<op>/<case>"; an entry is the digest of each result. The instruction set of the process is that of the
environment variable `MEMKERN_ISA`; without it everything else runs too: the reference, a GPU's backends, the metrics.
"""

from __future__ import annotations

import itertools
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

import memkern
from frozen import digest, metrics, worker
from frozen.worker import Found
from memkern import transforms

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
OPTIONS = list(itertools.product((False, True), (False, True)))  # anchor, normalize

# Points, views, units, space: tails of every vector width, few and many views, points that share a thread's work.
SHAPES: tuple[tuple[int, ...], ...] = (
    (1, 2, 1), (4, 2, 7), (3, 3, 33), (5, 5, 64), (2, 10, 257), (3, 17, 19), (2, 33, 12), (1, 2, 5003),
    (2, 3, 6, 5, 5), (3, 10, 16, 8, 8), (2, 4, 3, 17), (9, 2, 64, 4, 4), (1, 65, 5),
)  # fmt: skip
VALUES = ("plain", "near", "special")
LAYOUTS = ("contiguous", "channels_last", "gaps", "points_inside", "expanded")


class Kernels(NamedTuple):
    """Where cases run.

    Attributes:
        found: What to add to.
        path: Name of the instruction set or backend.
        backend: What ops are told.
        device: Where tensors are.
        few: Whether the path is slow: fewer cases.
    """

    found: Found
    path: str
    backend: str
    device: str = "cpu"
    few: bool = False

    def add(self, name: str, run: Callable[[], dict[str, Any]]) -> None:
        """Runs a case; what it raises is what it gives."""
        try:
            results = run()
        except Exception as error:  # an error is behaviour too
            self.found.add(f"{self.path}/{name}", f"{type(error).__name__}: {str(error).splitlines()[0]}")
            return
        self.found.add(f"{self.path}/{name}", "; ".join(f"{key} {digest.tensor(x)}" for key, x in results.items()))


# ---- inputs ---------------------------------------------------------------------------------------------------------


def made(shape: tuple[int, ...], values: str, name: str) -> Tensor:
    """Float64 values of a name: plain; views near one another; or with NaN, infinity, zeros, ties and large numbers."""
    generator = torch.Generator().manual_seed(zlib.crc32(f"{shape} {values} {name}".encode()))
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    if values == "near" and len(shape) > 1:
        x = x[:, :1] + 1e-3 * x
    if values == "special":
        flat = x.view(-1)
        flat[:: max(1, flat.numel() // 7)] = torch.tensor(0.0)
        flat[flat.numel() // 2] = torch.nan
        flat[flat.numel() // 3] = torch.inf
        flat[-1] = 6e4
        x[0] = x[0, :1] if len(shape) > 1 else 0.0  # equal views
    return x


def laid_out(x: Tensor, layout: str) -> Tensor | None:
    """The same values in another layout of memory; `None` where the shape has no such layout."""
    if layout == "contiguous":
        return x.contiguous()
    if layout == "channels_last":
        return x.movedim(2, -1).contiguous().movedim(-1, 2) if x.dim() > 3 else None
    if layout == "gaps":
        return torch.stack([x, x + 1], -1).flatten(-2)[..., ::2]
    if layout == "points_inside":
        return x.transpose(0, 1).contiguous().transpose(0, 1)
    return x[:1].contiguous().expand(3, *x.shape[1:]) if x.dim() > 1 else None


def cases(kernels: Kernels, name: str) -> Iterator[tuple[str, Tensor]]:
    """Every activation `[N, V, U, *space]`, with its name."""
    shapes = SHAPES[1::4] if kernels.few else SHAPES
    for shape, values, dtype, layout in itertools.product(shapes, VALUES, DTYPES, LAYOUTS):
        x = laid_out(made(shape, values, name).to(dtype), layout)
        if x is not None:
            title = f"{'x'.join(map(str, shape))}-{values}-{str(dtype).removeprefix('torch.')}-{layout}"
            yield title, x.to(kernels.device)


# ---- ops ------------------------------------------------------------------------------------------------------------


def alignment(kernels: Kernels) -> None:
    """Forward with and without what it keeps, and backward."""
    for (title, z), (anchor, normalize) in itertools.product(cases(kernels, "alignment"), OPTIONS):

        def run(z: Tensor = z, anchor: bool = anchor, normalize: bool = normalize) -> dict[str, Any]:
            ops, backend = torch.ops.memkern, kernels.backend
            alone = ops.alignment.default(z, anchor, normalize, False, backend)[0]
            out, saved, *_ = ops.alignment.default(z, anchor, normalize, True, backend)
            grad = torch.linspace(-1, 2, z.shape[0], dtype=out.dtype, device=z.device)
            back = ops.alignment_backward.default(grad, z, saved, anchor, normalize, backend)
            return {"alone": alone, "out": out, "saved": saved, "grad": back}

        kernels.add(f"alignment/{title}-{_named(anchor, normalize)}", run)


def layer_stats(kernels: Kernels) -> None:
    """Units in dimension 2, and tokens with the units last."""
    for (title, x), (anchor, normalize) in itertools.product(cases(kernels, "layer_stats"), OPTIONS):
        for unit_dim in (2, x.dim() - 1) if x.dim() > 3 else (2,):

            def run(x: Tensor = x, unit: int = unit_dim, a: bool = anchor, n: bool = normalize) -> dict[str, Any]:
                out = torch.ops.memkern.layer_stats.default(x, unit, a, n, True, kernels.backend)
                return dict(zip(("alignment", "means", "saved"), out[:3], strict=True))

            kernels.add(f"layer_stats/{title}-unit{unit_dim}-{_named(anchor, normalize)}", run)


def units(kernels: Kernels) -> None:
    """Unit means, selectivity with and without an order, median of the others, class sums."""
    ops, backend = torch.ops.memkern, kernels.backend
    for title, x in cases(kernels, "units"):
        for unit_dim, activation in itertools.product(sorted({1, 2, x.dim() - 1}), ("raw", "relu", "abs")):
            order = torch.randperm(x.shape[0], generator=torch.Generator().manual_seed(1)).to(x.device)

            def run(
                x: Tensor = x, unit: int = unit_dim, activation: str = activation, order: Tensor = order
            ) -> dict[str, Any]:
                results = {"means": ops.unit_means.default(x, unit, activation, backend)}
                for name, given in (("", None), ("ordered ", order)):
                    state = ops.selectivity.default(x, unit, activation, given, backend)
                    results |= {f"{name}{number}": value for number, value in enumerate(state)}
                return results

            kernels.add(f"units/{title}-unit{unit_dim}-{activation}", run)
    for shape, values, dtype in itertools.product(((2, 3), (7, 1), (8, 40), (33, 130)), VALUES, DTYPES[:2]):
        means = made(shape, values, "means").to(kernels.device, dtype)
        labels = (torch.arange(shape[0]) * 5 % 3).to(kernels.device)

        def two(means: Tensor = means, labels: Tensor = labels) -> dict[str, Any]:
            median = ops.median_of_others.default(means, backend)
            return {"median": median, "sums": ops.class_sums.default(means, labels, 4, backend)}

        kernels.add(f"rows/{shape[0]}x{shape[1]}-{values}-{dtype}", two)


def views(kernels: Kernels) -> None:
    """Every preset, on uint8 and float images, of one size and of many, in each dtype and layout."""
    generator = torch.Generator().manual_seed(7)
    photos = torch.randint(256, (4, 3, 40, 36), dtype=torch.uint8, generator=generator)
    gray = torch.randint(256, (3, 1, 31, 50), dtype=torch.uint8, generator=generator)
    images = {
        "uint8": photos, "float32": photos.float() / 255, "gray": gray, "bfloat16": (photos / 255).bfloat16(),
        "strided": photos.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2),
        "sizes": [photos[0], photos[1, :, :25, :30], photos[2, :, 3:, 9:]],
    }  # fmt: skip
    presets = list(transforms.PRESETS)[:: 4 if kernels.few else 1]
    for preset, (kind, image) in itertools.product(presets, images.items()):
        for dtype, channels_last, size in (
            (torch.float32, False, 32), (torch.float32, True, 24), (torch.bfloat16, False, 48),
            (torch.float16, True, (32, 44)),
        ):  # fmt: skip

            def run(
                preset: str = preset, image: Any = image, dtype: torch.dtype = dtype, last: bool = channels_last,
                size: Any = size,
            ) -> dict[str, Any]:  # fmt: skip
                sent = [each.to(kernels.device) for each in image]
                sent = sent if isinstance(image, list) else torch.stack(sent)
                options = {
                    "n_views": 3,
                    "transform": preset,
                    "seed": 11,
                    "index": range(5, 5 + len(image)),
                    "size": size,
                }
                return {"views": memkern.views(sent, dtype=dtype, channels_last=last, clean=last,
                                               backend=kernels.backend, **options)}  # fmt: skip

            kernels.add(f"views/{preset}-{kind}-{str(dtype)[6:]}-{channels_last}-{size}".replace(" ", ""), run)


def _named(anchor: bool, normalize: bool) -> str:
    return f"{'anchor' if anchor else 'all'}-{'unit' if normalize else 'raw'}"


# ---- all of it ------------------------------------------------------------------------------------------------------


def capture(found: Found, checkout: Path) -> None:
    """Runs every op on the paths of this process."""
    forced = os.environ.get("MEMKERN_ISA", "")
    info = {each.name: each for each in _backends(found, forced)}
    if not info:
        return
    if not info["cpu"].available:
        raise RuntimeError(f"Expected the compiled library in {checkout}: {info['cpu'].detail}")
    paths = [Kernels(found, forced or "auto", "cpu")]
    if not forced:
        paths.append(Kernels(found, "reference", "reference", few=True))
        found.add("backends", " ".join(name for name, each in info.items() if each.available))
        for name in ("triton", "cuda"):
            if info[name].available:
                paths.append(Kernels(found, name, name, "cuda"))
            else:
                found.not_compared[name] = info[name].detail
    for kernels in paths:
        for op in (alignment, layer_stats, units, views):
            op(kernels)
    metrics.fused(paths[0].add)
    if not forced:
        torch.set_num_threads(2)
        two = Kernels(found, "two-threads", "cpu", few=True)
        for op in (alignment, layer_stats, units, views):
            op(two)
        torch.set_num_threads(1)
        metrics.capture(paths[0].add)


def _backends(found: Found, forced: str) -> tuple[Any, ...]:
    try:
        return memkern.backends()
    except RuntimeError as error:  # this processor or build lacks the instruction set
        found.not_compared[forced] = str(error)
        return ()


if __name__ == "__main__":
    worker.main(capture)
