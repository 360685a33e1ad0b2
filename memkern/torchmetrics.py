"""UnitMem as a torchmetrics metric (extra ``memkern[metrics]``); ``memkern.UnitMem`` is the one that needs no extra."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from memkern import dispatch, scores
from memkern.checks import values as checks
from memkern.checks.values import IntsLike, TensorLike
from memkern.metrics.options import ACTIVATIONS, check_activations
from memkern.metrics.units import UnitStats, unit_stats
from memkern.ops.selectivity import SelectivityState, selectivity

try:
    from torchmetrics import Metric
    from torchmetrics.utilities.distributed import gather_all_tensors
except ModuleNotFoundError as error:
    raise checks.no_extra("memkern.torchmetrics", "torchmetrics", "metrics") from error

__all__ = ["UnitMem"]

# Rows of the packed state. `KIND` holds twice the number of the activation, plus 1 after float64 input: metrics of a
# MetricCollection that differ in the activation then never look alike, and the result dtype survives every merge.
PEAK, INDEX, REST, MINIMUM, COUNT, KIND = range(6)


def pack(state: SelectivityState, activation: str) -> Tensor:
    """Packs a state into one ``[6, U]`` float64 tensor; ids below 2^53 and every peak are exact in it."""
    kind = 2 * ACTIVATIONS.index(activation) + (state.peak.dtype == torch.float64)
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


def _gather(state: Tensor, group: torch.distributed.ProcessGroup | None = None) -> list[Tensor]:
    """Every process's state; a process that saw no batch does not know the number of units and gets an empty state."""
    states: list[Tensor] = gather_all_tensors(state, group)
    units = max(part.shape[1] for part in states)
    return [part if part.shape[1] else part.new_zeros((len(part), units)) for part in states]


class UnitMem(Metric):
    """UnitMem over batches and processes, for training loops that speak torchmetrics.

    The whole state is one float64 tensor of 6 numbers per unit, whatever the number of points, so that one collective
    syncs it. It stays float64 under ``.half()`` and ``.to(dtype)``, which would round the ids.

    Args:
        view_dim: The dimension of the views, None if there are none. **``[n, V, U, ...]`` needs ``view_dim=1``.**
        unit_dim: The dimension of the units; default: the first one after points and views. Tokens: -1. Every other
            dimension is space and is averaged.
        activation: "raw", or "relu" or "abs" applied to each element first.
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

    state: Tensor

    def __init__(
        self,
        *,
        view_dim: int | None = None,
        unit_dim: int | None = None,
        activation: str = "raw",
        backend: str = "auto",
        **kwargs: object,
    ) -> None:
        super().__init__(**kwargs)
        checks.one_of(activation, "activation", ACTIVATIONS)
        checks.one_of(backend, "backend", dispatch.NAMES)
        self.view_dim, self.unit_dim, self.activation, self.backend = view_dim, unit_dim, activation, backend
        self.add_state("state", torch.zeros((6, 0), dtype=torch.float64), dist_reduce_fx=merge_packed)

    @property
    def count(self) -> int:
        """Number of points that this process has seen, or all processes while synced."""
        return int(self.state[COUNT, 0]) if self.state.shape[1] else 0

    def update(self, activations: TensorLike, ids: IntsLike | None = None) -> None:
        """Adds the points of a batch.

        Args:
            activations: ``[n, ..., U, ...]``, dim 0 holds n >= 1 points; on the device of the metric; float32, float64,
                bfloat16 or float16, any dense layout.
            ids: ``[n]`` int64 dataset ids below 2^53; default: the points are numbered as they come, on each process.

        Raises:
            TypeError: If ``activations`` is no array or not floating, a dimension is no int, ``ids`` is not int64, or
                the result dtype differs from the earlier batches'.
            ValueError: If a shape, dimension or option does not fit, an id is too large, or the number of units differs
                from the earlier batches'.
            RuntimeError: If the batch is on another device than the metric, or the named backend cannot run here.
        """
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
        packed = pack(state, self.activation)
        if self.count:
            checks.same_units(self._peak(), state.peak)
            packed = merge_packed(torch.stack([self.state, packed]))
        self.state = packed

    def _peak(self) -> Tensor:
        return self.state[PEAK].to(torch.float64 if int(self.state[KIND, 0]) % 2 else torch.float32)

    def forward(self, activations: TensorLike, ids: IntsLike | None = None) -> Tensor:
        """Adds the points of a batch, and scores that batch alone; default ids go on counting.

        Args:
            activations: ``[n, ..., U, ...]``, dim 0 holds n >= 2 points; on the device of the metric.
            ids: ``[n]`` int64 dataset ids below 2^53; default: the points are numbered as they come, on each process.

        Returns:
            ``[U]``, UnitMem of this batch; over all processes with ``dist_sync_on_step``.
        """
        x, _ = checks.as_tensor(activations, "activations")
        unit = check_activations(x, self.view_dim, self.unit_dim, self.activation)
        # The base class empties the state, calls `update`, and merges what was there: both must have one shape.
        if self.count and ids is None:
            ids = torch.arange(self.count, self.count + len(x), device=x.device)
        elif not self.count:
            self.state = self.state.new_zeros((len(self.state), x.shape[unit]))
        score: Tensor = super().forward(x, ids)
        return score

    def compute(self) -> Tensor:
        """Computes UnitMem of each unit over all points of all processes.

        Returns:
            ``[U]``, of the dtype of the results.

        Raises:
            ValueError: If fewer than 2 points have been seen.
        """
        score: Tensor = self._stats().score
        return score

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
        peak, minimum = self._peak(), self.state[MINIMUM].to(self._peak().dtype)
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
            checks.same_units(self._peak(), incoming_state._peak())
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

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = "") -> nn.Module:
        def move_only(x: Tensor) -> Tensor:
            moved = fn(x)
            return moved if moved.dtype == x.dtype else x.to(moved.device)

        applied: nn.Module = super()._apply(move_only, exclude_state)
        return applied
