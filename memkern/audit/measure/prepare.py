"""Preparation of an audit: encoders, weights, images, layers. Every mistake is found here, before the long work."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from memkern.audit.data.source import Source
from memkern.audit.measure.batch_size import images_per_pass, view_size
from memkern.audit.measure.encoder_pair import load_pair, pair_in_memory
from memkern.audit.measure.images import CheckedImages, find_images
from memkern.audit.measure.job import Job
from memkern.audit.measure.layers import find_layers_of
from memkern.audit.measure.plan import make_about, make_plan, make_views
from memkern.audit.measure.process_group import ProcessGroup
from memkern.audit.options import Options
from memkern.audit.run_folder.schema import PlanFile

Log = Callable[[str], None]


@dataclass(frozen=True)
class Prepared:
    """An audit that can start.

    Attributes:
        job: What a shard is measured from.
        images: The images, and which are candidates.
        begun: What plan.json says.
    """

    job: Job
    images: CheckedImages
    begun: PlanFile


def prepare(
    options: Options,
    *,
    encoders: tuple[nn.Module, nn.Module | None] | None = None,
    source: Source | None = None,
    group: ProcessGroup | None = None,
    log: Log = lambda text: None,
    on_image: Callable[[int], None] | None = None,
) -> Prepared:
    """Prepares an audit: loads encoders and images, finds layers and makes the plan.

    Args:
        options: What to measure.
        encoders: f and g (`None` without a reference), in place of the files that the options name.
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
    pair = load_pair(options, log) if encoders is None else pair_in_memory(*encoders)
    images = find_images(options, source, group or ProcessGroup(), log=log, on_image=on_image)
    pair = pair.on_device(options)
    size = view_size(options, images.sizes, images.source)
    views = make_views(options, size)
    job = Job(
        options=options,
        source=images.source,
        f=pair.f,
        g=pair.g,
        layers=find_layers_of(options, views, images.source, pair.f),
        views=views,
        batch_size=options.batch_size or images_per_pass(options, size),
    )
    _log_what_to_expect(job, log)
    if pair.g is not None:
        find_layers_of(options, views, images.source, pair.g)  # a reference that fails, fails now
    plan = make_plan(job, images, pair.weights, size)
    about = make_about(job, images, pair.weights, plan)
    return Prepared(job, images, PlanFile(plan, about))


def _log_what_to_expect(job: Job, log: Log) -> None:
    options = job.options
    if options.median:
        units = sum(hook_point.units for hook_point in job.layers.hook_points)
        megabytes = 4e-6 * len(job.source) * units
        log(f"--median keeps one number per image and unit: {megabytes:.1f} MB on disk while it runs.")
    if options.precision == "bf16" and options.torch_device().type == "cpu" and _emulates_bf16():
        log("--precision bf16 will take longer than fp32: this processor has no bfloat16 instructions.")
    if job.g is None:
        log(
            "No --reference encoder: SSLMem and LayerMem compare two encoders and are left out; UnitMem and ClassMem "
            "need one."
        )


def _emulates_bf16() -> bool:
    """Tells whether torch makes bfloat16 products from floats, which is slower than float32."""
    x86 = platform.machine().lower() in {"x86_64", "amd64"}
    return x86 and torch.backends.cpu.get_cpu_capability() in {"DEFAULT", "AVX2"}
