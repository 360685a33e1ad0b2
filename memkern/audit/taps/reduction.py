"""Reductions of a layer's output to what an audit keeps, and the calls that are prepared for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor

from memkern.checks.values import all_pairs, distance
from memkern.errors import ArgumentValueError
from memkern.metrics.alignment_stats import alignment_stats
from memkern.ops.alignment import alignment, repeat_alignment
from memkern.ops.layer_stats import layer_stats, repeat_layer_stats
from memkern.ops.pointwise_stats import PreparedPointwiseStats
from memkern.ops.unit_means import unit_means


class TapStats(NamedTuple):
    """Statistics of one layer.

    Attributes:
        alignment: Mean l2 distance between the unit-length views of each point, `[N]`; `None` without views.
        unit_means: Mean activation of each unit, over views and space, `[N, U]`; `None` if they were not asked for.
        clean_means: Mean activation of each unit on the clean image, `[N, U]`; `None` without `clean_first`.
        halves: Mean distance among the even and among the odd of the compared views, `[2, N]`, NaN for a half of fewer
            than two; `None` unless asked for.
        rows: Sum of the distances of each compared view to the others, `[N, V]`; `None` unless asked for.
    """

    alignment: Tensor | None
    unit_means: Tensor | None = None
    clean_means: Tensor | None = None
    halves: Tensor | None = None
    rows: Tensor | None = None


class PreparedCall(Protocol):
    """A reduction whose arguments are worked out, for outputs that lie in memory as a known one does."""

    def make_ready(self) -> None:
        """Makes the results of the next call."""

    def __call__(self, x: Tensor) -> tuple[Tensor, ...]:
        """Returns the alignment and, if wanted, unit means, then `native.ViewSums` of an output `[N * V, …]`."""


@dataclass(frozen=True)
class Reduction:
    """Reduction of outputs `[N * V, …]` to statistics of points and units.

    Attributes:
        n_views: Number of views V of each point; `None`: one row per point and no alignment.
        pairs: "all" pairs of views, or "anchor" for view 0 against each other view.
        normalize: Whether to bring each flattened view to unit length before the distance.
        clean_first: Whether view 0 is the clean image.
        means: Whether unit means are wanted.
        view_sums: Whether `halves` and `rows` are wanted.
        distance: "l2", "l1", or of directions "cosine" or "angular".

    Raises:
        ArgumentValueError: If `n_views` is below 2, or below 3 where the clean image is compared with no view; if
            `view_sums` are wanted and not all pairs are compared.
    """

    n_views: int | None
    pairs: str = "all"
    normalize: bool = True
    clean_first: bool = False
    means: bool = True
    view_sums: bool = False
    distance: str = "l2"

    def __post_init__(self) -> None:
        all_pairs(self.pairs, self.view_sums)
        distance(self.distance, self.normalize, False)
        least = 3 if self.clean_first and self.pairs == "all" else 2
        if self.n_views is not None and self.n_views < least:
            raise ArgumentValueError(f"Expected `n_views` to be None or {least} or more, got {self.n_views}")

    def reduce(self, label: str, output: Tensor, unit_dim: int) -> TapStats:
        """Reduces an output, with everything checked.

        Args:
            label: Name of the layer, for errors.
            output: `[N * V, …]`, any float dtype and device.
            unit_dim: The dimension of the units.

        Returns:
            The statistics, on the output's device.

        Raises:
            ArgumentValueError: If the rows are no whole number of points.
        """
        if self.n_views is None:
            return TapStats(None, unit_means(output, unit_dim=unit_dim))
        if len(output) % self.n_views:
            raise ArgumentValueError(
                f"Expected layer {label!r} to see {self.n_views} views of every point, got {len(output)} rows"
            )
        x = output.unflatten(0, (-1, self.n_views))  # [N, V, *dims]
        drawn = x[:, 1:] if self.clean_first else x
        compared = drawn if self.pairs == "all" else x
        if not self.means and not self.view_sums:
            return TapStats(alignment(compared, pairs=self.pairs, normalize=self.normalize, distance=self.distance))
        if not self.means:
            aligned = alignment_stats(compared, normalize=self.normalize, distance=self.distance)
            return TapStats(aligned.alignment, None, None, aligned.halves, aligned.rows)
        stats = self.named(
            layer_stats(
                compared,
                unit_dim=unit_dim + 1,
                pairs=self.pairs,
                normalize=self.normalize,
                distance=self.distance,
                view_sums=self.view_sums,
            )
        )
        if not self.clean_first:
            return stats
        if compared is not drawn:
            stats = stats._replace(unit_means=unit_means(drawn, view_dim=1, unit_dim=unit_dim + 1))
        return stats._replace(clean_means=unit_means(x[:, 0], unit_dim=unit_dim))

    def named(self, results: Sequence[Tensor | None]) -> TapStats:
        """Names results: alignment `[N]`, unit means `[N, U]` if wanted, then `native.ViewSums` if wanted."""
        rows, halves, _ = results[-3:] if self.view_sums else (None, None, None)
        return TapStats(results[0], results[1] if self.means else None, None, halves, rows)

    def prepared(self, output: Tensor, unit_dim: int) -> PreparedCall | None:
        """Prepares `reduce` for outputs in memory like `output`, `[N * V, …]`; `None` where only `reduce` will do."""
        if self.n_views is None or self.clean_first:
            return None
        x = output.unflatten(0, (-1, self.n_views))
        if not self.means:
            return repeat_alignment(
                x, pairs=self.pairs, normalize=self.normalize, view_sums=self.view_sums, distance=self.distance
            )
        return repeat_layer_stats(
            x, unit_dim=unit_dim + 1, pairs=self.pairs, normalize=self.normalize, view_sums=self.view_sums,
            distance=self.distance,
        )  # fmt: skip

    def prepared_with_layers(self, x: Tensor, unit_dim: int, layers: int) -> PreparedPointwiseStats | None:
        """Prepares running layers on inputs in memory like `x`, `[N * V, …]`; `None` where torch runs the layers."""
        if self.n_views is None or self.clean_first or len(x) % self.n_views or unit_dim >= x.ndim:
            return None
        split = x.unflatten(0, (-1, self.n_views))
        if not PreparedPointwiseStats.is_possible(split, unit_dim + 1):
            return None
        return PreparedPointwiseStats(
            split, unit_dim=unit_dim + 1, pairs=self.pairs, normalize=self.normalize, means=self.means, layers=layers,
            view_sums=self.view_sums, distance=self.distance,
        )  # fmt: skip
