"""The tests of views, on the CUDA kernels under host emulation, and what their launcher promises."""

import pytest
import torch
from gpu import emulated
from gpu.emulated import ORDERS
from gpu.path import kernel, path  # noqa: F401
from gpu.tiny_views import PROGRAMS, images, table
from test_views import *  # noqa: F403

from memkern.transforms import PRESETS
from python_tests.helpers import testing

pytestmark = pytest.mark.gpu_ladder

# They run on the CPU kernels whatever the path.
del test_two_thousand_draws, test_same_bits_on_every_instruction_set, test_compiles_whole_with_a_table  # noqa: F821


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("name", ["byol-2", "independent", "dino-global-2", "weak"])
def test_presets_on_small_images(path, name, antialias, pixel):  # noqa: F811
    """In place of the sweep over all presets and 48 draws: those that differ in their steps, 8 draws."""
    spec = dataclasses.replace(PRESETS[name], antialias=antialias)  # noqa: F405
    rows = memkern.view_params(spec, n_views=2, seed=1, index=range(4), image_size=(32, 32))  # noqa: F405
    assert_same(photos(4, 32, 32, dtype=pixel), rows, spec, (32, 32), path)  # noqa: F405


@pytest.mark.parametrize("kind", [torch.uint8, torch.float32], ids=str)
def test_bits_do_not_depend_on_the_schedule(kind):
    each, rows = images(2, 9, 11, 3, kind), table([(9, 11)] * 2)
    first = emulated.views(each, rows, (12, 40), blur_size=5)
    for seed in range(4):
        with emulated.schedule(order=ORDERS[seed], seed=seed + 7):
            testing.assert_same_bits(emulated.views(each, rows, (12, 40), blur_size=5), first)


@pytest.mark.parametrize("kind", [torch.uint8, torch.float32], ids=str)
def test_boxes_are_read_once(kind):
    """Every pixel of the box; as often as it is weighted along a row, which is once at the size of the view."""
    for size in ((12, 16), (7, 9)):
        each = images(1, 12, 16, 3, kind)
        emulated.watch(each[0])
        emulated.views(each, table([(12, 16)], ({},)), size)
        found = emulated.counters()
        assert found.watched_distinct_bytes == each[0].nbytes
        times = 1 if size == (12, 16) else 3
        assert each[0].nbytes <= found.watched_loaded_bytes <= times * each[0].nbytes


def test_one_launch_for_all_images_of_one_size():
    """Of different sizes up to 48 share one."""

    def launches(each):
        emulated.watch(torch.empty(1))
        sizes = [(image.shape[1], image.shape[2]) for image in each]
        emulated.views(each, table(sizes, PROGRAMS[:1]), (3, 3), blur_size=3)
        return emulated.counters().launches

    assert launches(images(60, 4, 4, 1, torch.uint8)) == 1
    assert launches([images(1, 3 + i, 4, 1, torch.uint8)[0] for i in range(48)]) == 1
    assert launches([images(1, 3 + i, 4, 1, torch.uint8)[0] for i in range(49)]) == 2


def test_a_box_outside_of_its_image_is_moved_inside():
    """A table on a GPU is not looked at by the host."""
    each, rows = images(1, 6, 8, 3, torch.uint8), table([(6, 8)], ({}, {}, {}))
    rows[0, 0, :4] = torch.tensor([5.0, 7.0, 4.0, 4.0])
    rows[0, 1, :4] = torch.tensor([-3.0, 0.0, 99.0, 0.0])
    rows[0, 2, :4] = torch.nan
    inside = rows.clone()
    inside[0, 0, :4] = torch.tensor([2.0, 4.0, 4.0, 4.0])
    inside[0, 1, :4] = torch.tensor([0.0, 0.0, 6.0, 1.0])
    inside[0, 2, :4] = torch.tensor([0.0, 0.0, 1.0, 1.0])
    testing.assert_same_bits(emulated.views(each, rows, (4, 4)), emulated.views(each, inside, (4, 4)))
