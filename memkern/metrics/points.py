"""SSLMem and LayerMem: how much better the encoder that saw a point aligns its views than one that did not."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from memkern import dispatch, scores
from memkern.checks import values as checks
from memkern.metrics.options import compat_scripts, gather_states, in_callers_kind
from memkern.ops.alignment import alignment

SCALES = ("none", "ratio", "range")


def _checked(z_f: Any, z_g: Any, pairs: str, backend: str) -> tuple[Tensor, Tensor, bool]:
    """Checks both stacks before any work; returns them as tensors, and whether the caller passed numpy."""
    f, was_numpy = checks.as_tensor(z_f, "z_f")
    g, _ = checks.as_tensor(z_g, "z_g")
    for z, name in ((f, "z_f"), (g, "z_g")):
        checks.floating(z, name)
        checks.strided(z, name)
        checks.views_shape(z, name)
    checks.same_views(f, g, "z_f", "z_g")
    checks.one_of(pairs, "pairs", ("all", "anchor"))
    checks.one_of(backend, "backend", dispatch.NAMES)
    return f, g, was_numpy


def _alignments(f: Tensor, g: Tensor, pairs: str, normalize: bool, backend: str) -> tuple[Tensor, Tensor]:
    a_f, a_g = (alignment(z, pairs=pairs, normalize=normalize, backend=backend) for z in (f, g))
    return a_f, a_g


def sslmem(
    z_f: Any,
    z_g: Any,
    *,
    scale: str = "none",
    pairs: str = "all",
    normalize: bool = True,
    compat: str | None = None,
    backend: str = "auto",
) -> Any:
    r"""SSLMem of each point: the alignment under g minus the alignment under f.

    .. math:: m(x) = A_g(x) - A_f(x)

    arXiv 2401.12233 and arXiv 2409.19069, Eq. (1), with one encoder each: f was trained with the point, g without it.

    Args:
        z_f: ``[N, V, *dims]`` representations by f of V >= 2 views of each point.
        z_g: ``[N, V, *dims]`` representations by g of **the same views**; dims may differ from those of ``z_f``.
        scale: "none": the difference. "ratio": ``(A_g - A_f) / (A_g + A_f)``, arXiv 2409.19069, Eq. (2). "range": the
            difference over its range in this set of points, as the released scripts scale it.
        pairs: As for ``alignment``.
        normalize: As for ``alignment``.
        compat: "scripts" follows the released scripts: it sets ``pairs="anchor"``, ``scale="range"`` and
            ``normalize=True``.
        backend: As for ``alignment``.

    Returns:
        ``[N]``, positive for memorized points; negative values are kept.

    Raises:
        TypeError: If an argument is no array or not floating, or the dtypes differ.
        ValueError: If a shape or option does not fit, or the two hold different points or views.
        RuntimeError: If they are on different devices, or the named backend cannot run here.

    Example:
        >>> import torch, memkern
        >>> seen = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])  # f maps both views to one place
        >>> unseen = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
        >>> memkern.sslmem(seen, unseen)
        tensor([1.4142])
    """
    if compat_scripts(compat):
        scale, pairs, normalize = "range", "anchor", True
    checks.one_of(scale, "scale", SCALES)
    f, g, was_numpy = _checked(z_f, z_g, pairs, backend)
    a_f, a_g = _alignments(f, g, pairs, normalize, backend)
    return in_callers_kind(scores.sslmem_score(a_f, a_g, scale), was_numpy)


def layermem(
    z_f: Any,
    z_g: Any,
    *,
    scale: str = "ratio",
    pairs: str = "all",
    normalize: bool = True,
    compat: str | None = None,
    backend: str = "auto",
) -> Any:
    r"""LayerMem of one layer: the mean over points of SSLMem at the layer's output.

    .. math:: \mathrm{LayerMem}(l) = \frac{1}{N} \sum_i \frac{A_{g^l}(x_i) - A_{f^l}(x_i)}{A_{g^l}(x_i) + A_{f^l}(x_i)}

    arXiv 2409.19069, Eq. (3): the mean of ratios, not the ratio of means. ``delta_layermem`` takes the values of an
    ordered list of layers.

    Args:
        z_f: ``[N, V, *dims]`` outputs of the layer of f, N >= 1; a feature map counts as one flat vector.
        z_g: The same of g, for the same views.
        scale: As for ``sslmem``; the paper's is "ratio".
        pairs: As for ``alignment``.
        normalize: As for ``alignment``.
        compat: "scripts" follows the released ``layer_mem.py``: the mean of anchored, range-scaled scores.
        backend: As for ``alignment``.

    Returns:
        A scalar (0-d).

    Raises:
        TypeError: As for ``sslmem``.
        ValueError: As for ``sslmem``, or if there is no point.
        RuntimeError: As for ``sslmem``.

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
        score: LayerMem, a scalar.
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


class LayerMem:
    """LayerMem of one layer over batches; keeps two numbers per point, so any scale and any subset can be had later.

    However the points are split and merged, the result is the same bits, for points are sorted by their ids.

    Args:
        scale: As for ``layermem``.
        pairs: As for ``alignment``.
        normalize: As for ``alignment``.
        backend: As for ``alignment``.

    Raises:
        ValueError: If an option is unknown.

    Example:
        >>> import torch, memkern
        >>> metric = memkern.LayerMem()
        >>> metric.update(torch.tensor([[[1.0, 0.0], [1.0, 0.0]]]), torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]))
        >>> metric.compute()
        tensor(1.)
    """

    def __init__(
        self, *, scale: str = "ratio", pairs: str = "all", normalize: bool = True, backend: str = "auto"
    ) -> None:
        checks.one_of(scale, "scale", SCALES)
        checks.one_of(pairs, "pairs", ("all", "anchor"))
        checks.one_of(backend, "backend", dispatch.NAMES)
        self.scale, self.pairs, self.normalize, self.backend = scale, pairs, normalize, backend
        self.reset()

    def reset(self) -> None:
        """Forgets every point."""
        self._parts: list[tuple[Tensor, Tensor, Tensor]] = []  # alignment_f, alignment_g, ids

    @property
    def count(self) -> int:
        """How many points have been seen."""
        return sum(len(part[2]) for part in self._parts)

    def update(self, z_f: Any, z_g: Any, ids: Any = None) -> None:
        """Adds the points of a batch.

        Args:
            z_f: As for ``layermem``.
            z_g: As for ``layermem``.
            ids: ``[n]`` int64 dataset ids; default: the points are numbered as they come.

        Raises:
            TypeError: As for ``layermem``.
            ValueError: As for ``layermem``.
        """
        f, g, _ = _checked(z_f, z_g, self.pairs, self.backend)
        ids = None if ids is None else checks.ids(ids, f.shape[0], f.device)
        a_f, a_g = _alignments(f, g, self.pairs, self.normalize, self.backend)
        self.update_alignments(a_f.detach(), a_g.detach(), ids)

    def update_alignments(self, alignment_f: Tensor, alignment_g: Tensor, ids: Any = None) -> None:
        """Adds points whose alignments are known, from ``layer_stats`` say.

        Args:
            alignment_f: ``[n]``, under f.
            alignment_g: ``[n]``, under g.
            ids: As for ``update``.

        Raises:
            ValueError: If the shapes differ.
        """
        points = len(alignment_f)
        checks.same_points(alignment_f, alignment_g, "alignment_f", "alignment_g")
        if ids is None:
            ids = torch.arange(self.count, self.count + points, device=alignment_f.device)
        self._parts.append((alignment_f, alignment_g, checks.ids(ids, points, alignment_f.device)))

    def stats(self) -> LayerMemStats:
        """LayerMem and the score of each point so far.

        Raises:
            ValueError: If no point has been seen.
        """
        checks.at_least_one_point(self.count, "LayerMem")
        a_f, a_g, ids = (torch.cat(column) for column in zip(*self._parts, strict=True))
        order = ids.argsort(stable=True)
        a_f, a_g, ids = a_f[order], a_g[order], ids[order]
        each = scores.sslmem_score(a_f, a_g, self.scale)
        return LayerMemStats(_mean(each), each, a_f, a_g, ids)

    def compute(self) -> Tensor:
        """LayerMem over all points so far, a scalar; raises as ``stats`` does."""
        return self.stats().score

    def merge(self, other: LayerMem) -> None:
        """Adds the points of another metric with the same options; ``other`` is left as it was.

        Raises:
            TypeError: If ``other`` is no LayerMem.
            ValueError: If the options differ.
        """
        checks.same_options(self, other, ("scale", "pairs", "normalize"))
        self._parts.extend(other._parts)

    def state_dict(self) -> dict[str, Tensor]:
        """The state as tensors; empty before the first point."""
        if not self._parts:
            return {}
        names = ("alignment_f", "alignment_g", "ids")
        return {name: torch.cat(column) for name, column in zip(names, zip(*self._parts, strict=True), strict=True)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Replaces the state by one from ``state_dict``; raises ValueError if an entry is missing or unknown."""
        checks.state_entries(state, {"alignment_f", "alignment_g", "ids"})
        self._parts = [(state["alignment_f"], state["alignment_g"], state["ids"])] if state else []

    def to(self, device: torch.device | str) -> LayerMem:
        """Moves the state to a device and returns the metric."""
        self.load_state_dict({key: value.to(device) for key, value in self.state_dict().items()})
        return self

    def sync(self, group: Any = None) -> None:
        """Merges the states of all processes of a torch.distributed group, as ``UnitMem.sync`` does."""
        device = self._parts[0][0].device if self._parts else torch.device("cpu")
        states = [state for state in gather_states(self.state_dict(), group) if state]
        self._parts = [
            (state["alignment_f"].to(device), state["alignment_g"].to(device), state["ids"].to(device))
            for state in states
        ]
