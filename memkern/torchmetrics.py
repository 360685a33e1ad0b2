"""UnitMem as a torchmetrics metric (extra ``memkern[metrics]``); ``memkern.UnitMem`` is the one that needs no extra."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from memkern import dispatch, scores
from memkern.checks import kinds
from memkern.checks import values as checks
from memkern.checks.values import IntsLike, TensorLike
from memkern.metrics.options import ACTIVATIONS, check_activations
from memkern.metrics.units import UnitStats, unit_stats
from memkern.ops.selectivity import SelectivityState, selectivity

try:
    from torchmetrics import Metric
    from torchmetrics.utilities.distributed import gather_all_tensors
    from torchmetrics.utilities.plot import _AX_TYPE, _PLOT_OUT_TYPE
except ModuleNotFoundError as error:
    raise checks.no_extra("memkern.torchmetrics", "torchmetrics", "metrics") from error

__all__ = ["UnitMem"]

# Rows of the packed state. `KIND` is odd after float64 input, so that the result dtype survives every merge, and says
# the options: metrics of a MetricCollection that differ in one never look alike, whatever the first batch holds.
PEAK, INDEX, REST, MINIMUM, COUNT, KIND = range(6)
REDUCTIONS = ("none", "mean")


def pack(state: SelectivityState, activation: str, dims: Sequence[int | None] = ()) -> Tensor:
    """Packs a state into one ``[6, U]`` float64 tensor; ids below 2^53 and every peak are exact in it.

    Args:
        state: The state of each unit.
        activation: The function that was applied to the activations.
        dims: The dimensions that the metric was given, of -9 to 8.

    Returns:
        ``[6, U]``: peak, index, rest, minimum, count, and what dtype and options there were.
    """
    options = ACTIVATIONS.index(activation)
    for dim in dims:
        options = 20 * options + (0 if dim is None else dim + 10)
    kind = 2 * options + (state.peak.dtype == torch.float64)
    columns = (state.peak, state.index, state.rest, state.minimum)
    constants = (torch.full_like(state.rest, float(value)) for value in (state.count, kind))
    return torch.stack([*(column.double() for column in columns), *constants])


def merge_packed(states: Tensor) -> Tensor:
    """Merges ``[P, 6, U]`` packed states of disjoint sets of points; a state without a point changes nothing."""
    merged = states[0]
    for other in states[1:]:
        count, kind = merged[COUNT] + other[COUNT], torch.maximum(merged[KIND], other[KIND])
        both = torch.stack([*scores.merge_units(_units(merged), _units(other)), count, kind])
        both = torch.where(other[COUNT] == 0, merged, both)
        merged = torch.where(merged[COUNT] == 0, other, both)
    return merged


def _units(packed: Tensor) -> scores.UnitNumbers:
    return packed[PEAK], packed[INDEX], packed[REST], packed[MINIMUM]


def _peak(state: Tensor) -> Tensor:
    """Finds the peaks in a packed state that has seen a point, in the dtype of the results."""
    return state[PEAK].to(torch.float64 if int(state[KIND, 0]) % 2 else torch.float32)


def _gather(state: Tensor, group: torch.distributed.ProcessGroup | None = None) -> list[Tensor]:
    """Every process's state; a process that saw no batch does not know the number of units and gets an empty state."""
    states: list[Tensor] = gather_all_tensors(state, group)
    units = max(part.shape[1] for part in states)
    return [_widened(part, units) for part in states]


def _widened(state: Tensor, units: int) -> Tensor:
    """Gives the state of a metric that has seen no batch its units."""
    return state if state.shape[1] else state.new_zeros((len(state), units))


class UnitMem(Metric):
    """UnitMem over batches and processes, for training loops that speak torchmetrics.

    The whole state is one float64 tensor of 6 numbers per unit, whatever the number of points, so that one collective
    syncs it. It stays float64 under ``.half()`` and ``.to(dtype)``, which would round the ids.

    Args:
        view_dim: The dimension of the views, None if there are none. **``[n, V, U, ...]`` needs ``view_dim=1``.**
        unit_dim: The dimension of the units; default: the first one after points and views. Tokens: -1. Every other
            dimension is space and is averaged.
        activation: "raw", or "relu" or "abs" applied to each element first.
        reduction: "none" for the score of each unit, or "mean" over the units whose score is defined: one number, as
            ``self.log`` of Lightning wants it.
        backend: "auto", "reference", "cpu", "triton" or "cuda"; one that is named but cannot run raises.
        **kwargs: Options of ``torchmetrics.Metric``, such as ``sync_on_compute``.

    Raises:
        ValueError: If an option is unknown.

    Example:
        >>> import torch
        >>> from memkern.torchmetrics import UnitMem
        >>> metric = UnitMem()
        >>> metric.update(torch.tensor([[0.0, 2.0], [0.0, 2.0]]), ids=[10, 11])
        >>> metric.update(torch.tensor([[1.0, 2.0], [8.0, 2.0]]), ids=[12, 13])
        >>> metric.compute(), metric.stats().index
        (tensor([0.9200, 0.0000]), tensor([13, 10]))
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = None
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0
    plot_legend_name = "Unit"
    __jit_unused_properties__: ClassVar[list[str]] = [*Metric.__jit_unused_properties__, "count"]

    if TYPE_CHECKING:  # torch.jit.script cannot read it
        state: Tensor
    _of_a_batch = False  # whether `compute` is called by `forward`

    def __init__(
        self,
        *,
        view_dim: int | None = None,
        unit_dim: int | None = None,
        activation: str = "raw",
        reduction: str = "none",
        backend: str = "auto",
        **kwargs: object,
    ) -> None:
        super().__init__(**kwargs)
        checks.one_of(activation, "activation", ACTIVATIONS)
        checks.one_of(reduction, "reduction", REDUCTIONS)
        checks.one_of(backend, "backend", dispatch.NAMES)
        self.view_dim, self.unit_dim, self.activation, self.backend = view_dim, unit_dim, activation, backend
        self.reduction = reduction
        self.add_state("state", torch.zeros((6, 0), dtype=torch.float64), dist_reduce_fx=merge_packed)

    @property
    def count(self) -> int:
        """Number of points that this process has seen, or all processes while synced."""
        return int(self.state[COUNT, 0]) if self.state.shape[1] else 0

    def update(self, activations: TensorLike, *others: object, ids: IntsLike | None = None) -> None:
        """Adds the points of a batch.

        Args:
            activations: ``[n, ..., U, ...]``, dim 0 holds n >= 1 points; on the device of the metric; float32, float64,
                bfloat16 or float16, any dense layout.
            *others: Nothing: a second positional argument is refused, for it may be the labels of (preds, target).
            ids: ``[n]`` int64 dataset ids below 2^53; default: the points are numbered as they come, on each process.

        Raises:
            TypeError: If ``activations`` is no array or not floating, a dimension is no int, ``ids`` is not int64 or
                not passed by name, or the result dtype differs from the earlier batches'.
            ValueError: If a shape, dimension or option does not fit, an id is too large, or the number of units differs
                from the earlier batches'.
            RuntimeError: If the batch is on another device than the metric, or the named backend cannot run here.
        """
        kinds.by_name(others, "ids", "in a MetricCollection: update(preds=..., target=..., activations=...)")
        x, _ = checks.as_tensor(activations, "activations")
        checks.same_device(x, self.state, "activations", "the metric")
        given = None
        if ids is not None:
            given = checks.ids(ids, len(x) if x.dim() else 0, x.device)
            checks.exact_ids(given)
        elif x.dim() and self.count:
            given = torch.arange(self.count, self.count + len(x), device=x.device)
        unit = check_activations(x, self.view_dim, self.unit_dim, self.activation)
        if len(x) == 0:
            return
        state = selectivity(x, unit_dim=unit, activation=self.activation, ids=given, backend=self.backend)
        packed = pack(state, self.activation, (self.view_dim, self.unit_dim))
        if self.count:
            checks.same_units(_peak(self.state), state.peak)
            packed = merge_packed(torch.stack([self.state, packed]))
        self.state = packed

    @torch.jit.unused
    def forward(self, activations: TensorLike, *others: object, ids: IntsLike | None = None) -> Tensor:
        """Adds the points of a batch, and scores that batch alone; default ids go on counting.

        Args:
            activations: ``[n, ..., U, ...]``, dim 0 holds the points; on the device of the metric.
            *others: Nothing; see ``update``.
            ids: ``[n]`` int64 dataset ids below 2^53; default: the points are numbered as they come, on each process.

        Returns:
            ``[U]``, UnitMem of this batch (their mean with ``reduction="mean"``); over all processes with
            ``dist_sync_on_step``. NaN for a batch of one point, which has nothing to be compared with.

        Raises:
            TypeError: As ``update`` raises it; after any error the metric is as it was.
            ValueError: Likewise.
        """
        before, updates = self.state, self._update_count
        try:
            if ids is None and self.count and not others:
                x, _ = checks.as_tensor(activations, "activations")
                ids = torch.arange(self.count, self.count + x.shape[0], device=x.device)
            self._of_a_batch = True
            score: Tensor = super().forward(activations, *others, ids=ids)
        except BaseException:
            self.state, self._update_count = before, updates
            self._to_sync, self._should_unsync, self._is_synced = self.sync_on_compute, True, False
            self._computed, self._enable_grad = None, False
            raise
        finally:
            self._of_a_batch = False
        return score

    def compute(self) -> Tensor:
        """Computes UnitMem of each unit over all points of all processes.

        Returns:
            ``[U]``, of the dtype of the results; 0-d with ``reduction="mean"``: NaN if no score is defined.

        Raises:
            ValueError: If fewer than 2 points have been seen.
        """
        score = (
            torch.full_like(_peak(self.state), torch.nan)
            if self._of_a_batch and self.count < 2
            else self._stats().score
        )
        return score.double().nanmean().to(score.dtype) if self.reduction == "mean" else score

    def plot(self, val: Tensor | Sequence[Tensor] | None = None, ax: _AX_TYPE | None = None) -> _PLOT_OUT_TYPE:
        """Plots scores, as every metric of torchmetrics does.

        Args:
            val: ``[U]`` or 0-d, what ``compute`` or ``forward`` returned, or a list of such results for a curve over
                steps; default: the scores of now.
            ax: The axes to draw on; default: those of a new figure.

        Returns:
            The figure (``None`` where ``ax`` was given) and its axes.

        Raises:
            ModuleNotFoundError: If matplotlib is not installed.
        """
        return self._plot(val, ax)

    def stats(self) -> UnitStats:
        """Computes the scores and their parts over all points of all processes; every process must call it.

        Returns:
            ``UnitStats(score, peak, rest, index, count, n_dead, n_signed)``; ``index`` holds dataset ids.

        Raises:
            ValueError: If fewer than 2 points have been seen.
        """
        should_sync = self.sync_on_compute and not self._is_synced
        with self.sync_context(dist_sync_fn=self.dist_sync_fn, should_sync=should_sync, should_unsync=should_sync):
            return self._stats()

    def _stats(self) -> UnitStats:
        checks.at_least_two_points(self.count, "UnitMem")
        peak, minimum = _peak(self.state), self.state[MINIMUM].to(_peak(self.state).dtype)
        return unit_stats(SelectivityState(peak, self.state[INDEX].long(), self.state[REST], minimum, self.count))

    def merge_state(self, incoming_state: dict[str, Tensor] | Metric) -> None:
        """Adds the points of another metric, or of its ``metric_state``; any order gives the same peaks.

        Args:
            incoming_state: The other metric, which is left as it was, or its ``metric_state``: ``[6, U]`` float64.

        Raises:
            ValueError: If ``incoming_state`` is neither, or the activation or the number of units differs.
            TypeError: If the result dtypes differ.
        """
        if isinstance(incoming_state, UnitMem):
            checks.same_options(self, incoming_state, ("activation",))
            if not incoming_state.count:
                return
            if not self.count:
                self.state = incoming_state.state.to(self.state.device)
                return
            checks.same_units(_peak(self.state), _peak(incoming_state.state))
        super().merge_state(incoming_state)

    def sync(
        self,
        dist_sync_fn: Callable[..., list[Tensor]] | None = None,
        process_group: torch.distributed.ProcessGroup | None = None,
        should_sync: bool = True,
        distributed_available: Callable[[], bool] | None = None,
    ) -> None:
        """Merges the states of all processes, also where a process saw no batch; ``unsync`` goes back to its own.

        Args:
            dist_sync_fn: Gathers a tensor ``[6, U]`` of every process into a list; None for torchmetrics' own way.
            process_group: The process group, None for the metric's own.
            should_sync: Whether to do it at all.
            distributed_available: Says whether there are several processes; None asks torch.distributed.
        """
        super().sync(dist_sync_fn or _gather, process_group, should_sync, distributed_available)

    def _reduce_states(self, incoming_state: dict[str, Tensor]) -> None:
        """Merges another state into this one, also where one of them has seen no batch and knows no units."""
        mine, other = self.state, incoming_state["state"]
        if mine.shape[1] and other.shape[1]:
            checks.same_units(_peak(other), _peak(mine))
        units = max(mine.shape[1], other.shape[1])
        mine, other = _widened(mine, units), _widened(other, units)
        self.state = merge_packed(torch.stack([other, mine]))

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = "") -> nn.Module:
        def move_only(x: Tensor) -> Tensor:
            moved = fn(x)
            return moved if moved.dtype == x.dtype else x.to(moved.device)

        applied: nn.Module = super()._apply(move_only, exclude_state)
        return applied
