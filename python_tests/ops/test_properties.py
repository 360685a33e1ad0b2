"""What must hold for any input: hypothesis chooses shapes, seeds, dtypes and cuts; every path must keep it."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import memkern
from memkern import native, scores
from memkern.ops.class_sums import class_sums
from memkern.ops.median_of_others import median_of_others
from memkern.ops.selectivity import SelectivityState, selectivity
from python_tests.helpers import testing

WIDE = st.sampled_from([torch.float32, torch.float64])
DTYPES = st.sampled_from(testing.DTYPES)
ACTIVATIONS = st.sampled_from(["raw", "relu", "abs"])
PAIRS = st.sampled_from(["all", "anchor"])
LAYOUTS = st.sampled_from(list(testing.LAYOUTS))
SEEDS = st.integers(0, 2**31)


def size(most: int, least: int = 1) -> st.SearchStrategy[int]:
    return st.integers(least, most)


def randn(seed: int, *shape: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def integers(seed: int, *shape: int, dtype: torch.dtype) -> Tensor:
    """Values -4 .. 4: sums are exact in every dtype and order."""
    return torch.randint(-4, 5, shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def permutation(seed: int, count: int) -> Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))


def close(got: Tensor, want: Tensor, roundings: float, scale: float | Tensor, floor: float = 0) -> None:
    slack = roundings * torch.finfo(want.dtype).eps * scale + floor
    assert not (~((got - want).abs() <= slack)).any(), (got, want)


# ---- per-point results know nothing of their neighbours -----------------------------------------------------------


@given(SEEDS, size(12), size(9, 2), size(80), DTYPES, PAIRS, st.booleans())
def test_points_may_come_in_any_order(path, seed, points, views, dims, dtype, pairs, normalize):
    z, order = randn(seed, points, views, dims, dtype=dtype), permutation(seed, points)
    whole = memkern.alignment(z, pairs=pairs, normalize=normalize, backend=path)
    shuffled = memkern.alignment(z[order], pairs=pairs, normalize=normalize, backend=path)
    testing.assert_same_bits(shuffled, whole[order])


@given(SEEDS, size(40, 2), size(7, 2), size(20), size(20), DTYPES, st.data())
def test_any_split_into_batches_gives_the_same_bits(kernel, seed, points, views, units, space, dtype, data):
    x = randn(seed, points, views, units, space, dtype=dtype)
    cuts = sorted(data.draw(st.lists(st.integers(0, points), max_size=4)))
    bounds = list(zip([0, *cuts], [*cuts, points], strict=True))
    alignment = torch.cat([memkern.alignment(x[a:b], backend=kernel) for a, b in bounds])
    testing.assert_same_bits(alignment, memkern.alignment(x, backend=kernel), "alignment")
    for unit_dim in (2, 3):
        means = torch.cat([memkern.unit_means(x[a:b], unit_dim=unit_dim, backend=kernel) for a, b in bounds])
        testing.assert_same_bits(means, memkern.unit_means(x, unit_dim=unit_dim, backend=kernel), "unit means")
        stats = [memkern.layer_stats(x[a:b], unit_dim=unit_dim, backend=kernel) for a, b in bounds]
        want = memkern.layer_stats(x, unit_dim=unit_dim, backend=kernel)
        testing.assert_same_bits(torch.cat([part.alignment for part in stats]), want.alignment, "layer stats")
        testing.assert_same_bits(torch.cat([part.unit_means for part in stats]), want.unit_means, "layer stats")


# ---- alignment ----------------------------------------------------------------------------------------------------


@given(SEEDS, size(5), size(12, 2), size(80), DTYPES, st.booleans())
def test_views_may_come_in_any_order(path, seed, points, views, dims, dtype, normalize):
    z, order = randn(seed, points, views, dims, dtype=dtype), permutation(seed, views)
    # Two views of one direction are 0 apart. Their unit vectors are rounded in float64, an ulp of 1 each at the most,
    # and so is their difference: that is all that is left of the distance.
    floor = 4 * torch.finfo(torch.float64).eps if normalize else 0
    whole = memkern.alignment(z, normalize=normalize, backend=path)
    close(memkern.alignment(z[:, order], normalize=normalize, backend=path), whole, 32, whole, floor)
    rest = torch.cat([torch.zeros(1, dtype=torch.int64), permutation(seed, views - 1) + 1])  # the anchor stays
    whole = memkern.alignment(z, pairs="anchor", normalize=normalize, backend=path)
    close(memkern.alignment(z[:, rest], pairs="anchor", normalize=normalize, backend=path), whole, 32, whole, floor)


@given(SEEDS, size(5), size(12, 2), size(80), DTYPES, PAIRS, st.integers(0, 4))
def test_scaling_by_a_power_of_two_is_exact(path, seed, points, views, dims, dtype, pairs, exponent):
    """c z has c times the distances, and the same unit vectors; no digit changes when c is a power of two."""
    z = randn(seed, points, views, dims, dtype=dtype)
    for normalize, factor in ((False, 2.0**exponent), (True, 1.0)):
        once = memkern.alignment(z, pairs=pairs, normalize=normalize, backend=path)
        scaled = memkern.alignment(z * 2.0**exponent, pairs=pairs, normalize=normalize, backend=path)
        testing.assert_same_bits(scaled, once * factor, normalize)


@given(SEEDS, size(5), size(12, 2), size(80), WIDE, PAIRS, st.floats(0.01, 100))
def test_scaling_by_any_number(path, seed, points, views, dims, wide, pairs, factor):
    z = randn(seed, points, views, dims, dtype=wide)
    for normalize, change in ((False, factor), (True, 1.0)):
        once = memkern.alignment(z, pairs=pairs, normalize=normalize, backend=path)
        # the products are rounded to half an epsilon of the elements, which can be larger than their differences
        size = z.abs().amax() * dims**0.5 if not normalize else 1.0
        close(
            memkern.alignment(z * factor, pairs=pairs, normalize=normalize, backend=path),
            once * change,
            32,
            size * change + once * change,
        )


@given(SEEDS, size(5), size(6, 2), size(60), DTYPES, st.booleans())
def test_every_view_twice(path, seed, points, views, dims, dtype, normalize):
    """2V views: each old pair counts four times, and V pairs have distance 0."""
    z = randn(seed, points, views, dims, dtype=dtype)
    once = memkern.alignment(z, normalize=normalize, backend=path)
    twice = memkern.alignment(z.repeat(1, 2, 1), normalize=normalize, backend=path)
    # unit vectors are rounded to half an epsilon of a double: views of one direction are that far apart, not 0
    floor = torch.finfo(torch.float64).eps / torch.finfo(once.dtype).eps if normalize else 0.0
    close(twice, once * (2 * (views - 1) / (2 * views - 1)), 32, once + floor)


@given(SEEDS, size(5), size(12, 2), size(80), DTYPES, PAIRS)
def test_unit_vectors_are_at_most_two_apart(path, seed, points, views, dims, dtype, pairs):
    got = memkern.alignment(randn(seed, points, views, dims, dtype=dtype), pairs=pairs, backend=path)
    assert ((got >= 0) & (got <= 2 * (1 + 4 * torch.finfo(got.dtype).eps))).all()


@given(SEEDS, size(5), size(6, 2), size(6), size(6), size(6), DTYPES, LAYOUTS)
def test_layout_does_not_matter(path, seed, points, views, units, height, width, dtype, layout):
    x = randn(seed, points, views, units, height, width, dtype=dtype)
    moved = testing.LAYOUTS[layout](x)
    whole = memkern.alignment(x, backend=path)
    close(memkern.alignment(moved, backend=path), whole, 32, whole)
    for unit_dim in (2, 3, 4):
        got = memkern.unit_means(moved, unit_dim=unit_dim, backend=path)
        close(got, memkern.unit_means(x, unit_dim=unit_dim, backend=path), 8, x.abs().amax().to(got.dtype))


# ---- unit means and selectivity -----------------------------------------------------------------------------------


@given(SEEDS, size(6), size(20), size(40), DTYPES, st.sampled_from([1, 2]))
def test_relu_and_abs_change_nothing_that_is_not_negative(path, seed, points, units, space, dtype, unit_dim):
    x = randn(seed, points, units, space, dtype=dtype)
    raw = memkern.unit_means(x.abs(), unit_dim=unit_dim, backend=path)
    for activation in ("relu", "abs"):
        same = memkern.unit_means(x.abs(), unit_dim=unit_dim, activation=activation, backend=path)
        testing.assert_same_bits(same, raw, activation)
    testing.assert_same_bits(memkern.unit_means(x, unit_dim=unit_dim, activation="abs", backend=path), raw, "abs first")
    rectified = memkern.unit_means(x.relu() + 0.0, unit_dim=unit_dim, backend=path)
    relu = memkern.unit_means(x, unit_dim=unit_dim, activation="relu", backend=path)
    testing.assert_same_bits(relu + 0.0, rectified + 0.0, "relu first")


@given(SEEDS, size(100), size(30), DTYPES, ACTIVATIONS)
def test_state_of_means_is_the_state_of_activations(path, seed, points, units, dtype, activation):
    """Straight from activations, or by way of unit_means: the same peak, point and low, to the bit."""
    x = randn(seed, points, units, 3, dtype=dtype)
    direct = selectivity(x, activation=activation, backend=path)
    staged = selectivity(memkern.unit_means(x, activation=activation, backend=path), backend=path)
    if path == "reference":  # the oracle compares means in float64, before they are rounded
        return
    testing.assert_same_bits(direct.peak, staged.peak, "peak")
    testing.assert_same_bits(direct.minimum, staged.minimum, "low")
    testing.assert_same_bits(direct.index, staged.index, "index")


def merged(a: SelectivityState, b: SelectivityState) -> SelectivityState:
    peak, index, smaller = scores.merge_peaks(a.peak, a.index, b.peak, b.index)
    return SelectivityState(
        peak, index, a.rest + b.rest + smaller, torch.minimum(a.minimum, b.minimum), a.count + b.count
    )


@given(SEEDS, size(60, 3), size(20), DTYPES, st.data())
def test_states_merge_exactly_in_any_order(path, seed, points, units, dtype, data):
    """Full of ties, and with sums that are exact: the merged state is that of one call."""
    x = integers(seed, points, units, dtype=dtype)
    ids = permutation(seed, points) * 2 + 1
    cuts = sorted(data.draw(st.sets(st.integers(1, points - 1), min_size=1, max_size=4)))
    bounds = list(zip([0, *cuts], [*cuts, points], strict=True))
    parts = [selectivity(x[a:b], ids=ids[a:b], backend=path) for a, b in bounds]
    order = data.draw(st.permutations(range(len(parts))))
    total = parts[order[0]]
    for part in order[1:]:
        total = merged(total, parts[part])
    want = selectivity(x, ids=ids, backend=path)
    for name in ("peak", "index", "rest", "minimum"):
        testing.assert_same_bits(getattr(total, name) + 0, getattr(want, name) + 0, name)


@given(SEEDS, size(80), size(20), DTYPES, st.data())
def test_adding_a_duplicate_point(path, seed, points, units, dtype, data):
    """The copy joins the rest; peak, low and (being later) index stay."""
    x = integers(seed, points, units, dtype=dtype)
    copied = data.draw(st.integers(0, points - 1))
    before, after = selectivity(x, backend=path), selectivity(torch.cat([x, x[copied : copied + 1]]), backend=path)
    assert (after.peak == before.peak).all()
    assert (after.index == before.index).all()
    assert (after.minimum == before.minimum).all()
    assert (after.rest == before.rest + x[copied].double()).all()


# ---- median and classes -------------------------------------------------------------------------------------------


@given(SEEDS, size(300, 2), size(20), WIDE)
def test_median_of_others_divides_them_in_half(path, seed, points, units, wide):
    means = integers(seed, points, units, dtype=wide) if seed % 2 else randn(seed, points, units, dtype=wide)
    median = median_of_others(means, backend=path)
    others = means.sort(0)[0][:-1]
    assert ((others < median).sum(0) * 2 <= points - 1).all()
    assert ((others > median).sum(0) * 2 <= points - 1).all()
    testing.assert_same_bits(median_of_others(means[permutation(seed, points)], backend=path), median)
    testing.assert_same_bits(median_of_others(means * 4, backend=path), median * 4)


@given(SEEDS, size(60), size(20), size(9), WIDE)
def test_class_sums_merge_and_follow_their_labels(path, seed, points, units, classes, wide):
    means = integers(seed, points, units, dtype=wide)
    labels = torch.randint(classes, (points,), generator=torch.Generator().manual_seed(seed))
    whole = class_sums(means, labels, classes=classes, backend=path)
    assert (whole.sum(0) == means.double().sum(0)).all()
    half = points // 2
    parts = [
        class_sums(means[rows], labels[rows], classes=classes, backend=path)
        for rows in (slice(half), slice(half, None))
    ]
    assert (parts[0] + parts[1] == whole).all()
    renamed = permutation(seed, classes)
    assert (class_sums(means, renamed[labels], classes=classes, backend=path)[renamed] == whole).all()


# ---- threads ------------------------------------------------------------------------------------------------------


def everything(x: Tensor, path: str) -> dict[str, Tensor]:
    """Every op on one [N, V, U, S] tensor large enough to be split over threads."""
    leaf = x.detach().requires_grad_()
    memkern.alignment(leaf, backend=path).sum().backward()
    means = memkern.unit_means(x, view_dim=1, backend=path)
    stats = memkern.layer_stats(x, backend=path)
    state = selectivity(x, unit_dim=2, backend=path)
    wide_means = means.repeat(1, 8)
    return {
        "alignment": memkern.alignment(x, backend=path),
        "gradient": leaf.grad,
        "unit means": means,
        "layer stats": torch.cat([stats.alignment, stats.unit_means.flatten()]),
        "state": torch.cat([part.double() for part in state[:4]]),
        "median": median_of_others(wide_means, backend=path),
        "class sums": class_sums(wide_means, torch.arange(len(x)) % 7, classes=7, backend=path),
    }


def test_any_number_of_threads_gives_the_same_bits(path, dtype):
    x = randn(0, 300, 3, 19, 11, dtype=dtype)
    with testing.threads(1):
        want = everything(x, path)
    if path == "reference":
        return  # plain torch may round otherwise
    for count in (2, 3, 7):
        with testing.threads(count):
            for name, got in everything(x, path).items():
                testing.assert_same_bits(got, want[name], (name, count))
    assert native.accumulate_dtype(dtype) == want["alignment"].dtype
