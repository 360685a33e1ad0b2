"""What an audit keeps of an encoder while it measures: its weights once, and a few numbers of every image."""

from __future__ import annotations

import gc
import warnings
from dataclasses import replace
from pathlib import Path

from audit_helpers import family
from torch import Tensor
from torch.nn import Parameter

from memkern.audit.data.source import Source
from memkern.audit.measure.job import Job
from memkern.audit.measure.prepare import prepare
from memkern.audit.measure.shard import measure_shard

VIEWS = 4


def held() -> int:
    """Bytes of all tensors that Python can reach, each piece of memory once."""
    sizes: dict[int, int] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # to ask every object for its class wakes deprecated ones
        for each in gc.get_objects():
            if type(each) in (Tensor, Parameter):  # tracing leaves tensors without memory
                sizes[each.untyped_storage().data_ptr()] = each.untyped_storage().nbytes()
    return sum(sizes.values())


def of_images(job: Job, count: int) -> Job:
    """The job with so many images in one shard."""
    few = job.source
    rows = [row % len(few) for row in range(count)]
    source = Source("again", tuple(map(str, range(count))), lambda row: few.load(row % len(few)), "")
    source = replace(source, labels=tuple(few.labels[row] for row in rows) if few.labels else None)
    assert job.balanced is not None
    options = replace(job.options, shard_size=count)
    return replace(job, source=source, options=options, batch_size=4, balanced=job.balanced[rows], contents=None)


def kept(job: Job, images: int) -> int:
    """Bytes of the tensors that there are after the last batch more than before the first."""
    job, found = of_images(job, images), []
    with job.encoders.on_device(range(len(job.encoders))) as modules:
        gc.collect()
        before = held()
        measure_shard(job, 0, modules, lambda _: found.append(held()))
    return found[-1] - before


def test_an_image_more_costs_a_few_numbers_of_each_encoder(tmp_path: Path) -> None:
    few, many = (prepare(family(tmp_path, n, n, views=VIEWS)).job for n in (1, 4))
    (short, long), (of_many_short, of_many_long) = ([kept(job, count) for count in (40, 80)] for job in (few, many))
    layers = len(few.names)
    # the alignment of each layer, once of all and once of the even and of the odd views, and the sums of each view
    of_image = 4 * 3 * layers + 4 * VIEWS
    assert (of_many_long - of_many_short) - (long - short) == 6 * 40 * of_image


def test_weights_are_loaded_into_the_layout_in_which_they_are_run(tmp_path: Path) -> None:
    job = prepare(family(tmp_path, 1, 1)).job
    before = [each.module.conv.weight.data_ptr() for each in job.encoders.entries if each.module is not None]
    with job.encoders.on_device(range(2)) as modules:
        after = [each.conv.weight.data_ptr() for each in modules.values()]
    assert before == after, "a copy would be in memory beside the first one"
