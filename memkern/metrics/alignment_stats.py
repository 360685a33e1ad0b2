"""Alignment of each point with what its pairs of views say about the choice of views."""

from __future__ import annotations

from typing import NamedTuple

from memkern import dispatch
from memkern.checks import values as checks
from memkern.checks.values import Array, TensorLike
from memkern.metrics.options import in_callers_kind
from memkern.ops.alignment import alignment_with_views


class AlignmentStats(NamedTuple):
    """Alignment of each point, and what its pairs of views say about the choice of views.

    Attributes:
        alignment: ``[N]``, the mean distance over all pairs of views.
        rows: ``[N, V]``, the sum of the distances of each view to the other views of its point.
        halves: ``[2, N]``, the mean distance among the even views 0, 2, ... and among the odd views; NaN for a half of
            fewer than two views.
        stderr: ``[N]``, the standard error of the alignment over draws of the views; NaN below 3 views.
    """

    alignment: Array
    rows: Array
    halves: Array
    stderr: Array


def alignment_stats(
    z: TensorLike, *, normalize: bool = True, distance: str = "l2", backend: str = "auto"
) -> AlignmentStats:
    r"""Computes the alignment of each point over all pairs of views, and how far the choice of views moves it.

    .. math::
        a(x) = \frac{1}{V (V - 1) / 2} \sum_{i < j} d_{ij}, \qquad r_v(x) = \sum_{j \ne v} d_{vj}, \qquad
        \mathrm{se}^2(x) = \frac{V - 1}{V} \sum_v (a_{-v}(x) - \bar a_{-}(x))^2

    with :math:`d_{ij}` the l2 distance of two views and :math:`a_{-v}` the alignment without view v, which the row sums
    give: the jackknife of the U-statistic that the alignment of arXiv 2401.12233 and arXiv 2409.19069, Eq. (1), is. The
    halves are two estimates from different views: rank by one, measure with the other. One read of ``z`` gives all;
    ``alignment`` has the bits of ``memkern.alignment(z)``. No gradient flows through the result.

    There is no ``pairs``: the standard error of a mean over pairs with one anchor is another one, and its halves would
    share the anchor.

    Args:
        z: ``[N, V, *dims]`` representations, V >= 2; float32, float64, bfloat16 or float16. A view's dims are taken as
            one flat vector. Any dense layout of a view is read in place; one with gaps is copied.
        normalize: Whether to bring each view to unit length first.
        distance: "l2", "l1"; or of directions "cosine", 1 - cos, or "angular", arccos(cos) / pi; see ``alignment``.
        backend: "auto", "reference", "cpu", "triton" or "cuda"; one that is named but cannot run raises.

    Returns:
        ``AlignmentStats(alignment [N], rows [N, V], halves [2, N], stderr [N])``: float64 for float64 input and float32
        for every other, on the same device; numpy for numpy. A NaN in a view makes the alignment, the rows, the
        standard error and the half of that view NaN, of that point and of no other.

    Raises:
        TypeError: If ``z`` is no array or not floating.
        ValueError: If ``z`` has no views to compare, or an option is unknown.
        RuntimeError: If the named backend cannot run here.

    Example:
        >>> import torch, memkern
        >>> z = torch.tensor([[[0.0], [1.0], [3.0], [7.0]]])  # one point, four views on a line
        >>> stats = memkern.alignment_stats(z, normalize=False)
        >>> stats.rows, stats.halves.T
        (tensor([[11.,  9.,  9., 17.]]), tensor([[3., 6.]]))
    """
    z, was_numpy = checks.as_tensor(z, "z")
    checks.floating(z, "z")
    checks.strided(z, "z")
    checks.views_shape(z, "z")
    checks.distance(distance, normalize, False)
    checks.one_of(backend, "backend", dispatch.NAMES)
    found, sums = alignment_with_views(z, normalize=bool(normalize), distance=distance, backend=backend)
    return in_callers_kind(AlignmentStats(found, *sums), was_numpy)
