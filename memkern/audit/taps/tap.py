"""Reads layers of a model while it runs, and keeps only what an audit needs of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType

from torch import Tensor, nn

from memkern.audit.taps.call_cache import CallCache, memory_signature
from memkern.audit.taps.fusion import Fusion
from memkern.audit.taps.hook_points import HookPoint, find_layers, unit_dimension
from memkern.audit.taps.modules import first_tensor, interpreted, named_layers, unwrapped
from memkern.audit.taps.protocol import TapPoint
from memkern.audit.taps.reduction import Reduction, TapStats
from memkern.audit.taps.rng import kept_rng
from memkern.errors import ArgumentTypeError, ArgumentValueError, LayerError

__all__ = ["Tap", "TapStats"]


class Tap:
    """Forward hooks that reduce each layer's output inside the hook.

    Inside the `with` block the model is in eval mode; leaving it removes the hooks and puts every submodule back into
    the mode it was in, and every random number generator into its state. Feature maps `[N * V, U, *space]` and tokens
    `[N * V, T, U]` are told apart by the module; of tuples and mappings the first tensor is read. An activation that is
    overwritten in place later is read before.

    Args:
        model: The model. Wrappers of DDP and `torch.compile` are taken off (hooks do not fire in compiled code), so run
            the attribute `model` of the tap.
        layers: Name to report -> name of the submodule; or a list of submodule names ("name_1" for a submodule's second
            call in a pass, "name:in" for its input); or the hook points of `find_layers`; or globs separated by commas.
        n_views: Number of views V of each point; the batch holds the views of one point next to each other.
            `None`: one row per point, no views, no alignment. May be set anew between passes.
        pairs: "all" pairs of views, or "anchor" for view 0 against each other view.
        normalize: Whether to bring each flattened view to unit length before the distance.
        clean_first: Whether view 0 is the clean image: it is left out of `unit_means` and has `clean_means`.
        means: Whether unit means are wanted; without them there is less to compute.
        view_sums: Whether `halves` and `rows` are wanted, from the distances of all pairs, which are known anyway.
        distance: "l2", "l1", or of directions "cosine", 1 - cos, or "angular", arccos(cos) / pi.
        fuse: Whether batch norms, ReLUs and GELUs of plain classes may be run by the kernel that reduces them: on the
            CPU, in float32, without autograd. Outputs are torch's to the bit, those of a GELU up to rounding. Where
            globs, or `find_layers`, have shown that a ReLU alone reads what a batch norm makes, the batch norm hands it
            the rectified values.
        example: A small batch that globs are looked up with.

    Raises:
        ArgumentTypeError: If globs are given without `example`.
        ArgumentValueError: If there are no layers, the model lacks one of them, `n_views` is below 2, or `view_sums`
            are wanted of an anchor's pairs.

    Example:
        >>> from torch import nn, ones
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
        >>> with Tap(model, {"hidden": "0"}, n_views=4) as tap:
        ...     _ = tap.model(ones(8, 2))
        >>> tap.take()["hidden"].unit_means.shape
        torch.Size([2, 3])
    """

    def __init__(
        self,
        model: nn.Module,
        layers: str | Mapping[str, str] | Sequence[str] | Sequence[HookPoint],
        *,
        n_views: int | None,
        pairs: str = "all",
        normalize: bool = True,
        clean_first: bool = False,
        means: bool = True,
        view_sums: bool = False,
        distance: str = "l2",
        fuse: bool = True,
        example: object = None,
    ) -> None:
        self.model: nn.Module = unwrapped(model)
        self._reduction = Reduction(n_views, pairs, normalize, clean_first, means, view_sums, distance)
        self._modules = named_layers(self.model)
        if isinstance(layers, str):
            if example is None:
                raise ArgumentTypeError("Expected `example`, a small batch, with globs in `layers`")
            layers = find_layers(self.model, example, layers).hook_points
        self.hook_points = self._resolved(layers)
        together: dict[tuple[str, int, bool], list[HookPoint]] = {}
        for point in self.hook_points:
            together.setdefault((point.module, point.call, point.input), []).append(point)
        self._points = {where: TapPoint(points) for where, points in together.items()}
        self._fusion = Fusion(self) if fuse else None
        self._cache = CallCache()
        self._seen: dict[str, TapStats] = {}
        self._calls: dict[str, int] = {}
        self._running = False
        self.seconds = 0.0  # time spent in reductions (on a GPU, in launching them) but for those of fused layers
        self._stack = ExitStack()

    @property
    def n_views(self) -> int | None:
        """Number of views of each point; `None`: one row per point, no views."""
        return self._reduction.n_views

    @n_views.setter
    def n_views(self, n_views: int | None) -> None:
        self._reduction = replace(self._reduction, n_views=n_views)

    def _resolved(self, layers: Mapping[str, str] | Sequence[str] | Sequence[HookPoint]) -> tuple[HookPoint, ...]:
        named = layers if isinstance(layers, Mapping) else {getattr(each, "name", each): each for each in layers}
        points = []
        for label, where in named.items():
            if isinstance(where, HookPoint):
                points.append(where)
                continue
            module, call = where.removesuffix(":in"), 0
            stem, _, number = module.rpartition("_")
            if module not in self._modules and number.isdigit() and stem in self._modules:
                module, call = stem, int(number)
            points.append(HookPoint(str(label), module, call, where.endswith(":in")))
        missing = [point.module for point in points if point.module not in self._modules]
        if missing or not points:
            raise ArgumentValueError(f"Expected `layers` to name submodules of the model, got {missing or 'no layers'}")
        return tuple(points)

    def __enter__(self) -> Tap:
        with ExitStack() as stack:  # if something fails, what was entered is undone here
            stack.enter_context(kept_rng())
            stack.enter_context(interpreted())
            stack.callback(_restore_modes, [(module, module.training) for module in self.model.modules()])
            if any(module.training for module in self.model.modules()):  # setting modes is slower than asking
                self.model.eval()
            stack.callback(self.model.register_forward_pre_hook(self._begin).remove)
            read_before = {point.module for point in self.hook_points if point.input}
            fused: set[str] = set()
            if self._fusion is not None:
                stack.callback(self._fusion.leave)
                names = dict.fromkeys(point.module for point in self.hook_points if not point.input)
                fused = self._fusion.enter({name: self._modules[name] for name in names}, read_before)
            for name in dict.fromkeys(point.module for point in self.hook_points):
                module = self._modules[name]
                if name in read_before:
                    stack.callback(module.register_forward_pre_hook(self._before(name), with_kwargs=True).remove)
                if name not in fused:
                    stack.callback(module.register_forward_hook(self._after(name)).remove)
            stack.callback(self.model.register_forward_hook(self._end).remove)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running = False
        self._stack.close()
        if kind is not None:
            self._seen = {}  # a pass that broke off has no statistics

    def take(self) -> dict[str, TapStats]:
        """Returns the statistics of the last forward pass, in the order of `layers`, and forgets them.

        Returns:
            Name -> statistics.

        Raises:
            LayerError: If a layer did not run since the last call; the message names it.
        """
        silent = [point.name for point in self.hook_points if point.name not in self._seen]
        if silent:
            raise LayerError(f"Expected every tapped layer to run in the forward pass; these did not: {silent}")
        seen, self._seen, self._calls = self._seen, {}, {}
        return {point.name: seen[point.name] for point in self.hook_points}

    # ---- hooks ------------------------------------------------------------------------------------------------------

    def _begin(self, module: nn.Module, args: object) -> None:
        if self._seen:
            raise LayerError("Expected `take` to be called after every forward pass; the model ran twice")
        self._calls, self._running = {}, True
        self._cache.make_ready()
        if self._fusion is not None:
            self._fusion.begin(self._reduction)

    def _end(self, module: nn.Module, args: object, output: object) -> None:
        self._running = False
        if self._fusion is not None:
            self._fusion.end()

    def _before(self, name: str) -> Callable[[nn.Module, tuple[object, ...], Mapping[str, object]], None]:
        def hook(module: nn.Module, args: tuple[object, ...], kwargs: Mapping[str, object]) -> None:
            point = self._points.get((name, self._calls.get(name, 0), True))
            if point is not None:
                self._read(point, module, first_tensor([*args, *kwargs.values()]))

        return hook

    def _after(self, name: str) -> Callable[[nn.Module, tuple[object, ...], object], None]:
        def hook(module: nn.Module, args: tuple[object, ...], output: object) -> None:
            point = self.visit(name)
            if point is not None:
                self._read(point, module, output if isinstance(output, Tensor) else first_tensor(output))

        return hook

    def _read(self, point: TapPoint, module: nn.Module, output: Tensor | None) -> None:
        (self if self._fusion is None else self._fusion).reduce(point, module, output)

    # ---- what fusion needs: `protocol.PointwiseHost` ----------------------------------------------------------------

    def visit(self, name: str) -> TapPoint | None:
        """Counts a call of a module.

        Args:
            name: Name of the module.

        Returns:
            The tap point of the call's output; `None` if nobody reads it.

        Raises:
            LayerError: If the module ran twice since `take`, and not within one pass.
        """
        call = self._calls.get(name, 0)
        self._calls[name] = call + 1
        if call > 0 and not self._running:
            raise LayerError(f"Expected layer {name!r} to run once between two calls of `take`; it ran twice")
        return self._points.get((name, call, False))

    def upcoming(self, name: str) -> TapPoint | None:
        """Returns the tap point of the output of a module's next call, which is not counted yet."""
        return self._points.get((name, self._calls.get(name, 0), False))

    def reduce(self, point: TapPoint, module: nn.Module, output: Tensor | None) -> None:
        """Reduces a tensor `[N * V, …]` for the names under which it is reported."""
        start = time.perf_counter()
        signature = None if output is None else memory_signature(output, self.n_views)
        call = None if signature is None else self._cache.find(point, signature)
        if call is not None and output is not None:
            self.receive(point, self._reduction.named(call(output)))
        else:
            self._reduce_new(point, module, output)
        self.seconds += time.perf_counter() - start

    def receive(self, point: TapPoint, stats: TapStats) -> None:
        """Keeps the statistics of a tensor."""
        for each in point.hook_points:
            self._seen[each.name] = stats

    def _reduce_new(self, point: TapPoint, module: nn.Module, output: Tensor | None) -> None:
        """Reduces a tensor with everything checked, and prepares the call for the next one like it.

        Raises:
            ArgumentTypeError: If the layer made no tensor, or one of too few dimensions.
        """
        if output is None or output.ndim < 2:
            got = "none" if output is None else f"one of shape {list(output.shape)}"
            raise ArgumentTypeError(
                f"Expected layer {point.hook_points[0].name!r} to return a tensor [N, U, ...], got {got}"
            )
        reduced: dict[int, TapStats] = {}
        for each in point.hook_points:
            unit_dim = unit_dimension(module, output.shape) if each.unit_dim is None else each.unit_dim
            if unit_dim not in reduced:
                reduced[unit_dim] = self._reduction.reduce(each.name, output.detach(), unit_dim)
            self._seen[each.name] = reduced[unit_dim]
        signature = memory_signature(output, self.n_views)
        if not self._cache.is_known(point, signature):
            alone = next(iter(reduced)) if len(reduced) == 1 else None
            call = None if alone is None else self._reduction.prepared(output.detach(), alone)
            self._cache.keep(point, signature, call)


def _restore_modes(modes: Sequence[tuple[nn.Module, bool]]) -> None:
    for module, mode in modes:
        if module.training != mode:
            module.training = mode
