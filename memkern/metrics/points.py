"""SSLMem and LayerMem: how much better the encoder that saw a point aligns its views than one that did not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from memkern import dispatch, scores
from memkern.checks import values as checks
from memkern.checks.values import Array, IntsLike, TensorLike
from memkern.metrics.base import Streaming
from memkern.metrics.options import compat_scripts, in_callers_kind
from memkern.metrics.plots import histogram
from memkern.ops.alignment import alignment

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCALES = ("none", "ratio", "range")
PAIRS = ("all", "anchor")


def _checked(z_f: TensorLike, z_g: TensorLike, pairs: str, backend: str) -> tuple[Tensor, Tensor, bool]:
    """Checks both stacks before any work; returns them as tensors, and whether the caller passed numpy."""
    f, was_numpy = checks.as_tensor(z_f, "z_f")
    g, _ = checks.as_tensor(z_g, "z_g")
    _check_stacks({"z_f": f, "z_g": g}, pairs, backend)
    return f, g, was_numpy


def _check_stacks(stacks: Mapping[str, Tensor], pairs: str, backend: str) -> None:
    """Checks stacks of views of the same points, by name, and the options."""
    for name, z in stacks.items():
        checks.floating(z, name)
        checks.strided(z, name)
        checks.views_shape(z, name)
    first = next(iter(stacks))
    for name, z in stacks.items():
        if name != first:
            checks.same_views(stacks[first], z, first, name)
    checks.one_of(pairs, "pairs", PAIRS)
    checks.one_of(backend, "backend", dispatch.NAMES)


def _alignments(f: Tensor, g: Tensor, pairs: str, normalize: bool, backend: str) -> tuple[Tensor, Tensor]:
    a_f, a_g = (alignment(z, pairs=pairs, normalize=normalize, backend=backend) for z in (f, g))
    return a_f, a_g


def _expected_alignment(
    trainings: Iterable[Tensor], pairs: str, normalize: bool, distance: str, backend: str
) -> Tensor:
    """Computes the mean alignment over the trainings of an encoder; of one training its own bits."""
    found = [alignment(z, pairs=pairs, normalize=normalize, distance=distance, backend=backend) for z in trainings]
    mean: Tensor = found[0] if len(found) == 1 else torch.stack(found).double().mean(0).to(found[0].dtype)
    return mean


def sslmem(
    z_f: TensorLike | Sequence[TensorLike],
    z_g: TensorLike | Sequence[TensorLike],
    *,
    scale: str = "none",
    pairs: str = "all",
    normalize: bool = True,
    distance: str = "l2",
    compat: str | None = None,
    backend: str = "auto",
) -> Array:
    r"""SSLMem of each point: the expected alignment under g minus the expected alignment under f.

    .. math:: m(x) = A_g(x) - A_f(x), \qquad A_h(x) = \frac{1}{K} \sum_{k=1}^{K} a_{h_k}(x)

    arXiv 2401.12233 and arXiv 2409.19069, Eq. (1): f was trained with the point, g without it, and the expectation over
    trainings is inside, before the difference and before the ratio: never the mean of the scores of pairs. With one
    training of each it is the score of a pair, most of whose spread from point to point comes from the trainings.

    Args:
        z_f: ``[N, V, *dims]`` representations by f of V >= 2 views of each point; float32, float64, bfloat16 or
            float16. A list or tuple of such stacks: one for each of K trainings, whose dims may differ.
        z_g: ``[N, V, *dims]`` representations by g of **the same views**, or a list or tuple of such; dims, and the
            number of trainings, may differ from those of ``z_f``.
        scale: "none": the difference. "ratio": ``(A_g - A_f) / (A_g + A_f)``, arXiv 2409.19069, Eq. (2). "range": the
            difference over its range in this set of points, as the released scripts scale it.
        pairs: "all" pairs of views, or "anchor": view 0 against each other view.
        normalize: Whether to divide each view by its norm first.
        distance: "l2", "l1"; or of directions "cosine", 1 - cos, or "angular", arccos(cos) / pi; see ``alignment``.
        compat: "scripts" follows the released scripts: it sets ``pairs="anchor"``, ``scale="range"``,
            ``normalize=True`` and ``distance="l2"``.
        backend: "auto", "reference", "cpu", "triton" or "cuda"; one that is named but cannot run raises.

    Returns:
        ``[N]``, positive for memorized points; negative values are kept. float64 for float64 input and float32 for
        every other, on the same device; numpy for numpy.

    Raises:
        TypeError: If an argument is no array or not floating, or the dtypes differ.
        ValueError: If a shape or option does not fit, a list is empty, or two hold different points or views.
        RuntimeError: If they are on different devices, or the named backend cannot run here.

    Example:
        >>> import torch, memkern
        >>> seen = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])  # f maps both views to one place
        >>> unseen = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
        >>> memkern.sslmem(seen, unseen)
        tensor([1.4142])
        >>> memkern.sslmem([seen, unseen], [unseen, unseen, unseen])  # two trainings of f, three of g
        tensor([0.7071])
    """
    if compat_scripts(compat):
        scale, pairs, normalize, distance = "range", "anchor", True, "l2"
    checks.one_of(scale, "scale", SCALES)
    f, was_numpy = checks.as_tensors(z_f, "z_f")
    g, _ = checks.as_tensors(z_g, "z_g")
    _check_stacks({**f, **g}, pairs, backend)
    checks.distance(distance, normalize)
    a_f, a_g = (_expected_alignment(each.values(), pairs, normalize, distance, backend) for each in (f, g))
    return in_callers_kind(scores.sslmem_score(a_f, a_g, scale), was_numpy)


def removal_score(alignment_f: TensorLike, alignment_g: TensorLike) -> Array:
    r"""Scores points for removal from the training data as the released scripts do: the highest go first.

    .. math:: r_i = \frac{b_i - c_i}{\max_j (b_j - c_j)}, \qquad b_i = \frac{A_g(x_i)}{\max_j A_g(x_j)}, \quad
        c_i = \frac{A_f(x_i)}{\max_j A_f(x_j)}

    the ranking of ``remove_samples.py`` of arXiv 2401.12233. It depends on the other points, and its order can differ
    from that of ``sslmem``.

    Args:
        alignment_f: ``[N]`` floating, N >= 1: the alignment of each point under f (the mean over its trainings).
        alignment_g: ``[N]`` of the same dtype, under g.

    Returns:
        ``[N]``, at most 1, of the dtype of ``alignment_f``; sort it descending. NaN everywhere if one of them is NaN;
        numpy for numpy.

    Raises:
        TypeError: If an argument is no array or not floating.
        ValueError: If the shapes differ or there is no point.

    Example:
        >>> import torch, memkern
        >>> a_f, a_g = torch.tensor([0.3, 0.5, 0.6, 0.2]), torch.tensor([0.9, 0.6, 0.5, 0.2])
        >>> memkern.removal_score(a_f, a_g).argsort(descending=True)
        tensor([0, 3, 1, 2])
    """
    f, was_numpy = checks.as_tensor(alignment_f, "alignment_f")
    g, _ = checks.as_tensor(alignment_g, "alignment_g")
    for each, name in ((f, "alignment_f"), (g, "alignment_g")):
        checks.floating(each, name)
        checks.strided(each, name)
    checks.same_points(f, g, "alignment_f", "alignment_g")
    checks.same_device(f, g, "alignment_f", "alignment_g")
    checks.at_least_one_point(len(f), "alignment_f")
    return in_callers_kind(scores.removal_score(f, g), was_numpy)


def layermem(
    z_f: TensorLike,
    z_g: TensorLike,
    *,
    scale: str = "ratio",
    pairs: str = "all",
    normalize: bool = True,
    compat: str | None = None,
    backend: str = "auto",
) -> Array:
    r"""LayerMem of one layer: the mean over points of SSLMem at the layer's output.

    .. math:: \mathrm{LayerMem}(l) = \frac{1}{N} \sum_i \frac{A_{g^l}(x_i) - A_{f^l}(x_i)}{A_{g^l}(x_i) + A_{f^l}(x_i)}

    arXiv 2409.19069, Eq. (3): the mean of ratios, not the ratio of means. ``delta_layermem`` takes the values of an
    ordered list of layers.

    Args:
        z_f: ``[N, V, *dims]`` outputs of the layer of f for V >= 2 views of each of N >= 1 points; float32, float64,
            bfloat16 or float16. A feature map counts as one flat vector.
        z_g: ``[N, V, *dims]`` outputs of the layer of g for **the same views**; dims may differ from those of ``z_f``.
        scale: "ratio": ``(A_g - A_f) / (A_g + A_f)``, the paper's. "none": the difference. "range": the difference over
            its range in this set of points, as the released scripts scale it.
        pairs: "all" pairs of views, or "anchor": view 0 against each other view.
        normalize: Whether to divide each view by its norm first.
        compat: "scripts" follows the released ``layer_mem.py``: the mean of anchored, range-scaled scores.
        backend: "auto", "reference", "cpu", "triton" or "cuda"; one that is named but cannot run raises.

    Returns:
        A 0-d tensor (or numpy array), float64 for float64 input and float32 for every other.

    Raises:
        TypeError: If an argument is no array or not floating, or the dtypes differ.
        ValueError: If a shape or option does not fit, there is no point, or the two hold different points or views.
        RuntimeError: If they are on different devices, or the named backend cannot run here.

    Example:
        >>> import torch, memkern
        >>> seen = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
        >>> unseen = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
        >>> memkern.layermem(seen, unseen)
        tensor(1.)
    """
    if compat_scripts(compat):
        scale, pairs, normalize = "range", "anchor", True
    checks.one_of(scale, "scale", SCALES)
    f, g, was_numpy = _checked(z_f, z_g, pairs, backend)
    checks.at_least_one_point(f.shape[0], "z_f")
    a_f, a_g = _alignments(f, g, pairs, normalize, backend)
    return in_callers_kind(_mean(scores.sslmem_score(a_f, a_g, scale)), was_numpy)


def _mean(values: Tensor) -> Tensor:
    return values.double().mean().to(values.dtype)


class LayerMemStats(NamedTuple):
    """LayerMem of one layer and what it is made of; rows are in ascending order of the ids.

    Attributes:
        score: LayerMem, 0-d.
        sslmem: ``[N]``, the scaled score of each point.
        alignment_f: ``[N]``, the alignment under f.
        alignment_g: ``[N]``, the alignment under g.
        ids: ``[N]`` int64 dataset ids.
    """

    score: Tensor
    sslmem: Tensor
    alignment_f: Tensor
    alignment_g: Tensor
    ids: Tensor


@dataclass(frozen=True)
class LayerState:
    """State of LayerMem after some points: two numbers and an id of each, batch by batch.

    Attributes:
        alignment_f: ``[n]`` of each batch, the alignments under f.
        alignment_g: ``[n]`` of each batch, the alignments under g.
        ids: ``[n]`` int64 of each batch, dataset ids.
    """

    alignment_f: tuple[Tensor, ...]
    alignment_g: tuple[Tensor, ...]
    ids: tuple[Tensor, ...]

    def merged(self, other: LayerState) -> LayerState:
        """Returns the state after the points of both."""
        f, g = self.alignment_f + other.alignment_f, self.alignment_g + other.alignment_g
        return LayerState(f, g, self.ids + other.ids)

    def tensors(self) -> dict[str, Tensor]:
        """Lists ``alignment_f``, ``alignment_g`` and ``ids``, each ``[N]``."""
        columns = {"alignment_f": self.alignment_f, "alignment_g": self.alignment_g, "ids": self.ids}
        return {name: torch.cat(column) for name, column in columns.items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> LayerState:
        """Makes the state whose ``tensors`` gave ``alignment_f``, ``alignment_g`` and ``ids``, ``[N]`` each."""
        return cls((tensors["alignment_f"],), (tensors["alignment_g"],), (tensors["ids"],))


class LayerMem(Streaming[LayerState]):
    """LayerMem of one layer over batches; keeps two numbers per point, so any scale and any subset can be had later.

    However the points are split and merged, the result is the same bits, for points are sorted by their ids.

    Args:
        scale: "ratio": ``(A_g - A_f) / (A_g + A_f)``, the paper's. "none": the difference. "range": the difference over
            its range in all points, as the released scripts scale it.
        pairs: "all" pairs of views, or "anchor": view 0 against each other view.
        normalize: Whether to divide each view by its norm first.
        backend: "auto", "reference", "cpu", "triton" or "cuda"; one that is named but cannot run raises.

    Raises:
        ValueError: If an option is unknown.

    Example:
        >>> import torch, memkern
        >>> metric = memkern.LayerMem()
        >>> metric.update(torch.tensor([[[1.0, 0.0], [1.0, 0.0]]]), torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]))
        >>> metric.compute()
        tensor(1.)
    """

    _OPTIONS = ("scale", "pairs", "normalize")
    _STATE = LayerState

    def __init__(
        self, *, scale: str = "ratio", pairs: str = "all", normalize: bool = True, backend: str = "auto"
    ) -> None:
        checks.one_of(scale, "scale", SCALES)
        checks.one_of(pairs, "pairs", PAIRS)
        checks.one_of(backend, "backend", dispatch.NAMES)
        self.scale, self.pairs, self.normalize, self.backend = scale, pairs, normalize, backend

    def _entries(self) -> set[str]:
        return {"alignment_f", "alignment_g", "ids"}

    @property
    def count(self) -> int:
        """Number of points that have been seen."""
        return 0 if self._state is None else sum(len(ids) for ids in self._state.ids)

    def update(self, z_f: TensorLike, z_g: TensorLike, ids: IntsLike | None = None) -> None:
        """Adds the points of a batch.

        Args:
            z_f: ``[n, V, *dims]`` outputs of the layer of f for V >= 2 views of each point.
            z_g: ``[n, V, *dims]`` outputs of the layer of g for the same views.
            ids: ``[n]`` int64 dataset ids; default: the points are numbered as they come.

        Raises:
            TypeError: If ``z_f`` or ``z_g`` is no array or not floating, their dtypes differ, or ``ids`` is not int64.
            ValueError: If a shape or option does not fit, or the two hold different points or views.
            RuntimeError: If ``z_f`` and ``z_g`` are on different devices, or the named backend cannot run here.
        """
        f, g, _ = _checked(z_f, z_g, self.pairs, self.backend)
        given = None if ids is None else checks.ids(ids, f.shape[0], f.device)
        a_f, a_g = _alignments(f, g, self.pairs, self.normalize, self.backend)
        self.update_alignments(a_f.detach(), a_g.detach(), given)

    def update_alignments(self, alignment_f: Tensor, alignment_g: Tensor, ids: IntsLike | None = None) -> None:
        """Adds points whose alignments are known, from ``layer_stats`` say.

        Args:
            alignment_f: ``[n]`` floating, the alignments under f.
            alignment_g: ``[n]`` floating, the alignments under g.
            ids: ``[n]`` int64 dataset ids; default: the points are numbered as they come.

        Raises:
            TypeError: If ``ids`` is not int64.
            ValueError: If the shapes differ.
        """
        points = len(alignment_f)
        checks.same_points(alignment_f, alignment_g, "alignment_f", "alignment_g")
        if ids is None:
            ids = torch.arange(self.count, self.count + points, device=alignment_f.device)
        given = checks.ids(ids, points, alignment_f.device)
        self._add(LayerState((alignment_f,), (alignment_g,), (given,)))

    def plot(self) -> Figure:
        """Draws a histogram of the points' SSLMem, scaled as ``scale`` says; LayerMem is their mean.

        Returns:
            The figure, which notebooks show; nothing of pyplot is touched.

        Raises:
            ValueError: If no point has been seen.
            ModuleNotFoundError: If matplotlib is missing.
        """
        return histogram(self.stats().sslmem, "SSLMem", "points")

    def stats(self) -> LayerMemStats:
        """Computes LayerMem and the score of each point so far.

        Returns:
            ``LayerMemStats(score, sslmem, alignment_f, alignment_g, ids)``, in ascending order of the ids.

        Raises:
            ValueError: If no point has been seen.
        """
        checks.at_least_one_point(self.count, "LayerMem")
        a_f, a_g, ids = self.state_dict().values()
        order = ids.argsort(stable=True)
        a_f, a_g, ids = a_f[order], a_g[order], ids[order]
        each = scores.sslmem_score(a_f, a_g, self.scale)
        return LayerMemStats(_mean(each), each, a_f, a_g, ids)
