"""How the CUDA launchers split the work, under host emulation: schedules, bytes read, widths of loads, errors."""

from __future__ import annotations

import ctypes

import pytest
import torch
from gpu import emulated
from gpu.emulated import ORDERS
from gpu.tiny import check_alignment, check_class_sums, check_means, check_median, check_selectivity
from torch import Tensor

from memkern import native, reference
from python_tests.helpers import testing

pytestmark = pytest.mark.gpu_ladder


def bits(*tensors: Tensor) -> bytes:
    return b"".join(tensor.contiguous().view(torch.uint8).numpy().tobytes() for tensor in tensors)


# ---- the same bits whatever the order of threads and blocks -------------------------------------------------------

OPS = {
    "alignment, few views": lambda: emulated.alignment(testing.randn(3, 5, 9000), False, True, True),
    "alignment, tiles": lambda: emulated.alignment(testing.randn(2, 18, 3000), False, True, True),
    "gradient": lambda: (
        emulated.alignment_backward(
            testing.randn(2), testing.randn(2, 6, 700), testing.randn(2, 21).abs(), False, True
        ),
    ),
    "layer_stats": lambda: emulated.layer_stats(testing.randn(2, 3, 300, 32), 3, False, True, True),
    "means, rows in parts": lambda: (emulated.unit_means(testing.randn(2, 600, 40), 2, "raw"),),
    "means, maps": lambda: (emulated.unit_means(testing.randn(3, 2, 9, 7, 7), 2, "raw"),),
    "means, planes in parts": lambda: (emulated.unit_means(testing.randn(1, 3, 2, 9999), 2, "raw"),),
    "selectivity": lambda: emulated.selectivity(testing.randn(300, 70), 1, "raw", None),
    "median": lambda: (emulated.median_of_others(testing.randn(90, 40)),),
    "median of chunks": lambda: (emulated.median_of_others(testing.randn(4099, 3)),),
    "class sums in ranges": lambda: (emulated.class_sums(testing.randn(2100, 9), torch.arange(2100) % 3, 3),),
}


@pytest.mark.parametrize("name", OPS)
def test_bits_do_not_depend_on_the_schedule(name):
    first = bits(*OPS[name]())
    for seed in range(8):
        with emulated.schedule(order=ORDERS[seed % 4], seed=seed + 7):
            assert bits(*OPS[name]()) == first, (ORDERS[seed % 4], seed)


# ---- every element is read once, 16 bytes at a time ---------------------------------------------------------------


def watched(x: Tensor, run: object) -> ctypes.Structure:
    emulated.watch(x)
    run()  # type: ignore[operator]
    return emulated.counters()


@pytest.mark.parametrize("dtype", testing.DTYPES)
@pytest.mark.parametrize("views", [2, 5, 10, 17])
def test_alignment_reads_every_byte(dtype, views):
    """Up to ten views are loaded once; a tile of 4 x 4 views loads 8, from the L1 cache where its neighbours did."""
    z = testing.randn(2, views, 256, dtype=dtype)
    found = watched(z, lambda: emulated.alignment(z, False, True, True))
    size = z.numel() * z.element_size()
    assert found.watched_distinct_bytes == size
    few = views <= 10 and dtype != torch.float64
    blocks = -(-views // 4)
    loads_of_a_view = 1 if few else blocks * (blocks + 1) // 2 * 8 / views
    assert found.watched_loaded_bytes == size * loads_of_a_view
    assert found.loads == found.wide_loads


@pytest.mark.parametrize("dtype", [dtype for dtype in testing.DTYPES if dtype != torch.float64])
@pytest.mark.parametrize("run", ["alignment", "layer_stats"])
def test_only_points_with_doubtful_pairs_are_read_again(dtype, run):
    """Once, in tiles, however many of their pairs the sums could not tell; other points are not touched."""
    z = testing.relu_features(3, 10, 9000, dtype=dtype)
    z[1] = testing.near_parallel(1, 10, 9000, eps=0.2, spread=3.0, dtype=dtype)[0]

    def aligned() -> Tensor:
        return emulated.alignment(z, False, True, True)[0] if run == "alignment" else layered()

    def layered() -> Tensor:
        return emulated.layer_stats(z.unflatten(2, (90, 100)), 2, False, True, True)[0]

    found = watched(z, aligned)
    point = z[0].numel() * z.element_size()
    assert found.watched_loaded_bytes == point * (3 + 6 * 8 / 10)  # 6 tiles of 8 views each
    assert found.loads == found.wide_loads
    testing.assert_within(aligned(), testing.expected_alignment(z), torch.float32, "alignment")


def test_a_second_look_leaves_what_floats_cannot_tell():
    """Views so nearly parallel that the rounding of unit vectors shows, a norm beyond floats, NaN, and equal views."""
    z = testing.near_parallel(6, 4, 4160, eps=1e-6, spread=3.0)
    z[1, 2] *= 1e-30
    z[2, 3, 5] = torch.nan
    z[3, 1:] = z[3, :1]
    z[4, 1] = 0
    z[5] = testing.near_parallel(1, 4, 4160, eps=0.2, spread=3.0)[0]
    z[0, :2] = z[5, :2]  # some of a point's pairs are told by a second look, others not
    saved = emulated.alignment(z, False, True, True)[1]
    want = reference.alignment.__globals__["pair_distances"](z, pairs="all", normalize=True)
    torch.testing.assert_close(saved[:, :6].double(), want, rtol=2e-6, atol=0, equal_nan=True)
    assert (saved[3, :6] == 0).all()


LAYOUTS = {
    "NCHW": ((3, 2, 8, 7, 7), 2, 0),
    "small maps": ((3, 2, 64, 2, 2), 2, 0),
    "large maps": ((2, 2, 3, 32, 32), 2, 0),
    "tokens": ((2, 2, 70, 48), 3, 0),
    "matrix": ((40, 64), 1, 0),
    "odd maps": ((2, 1, 2, 19, 17), 2, 0.25),
}


@pytest.mark.parametrize("dtype", testing.DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_means_and_selectivity_read_every_byte_once(dtype, layout):
    shape, unit_dim, narrow = LAYOUTS[layout]  # narrow: the largest share of loads that may be of single elements
    x = testing.randn(*shape, dtype=dtype)
    size = x.numel() * x.element_size()
    for run in (
        lambda: emulated.unit_means(x, unit_dim, "raw"),
        lambda: emulated.selectivity(x, unit_dim, "raw", None),
    ):
        found = watched(x, run)
        assert found.watched_distinct_bytes == size
        assert found.watched_loaded_bytes == size
    found = watched(x, lambda: emulated.unit_means(x, unit_dim, "raw"))
    assert found.loads - found.wide_loads <= narrow * found.loads


@pytest.mark.parametrize("dtype", [dtype for dtype in testing.DTYPES if dtype != torch.float64])
@pytest.mark.parametrize(
    ("shape", "unit_dim"),
    [((2, 2, 16, 7, 8), 2), ((1, 3, 20, 32, 32), 2), ((1, 10, 300, 32), 3), ((3, 4, 64), 2)],
    ids=str,
)
def test_layer_stats_reads_every_byte_once(dtype, shape, unit_dim):
    x = testing.randn(*shape, dtype=dtype)
    found = watched(x, lambda: emulated.layer_stats(x, unit_dim, False, True, True))
    assert found.watched_distinct_bytes == found.watched_loaded_bytes == x.numel() * x.element_size()
    assert found.loads == found.wide_loads


@pytest.mark.parametrize("dtype", testing.DTYPES)
def test_gradient_reads_and_writes_packs(dtype):
    z = testing.randn(2, 6, 256, dtype=dtype)
    saved = testing.randn(2, 21, dtype=native.accumulate_dtype(dtype)).abs()
    found = watched(z, lambda: emulated.alignment_backward(saved[:, 0], z, saved, False, True))
    assert found.watched_distinct_bytes == z.numel() * z.element_size()
    if dtype != torch.float64:  # few views stay in registers; of doubles they would not fit
        assert found.watched_loaded_bytes == found.watched_distinct_bytes
    # Beside their gradients, few views of 16-bit elements are held four elements at once.
    assert found.loads == (found.wide_loads if z.element_size() > 2 else z.numel() // 4)


def test_gradient_of_many_views_reads_packs():
    z = testing.randn(2, 12, 256, dtype=torch.bfloat16)
    saved = testing.randn(2, 78, dtype=torch.float32).abs()
    found = watched(z, lambda: emulated.alignment_backward(saved[:, 0], z, saved, False, True))
    assert found.watched_distinct_bytes == z.numel() * z.element_size()
    assert found.loads == found.wide_loads


def test_a_misaligned_tensor_is_read_element_by_element():
    z = testing.misaligned(testing.randn(2, 3, 64))
    found = watched(z, lambda: emulated.alignment(z, False, True, False))
    assert found.wide_loads == 0
    assert found.watched_distinct_bytes == z.numel() * z.element_size()


@pytest.mark.parametrize("dtype", testing.DTYPES)
@pytest.mark.parametrize("offset", range(9))
def test_every_misalignment(dtype, offset):
    """A base address that is a multiple of the element size and of nothing more, for every op."""

    def shifted(x: Tensor) -> Tensor:
        memory = torch.full((x.numel() + offset,), torch.nan, dtype=x.dtype)
        return memory[offset:].view(x.shape).copy_(x)

    check_alignment(shifted(testing.randn(2, 3, 16, dtype=dtype)), False, True)
    check_means(shifted(testing.randn(2, 2, 4, 2, 8, dtype=dtype)), 2, "raw")
    check_means(shifted(testing.randn(1, 2, 2, 300, dtype=dtype)), 2, "raw")
    check_selectivity(shifted(testing.randn(9, 16, dtype=dtype)), 1, None)
    if dtype in (torch.float32, torch.float64):
        check_class_sums(shifted(testing.randn(9, 16, dtype=dtype)), torch.arange(9) % 2, 2)


# ---- many layers in shared launches -------------------------------------------------------------------------------


def taps(dtype: torch.dtype, views: int) -> list[tuple[Tensor, int]]:
    """What the taps of a small model gather: maps, small maps, tokens, a linear layer, and what no launch can share."""
    shapes = [((3, views, 8, 6, 6), 2), ((3, views, 16, 3, 3), 2), ((3, views, 9, 24), 3), ((3, views, 40), 2)]
    shapes += [((2, views, 300, 24), 3), ((1, views, 18, 32, 32), 2), ((4, views, 3, 7, 3), 2)]
    layers = [(testing.randn(*shape, dtype=dtype), unit_dim) for shape, unit_dim in shapes]
    return [*layers, (testing.misaligned(layers[0][0]), 2)]


@pytest.mark.parametrize("dtype", testing.DTYPES)
@pytest.mark.parametrize("views", [2, 3, 11])
def test_many_layers_have_the_bits_of_one_by_one(dtype, views):
    layers = taps(dtype, views)
    for got, (x, unit_dim) in zip(emulated.layer_stats_many(layers, False, True, True), layers, strict=True):
        assert bits(*got) == bits(*emulated.layer_stats(x, unit_dim, False, True, True))


def test_many_layers_share_launches():
    """Up to 16 of one dtype and number of views; odd numbers of views share the kernel of the even one above."""

    def launches(layers: list[tuple[Tensor, int]]) -> int:
        emulated.watch(torch.empty(1))
        emulated.layer_stats_many(layers, False, True, False)
        return emulated.counters().launches

    layer = (testing.randn(2, 4, 8, 4, 4), 2)
    assert launches([layer]) == launches([layer] * 16) == 2
    assert launches([layer] * 17) == 4
    assert launches([layer, (testing.randn(2, 3, 8), 2)] * 8) == 2
    assert launches([layer, (layer[0].half(), 2)]) == 4
    assert launches([layer, (testing.randn(1, 4, 150, 24), 3)]) == 3  # tokens in chunks: one finish_means for all
    large = testing.randn(1, 4, 80, 8, 8)
    assert launches([layer, (large, 2)]) == 4  # and a second look of two, which small layers do without
    assert launches([(large.double(), 2)]) == 3  # doubles: no second look, and two reads
    assert launches([]) == launches([(torch.empty(0, 4, 8), 2)]) == 0


def test_many_layers_read_every_byte_once():
    memory = testing.randn(2, 3, 8 * 16 + 40)
    layers = [(memory[:, :, :128].unflatten(2, (8, 16)), 2), (memory[:, :, 128:], 2)]
    found = watched(memory, lambda: emulated.layer_stats_many(layers, False, True, False))
    assert found.watched_distinct_bytes == found.watched_loaded_bytes == memory.numel() * 4


# ---- sizes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("views", range(2, 20))
@pytest.mark.parametrize("anchor", [False, True])
def test_view_counts(views, anchor):
    check_alignment(testing.relu_features(2, views, 36), anchor, True)


def test_many_chunks():
    """More dims than a chunk, for both kernels; the last one ragged."""
    for views, dims in ((2, 4096 * 2 + 12), (3, 5001), (11, 2048 * 2 + 4)):
        z = testing.relu_features(1, views, dims)
        check_alignment(z, False, True)
        check_alignment(testing.misaligned(z), False, False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("points", [4096, 4097, 8193])
def test_median_of_chunks(points, dtype):
    """From 4097 rows on in chunks: with ties, NaN and infinity, and two middle values that lie far apart."""
    means = testing.randn(points, 5, dtype=dtype)
    means[:, 1] = (means[:, 1] * 2).round() + 0.0
    means[points - 1, 2] = torch.nan
    means[:, 3] = torch.where(torch.arange(points) < points // 2, -1e30, 1e30)
    means[points // 2, 4] = torch.inf
    check_median(means)


def test_too_many_rows_for_a_median_are_refused():
    record = emulated.MedianOfOthers(points=2**32, units=1)
    said = emulated.library().memkern_cuda_median_of_others(ctypes.byref(record), None, None)
    assert b"too many points" in said


def test_doubles_beyond_the_squares_range():
    """The float64 reference overflows here; scaling by a power of two must not change a digit."""
    z = testing.randn(2, 3, 20, dtype=torch.float64)
    for normalize in (True, False):
        want = emulated.alignment(z * 2.0**-3, False, normalize, False)[0]
        for power in (600,) if normalize else (600, -600):  # tiny norms are clamped at 1e-12
            got = emulated.alignment(z * 2.0**power, False, normalize, False)[0]
            scale = 1.0 if normalize else 2.0 ** (power + 3)
            torch.testing.assert_close(got, want * scale, rtol=4e-16, atol=0)


def test_nothing_is_launched_for_empty_inputs():
    emulated.watch(torch.empty(1))
    assert emulated.alignment(torch.empty(0, 2, 3), False, True, True)[0].shape == (0,)
    assert emulated.unit_means(torch.empty(0, 4, 3), 1, "raw").shape == (0, 4)
    assert emulated.median_of_others(torch.empty(3, 0)).shape == (0,)
    assert emulated.layer_stats(torch.empty(0, 2, 3), 2, False, True, True)[1].shape == (0, 3)
    assert (emulated.class_sums(torch.empty(0, 4), torch.empty(0, dtype=torch.int64), 3) == 0).all()
    assert emulated.counters().launches == 0


def test_too_many_points_are_refused():
    record = emulated.Alignment(points=2**32, views=2, dims=1, point_stride=0, view_stride=0)
    said = emulated.library().memkern_cuda_alignment(ctypes.byref(record), None, None)
    assert b"too many points" in said


def test_class_sums_are_added_to_what_is_there():
    means, labels = testing.randn(5, 4), torch.tensor([0, 1, 0, 1, 1])
    sums = torch.full((2, 4), 10.0, dtype=torch.float64)
    record = emulated.ClassSums(
        means=means.data_ptr(), points=5, units=4, classes=2, labels=labels.data_ptr(), sums=sums.data_ptr()
    )
    assert emulated.library().memkern_cuda_class_sums(ctypes.byref(record), None, None) is None
    torch.testing.assert_close(sums - 10, reference.class_sums(means, labels, classes=2))


def test_settings_have_reasons():
    table = [line.split("\t") for line in emulated.library().memkern_cuda_settings().decode().splitlines()]
    assert len(table) > 20
    for kernel, name, value, reason in table:
        assert kernel
        assert name
        assert int(value) > 0
        assert len(reason.split()) >= 3
    assert len({(kernel, name) for kernel, name, *_ in table}) == len(table)
