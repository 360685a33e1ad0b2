"""UnitMem: per unit, how far the largest per-point mean activation stands out of the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from memkern import dispatch, scores
from memkern.checks import values as checks
from memkern.checks.values import Array, IntsLike, TensorLike
from memkern.metrics.base import Streaming
from memkern.metrics.options import RESTS, check_activations, check_options, compat_scripts, in_callers_kind
from memkern.ops.median_of_others import median_of_others
from memkern.ops.selectivity import SelectivityState, selectivity
from memkern.ops.unit_means import read_unit_means, unit_means


class UnitStats(NamedTuple):
    """UnitMem and what it is made of.

    Attributes:
        score: ``[U]``, UnitMem; NaN where it is undefined (see ``n_undefined``).
        peak: ``[U]``, the largest per-point mean activation.
        rest: ``[U]``, the centre (mean or median) of the other points' means.
        index: ``[U]`` int64, the dataset id of the point with the largest mean, the lowest on ties.
        count: How many points.
        n_dead: How many units have mean 0 for every point (0-d int64); they score 0.
        n_signed: How many units have a negative mean for some point (0-d int64); their score can leave [0, 1].
    """

    score: Array
    peak: Array
    rest: Array
    index: Array
    count: int  # type: ignore[assignment]  # shadows tuple.count on purpose: the field's name
    n_dead: Array
    n_signed: Array

    @property
    def n_undefined(self) -> Array:
        """Number of NaN scores (0-d int64): of a NaN activation, or a zero denominator with signed activations."""
        return scores.undefined(self.score).sum()


def unit_score(state: SelectivityState, others: Tensor | None = None) -> Tensor:
    """Computes UnitMem from the state of the units.

    Args:
        state: Over two or more points.
        others: ``[U]``, the centre of the other points' means; default: their mean.

    Returns:
        ``[U]``, of the dtype of ``state.peak``.
    """
    others = scores.mean_of_others(state.rest, state.count) if others is None else others
    return scores.selectivity_score(state.peak, others).to(state.peak.dtype)


def unit_stats(state: SelectivityState, others: Tensor | None = None) -> UnitStats:
    """Computes UnitMem and its parts from the state of the units.

    Args:
        state: Over two or more points.
        others: ``[U]``, the centre of the other points' means; default: their mean.

    Returns:
        ``UnitStats(score, peak, rest, index, count, n_dead, n_signed)`` of tensors.
    """
    others = scores.mean_of_others(state.rest, state.count) if others is None else others
    return UnitStats(
        unit_score(state, others),
        state.peak,
        others.to(state.peak.dtype),
        state.index,
        state.count,
        scores.dead_units(state.peak, state.minimum).sum(),
        scores.signed_units(state.minimum).sum(),
    )


class _Options(NamedTuple):
    """The options of ``unitmem``."""

    view_dim: int | None
    unit_dim: int | None
    rest: str
    activation: str
    compat: str | None
    backend: str


def _state_and_others(
    activations: TensorLike, ids: IntsLike | None, options: _Options
) -> tuple[SelectivityState, Tensor | None, bool]:
    """The state of the units, the median of the other points' means if asked for, and whether numpy was passed."""
    view_dim, unit_dim, rest, activation, compat, backend = options
    x, was_numpy = checks.as_tensor(activations, "activations")
    unit = check_activations(x, view_dim, unit_dim, activation)
    checks.one_of(rest, "rest", RESTS)
    checks.one_of(backend, "backend", dispatch.NAMES)
    checks.at_least_two_points(x.shape[0], "activations")
    given = None if ids is None else checks.ids(ids, x.shape[0], x.device)
    if compat_scripts(compat) or rest == "median":
        means = read_unit_means(x, unit, activation, backend)
        return selectivity(means, ids=given, backend=backend), median_of_others(means, backend=backend), was_numpy
    return selectivity(x, unit_dim=unit, activation=activation, ids=given, backend=backend), None, was_numpy


def unitmem_stats(
    activations: TensorLike,
    *,
    view_dim: int | None = None,
    unit_dim: int | None = None,
    rest: str = "mean",
    activation: str = "raw",
    ids: IntsLike | None = None,
    compat: str | None = None,
    backend: str = "auto",
) -> UnitStats:
    """Computes UnitMem with its parts: the peak, the centre of the others, and which point holds the peak.

    arXiv 2409.19069, Eqs. (5)-(8); ``unitmem`` returns the score alone.

    Args:
        activations: ``[N, ..., U, ...]``, dim 0 holds N >= 2 points; float32, float64, bfloat16 or float16, any dense
            layout, read once.
        view_dim: The dimension of the views, None if there are none. **``[N, V, U, ...]`` needs ``view_dim=1``.**
        unit_dim: The dimension of the units; default: the first one after points and views. Tokens: -1. Every other
            dimension is space and is averaged.
        rest: "mean" of the others, or their "median".
        activation: "raw", or "relu" or "abs" applied to each element first.
        ids: ``[N]`` int64 dataset ids that ``index`` reports; default 0, 1, 2, ...
        compat: "scripts" follows the released scripts, which is ``rest="median"``.
        backend: "auto", "reference", "cpu", "triton" or "cuda"; one that is named but cannot run raises.

    Returns:
        ``UnitStats(score, peak, rest, index, count, n_dead, n_signed)``, of tensors on the device of the activations,
        or of numpy arrays for numpy.

    Raises:
        TypeError: If ``activations`` is no array or not floating, a dimension is no int, or ``ids`` is not int64.
        ValueError: If there are fewer than 2 points, or a shape, dimension or option does not fit.
        RuntimeError: If the named backend cannot run here.

    Example:
        >>> import torch, memkern
        >>> means = torch.tensor([[0.0, 2.0, 1.0, 0.0], [0, 2, 3, 0], [1, 2, 9, 0], [8, 2, 9, 0]])
        >>> stats = memkern.unitmem_stats(means)
        >>> stats.score, stats.index, int(stats.n_dead)
        (tensor([0.9200, 0.0000, 0.3500, 0.0000]), tensor([3, 0, 2, 0]), 1)
    """
    options = _Options(view_dim, unit_dim, rest, activation, compat, backend)
    state, others, was_numpy = _state_and_others(activations, ids, options)
    return in_callers_kind(unit_stats(state, others), was_numpy)


def unitmem(
    activations: TensorLike,
    *,
    view_dim: int | None = None,
    unit_dim: int | None = None,
    rest: str = "mean",
    activation: str = "raw",
    compat: str | None = None,
    backend: str = "auto",
) -> Array:
    r"""UnitMem of each unit: does one point activate it much more than all the others do?

    .. math::
        \mathrm{UnitMem}(u) = \frac{\mu_{max,u} - \mu_{-max,u}}{\mu_{max,u} + \mu_{-max,u}},
        \quad \mu_{max,u} = \max_i \mu_u(x_i),
        \quad \mu_{-max,u} = \frac{1}{N-1} \sum_{i \ne \arg\max} \mu_u(x_i)

    with the mean activation :math:`\mu_u(x)` over views and space: arXiv 2409.19069, Eqs. (5)-(8).

    Args:
        activations: ``[N, ..., U, ...]``, dim 0 holds N >= 2 points; float32, float64, bfloat16 or float16, any dense
            layout, read once.
        view_dim: The dimension of the views, None if there are none. **``[N, V, U, ...]`` needs ``view_dim=1``.**
        unit_dim: The dimension of the units; default: the first one after points and views. Tokens: -1. Every other
            dimension is space and is averaged.
        rest: "mean" of the others (Eq. 7), or their "median" (appendix C.1 and the released scripts).
        activation: "raw", or "relu" or "abs" applied to each element first. Raw signed activations can score outside
            [0, 1]; ``unitmem_stats`` counts such units.
        compat: "scripts" follows the released scripts, which is ``rest="median"``.
        backend: "auto", "reference", "cpu", "triton" or "cuda"; one that is named but cannot run raises.

    Returns:
        ``[U]``, float64 for float64 input and float32 for every other, on the same device; numpy for numpy. A dead unit
        scores 0; a NaN activation, or a zero denominator with signed activations, NaN. Ties take the first point.

    Raises:
        TypeError: If ``activations`` is no array or not floating, or a dimension is no int.
        ValueError: If there are fewer than 2 points, or a shape, dimension or option does not fit.
        RuntimeError: If the named backend cannot run here.

    Example:
        >>> import torch, memkern
        >>> maps = torch.zeros(4, 2, 3, 3)  # 4 points, 2 units
        >>> maps[2, 0] = 1.0  # unit 0 answers to point 2 alone, unit 1 is dead
        >>> memkern.unitmem(maps)
        tensor([1., 0.])
    """
    options = _Options(view_dim, unit_dim, rest, activation, compat, backend)
    state, others, was_numpy = _state_and_others(activations, None, options)
    return in_callers_kind(unit_score(state, others), was_numpy)


_ENTRIES = ("peak", "index", "rest", "low", "count")
"""Names of a `SelectivityState`'s fields in files, which have said "low" for the minimum since version 0.1."""


class UnitState(NamedTuple):
    """State of UnitMem after some points.

    Attributes:
        units: Peak, index, rest, minimum and count, of constant size.
        means: ``[n, U]`` unit means of each batch, for the median alone; empty where the centre is the mean.
    """

    units: SelectivityState
    means: tuple[Tensor, ...] = ()

    def merged(self, other: UnitState) -> UnitState:
        """Returns the state after the points of both; raises if they are not of the same units."""
        a, b = self.units, other.units
        checks.same_units(a.peak, b.peak)
        units = SelectivityState(*scores.merge_units(a[:4], b[:4]), a.count + b.count)
        return UnitState(units, self.means + other.means)

    def tensors(self) -> dict[str, Tensor]:
        """Lists peak, index, rest and low (the minimum) ``[U]``, 0-d count, and for the median means ``[N, U]``."""
        count = torch.tensor(self.units.count, device="cpu")
        found = dict(zip(_ENTRIES, (*self.units[:4], count), strict=True))
        return {**found, "means": torch.cat(self.means)} if self.means else found

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> UnitState:
        """Makes the state whose ``tensors`` gave ``peak``, ``index``, ``rest``, ``low`` ``[U]`` and ``count``."""
        peak, index, rest, minimum, count = (tensors[name] for name in _ENTRIES)
        means = (tensors["means"],) if "means" in tensors else ()
        return cls(SelectivityState(peak, index, rest, minimum, int(count)), means)


class UnitMem(Streaming[UnitState]):
    """UnitMem over batches: memory does not grow with the number of points (with ``rest="median"`` it does: N x U).

    However the points are split into batches and states are merged, peak, index and count are the same bits; the sum of
    the others is kept in float64 and agrees to its rounding.

    Args:
        view_dim: The dimension of the views, None if there are none. **``[n, V, U, ...]`` needs ``view_dim=1``.**
        unit_dim: The dimension of the units; default: the first one after points and views. Tokens: -1. Every other
            dimension is space and is averaged.
        rest: "mean" of the other points' means, or their "median".
        activation: "raw", or "relu" or "abs" applied to each element first.
        backend: "auto", "reference", "cpu", "triton" or "cuda"; one that is named but cannot run raises.

    Raises:
        ValueError: If an option is unknown.

    Example:
        >>> import torch, memkern
        >>> metric = memkern.UnitMem()
        >>> metric.update(torch.tensor([[0.0], [0.0]]), ids=[10, 11])
        >>> metric.update(torch.tensor([[1.0], [8.0]]), ids=[12, 13])
        >>> metric.compute(), metric.stats().index
        (tensor([0.9200]), tensor([13]))
    """

    _OPTIONS = ("rest", "activation")
    _STATE = UnitState

    def __init__(
        self,
        *,
        view_dim: int | None = None,
        unit_dim: int | None = None,
        rest: str = "mean",
        activation: str = "raw",
        backend: str = "auto",
    ) -> None:
        check_options(rest, activation, backend)
        self.view_dim, self.unit_dim = view_dim, unit_dim
        self.rest, self.activation, self.backend = rest, activation, backend

    def _entries(self) -> set[str]:
        return {*_ENTRIES, "means"} if self.rest == "median" else set(_ENTRIES)

    @property
    def count(self) -> int:
        """Number of points that have been seen."""
        return 0 if self._state is None else self._state.units.count

    def update(self, batch: TensorLike, ids: IntsLike | None = None) -> None:
        """Adds the points of a batch.

        Args:
            batch: ``[n, ..., U, ...]`` activations, dim 0 holds n >= 1 points; float32, float64, bfloat16 or float16,
                any dense layout, read once.
            ids: ``[n]`` int64 dataset ids; default: the points are numbered as they come. A point given twice counts
                twice (a sampler that pads with repeats biases the metric: drop them first).

        Raises:
            TypeError: If ``batch`` is no array or not floating, a dimension is no int, ``ids`` is not int64, or the
                result dtype differs from the earlier batches'.
            ValueError: If a shape, dimension or option does not fit, or the number of units differs from the earlier
                batches'.
            RuntimeError: If the batch is on another device than the state, or the named backend cannot run here.
        """
        x, _ = checks.as_tensor(batch, "batch")
        unit = check_activations(x, self.view_dim, self.unit_dim, self.activation)
        given = None
        if ids is not None:
            given = checks.ids(ids, x.shape[0], x.device)
        elif self.count:
            given = torch.arange(self.count, self.count + x.shape[0], device=x.device)
        if x.shape[0] == 0:
            return
        if self.rest == "median":
            means = unit_means(x, unit_dim=unit, activation=self.activation, backend=self.backend)
            self._add(UnitState(selectivity(means, ids=given, backend=self.backend), (means,)))
        else:
            state = selectivity(x, unit_dim=unit, activation=self.activation, ids=given, backend=self.backend)
            self._add(UnitState(state))

    def stats(self) -> UnitStats:
        """Computes the scores and their parts over all points so far.

        Returns:
            ``UnitStats(score, peak, rest, index, count, n_dead, n_signed)``.

        Raises:
            ValueError: If fewer than 2 points have been seen.
        """
        checks.at_least_two_points(self.count, "UnitMem")
        assert self._state is not None
        if self.rest == "mean":
            return unit_stats(self._state.units)
        means = torch.cat(self._state.means)
        self._state = UnitState(self._state.units, (means,))
        return unit_stats(self._state.units, median_of_others(means, backend=self.backend))
