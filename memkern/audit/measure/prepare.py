"""Everything before the long work: encoders, weights, images, layers; every mistake is found here."""

from __future__ import annotations

import copy
import math
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import memkern
from memkern._util.files import sha256
from memkern.audit.data import check
from memkern.audit.data.groups import candidate_rows
from memkern.audit.data.labels import apply_labels
from memkern.audit.data.open import open_source
from memkern.audit.data.source import Source, list_digest
from memkern.audit.encoders.build import build_encoder
from memkern.audit.encoders.spec import parse
from memkern.audit.encoders.weights import Loaded, load_weights
from memkern.audit.measure.process_group import Team
from memkern.audit.measure.shard import Job, on_device, rows_per_image
from memkern.audit.options import Options
from memkern.audit.taps.hook_points import Layers, find_layers, named_layers
from memkern.audit.taps.transformer_blocks import find_blocks
from memkern.errors import DataError
from memkern.ops.views import views

Say = Callable[[str], None]

MOST_VIEWS = 640
FEWEST_VIEWS = {"cpu": 20, "cuda": 320}
"""Of a forward pass, where `batch_size` is not given: of 32 x 32 pixels, and of large views on a device."""

EXAMPLE_ROWS = 2
"""Of the forward pass in which layers are looked up, and which keeps every tensor: more of large images would take more
memory than all the rest of an audit."""


@dataclass(frozen=True)
class Prepared:
    """An audit that can start.

    Attributes:
        job: What a shard is made from.
        candidates: One flag per image.
        plan: What decides the result; must be equal for a run to go on.
        about: What the manifest says besides.
    """

    job: Job
    candidates: list[bool]
    plan: dict[str, Any]
    about: dict[str, Any]

    @property
    def images(self) -> dict[str, Any]:
        """The columns of the list of images."""
        source = self.job.source
        return {
            "id": list(source.ids),
            "index": list(source.index),
            "path": [None] * len(source) if source.paths is None else list(source.paths),
            "label": [None] * len(source) if source.labels is None else list(source.labels),
            "candidate": self.candidates,
        }


def load_encoders(options: Options, say: Say) -> tuple[nn.Module, nn.Module | None, dict[str, Any]]:
    """Builds f and g and loads their weights.

    Returns:
        f, g (`None` without a reference), and the manifest's entry about the weights.
    """
    f = build_encoder(options.encoder)
    g = None if options.reference is None else copy.deepcopy(f)
    about: dict[str, Any] = {"f": _weights(f, options.weights, "f", say), "g": None}
    if g is not None and options.reference is not None:
        about["g"] = _weights(g, options.reference, "g", say)
        if about["g"]["sha256"] == about["f"]["sha256"]:
            raise ValueError(
                f"Expected --reference to be another encoder than --weights, got the same bytes in {options.weights} "
                f"and {options.reference}"
            )
    return f, g, about


def _emulates_bf16() -> bool:
    """Whether torch makes bfloat16 products from floats: encoders took 7 to 10 times as long so."""
    x86 = platform.machine().lower() in {"x86_64", "amd64"}
    return x86 and torch.backends.cpu.get_cpu_capability() in {"DEFAULT", "AVX2"}


def _weights(encoder: nn.Module, text: str, role: str, say: Say) -> dict[str, Any]:
    loaded: Loaded = load_weights(encoder, text)
    if loaded.left:
        some = ", ".join(loaded.left[:3]) + (" …" if len(loaded.left) > 3 else "")
        say(f"{role}: {len(loaded.left)} tensors of {loaded.file} are not the encoder's: {some}")
    return {"file": text, "sha256": sha256(loaded.file), "prefix": loaded.prefix, "unused": list(loaded.left)}


def prepare(
    options: Options,
    *,
    encoders: tuple[nn.Module, nn.Module | None] | None = None,
    source: Source | None = None,
    team: Team | None = None,
    say: Say = lambda text: None,
    on_image: Callable[[int], None] | None = None,
) -> Prepared:
    """Does everything before the long work.

    Args:
        options: What to measure.
        encoders: f and g (`None` without a reference), in place of the files that the options name.
        source: The images, in place of those that the options name.
        team: The processes; each looks at its share of the images.
        say: Told what the user should know.
        on_image: Called with 1 after each image that was looked at.

    Returns:
        The audit, ready to start.

    Raises:
        ValueError: If an option, file or shape does not fit; the message names it and the fix.
        TypeError: If the encoder does not take what it is given.
        FileNotFoundError: If a file is missing.
        ImportError: If a package is missing.
    """
    team = team or Team()
    if encoders is None:
        f, g, about_weights = load_encoders(options, say)
    else:
        (f, g), about_weights = encoders, {"f": _in_memory(encoders[0]), "g": _in_memory(encoders[1])}
    source = apply_labels(source or open_source(options.data), options.labels)
    if options.candidates is not None:
        candidate_rows(source, options.candidates)
    listed = len(source)
    looks, source, skipped = _looked_at(options, source, team, on_image)
    if len(source) < 2:
        raise DataError(
            f"Expected 2 images or more in {source.name}, got {len(source)}: there is nothing to compare with"
        )
    if source.labels is not None and len(set(source.labels)) < 2:
        say("All images have one label, so ClassMem is left out.")
        source = replace(source, labels=None, classes=None)
    candidates = [False] * len(source)
    if options.candidates is not None:
        candidates = candidate_rows(source, options.candidates)
    f = on_device(f, options)
    g = None if g is None else on_device(g, options)
    size = _view_size(options, [each.size for each in looks], source)
    batch_size = options.batch_size or images_per_pass(options, size)
    job = Job(options, source, f, g, layers_of(options, source, f), batch_size)
    if options.median:
        units = sum(site.units for site in job.layers.sites)
        say(f"--median keeps one number per image and unit: {4e-6 * len(source) * units:.1f} MB on disk while it runs.")
    if options.precision == "bf16" and options.torch_device().type == "cpu" and _emulates_bf16():
        say("--precision bf16 will take longer than fp32: this processor has no bfloat16 instructions.")
    if g is not None:
        layers_of(options, source, g)  # a reference that fails, fails now
    if g is None:
        say(
            "No --reference encoder: SSLMem and LayerMem compare two encoders and are left out; UnitMem and ClassMem "
            "need one."
        )
    found = check.copies(source.ids, looks) if options.duplicates else []
    plan = _plan(job, about_weights, candidates, size)
    about = {
        "versions": {
            "memkern": memkern.__version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
        },
        "encoder": options.encoder,
        "reference": options.reference if g is not None else None,
        "weights": about_weights,
        "data": {
            "source": source.name,
            "n_images": len(source),
            "n_listed": listed,
            "list_sha256": plan["data"],
            "classes": None if source.labels is None else list(source.classes or ()),
            "skipped": [list(each) for each in skipped],
            "repeated": list(source.repeated),
            "duplicates": [list(pair) for pair in found],
        },
        "candidates": None if plan["candidates"] is None else {"n": sum(candidates), "sha256": plan["candidates"]},
        "views": {
            "n_views": options.views,
            "transform": options.transform,
            "spec": plan["transform"],
            "seed": options.seed,
            "size": plan["size"],
            "pairs": options.pairs,
            "normalize": options.normalize,
        },
        "options": {key: str(value) if isinstance(value, Path) else value for key, value in asdict(options).items()},
        "device": str(options.torch_device()),
        "precision": options.precision,
        "backends": [asdict(info) for info in memkern.backends()],
    }
    return Prepared(job, candidates, plan, about)


def _looked_at(
    options: Options, source: Source, team: Team, on_image: Callable[[int], None] | None
) -> tuple[list[check.ImageCheck], Source, list[tuple[str, str]]]:
    """Looks at every image; leaves out those that cannot be read, if the options say so."""
    mine = range(team.rank, len(source), team.size)
    found = check.check_images(source, mine, duplicates=options.duplicates, workers=options.workers, on_image=on_image)
    looks: list[check.ImageCheck] = [check.ImageCheck("")] * len(source)
    for rank, part in enumerate(team.gather(found)):
        looks[rank :: team.size] = part
    broken = check.unreadable(source, looks)
    if not broken:
        return looks, source, []
    if not options.skip_corrupt:
        listed = "; ".join(f"{name} ({reason})" for name, reason in broken[:5])
        more = f" and {len(broken) - 5} more" if len(broken) > 5 else ""
        raise DataError(
            f"Expected {len(source)} images in {source.name} that can be read; {len(broken)} cannot: {listed}{more}; "
            "repair them, or leave them out with --skip-corrupt"
        )
    rows = {row for row, each in enumerate(looks) if each.error}
    return [each for each in looks if not each.error], source.without(rows), broken


def _view_size(options: Options, sizes: list[tuple[int, int]], source: Source) -> list[int]:
    """Height and width of the views: the transform's, or that of the images."""
    spec = options.spec()
    if spec.size is not None:
        return list(spec.size) if isinstance(spec.size, tuple) else [spec.size, spec.size]
    distinct = sorted(set(sizes))
    if len(distinct) > 1:
        raise DataError(
            f"Expected --size, because the images of {source.name} have {len(distinct)} sizes "
            f"(from {distinct[0][0]}x{distinct[0][1]} to {distinct[-1][0]}x{distinct[-1][1]}); views need one"
        )
    return list(distinct[0])


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


def layers_of(options: Options, source: Source, encoder: nn.Module) -> Layers:
    """Runs an encoder on some views of one image and lists what is read of it."""
    image = source.image(0)
    few = views(
        image[None], n_views=options.views, clean=options.clean, transform=options.spec(), seed=options.seed,
        index=[source.index[0]], channels_last=True,
    ).flatten(0, 1)[:EXAMPLE_ROWS].to(options.torch_device())  # fmt: skip
    try:
        found = find_layers(encoder, few, options.layers)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"Expected the encoder to take views of shape {list(few.shape)}; it says: "
            f"{' '.join(str(error).split())[:300]}; set --size, or the encoder's arguments after a '?'"
        ) from error
    if options.output is None:
        return found
    names = [site.name for site in found.sites]
    if options.output in names or options.output in found.same:
        return replace(found, output=found.same.get(options.output, options.output))
    return replace(with_layer(encoder, few, options), output=options.output)


def with_layer(encoder: nn.Module, few: Tensor, options: Options) -> Layers:
    """The layers of the options and, in its place among them, the one that `--output` names."""
    try:
        return find_layers(encoder, few, f"{options.layers},{options.output}")
    except ValueError as error:
        raise ValueError(f"Expected --output to name a layer that runs, got {options.output!r}: {error}") from error


def _plan(job: Job, weights: dict[str, Any], candidates: list[bool], size: list[int]) -> dict[str, Any]:
    options, source = job.options, job.source
    blocks = find_blocks(list(named_layers(job.f)))
    same = job.layers.same
    code = parse(options.encoder, ("py",))
    return {
        "memkern": memkern.__version__,
        "torch": torch.__version__,
        "encoder": options.encoder,
        "encoder_file": sha256(Path(code.name.rpartition(":")[0])) if code.prefix == "py" else None,
        "weights": weights["f"]["sha256"],
        "reference": None if job.g is None else weights["g"]["sha256"],
        "data": list_digest([source.digest, *source.ids]),
        "n_images": len(source),
        "labels": None if source.labels is None else list_digest(source.labels),
        "candidates": list_digest([n for n, flag in zip(source.ids, candidates, strict=True) if flag])
        if any(candidates)
        else None,
        "views": options.views,
        "transform": asdict(options.spec()),
        "size": size,
        "pairs": options.pairs,
        "normalize": options.normalize,
        "seed": options.seed,
        "batch_size": job.batch_size,
        "shard_size": options.shard_size,
        "median": options.median,
        "precision": options.precision,
        "device": options.torch_device().type,
        "allow_nan": options.allow_nan,
        "layers": [
            {"name": site.name, "units": site.units, "points": len(source), "shape": list(site.shape)}
            for site in job.layers.sites
        ],
        "output": job.layers.output,
        "blocks": [[same.get(name, name) for name in block] for block in blocks],
    }


def _in_memory(encoder: nn.Module | None) -> dict[str, Any] | None:
    """What identifies an encoder that came from no file: a digest of its state."""
    if encoder is None:
        return None
    sums = [
        f"{name} {list(value.shape)} {value.double().sum().item()!r}" for name, value in encoder.state_dict().items()
    ]
    return {"file": None, "sha256": list_digest(sums), "prefix": "", "unused": []}
