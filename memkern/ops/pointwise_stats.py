"""Pointwise statistics: batch norm, ReLU or GELU, run while what goes in and comes out is reduced."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor

from memkern import autodiff, dispatch, native
from memkern.checks import registered
from memkern.checks import values as checks
from memkern.ops import LIBRARY
from memkern.reference.pointwise_stats import pointwise_stats as reference

Moments = tuple[Tensor | None, ...]
Reduced = tuple[Tensor, Tensor | None, Tensor | None, Tensor | None, Tensor | None]
"""Alignment, unit means, and what ``native.ViewSums`` has, of a tensor."""

# ---- schema and fake ----------------------------------------------------------------------------------------------

LIBRARY.define(
    "pointwise_stats(Tensor x, str[] functions, Tensor?[] moments, float[] epsilons, int unit_dim, bool anchor, "
    "bool normalize, str backend) -> (Tensor, Tensor, Tensor)"
)


@torch.library.register_fake("memkern::pointwise_stats", lib=LIBRARY)
def _fake(
    x: Tensor, functions: list[str], moments: list[Tensor | None], epsilons: list[float], unit_dim: int, anchor: bool,
    normalize: bool, backend: str,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    shape = len(functions) + 1, x.shape[0]
    return torch.empty_like(x), x.new_empty(shape), x.new_empty((*shape, x.shape[unit_dim]))


# ---- autograd: refused --------------------------------------------------------------------------------------------


def _backward(ctx: object, *grads: Tensor) -> None:
    raise RuntimeError("memkern::pointwise_stats has no backward; run the layers with torch where gradients are needed")


torch.library.register_autograd("memkern::pointwise_stats", _backward, lib=LIBRARY)

# ---- backend table ------------------------------------------------------------------------------------------------


class Pointwise(NamedTuple):
    """Layer that makes each element of its output from the element at the same place of its input.

    Attributes:
        function: "batch_norm" in eval mode, "relu", or "gelu" (the exact one).
        moments: Running mean, running variance, weight and bias of a batch norm, float32 ``[U]``; the last two may be
            ``None``.
        epsilon: Number that a batch norm adds to the variance.
    """

    function: str
    moments: Moments = (None,) * 4
    epsilon: float = 0.0

    def fields(self) -> native.Record:
        """Lists the fields of the kernel's record of a layer."""
        mean, variance, weight, bias = (0 if moment is None else moment.data_ptr() for moment in self.moments)
        return {
            "function": native.FUNCTIONS[self.function], "mean": mean, "variance": variance, "weight": weight,
            "bias": bias, "epsilon": self.epsilon,
        }  # fmt: skip


def _has_layout(x: Tensor, unit_dim: int) -> bool:
    """Tells whether the kernel reads ``x`` in place: dense, each view ``[U, *space]`` or ``[*space, U]`` in memory."""
    planes = math.prod(x.shape[2:]) // x.shape[unit_dim]
    in_order = x.shape[unit_dim] == 1 or x.stride(unit_dim) in (1, planes)
    view = native.is_dense(x.shape[2:], x.stride()[2:])  # not so where points lie between the elements of a view
    return in_order and view and native.is_dense(tuple(x.shape), x.stride())


def _fields(x: Tensor, unit_dim: int, anchor: bool, normalize: bool, distance: str = "l2") -> native.Record:
    """Lists the fields of the kernel's record that input and outputs have in common."""
    _, views = native.compared_views(x, anchor, normalize, distance)  # x itself: its views are dense
    return {"sizes": x.shape, "strides": x.stride(), "unit_dim": unit_dim, **views}


def _cpu(
    x: Tensor, layers: list[Pointwise], unit_dim: int, anchor: bool, normalize: bool
) -> tuple[Tensor, Tensor, Tensor]:
    y = torch.empty_like(x)
    alignment = x.new_empty((len(layers) + 1, x.shape[0]))
    means = x.new_empty((len(layers) + 1, x.shape[0], x.shape[unit_dim]))
    if not x.numel():
        return y, alignment, means
    source, made, unit = x, y, unit_dim
    if not _has_layout(x, unit_dim):
        source, unit = x.movedim(unit_dim, 2).contiguous(), 2
        made = torch.empty_like(source)
    moments = [tuple(None if each is None else each.contiguous() for each in layer.moments) for layer in layers]
    records = [layer._replace(moments=kept).fields() for layer, kept in zip(layers, moments, strict=True)]
    native.library().pointwise_stats(
        torch.get_num_threads(), x=source.data_ptr(), y=made.data_ptr(), **_fields(source, unit, anchor, normalize),
        layers=records, alignments=[each.data_ptr() for each in alignment], means=[each.data_ptr() for each in means],
        **dict.fromkeys(native.ViewSums._fields, [0] * len(alignment)),
    )  # fmt: skip
    if made is not y:
        y.copy_(made.movedim(2, unit_dim))
    return y, alignment, means


def _reference(
    x: Tensor, layers: list[Pointwise], unit_dim: int, anchor: bool, normalize: bool
) -> tuple[Tensor, Tensor, Tensor]:
    pairs = "anchor" if anchor else "all"
    made, alignment, means = reference(x, layers, unit_dim=unit_dim, pairs=pairs, normalize=normalize)
    return torch.empty_like(x).copy_(made), alignment.float(), means.float()


# No "cuda" and no "triton": GPU kernels are not written yet, and `dispatch.pick` says so where one is named.
TABLE = {"cpu": _cpu, "reference": _reference}


def _run(
    x: Tensor, functions: list[str], moments: list[Tensor | None], epsilons: list[float], unit_dim: int, anchor: bool,
    normalize: bool, backend: str,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    layers = [
        Pointwise(function, tuple(moments[4 * i : 4 * i + 4]), epsilons[i]) for i, function in enumerate(functions)
    ]
    run = dispatch.pick(backend, x.device, TABLE)
    result: tuple[Tensor, Tensor, Tensor] = run(x, layers, unit_dim, anchor, normalize)
    return result


LIBRARY.impl("pointwise_stats", registered.checked(_run, registered.pointwise_stats), "CompositeExplicitAutograd")


class PreparedPointwiseStats:
    """Prepared call of the CPU kernel, on memory that always looks like that of a call which was checked.

    Results are made beforehand and nothing is checked, because taps run between two layers of a model, where the caches
    are cold and Python is slow.

    Args:
        x: ``[N, V, ...]`` float32 activations that ``is_possible`` has accepted.
        unit_dim: The dimension of the units, not negative.
        pairs: "all" pairs of views, or "anchor" for view 0 against each other view.
        normalize: Whether to bring each flattened view to unit length before the distance.
        means: Whether unit means are wanted.
        layers: How many layers, 1 or 2.
        view_sums: Whether ``native.ViewSums`` are wanted; of all pairs only.
        distance: "l2", "l1", "cosine" or "angular".
    """

    def __init__(
        self, x: Tensor, *, unit_dim: int, pairs: str, normalize: bool, means: bool, layers: int,
        view_sums: bool = False, distance: str = "l2",
    ) -> None:  # fmt: skip
        checks.all_pairs(pairs, view_sums)
        self._fields = _fields(x, unit_dim, pairs == "anchor", normalize, distance)
        tensors = layers + 1
        self._shapes: dict[str, tuple[int, ...] | None] = {
            "alignments": (tensors, x.shape[0]),
            "means": (tensors, x.shape[0], x.shape[unit_dim]) if means else None,
            **{
                name: (tensors, *shape) if view_sums else None for name, (shape, _) in native.ViewSums.shapes(x).items()
            },
        }
        self._tensors = tensors
        self._ready: tuple[list[Reduced], dict[str, list[int]]] | None = None

    @staticmethod
    def is_possible(x: Tensor, unit_dim: int) -> bool:
        """Tells whether the CPU kernel reads activations like ``x``, ``[N, V, ...]``, in place."""
        if (
            dispatch.why_not("cpu", x.device)
            or not dispatch.can_bypass_dispatcher(x)
            or x.dtype != torch.float32
            or not x.numel()
        ):
            return False
        return _has_layout(x, unit_dim)

    def make_ready(self) -> None:
        """Makes the results of the next call, those of one kind in one block, because making a tensor costs time."""
        made: list[Sequence[Tensor | None]] = [
            [None] * self._tensors if shape is None else torch.empty(shape, dtype=torch.float32, device="cpu").unbind()
            for shape in self._shapes.values()
        ]
        addresses = [[0 if each is None else each.data_ptr() for each in kind] for kind in made]
        results = list(zip(*made, strict=True))
        self._ready = cast("list[Reduced]", results), dict(zip(self._shapes, addresses, strict=True))

    def __call__(self, x: Tensor, y: Tensor, layers: Sequence[native.Record], with_input: bool) -> list[Reduced]:
        """Runs the layers on the memory of ``x`` and writes the output of the last one to ``y``.

        Args:
            x: The input, in memory like the one that the call was prepared for.
            y: The output, in memory like ``x``; may be ``x`` if there is one layer and ``x`` is not reduced, because
                elements that sums cannot tell apart are read once more at the end of a point.
            layers: ``Pointwise.fields`` of each layer.
            with_input: Whether ``x`` is reduced too.

        Returns:
            Alignment ``[N]``, unit means ``[N, U]``, rows ``[N, V]``, halves ``[2, N]`` and standard errors ``[N]``
            (``None`` if not wanted) of ``x``, and of the output of each layer; those of ``x`` hold nothing unless
            ``with_input``.
        """
        if self._ready is None:
            self.make_ready()
        assert self._ready is not None
        results, addresses = self._ready
        self._ready = None
        if not with_input:
            for of_tensors in addresses.values():
                of_tensors[0] = 0
        native.library().pointwise_stats(
            torch.get_num_threads(), x=x.data_ptr(), y=y.data_ptr(), **self._fields, layers=layers, **addresses,
        )  # fmt: skip
        return results


def batch_norm_gives_torchs_bits(x: Tensor) -> bool:
    """Tells whether the CPU kernel's batch norm makes of ``x`` the very bits that torch's makes.

    Torch has two batch norms, which round differently: the kernel's, and another for memory that is neither contiguous
    nor channels last.

    Args:
        x: ``[rows, U, *space]`` float32 on the CPU.

    Returns:
        True if the bits are torch's.
    """
    dense = x.is_contiguous()
    dense |= x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)
    dense |= x.ndim == 5 and x.is_contiguous(memory_format=torch.channels_last_3d)
    return dense and _rounds_as_torch(native.library().isa())


@functools.cache
def _rounds_as_torch(isa: str) -> bool:
    """Tells whether batch norms of the kernel's instruction set and of torch's round alike, as some elements show.

    Torch multiplies and adds with one rounding where its own instruction set can, which need not be the kernel's.
    """
    units, generator = 37, torch.Generator("cpu").manual_seed(0)
    mean, variance, weight, bias = torch.rand(4, units, generator=generator, device="cpu", dtype=torch.float32)
    x = torch.randn(4, units, 5, 7, generator=generator, device="cpu", dtype=torch.float32)
    # With one rounding the sum of product and bias is just below the middle of two floats; in double it is the middle.
    mean[0], variance[0], weight[0], bias[0], x[:, 0] = 0, 1, 1 - 2**-18, 1 + 2**-23, 2**-24 * (1 + 2**-18)
    layer = Pointwise("batch_norm", (mean, variance, weight, bias))
    for memory in (torch.contiguous_format, torch.channels_last):
        z = x.contiguous(memory_format=memory)
        want = torch.nn.functional.batch_norm(z, mean, variance, weight, bias, eps=0.0)
        got = pointwise_stats(z.unflatten(0, (2, 2)), [layer], backend="cpu").output.flatten(0, 1)
        if not torch.equal(got, want):
            return False
    return True


# ---- function -----------------------------------------------------------------------------------------------------


class PointwiseStats(NamedTuple):
    """Output of layers, and the statistics of what the layers read and made.

    Attributes:
        output: ``[N, V, ...]``, the output of the last layer.
        alignment: ``[layers + 1, N]``, of the input and of the output of each layer.
        unit_means: ``[layers + 1, N, U]``, likewise.
    """

    output: Tensor
    alignment: Tensor
    unit_means: Tensor


def pointwise_stats(
    x: Tensor,
    layers: Sequence[Pointwise],
    *,
    unit_dim: int = 2,
    pairs: str = "all",
    normalize: bool = True,
    backend: str = "auto",
) -> PointwiseStats:
    """Runs one or two layers of a network, and reduces what they read and make in the same pass over memory.

    The statistics are the bits of ``layer_stats`` on the same tensors; batch norm and ReLU give torch's values.

    Args:
        x: ``[N, V, ...]`` float32 activations, V >= 2.
        layers: One or two layers, run one after the other.
        unit_dim: The dimension of the units.
        pairs: "all", or "anchor" for view 0 against each other view.
        normalize: Whether to bring each flattened view to unit length before the distance.
        backend: "auto", "reference" or "cpu"; one that is named but cannot run raises.

    Returns:
        ``PointwiseStats(output [N, V, ...], alignment [layers + 1, N], unit_means [layers + 1, N, U])``, float32. No
        gradient flows through it.

    Raises:
        TypeError: If ``x`` is not float32.
        ValueError: If a shape, dimension, option or layer does not fit.
        RuntimeError: If the named backend cannot run here.

    Example:
        >>> import torch
        >>> from memkern.ops.pointwise_stats import Pointwise, pointwise_stats
        >>> stats = pointwise_stats(torch.tensor([[[3.0, -4.0], [4.0, -3.0]]]), [Pointwise("relu")])
        >>> stats.output, stats.unit_means[1]
        (tensor([[[3., 0.],
                 [4., 0.]]]), tensor([[3.5000, 0.0000]]))
    """
    checks.one_of(pairs, "pairs", ("all", "anchor"))
    checks.one_of(backend, "backend", dispatch.NAMES)
    checks.float32(x, "x")
    checks.strided(x, "x")
    unit = checks.unit_dimension(x, 1, unit_dim, "x")
    checks.views_shape(x, "x")
    _check_layers(layers, x.shape[unit])
    functions, epsilons = [layer.function for layer in layers], [float(layer.epsilon) for layer in layers]
    moments = [None if moment is None else moment.detach() for layer in layers for moment in layer.moments]
    autodiff.refuse_derivative(x, "x")
    x = x.detach()
    run = _run if dispatch.can_bypass_dispatcher(x) else torch.ops.memkern.pointwise_stats.default
    return PointwiseStats(*run(x, functions, moments, epsilons, unit, pairs == "anchor", bool(normalize), backend))


def _check_layers(layers: Sequence[Pointwise], units: int) -> None:
    checks.length(layers, "layers", 1, 2)
    for index, layer in enumerate(layers):
        checks.one_of(layer.function, f"layers[{index}].function", tuple(native.FUNCTIONS))
        checks.length(layer.moments, f"layers[{index}].moments", 4, 4)
        needed = 2 if layer.function == "batch_norm" else 0
        for at, moment in enumerate(layer.moments):
            name = f"layers[{index}].moments[{at}]"
            if moment is not None or at < needed:
                checks.one_per_unit(moment, name, units)
