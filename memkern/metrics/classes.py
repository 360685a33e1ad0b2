"""ClassMem: UnitMem with classes in place of points; how far one class's mean activation stands out of the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from memkern import dispatch, scores
from memkern.checks import values as checks
from memkern.checks.values import Array, IntsLike, TensorLike
from memkern.metrics.base import Streaming
from memkern.metrics.options import RESTS, check_activations, check_options, compat_scripts, in_callers_kind
from memkern.ops.class_sums import class_sums
from memkern.ops.median_of_others import median_of_others
from memkern.ops.selectivity import selectivity
from memkern.ops.unit_means import read_unit_means


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

    score: Array
    peak: Array
    rest: Array
    index: Array
    count: Array
    n_dead: Array
    n_signed: Array


@dataclass(frozen=True)
class ClassState:
    """State of ClassMem after some points.

    Attributes:
        sums: ``[C, U]`` float64, the sum over each class's points of their unit means.
        count: ``[C]`` int64, how many points each class has.
        dtype: Of the results: float64 after float64 activations, else float32.
    """

    sums: Tensor
    count: Tensor
    dtype: torch.dtype

    def merged(self, other: ClassState) -> ClassState:
        """Returns the state after the points of both; raises if they are not of the same units."""
        checks.same_units(self.sums[0].to(self.dtype), other.sums[0].to(other.dtype))
        classes = max(len(self.sums), len(other.sums))
        sums = _padded(self.sums, classes) + _padded(other.sums, classes)
        return ClassState(sums, _padded(self.count, classes) + _padded(other.count, classes), self.dtype)

    def units(self, part: slice) -> ClassState:
        """Returns the state of some of the units: of one layer, where the units of several stand side by side."""
        return ClassState(self.sums[:, part], self.count, self.dtype)

    def tensors(self) -> dict[str, Tensor]:
        """Lists ``sums`` ``[C, U]``, ``count`` ``[C]``, and ``wide``, an empty tensor of the results' dtype."""
        return {"sums": self.sums, "count": self.count, "wide": torch.empty(0, dtype=self.dtype, device="cpu")}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> ClassState:
        """Makes the state whose ``tensors`` gave ``sums`` ``[C, U]``, ``count`` ``[C]`` and ``wide``."""
        return cls(tensors["sums"], tensors["count"], tensors["wide"].dtype)


def _padded(value: Tensor, classes: int) -> Tensor:
    """Appends zeros for classes that a state has not seen."""
    missing = value.new_zeros((classes - len(value), *value.shape[1:]))
    return torch.cat([value, missing]) if len(missing) else value


def _state(x: Tensor, unit: int, labels: Tensor, count: Tensor, activation: str, backend: str) -> ClassState:
    """The state of a batch whose arguments are checked."""
    means = read_unit_means(x, unit, activation, backend)
    return ClassState(class_sums(means, labels, classes=len(count), backend=backend), count, means.dtype)


def _points_of(labels: Tensor, classes: int) -> Tensor:
    """Counts the points of each class, ``[classes]`` int64."""
    return torch.zeros(classes, dtype=torch.int64, device=labels.device).index_add(0, labels, torch.ones_like(labels))


def class_stats(state: ClassState, rest: str = "mean", backend: str = "auto") -> ClassStats:
    """Computes ClassMem and its parts from the sums of each class, without a host sync on a GPU.

    Args:
        state: With points of two or more classes.
        rest: "mean" of the other classes' means, or their "median".
        backend: As of ``classmem``.

    Returns:
        ``ClassStats(score, peak, rest, index, count, n_dead, n_signed)`` of tensors.
    """
    peak, index, minimum, centre = _extremes(state, rest, backend)
    return ClassStats(
        scores.selectivity_score(peak, centre).to(state.dtype),
        peak.to(state.dtype),
        centre.to(state.dtype),
        index,
        state.count,
        scores.dead_units(peak, minimum).sum(),
        scores.signed_units(minimum).sum(),
    )


def _extremes(state: ClassState, rest: str, backend: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Computes peak, index, minimum and centre ``[U]``."""
    if checks.readable(state.count):
        # It is on the CPU, or has come there from the GPU whose backend was named.
        return _by_kernels(state, rest, backend if backend == "reference" else "auto")
    return _without_sync(state, rest)


def _by_kernels(state: ClassState, rest: str, backend: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Computes them by UnitMem's kernels, whose points are the classes that have points."""
    present = state.count.nonzero().flatten()
    if len(present) == len(state.count):
        means, ids = state.sums / state.count[:, None], None
    else:
        means, ids = state.sums[present] / state.count[present, None], present
    found = selectivity(means, ids=ids, backend=backend)
    centre = (
        median_of_others(means, backend=backend) if rest == "median" else scores.mean_of_others(found.rest, len(means))
    )
    return found.peak, found.index, found.minimum, centre


def _without_sync(state: ClassState, rest: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Computes them where asking which classes have points would wait for a GPU, or cannot be traced."""
    present = (state.count > 0)[:, None]
    means = state.sums / state.count.clamp_min(1)[:, None]
    ranked = means.where(present, -torch.inf)
    peak, index = ranked.amax(0), ranked.argmax(0)  # argmax names the first maximum, and the first NaN
    minimum = means.where(present, torch.inf).amin(0)
    classes = present.sum()
    if rest == "median":
        ordered = means.where(present, torch.inf).sort(0)[0]
        middle = torch.stack([(classes - 2) // 2, (classes - 1) // 2]).clamp_min(0)
        return peak, index, minimum, torch.where(peak.isnan(), torch.nan, ordered[middle].mean(0))
    others = means.where(present, 0.0).scatter(0, index[None], 0.0)
    return peak, index, minimum, scores.mean_of_others(others.sum(0), classes)


def classmem_stats(
    activations: TensorLike,
    labels: IntsLike,
    *,
    view_dim: int | None = None,
    unit_dim: int | None = None,
    num_classes: int | None = None,
    rest: str = "mean",
    activation: str = "raw",
    compat: str | None = None,
    backend: str = "auto",
) -> ClassStats:
    """Computes ClassMem with its parts: the largest class mean, the centre of the others, and which class it is.

    arXiv 2409.19069, Eqs. (13)-(16); ``classmem`` returns the score alone.

    Args:
        activations: ``[N, ..., U, ...]``, dim 0 holds the points, of two or more classes; float32, float64, bfloat16 or
            float16, any dense layout, read once. The paper takes the clean images, without views.
        labels: ``[N]`` int64 in [0, num_classes), one per point.
        view_dim: The dimension of the views, None if there are none. **``[N, V, U, ...]`` needs ``view_dim=1``.**
        unit_dim: The dimension of the units; default: the first one after points and views. Tokens: -1. Every other
            dimension is space and is averaged.
        num_classes: How many classes; None takes the largest label plus one (on a GPU that waits for the device; under
            ``torch.compile`` it must be given). Classes without a point take no part.
        rest: "mean" of the other classes, or their "median".
        activation: "raw", or "relu" or "abs" applied to each element first.
        compat: "scripts" takes the median, as the released script does.
        backend: "auto", "reference", "cpu", "triton" or "cuda"; one that is named but cannot run raises.

    Returns:
        ``ClassStats(score, peak, rest, index, count, n_dead, n_signed)``, of tensors on the device of the activations,
        or of numpy arrays for numpy.

    Raises:
        TypeError: If ``activations`` is no array or not floating, a dimension is no int, or ``labels`` is not int64.
        ValueError: If a shape, dimension or option does not fit, labels are out of range, or fewer than 2 classes have
            points.
        RuntimeError: If the named backend cannot run here.

    Example:
        >>> import torch, memkern
        >>> stats = memkern.classmem_stats(torch.tensor([[1.0], [3.0], [6.0]]), torch.tensor([0, 0, 1]))
        >>> stats.score, stats.index, stats.count
        (tensor([0.5000]), tensor([1]), tensor([2, 1]))
    """
    centre = _centre(rest, compat)
    state, was_numpy = _one_call(activations, labels, view_dim, unit_dim, num_classes, activation, backend)
    return in_callers_kind(class_stats(state, centre, backend), was_numpy)


def _centre(rest: str, compat: str | None) -> str:
    """Checks which centre of the other classes is asked for."""
    checks.one_of(rest, "rest", RESTS)
    return "median" if compat_scripts(compat) else rest


def _one_call(
    activations: TensorLike, labels: IntsLike, view_dim: int | None, unit_dim: int | None, num_classes: int | None,
    activation: str, backend: str,
) -> tuple[ClassState, bool]:  # fmt: skip
    """Checks the arguments of a call; the state of its points, and whether numpy came."""
    x, was_numpy = checks.as_tensor(activations, "activations")
    unit = check_activations(x, view_dim, unit_dim, activation)
    checks.one_of(backend, "backend", dispatch.NAMES)
    of_points, classes = checks.labels(labels, x.shape[0], x.device, num_classes)
    count = _points_of(of_points, classes)
    if checks.readable(count):
        checks.at_least_two_points(int(count.count_nonzero()), "labels", "classes with points")
    return _state(x, unit, of_points, count, activation, backend), was_numpy


def classmem(
    activations: TensorLike,
    labels: IntsLike,
    *,
    view_dim: int | None = None,
    unit_dim: int | None = None,
    num_classes: int | None = None,
    rest: str = "mean",
    activation: str = "raw",
    compat: str | None = None,
    backend: str = "auto",
) -> Array:
    r"""ClassMem of each unit: does one class activate it much more than the other classes do?

    .. math::
        \mathrm{ClassMem}(u) = \frac{\tilde\mu_{max,u} - \tilde\mu_{-max,u}}{\tilde\mu_{max,u} + \tilde\mu_{-max,u}},
        \quad \tilde\mu_u(C_j) = \frac{1}{|C_j|} \sum_{x \in C_j} \mu_u(x)

    arXiv 2409.19069, Eqs. (13)-(16): UnitMem over class means of un-augmented points, every class counted once.

    Args:
        activations: ``[N, ..., U, ...]``, dim 0 holds the points, of two or more classes; float32, float64, bfloat16 or
            float16, any dense layout, read once. The paper takes the clean images, without views.
        labels: ``[N]`` int64 in [0, num_classes), one per point.
        view_dim: The dimension of the views, None if there are none. **``[N, V, U, ...]`` needs ``view_dim=1``.**
        unit_dim: The dimension of the units; default: the first one after points and views. Tokens: -1. Every other
            dimension is space and is averaged.
        num_classes: How many classes; None takes the largest label plus one (on a GPU that waits for the device; under
            ``torch.compile`` it must be given). Classes without a point take no part.
        rest: "mean" of the other classes (Eq. 15), or their "median".
        activation: "raw", or "relu" or "abs" applied to each element first; raw signed ones can score outside [0, 1].
        compat: "scripts" takes the median, as the released script does. That script groups by no label; its running
            mean over images is a defect and is not reproduced.
        backend: "auto", "reference", "cpu", "triton" or "cuda"; one that is named but cannot run raises.

    Returns:
        ``[U]``, float64 for float64 input and float32 for every other, on the same device; numpy for numpy. A dead unit
        scores 0; a NaN activation, or a zero denominator with signed activations, NaN. Ties take the first class.

    Raises:
        TypeError: If ``activations`` is no array or not floating, a dimension is no int, or ``labels`` is not int64.
        ValueError: If a shape, dimension, option or label does not fit, or fewer than 2 classes have points.
        RuntimeError: If the named backend cannot run here.

    Example:
        >>> import torch, memkern
        >>> memkern.classmem(torch.tensor([[1.0], [3.0], [6.0]]), torch.tensor([0, 0, 1]))
        tensor([0.5000])
    """
    centre = _centre(rest, compat)
    state, was_numpy = _one_call(activations, labels, view_dim, unit_dim, num_classes, activation, backend)
    peak, _, _, others = _extremes(state, centre, backend)
    score = scores.selectivity_score(peak, others).to(state.dtype)
    return checks.as_numpy(score) if was_numpy else score


class ClassMem(Streaming[ClassState]):
    """ClassMem over batches, in memory of classes x units; a batch may miss classes.

    Args:
        view_dim: The dimension of the views, None if there are none. **``[n, V, U, ...]`` needs ``view_dim=1``.**
        unit_dim: The dimension of the units; default: the first one after points and views. Tokens: -1. Every other
            dimension is space and is averaged.
        num_classes: How many classes; None grows with the labels seen (on a GPU each batch then waits for the device).
            Classes without a point take no part.
        rest: "mean" of the other classes' means, or their "median".
        activation: "raw", or "relu" or "abs" applied to each element first.
        backend: "auto", "reference", "cpu", "triton" or "cuda"; one that is named but cannot run raises.

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

    _OPTIONS = ("rest", "activation", "num_classes")
    _STATE = ClassState

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
        check_options(rest, activation, backend)
        self.view_dim, self.unit_dim, self.num_classes = view_dim, unit_dim, num_classes
        self.rest, self.activation, self.backend = rest, activation, backend

    def _entries(self) -> set[str]:
        return {"sums", "count", "wide"}

    def update(self, batch: TensorLike, labels: IntsLike) -> None:
        """Adds the points of a batch.

        Args:
            batch: ``[n, ..., U, ...]`` activations, dim 0 holds the points; float32, float64, bfloat16 or float16, any
                dense layout, read once.
            labels: ``[n]`` int64 class labels.

        Raises:
            TypeError: If ``batch`` is no array or not floating, a dimension is no int, ``labels`` is not int64, or the
                result dtype differs from the earlier batches'.
            ValueError: If a shape, dimension or option does not fit, labels are out of range, or the number of units
                differs from the earlier batches'.
            RuntimeError: If the batch is on another device than the state, or the named backend cannot run here.
        """
        x, _ = checks.as_tensor(batch, "batch")
        unit = check_activations(x, self.view_dim, self.unit_dim, self.activation)
        of_points, classes = checks.labels(labels, x.shape[0], x.device, self.num_classes)
        if x.shape[0] > 0:
            count = _points_of(of_points, classes)
            self._add(_state(x, unit, of_points, count, self.activation, self.backend))

    def stats(self) -> ClassStats:
        """Computes the scores and their parts over all points so far.

        Returns:
            ``ClassStats(score, peak, rest, index, count, n_dead, n_signed)``.

        Raises:
            ValueError: If fewer than 2 classes have points.
        """
        seen = 0 if self._state is None else int((self._state.count > 0).sum())
        checks.at_least_two_points(seen, "ClassMem", "classes with points")
        assert self._state is not None
        return class_stats(self._state, self.rest, self.backend)
