"""Preparation of an audit: encoders, weights, images, layers. Every mistake is found here, before the long work."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from memkern._util.text import first_of
from memkern.audit.data.membership import EncoderLine, listed_lines, split_lines
from memkern.audit.data.source import Source
from memkern.audit.measure.batch_size import images_per_pass, view_size
from memkern.audit.measure.design import balanced_rows, design_of, one_sided_images
from memkern.audit.measure.encoders import Encoders, InMemory, encoders_in_memory, load_encoders, modules_of
from memkern.audit.measure.fitting import fit_encoders
from memkern.audit.measure.images import CheckedImages, look_at_images, open_images
from memkern.audit.measure.job import Job
from memkern.audit.measure.layers import agreeing, find_layers_of
from memkern.audit.measure.plan import make_about, make_plan, make_views, require_one_plan
from memkern.audit.measure.process_group import ProcessGroup
from memkern.audit.options import Options
from memkern.audit.run_folder.schema import PlanFile, ViewCall
from memkern.audit.taps.hook_points import Layers

Log = Callable[[str], None]


@dataclass(frozen=True)
class Prepared:
    """An audit that can start.

    Attributes:
        job: What every encoder is read from.
        images: The images, and who saw them.
        begun: What plan.json says.
    """

    job: Job
    images: CheckedImages
    begun: PlanFile


def prepare(
    options: Options,
    *,
    encoders: InMemory | None = None,
    source: Source | None = None,
    group: ProcessGroup | None = None,
    log: Log = lambda text: None,
    on_image: Callable[[int], None] | None = None,
) -> Prepared:
    """Prepares an audit: finds who saw what, loads encoders, looks at images, finds layers and makes the plan.

    Args:
        options: What to measure.
        encoders: f, or several, and g, or several (`None` without a reference), in place of the files that the options
            name.
        source: The images, in place of those that the options name.
        group: The processes; each looks at its share of the images.
        log: Told what the user should know.
        on_image: Called with 1 after each image that was looked at.

    Returns:
        The audit, ready to start.

    Raises:
        ValueError: If an option, file or shape does not fit; the message names it and the fix.
        TypeError: If the encoder does not take what it is given.
        FileNotFoundError: If a file is missing.
        ImportError: If a package is missing.
    """
    group = group or ProcessGroup()
    lines, modules = _lines(options, encoders)
    opened, seen = open_images(options, source, lines)
    lines = tuple(replace(line, role=role) for line, role in zip(lines, seen.roles, strict=True))
    design_of(seen, options)  # who saw what does not fit: wrong before the work of loading and looking
    if modules is None:
        loaded = load_encoders(lines, options, log, processes=group.size)
    else:
        loaded = encoders_in_memory(lines, modules, options, processes=group.size)
    images = look_at_images(options, opened, seen, group, log=log, on_image=on_image)
    design = design_of(images.seen, options)
    size = view_size(options, images.sizes, images.source)
    views = make_views(options, size)
    source, loaded = fit_encoders(options, views, images.source, loaded, log)
    images = replace(images, source=source)
    job = Job(
        options=options,
        source=images.source,
        encoders=loaded,
        layers=_layers(options, views, images.source, loaded),
        views=views,
        batch_size=options.batch_size or images_per_pass(options, size),
        by_class=frozenset(line.name for line in lines if line.role != "g"),
        balanced=balanced_rows(design),
        contents=images.contents,
    )
    _log_what_to_expect(job, log)
    if design is not None and (one_sided := one_sided_images(design)):
        log(one_sided)
    plan = make_plan(job, images, size)
    require_one_plan(plan, group)
    about = make_about(job, images, plan)
    return Prepared(job, images, PlanFile(plan, about))


def _lines(options: Options, encoders: InMemory | None) -> tuple[tuple[EncoderLine, ...], list[nn.Module] | None]:
    """Names and descriptions of the encoders, and the encoders themselves where no files hold them."""
    if encoders is None:
        if options.encoders is not None:
            return listed_lines(Path(options.encoders)), None
        return split_lines(options.encoder, options.weights, options.reference), None
    f, g = modules_of(encoders)
    texts = [
        [given[place] if place < len(given) else "" for place in range(len(modules))]
        for given, modules in ((options.weights, f), (options.reference, g))
    ]
    return split_lines(options.encoder, *texts), [*f, *g]


def _layers(options: Options, views: ViewCall, source: Source, encoders: Encoders) -> tuple[Layers, ...]:
    """Finds what is read of each encoder: those that stay in memory are all run, of the others one of each kind."""
    found: list[Layers] = []
    of_kind: dict[str, Layers] = {}
    for place, each in enumerate(encoders.entries):
        known = of_kind.get(each.line.encoder)
        if known is None or len(encoders.turns) == 1:  # loading every one again would take as long as an audit of few
            with encoders.on_device([place]) as modules:
                known = find_layers_of(
                    options, views, source, modules[each.line.name], channels_last=encoders.channels_last
                )
        of_kind[each.line.encoder] = known
        found.append(known)
    return agreeing(encoders.names, found)


def _log_what_to_expect(job: Job, log: Log) -> None:
    options = job.options
    left_out = {name for layers in job.layers for name in layers.left_out}
    if left_out:
        log(f"Not read: {first_of(sorted(left_out), 3)}; --dry-run and manifest.json say why.")
    if options.median:
        units = sum(hook_point.units for layers in job.layers for hook_point in layers.hook_points)
        megabytes = 4e-6 * len(job.source) * units
        log(f"--median keeps one number per image, unit and encoder: {megabytes:.1f} MB on disk.")
    if options.precision == "bf16" and options.torch_device().type == "cpu" and _emulates_bf16():
        log("--precision bf16 will take longer than fp32: this processor has no bfloat16 instructions.")
    if len(job.encoders) == 1 or all(line.role == "f" for line in job.encoders.lines):
        log(
            "No --reference encoder: SSLMem and LayerMem compare two encoders and are left out; UnitMem and ClassMem "
            "need one."
        )


def _emulates_bf16() -> bool:
    """Tells whether torch makes bfloat16 products from floats, which is slower than float32."""
    x86 = platform.machine().lower() in {"x86_64", "amd64"}
    return x86 and torch.backends.cpu.get_cpu_capability() in {"DEFAULT", "AVX2"}
