"""UnitMem: per unit, how far the largest per-point mean activation stands out of the others."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from memkern import dispatch, scores
from memkern.checks import values as checks
from memkern.metrics.options import (
    ACTIVATIONS,
    RESTS,
    check_activations,
    compat_scripts,
    gather_states,
    in_callers_kind,
)
from memkern.ops.median_of_others import median_of_others
from memkern.ops.selectivity import SelectivityState, selectivity
from memkern.ops.unit_means import unit_means


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

    score: Any
    peak: Any
    rest: Any
    index: Any
    count: int  # type: ignore[assignment]  # shadows tuple.count on purpose: the field's name
    n_dead: Any
    n_signed: Any

    @property
    def n_undefined(self) -> Any:
        """How many scores are NaN (0-d int64): a NaN activation, or a zero denominator with signed activations."""
        return (self.score != self.score).sum()


def _score(state: SelectivityState, rest: Tensor) -> Tensor:
    return scores.selectivity_score(state.peak, rest).to(state.peak.dtype)


def _stats(state: SelectivityState, rest: Tensor) -> UnitStats:
    return UnitStats(
        _score(state, rest),
        state.peak,
        rest.to(state.peak.dtype),
        state.index,
        state.count,
        ((state.peak == 0) & (state.low == 0)).sum(),
        (state.low < 0).sum(),
    )


def unitmem_stats(
    activations: Any,
    *,
    view_dim: int | None = None,
    unit_dim: int | None = None,
    rest: str = "mean",
    activation: str = "raw",
    ids: Any = None,
    compat: str | None = None,
    backend: str = "auto",
) -> UnitStats:
    """UnitMem with its parts: the peak, the centre of the others, and which point holds the peak.

    Args:
        activations: As for ``unitmem``.
        view_dim: As for ``unitmem``.
        unit_dim: As for ``unitmem``.
        rest: As for ``unitmem``.
        activation: As for ``unitmem``.
        ids: ``[N]`` int64 dataset ids that ``index`` reports; default 0, 1, 2, ...
        compat: As for ``unitmem``.
        backend: As for ``unitmem``.

    Returns:
        ``UnitStats(score, peak, rest, index, count, n_dead, n_signed)``.

    Raises:
        TypeError: As for ``unitmem``.
        ValueError: As for ``unitmem``.
        RuntimeError: As for ``unitmem``.

    Example:
        >>> import torch, memkern
        >>> means = torch.tensor([[0.0, 2.0, 1.0, 0.0], [0, 2, 3, 0], [1, 2, 9, 0], [8, 2, 9, 0]])
        >>> stats = memkern.unitmem_stats(means)
        >>> stats.score, stats.index, int(stats.n_dead)
        (tensor([0.9200, 0.0000, 0.3500, 0.0000]), tensor([3, 0, 2, 0]), 1)
    """
    state, centre, was_numpy = _peak_and_rest(activations, view_dim, unit_dim, rest, activation, ids, compat, backend)
    result: UnitStats = in_callers_kind(_stats(state, centre), was_numpy)
    return result


def _peak_and_rest(
    activations: Any,
    view_dim: int | None,
    unit_dim: int | None,
    rest: str,
    activation: str,
    ids: Any,
    compat: str | None,
    backend: str,
) -> tuple[SelectivityState, Tensor, bool]:
    """The state of each unit, the centre of the other points' means, and whether the caller brought numpy."""
    x, was_numpy = checks.as_tensor(activations, "activations")
    unit = check_activations(x, view_dim, unit_dim, activation)
    checks.one_of(rest, "rest", RESTS)
    checks.one_of(backend, "backend", dispatch.NAMES)
    checks.at_least_two_points(x.shape[0], "activations")
    ids = None if ids is None else checks.ids(ids, x.shape[0], x.device)
    if compat_scripts(compat) or rest == "median":
        means = unit_means(x, unit_dim=unit, activation=activation, backend=backend)
        return selectivity(means, ids=ids, backend=backend), median_of_others(means, backend=backend), was_numpy
    state = selectivity(x, unit_dim=unit, activation=activation, ids=ids, backend=backend)
    return state, state.rest / (state.count - 1), was_numpy


def unitmem(
    activations: Any,
    *,
    view_dim: int | None = None,
    unit_dim: int | None = None,
    rest: str = "mean",
    activation: str = "raw",
    compat: str | None = None,
    backend: str = "auto",
) -> Any:
    r"""UnitMem of each unit: does one point activate it much more than all the others do?

    .. math::
        \mathrm{UnitMem}(u) = \frac{\mu_{max,u} - \mu_{-max,u}}{\mu_{max,u} + \mu_{-max,u}},
        \quad \mu_{max,u} = \max_i \mu_u(x_i),
        \quad \mu_{-max,u} = \frac{1}{N-1} \sum_{i \ne \arg\max} \mu_u(x_i)

    with the mean activation :math:`\mu_u(x)` over views and space: arXiv 2409.19069, Eqs. (5)-(8).

    Args:
        activations: Dim 0 holds N >= 2 points; float32, float64, bfloat16 or float16, any dense layout, read once.
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
    state, centre, was_numpy = _peak_and_rest(activations, view_dim, unit_dim, rest, activation, None, compat, backend)
    return in_callers_kind(_score(state, centre), was_numpy)


class UnitMem:
    """UnitMem over batches: memory does not grow with the number of points (with ``rest="median"`` it does: N x U).

    However the points are split into batches and states are merged, peak, index and count are the same bits; the sum of
    the others is kept in float64 and agrees to its rounding.

    Args:
        view_dim: As for ``unitmem``.
        unit_dim: As for ``unitmem``.
        rest: As for ``unitmem``.
        activation: As for ``unitmem``.
        backend: As for ``unitmem``.

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

    def __init__(
        self,
        *,
        view_dim: int | None = None,
        unit_dim: int | None = None,
        rest: str = "mean",
        activation: str = "raw",
        backend: str = "auto",
    ) -> None:
        checks.one_of(rest, "rest", RESTS)
        checks.one_of(activation, "activation", ACTIVATIONS)
        checks.one_of(backend, "backend", dispatch.NAMES)
        self.view_dim, self.unit_dim = view_dim, unit_dim
        self.rest, self.activation, self.backend = rest, activation, backend
        self.reset()

    def reset(self) -> None:
        """Forgets every point."""
        self._state: SelectivityState | None = None
        self._means: list[Tensor] = []  # kept for the median only: [n, U] per batch

    @property
    def count(self) -> int:
        """How many points have been seen."""
        return 0 if self._state is None else self._state.count

    def update(self, batch: Any, ids: Any = None) -> None:
        """Adds the points of a batch.

        Args:
            batch: Activations as for ``unitmem``, of one or more points.
            ids: ``[n]`` int64 dataset ids; default: the points are numbered as they come. A point given twice counts
                twice (a sampler that pads with repeats biases the metric: drop them first).

        Raises:
            TypeError: As for ``unitmem``, or if the result dtype differs from the earlier batches'.
            ValueError: As for ``unitmem``, or if the number of units differs from the earlier batches'.
        """
        x, _ = checks.as_tensor(batch, "batch")
        unit = check_activations(x, self.view_dim, self.unit_dim, self.activation)
        if ids is None:
            ids = torch.arange(self.count, self.count + x.shape[0], device=x.device) if self.count else None
        else:
            ids = checks.ids(ids, x.shape[0], x.device)
        if x.shape[0] == 0:
            return
        if self.rest == "median":
            x = unit_means(x, unit_dim=unit, activation=self.activation, backend=self.backend)
            state = selectivity(x, ids=ids, backend=self.backend)
        else:
            state = selectivity(x, unit_dim=unit, activation=self.activation, ids=ids, backend=self.backend)
        self._merge_state(state)
        if self.rest == "median":
            self._means.append(x)

    def _merge_state(self, state: SelectivityState) -> None:
        mine = self._state
        if mine is None:
            self._state = state
            return
        checks.same_units(mine.peak, state.peak)
        peak, index, smaller = scores.merge_peaks(mine.peak, mine.index, state.peak, state.index)
        self._state = SelectivityState(
            peak,
            index,
            mine.rest + state.rest + smaller.double(),
            torch.minimum(mine.low, state.low),  # NaN wins
            mine.count + state.count,
        )

    def stats(self) -> UnitStats:
        """The scores and their parts over all points so far.

        Returns:
            ``UnitStats(score, peak, rest, index, count, n_dead, n_signed)``.

        Raises:
            ValueError: If fewer than 2 points have been seen.
        """
        checks.at_least_two_points(self.count, "UnitMem")
        assert self._state is not None
        if self.rest == "median":
            self._means = [torch.cat(self._means)]
            return _stats(self._state, median_of_others(self._means[0], backend=self.backend))
        return _stats(self._state, self._state.rest / (self.count - 1))

    def compute(self) -> Tensor:
        """UnitMem of each unit over all points so far: ``[U]``; raises as ``stats`` does."""
        score: Tensor = self.stats().score
        return score

    def merge(self, other: UnitMem) -> None:
        """Adds the points of another metric with the same options; any order of merging gives the same peaks.

        Args:
            other: Saw other points; is left as it was.

        Raises:
            TypeError: If ``other`` is no UnitMem, or the result dtypes differ.
            ValueError: If the options or the number of units differ.
        """
        checks.same_options(self, other, ("rest", "activation"))
        if other._state is not None:
            self._merge_state(other._state)
            self._means.extend(other._means)

    def state_dict(self) -> dict[str, Tensor]:
        """The state as tensors; empty before the first point."""
        if self._state is None:
            return {}
        state = {**self._state._asdict(), "count": torch.tensor(self._state.count, device="cpu")}
        if self.rest == "median":
            state["means"] = torch.cat(self._means)
        return state

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Replaces the state by one from ``state_dict``.

        Args:
            state: As ``state_dict`` returned it, from a metric with the same options.

        Raises:
            ValueError: If an entry is missing or unknown.
        """
        wanted = set(SelectivityState._fields) | ({"means"} if self.rest == "median" else set())
        checks.state_entries(state, wanted)
        self.reset()
        if state:
            self._state = SelectivityState(
                state["peak"], state["index"], state["rest"], state["low"], int(state["count"])
            )
            self._means = [state["means"]] if self.rest == "median" else []

    def to(self, device: torch.device | str) -> UnitMem:
        """Moves the state to a device and returns the metric."""
        moved = {key: value.to(device) for key, value in self.state_dict().items() if key != "count"}
        self.load_state_dict({**moved, "count": torch.tensor(self.count, device="cpu")} if moved else {})
        return self

    def sync(self, group: Any = None) -> None:
        """Merges the states of all processes of a torch.distributed group; each then holds all points.

        One collective call for the whole state. Call it once, after the last update; without an initialized
        torch.distributed there is one process and nothing changes.

        Args:
            group: The process group, None for the default one.
        """
        device = self._state.peak.device if self._state is not None else torch.device("cpu")
        merged = UnitMem(rest=self.rest, activation=self.activation)
        for state in gather_states(self.state_dict(), group):
            part = UnitMem(rest=self.rest, activation=self.activation)
            part.load_state_dict(state)
            merged.merge(part)
        self.load_state_dict(merged.to(device).state_dict())
