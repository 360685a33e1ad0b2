"""Reads layers of a model while it runs, and keeps only what an audit needs of them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, NamedTuple

from torch import Tensor, nn

from memkern import dispatch
from memkern.audit.taps.fusion import Fused, Plan
from memkern.audit.taps.hook_points import (
    Site,
    find_layers,
    first_tensor,
    interpreted,
    named_layers,
    unit_dimension,
    unwrapped,
)
from memkern.audit.taps.rng import kept_rng
from memkern.ops.alignment import alignment, repeat_alignment
from memkern.ops.layer_stats import PointwiseStats, layer_stats, repeat_layer_stats
from memkern.ops.unit_means import unit_means


class TapStats(NamedTuple):
    """What is kept of one layer.

    Attributes:
        alignment: Mean l2 distance between the unit-length views of each point, `[N]`; `None` without views.
        unit_means: Mean activation of each unit, over views and space, `[N, U]`; `None` if they were not asked for.
        clean_means: Mean activation of each unit on the clean image, `[N, U]`; `None` without `clean_first`.
    """

    alignment: Tensor | None
    unit_means: Tensor | None = None
    clean_means: Tensor | None = None


class Place:
    """Where a pass is read: the labels that read it, and how to reduce it again if it looks as it did last time."""

    def __init__(self) -> None:
        self.sites: list[Site] = []
        self.reader = ""  # the module that alone reads what lies here; "" if others do, or nobody knows
        self.unit_dim: int | None = None
        self.looks: tuple[Any, ...] = ()  # n_views, and all that says how the output lies in memory
        self.again: Any = None
        self.fused: Plan | None = None

    def add(self, site: Site) -> None:
        """One more label reads here."""
        self.reader = site.reader
        self.unit_dim = site.unit_dim if not self.sites or site.unit_dim == self.unit_dim else None
        self.sites.append(site)


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
            call in a pass, "name:in" for its input); or the `sites` of `find_layers`; or globs separated by commas.
        n_views: Number of views V of each point; the batch holds the views of one point next to each other.
            `None`: one row per point, no views, no alignment. May be set anew between passes.
        pairs: "all" pairs of views, or "anchor" for view 0 against each other view.
        normalize: Whether to bring each flattened view to unit length before the distance.
        clean_first: Whether view 0 is the clean image: it is left out of `unit_means` and has `clean_means`.
        means: Whether unit means are wanted; without them there is less to compute.
        fuse: Whether batch norms, ReLUs and GELUs of plain classes may be run by the kernel that reduces them: on the
            CPU, in float32, without autograd. Their outputs are torch's up to rounding. Where globs, or `find_layers`,
            have shown that a ReLU alone reads what a batch norm makes, the batch norm hands it the rectified values.
        example: A small batch that globs are looked up with.

    Raises:
        TypeError: If globs are given without `example`.
        ValueError: If there are no layers, the model lacks one of them, or `n_views` is below 2.

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
        layers: str | Mapping[str, str] | Sequence[str] | Sequence[Site],
        *,
        n_views: int | None,
        pairs: str = "all",
        normalize: bool = True,
        clean_first: bool = False,
        means: bool = True,
        fuse: bool = True,
        example: Any = None,
    ) -> None:
        self.model: nn.Module = unwrapped(model)
        least = 3 if clean_first and pairs == "all" else 2
        if n_views is not None and n_views < least:
            raise ValueError(f"Expected `n_views` to be None or {least} or more, got {n_views}")
        self.n_views, self.pairs, self.normalize = n_views, pairs, normalize
        self.clean_first, self.means = clean_first, means
        self._modules = named_layers(self.model)
        if isinstance(layers, str):
            if example is None:
                raise TypeError("Expected `example`, a small batch, with globs in `layers`")
            layers = find_layers(self.model, example, layers).sites
        self.sites = self._resolved(layers)
        self._at: dict[tuple[str, int, bool], Place] = {}
        self._fused = Fused(self) if fuse else None
        for site in self.sites:
            self._at.setdefault((site.module, site.call, site.input), Place()).add(site)
        self._seen: dict[str, TapStats] = {}
        self._calls: dict[str, int] = {}
        self.running = False
        self.seconds = 0.0  # spent in reductions (on a GPU, in launching them), but for those of fused layers
        self._handles: list[Any] = []
        self._modes: list[tuple[nn.Module, bool]] = []
        self._stack = ExitStack()

    def _resolved(self, layers: Mapping[str, str] | Sequence[str] | Sequence[Site]) -> tuple[Site, ...]:
        named = layers if isinstance(layers, Mapping) else {getattr(each, "name", each): each for each in layers}
        sites = []
        for label, where in named.items():
            if isinstance(where, Site):
                sites.append(where)
                continue
            module, call = where.removesuffix(":in"), 0
            stem, _, number = module.rpartition("_")
            if module not in self._modules and number.isdigit() and stem in self._modules:
                module, call = stem, int(number)
            sites.append(Site(str(label), module, call, where.endswith(":in")))
        missing = [site.module for site in sites if site.module not in self._modules]
        if missing or not sites:
            raise ValueError(f"Expected `layers` to name submodules of the model, got {missing or 'no layers'}")
        return tuple(sites)

    def __enter__(self) -> Tap:
        self._stack.enter_context(kept_rng())
        self._stack.enter_context(interpreted(self.model))
        self._modes = [(module, module.training) for module in self.model.modules()]
        if any(training for _, training in self._modes):  # asking costs little, setting half a millisecond
            self.model.eval()
        self._handles.append(self.model.register_forward_pre_hook(self._begin))
        read_before = {site.module for site in self.sites if site.input}
        fused: set[str] = set()
        if self._fused is not None:
            names = dict.fromkeys(site.module for site in self.sites if not site.input)
            fused = self._fused.enter({name: self._modules[name] for name in names}, read_before)
        for name in dict.fromkeys(site.module for site in self.sites):
            module = self._modules[name]
            if name in read_before:
                self._handles.append(module.register_forward_pre_hook(self._before(name), with_kwargs=True))
            if name not in fused:
                self._handles.append(module.register_forward_hook(self._after(name)))
        self._handles.append(self.model.register_forward_hook(self._end))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._fused is not None:
            self._fused.leave()
        for handle in self._handles:
            handle.remove()
        for module, mode in self._modes:
            if module.training != mode:
                module.training = mode
        self._handles, self._modes, self.running = [], [], False
        self._stack.close()
        if kind is not None:
            self._seen = {}  # a pass that broke off says nothing

    def take(self) -> dict[str, TapStats]:
        """Returns the statistics of the last forward pass, in the order of `layers`, and forgets them.

        Raises:
            RuntimeError: If a layer did not run since the last call; the message names it.
        """
        silent = [site.name for site in self.sites if site.name not in self._seen]
        if silent:
            raise RuntimeError(f"Expected every tapped layer to run in the forward pass; these did not: {silent}")
        seen, self._seen, self._calls = self._seen, {}, {}
        return {site.name: seen[site.name] for site in self.sites}

    def _begin(self, module: nn.Module, args: Any) -> None:
        if self._seen:
            raise RuntimeError("Expected `take` to be called after every forward pass; the model ran twice")
        self._calls, self.running = {}, True
        for place in self.places():  # here rather than in the hooks: Python is in cache here
            if place.again is not None:
                place.again.make_ready()
        if self._fused is not None:
            self._fused.begin()

    def _end(self, module: nn.Module, args: Any, output: Any) -> None:
        self.running = False
        if self._fused is not None:
            self._fused.end()

    def _before(self, name: str) -> Any:
        def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
            place = self._at.get((name, self._calls.get(name, 0), True))
            if place is not None:
                self.keep(place, module, first_tensor([*args, *kwargs.values()]))

        return hook

    def _after(self, name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            place = self.visit(name)
            if place is not None:
                self.keep(place, module, output if isinstance(output, Tensor) else first_tensor(output))

        return hook

    # ---- for fused layers -------------------------------------------------------------------------------------------

    def visit(self, name: str) -> Place | None:
        """Counts a call of a module, and says where its output is read.

        Raises:
            RuntimeError: If it ran twice since `take`, and not within one pass.
        """
        call = self._calls.get(name, 0)
        self._calls[name] = call + 1
        if call > 0 and not self.running:
            raise RuntimeError(f"Expected layer {name!r} to run once between two calls of `take`; it ran twice")
        return self._at.get((name, call, False))

    def keep(self, place: Place, module: nn.Module, output: Tensor | None) -> None:
        """Reduces one tensor for the labels that read it, or leaves it to the layer that reads it next."""
        if self._fused is not None:
            self._fused.flush()
            if output is not None and self.running and self._fused.hold(place, module, output):
                return
        self.reduce(place, module, output)

    def places(self) -> Iterable[Place]:
        """Every place that is read."""
        return self._at.values()

    def place_of(self, name: str) -> Place | None:
        """Where the output of a module's next call is read."""
        return self._at.get((name, self._calls.get(name, 0), False))

    def looks(self, output: Tensor) -> tuple[Any, ...]:
        """All that a reduction was made ready for."""
        return self.n_views, output.shape, output.stride(), output.dtype, output.device, dispatch.direct(output)

    def note(self, place: Place, stats: Any) -> None:
        """Keeps what was found at a place."""
        kept = TapStats(*stats)
        for site in place.sites:
            self._seen[site.name] = kept

    def pointwise_stats(self, place: Place, x: Tensor, layers: int) -> PointwiseStats | None:
        """How fused layers are run on tensors like this; `None` where they are not."""
        dim, views = place.unit_dim, self.n_views
        if dim is None or views is None or self.clean_first or len(x) % views or dim >= x.ndim:
            return None
        split = x.unflatten(0, (-1, views))
        if not PointwiseStats.takes(split, dim + 1):
            return None
        return PointwiseStats(
            split, unit_dim=dim + 1, pairs=self.pairs, normalize=self.normalize, means=self.means, layers=layers
        )

    # ---- reductions -------------------------------------------------------------------------------------------------

    def reduce(self, place: Place, module: nn.Module, output: Tensor | None) -> None:
        """Reduces one tensor for the labels that read it."""
        start = time.perf_counter()
        if place.again is not None and output is not None and self.looks(output) == place.looks:
            self.note(place, place.again(output))
        else:
            self._reduce_new(place, module, output)
        self.seconds += time.perf_counter() - start

    def _reduce_new(self, place: Place, module: nn.Module, output: Tensor | None) -> None:
        """The same with everything checked."""
        if output is None or output.ndim < 2:
            got = "none" if output is None else f"one of shape {list(output.shape)}"
            raise TypeError(f"Expected layer {place.sites[0].name!r} to return a tensor [N, U, ...], got {got}")
        reduced: dict[int, Any] = {}
        for site in place.sites:
            unit_dim = unit_dimension(module, output.shape) if site.unit_dim is None else site.unit_dim
            if unit_dim not in reduced:
                reduced[unit_dim] = self._reduce(site.name, output.detach(), unit_dim)
            self._seen[site.name] = reduced[unit_dim]
        looks = self.looks(output)
        if looks != place.looks:
            place.again = self._repeat(output.detach(), next(iter(reduced))) if len(reduced) == 1 else None
            place.looks = looks

    def _repeat(self, output: Tensor, unit_dim: int) -> Any:
        """`_reduce` again, without looking; `None` where there is no such way."""
        if self.n_views is None or self.clean_first:
            return None
        x = output.unflatten(0, (-1, self.n_views))
        if not self.means:
            return repeat_alignment(x, pairs=self.pairs, normalize=self.normalize)
        return repeat_layer_stats(x, unit_dim=unit_dim + 1, pairs=self.pairs, normalize=self.normalize)

    def _reduce(self, label: str, output: Tensor, unit_dim: int) -> TapStats:
        if self.n_views is None:
            return TapStats(None, unit_means(output, unit_dim=unit_dim))
        if len(output) % self.n_views:
            raise ValueError(
                f"Expected layer {label!r} to see {self.n_views} views of every point, got {len(output)} rows"
            )
        x = output.unflatten(0, (-1, self.n_views))  # [N, V, *dims]
        options: dict[str, Any] = {"view_dim": 1, "unit_dim": unit_dim + 1}
        if not self.means:
            x = x[:, 1:] if self.clean_first and self.pairs == "all" else x
            return TapStats(alignment(x, pairs=self.pairs, normalize=self.normalize), None)
        if not self.clean_first:
            stats = layer_stats(x, **options, pairs=self.pairs, normalize=self.normalize)
            return TapStats(stats.alignment, stats.unit_means)
        clean = unit_means(x[:, 0], unit_dim=unit_dim)
        if self.pairs == "all":
            stats = layer_stats(x[:, 1:], **options, normalize=self.normalize)
            return TapStats(stats.alignment, stats.unit_means, clean)
        stats = layer_stats(x, **options, pairs=self.pairs, normalize=self.normalize)
        return TapStats(stats.alignment, unit_means(x[:, 1:], **options), clean)
