"""ClassMem: UnitMem with classes in place of points; how far one class's mean activation stands out of the others."""

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
from memkern.ops.class_sums import class_sums
from memkern.ops.unit_means import unit_means


class ClassStats(NamedTuple):
    """ClassMem and what it is made of.

    Attributes:
        score: ``[U]``, ClassMem; NaN where it is undefined.
        peak: ``[U]``, the largest class mean.
        rest: ``[U]``, the centre (mean or median) of the other classes' means, each class counted once.
        index: ``[U]`` int64, the class with the largest mean, the lowest on ties.
        count: ``[C]`` int64, how many points each class has; classes without a point take no part.
        n_dead: How many units have mean 0 for every class (0-d int64); they score 0.
        n_signed: How many units have a negative mean for some class (0-d int64).
    """

    score: Any
    peak: Any
    rest: Any
    index: Any
    count: Any
    n_dead: Any
    n_signed: Any


def _stats(sums: Tensor, count: Tensor, rest: str, dtype: torch.dtype) -> ClassStats:
    """From class sums [C, U] and counts [C]; a few C x U torch calls, without a host sync."""
    present = (count > 0)[:, None]
    means = sums / count.clamp_min(1)[:, None]
    ranked = means.where(present, -torch.inf)
    peak, index = ranked.amax(0), ranked.argmax(0)  # argmax names the first maximum, and the first NaN
    low = means.where(present, torch.inf).amin(0)
    classes = present.sum()
    if rest == "median":
        ordered = means.where(present, torch.inf).sort(0)[0]
        middle = torch.stack([(classes - 2) // 2, (classes - 1) // 2]).clamp_min(0)
        centre = torch.where(peak.isnan(), torch.nan, ordered[middle].mean(0))
    else:
        others = means.where(present, 0.0).scatter(0, index[None], 0.0)
        centre = others.sum(0) / (classes - 1)
    return ClassStats(
        scores.selectivity_score(peak, centre).to(dtype),
        peak.to(dtype),
        centre.to(dtype),
        index,
        count,
        ((peak == 0) & (low == 0)).sum(),
        (low < 0).sum(),
    )


def classmem_stats(
    activations: Any,
    labels: Any,
    *,
    view_dim: int | None = None,
    unit_dim: int | None = None,
    num_classes: int | None = None,
    rest: str = "mean",
    activation: str = "raw",
    compat: str | None = None,
    backend: str = "auto",
) -> ClassStats:
    """ClassMem with its parts: the largest class mean, the centre of the others, and which class it is.

    Args:
        activations: As for ``classmem``.
        labels: As for ``classmem``.
        view_dim: As for ``classmem``.
        unit_dim: As for ``classmem``.
        num_classes: As for ``classmem``.
        rest: As for ``classmem``.
        activation: As for ``classmem``.
        compat: As for ``classmem``.
        backend: As for ``classmem``.

    Returns:
        ``ClassStats(score, peak, rest, index, count, n_dead, n_signed)``.

    Raises:
        TypeError: As for ``classmem``.
        ValueError: As for ``classmem``.
        RuntimeError: As for ``classmem``.

    Example:
        >>> import torch, memkern
        >>> stats = memkern.classmem_stats(torch.tensor([[1.0], [3.0], [6.0]]), torch.tensor([0, 0, 1]))
        >>> stats.score, stats.index, stats.count
        (tensor([0.5000]), tensor([1]), tensor([2, 1]))
    """
    x, was_numpy = checks.as_tensor(activations, "activations")
    unit = check_activations(x, view_dim, unit_dim, activation)
    checks.one_of(rest, "rest", RESTS)
    checks.one_of(backend, "backend", dispatch.NAMES)
    centre = "median" if compat_scripts(compat) else rest
    labels, classes = checks.labels(labels, x.shape[0], x.device, num_classes)
    count = torch.zeros(classes, dtype=torch.int64, device=x.device).index_add(0, labels, torch.ones_like(labels))
    if checks.readable(count):
        checks.at_least_two_points(int((count > 0).sum()), "labels", "classes with points")
    means = unit_means(x, unit_dim=unit, activation=activation, backend=backend)
    sums = class_sums(means, labels, classes=classes, backend=backend)
    result: ClassStats = in_callers_kind(_stats(sums, count, centre, means.dtype), was_numpy)
    return result


def classmem(
    activations: Any,
    labels: Any,
    *,
    view_dim: int | None = None,
    unit_dim: int | None = None,
    num_classes: int | None = None,
    rest: str = "mean",
    activation: str = "raw",
    compat: str | None = None,
    backend: str = "auto",
) -> Any:
    r"""ClassMem of each unit: does one class activate it much more than the other classes do?

    .. math::
        \mathrm{ClassMem}(u) = \frac{\tilde\mu_{max,u} - \tilde\mu_{-max,u}}{\tilde\mu_{max,u} + \tilde\mu_{-max,u}},
        \quad \tilde\mu_u(C_j) = \frac{1}{|C_j|} \sum_{x \in C_j} \mu_u(x)

    arXiv 2409.19069, Eqs. (13)-(16): UnitMem over class means of un-augmented points, every class counted once.

    Args:
        activations: As for ``unitmem``; the paper takes the clean images, without views.
        labels: ``[N]`` int64 in [0, num_classes), one per point.
        view_dim: As for ``unitmem``.
        unit_dim: As for ``unitmem``.
        num_classes: How many classes; None takes the largest label plus one (on a GPU that waits for the device; under
            ``torch.compile`` it must be given). Classes without a point take no part.
        rest: "mean" of the other classes (Eq. 15), or their "median".
        activation: As for ``unitmem``.
        compat: "scripts" takes the median, as the released script does. That script groups by no label; its running
            mean over images is a defect and is not reproduced.
        backend: As for ``unitmem``.

    Returns:
        ``[U]``, as for ``unitmem``.

    Raises:
        TypeError: As for ``unitmem``, or if ``labels`` is not int64.
        ValueError: As for ``unitmem``, or if labels are out of range or fewer than 2 classes have points.
        RuntimeError: If the named backend cannot run here, or tensors are on different devices.

    Example:
        >>> import torch, memkern
        >>> memkern.classmem(torch.tensor([[1.0], [3.0], [6.0]]), torch.tensor([0, 0, 1]))
        tensor([0.5000])
    """
    return classmem_stats(
        activations,
        labels,
        view_dim=view_dim,
        unit_dim=unit_dim,
        num_classes=num_classes,
        rest=rest,
        activation=activation,
        compat=compat,
        backend=backend,
    ).score


class ClassMem:
    """ClassMem over batches, in memory of classes x units; a batch may miss classes.

    Args:
        view_dim: As for ``classmem``.
        unit_dim: As for ``classmem``.
        num_classes: As for ``classmem``; None grows with the labels seen.
        rest: As for ``classmem``.
        activation: As for ``classmem``.
        backend: As for ``classmem``.

    Raises:
        ValueError: If an option is unknown.

    Example:
        >>> import torch, memkern
        >>> metric = memkern.ClassMem()
        >>> metric.update(torch.tensor([[1.0], [6.0]]), torch.tensor([0, 1]))
        >>> metric.update(torch.tensor([[3.0]]), torch.tensor([0]))
        >>> metric.compute()
        tensor([0.5000])
    """

    def __init__(
        self,
        *,
        view_dim: int | None = None,
        unit_dim: int | None = None,
        num_classes: int | None = None,
        rest: str = "mean",
        activation: str = "raw",
        backend: str = "auto",
    ) -> None:
        checks.one_of(rest, "rest", RESTS)
        checks.one_of(activation, "activation", ACTIVATIONS)
        checks.one_of(backend, "backend", dispatch.NAMES)
        self.view_dim, self.unit_dim, self.num_classes = view_dim, unit_dim, num_classes
        self.rest, self.activation, self.backend = rest, activation, backend
        self.reset()

    def reset(self) -> None:
        """Forgets every point."""
        self._sums: Tensor | None = None  # [C, U] float64
        self._count: Tensor | None = None  # [C] int64
        self._dtype = torch.float32

    def update(self, batch: Any, labels: Any) -> None:
        """Adds the points of a batch.

        Args:
            batch: Activations as for ``classmem``.
            labels: ``[n]`` int64 class labels.

        Raises:
            TypeError: As for ``classmem``, or if the result dtype differs from the earlier batches'.
            ValueError: As for ``classmem``, or if the number of units differs from the earlier batches'.
        """
        x, _ = checks.as_tensor(batch, "batch")
        unit = check_activations(x, self.view_dim, self.unit_dim, self.activation)
        labels, classes = checks.labels(labels, x.shape[0], x.device, self.num_classes)
        if x.shape[0] == 0:
            return
        means = unit_means(x, unit_dim=unit, activation=self.activation, backend=self.backend)
        sums = class_sums(means, labels, classes=classes, backend=self.backend)
        count = torch.zeros(classes, dtype=torch.int64, device=x.device).index_add(0, labels, torch.ones_like(labels))
        self._add(sums, count, means.dtype)

    def _add(self, sums: Tensor, count: Tensor, dtype: torch.dtype) -> None:
        if self._sums is None or self._count is None:
            self._sums, self._count, self._dtype = sums, count, dtype
            return
        checks.same_units(self._sums[0].to(self._dtype), sums[0].to(dtype))
        classes = max(len(self._sums), len(sums))
        self._sums = _padded(self._sums, classes) + _padded(sums, classes)
        self._count = _padded(self._count, classes) + _padded(count, classes)

    def stats(self) -> ClassStats:
        """The scores and their parts over all points so far.

        Returns:
            ``ClassStats(score, peak, rest, index, count, n_dead, n_signed)``.

        Raises:
            ValueError: If fewer than 2 classes have points.
        """
        seen = 0 if self._count is None else int((self._count > 0).sum())
        checks.at_least_two_points(seen, "ClassMem", "classes with points")
        assert self._sums is not None
        assert self._count is not None
        return _stats(self._sums, self._count, self.rest, self._dtype)

    def compute(self) -> Tensor:
        """ClassMem of each unit over all points so far: ``[U]``; raises as ``stats`` does."""
        score: Tensor = self.stats().score
        return score

    def merge(self, other: ClassMem) -> None:
        """Adds the points of another metric with the same options; ``other`` is left as it was.

        Raises:
            TypeError: If ``other`` is no ClassMem, or the result dtypes differ.
            ValueError: If the options or the number of units differ.
        """
        checks.same_options(self, other, ("rest", "activation", "num_classes"))
        if other._sums is not None and other._count is not None:
            self._add(other._sums, other._count, other._dtype)

    def state_dict(self) -> dict[str, Tensor]:
        """The state as tensors; empty before the first point."""
        if self._sums is None or self._count is None:
            return {}
        return {"sums": self._sums, "count": self._count, "wide": torch.empty(0, dtype=self._dtype, device="cpu")}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Replaces the state by one from ``state_dict``; raises ValueError if an entry is missing or unknown."""
        checks.state_entries(state, {"sums", "count", "wide"})
        self.reset()
        if state:
            self._sums, self._count, self._dtype = state["sums"], state["count"], state["wide"].dtype

    def to(self, device: torch.device | str) -> ClassMem:
        """Moves the state to a device and returns the metric."""
        self.load_state_dict({key: value.to(device) for key, value in self.state_dict().items()})
        return self

    def sync(self, group: Any = None) -> None:
        """Merges the states of all processes of a torch.distributed group, as ``UnitMem.sync`` does."""
        device = self._sums.device if self._sums is not None else torch.device("cpu")
        merged = ClassMem(rest=self.rest, activation=self.activation, num_classes=self.num_classes)
        for state in gather_states(self.state_dict(), group):
            part = ClassMem(rest=self.rest, activation=self.activation, num_classes=self.num_classes)
            part.load_state_dict(state)
            merged.merge(part)
        self.load_state_dict(merged.to(device).state_dict())


def _padded(value: Tensor, classes: int) -> Tensor:
    """Zeros for classes that this state has not seen."""
    missing = value.new_zeros((classes - len(value), *value.shape[1:]))
    return torch.cat([value, missing]) if len(missing) else value
