"""Reads layers of a model while it runs, and keeps only what an audit needs of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple

from torch import Tensor, nn

from memkern.ops.layer_stats import layer_stats
from memkern.ops.unit_means import unit_means


class TapStats(NamedTuple):
    """What is kept of one layer.

    Attributes:
        alignment: Mean l2 distance between the unit-length views of each point, `[N]`; `None` without views.
        unit_means: Mean activation of each unit, over views and space, `[N, U]`.
    """

    alignment: Tensor | None
    unit_means: Tensor


class Tap:
    """Forward hooks that reduce each layer's output inside the hook.

    Inside the `with` block the model is in eval mode; leaving it removes the hooks and puts every submodule
    back into the mode it was in. The output of a layer must have the batch first and the units second,
    `[N * V, U, *space]`.

    Args:
        model: The model; a wrapper made by `torch.compile` is unwrapped (hooks do not fire in compiled code,
            so run the attribute `model` of the tap).
        layers: Name to report -> name of the submodule, or a list of submodule names.
        n_views: Number of views V of each point; the batch holds the views of one point next to each other.
            `None`: one row per point, no views, no alignment.

    Raises:
        ValueError: If there are no layers, the model lacks one of them, or `n_views` is below 2.

    Example:
        >>> from torch import nn, ones
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
        >>> with Tap(model, {"hidden": "0"}, n_views=4) as tap:
        ...     _ = tap.model(ones(8, 2))
        >>> tap.take()["hidden"].unit_means.shape
        torch.Size([2, 3])
    """

    def __init__(self, model: nn.Module, layers: Mapping[str, str] | Sequence[str], *, n_views: int | None) -> None:
        inner = getattr(model, "_orig_mod", model)
        self.model: nn.Module = inner
        self.layers = dict(layers) if isinstance(layers, Mapping) else {name: name for name in layers}
        self.n_views = n_views
        if n_views is not None and n_views < 2:
            raise ValueError(f"Expected `n_views` to be None or 2 or more, got {n_views}")
        modules = dict(self.model.named_modules())
        missing = [name for name in self.layers.values() if name not in modules]
        if missing or not self.layers:
            raise ValueError(f"Expected `layers` to name submodules of the model, got {missing or 'no layers'}")
        self._modules = {label: modules[name] for label, name in self.layers.items()}
        self._seen: dict[str, TapStats] = {}
        self._handles: list[Any] = []
        self._modes: list[tuple[nn.Module, bool]] = []

    def __enter__(self) -> Tap:
        self._modes = [(module, module.training) for module in self.model.modules()]
        self.model.eval()
        for label, module in self._modules.items():
            self._handles.append(module.register_forward_hook(self._hook(label)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        for module, mode in self._modes:
            module.training = mode
        self._handles, self._modes = [], []
        if kind is not None:
            self._seen = {}  # a pass that broke off says nothing

    def take(self) -> dict[str, TapStats]:
        """Returns the statistics of the last forward pass, in the order of `layers`, and forgets them.

        Raises:
            RuntimeError: If a layer did not run since the last call; the message names it.
        """
        silent = [label for label in self.layers if label not in self._seen]
        if silent:
            raise RuntimeError(f"Expected every tapped layer to run in the forward pass; these did not: {silent}")
        seen, self._seen = self._seen, {}
        return {label: seen[label] for label in self.layers}

    def _hook(self, label: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            if not isinstance(output, Tensor) or output.ndim < 2:
                raise TypeError(f"Expected layer {label!r} to return a tensor [N, U, ...], got {type(output).__name__}")
            if label in self._seen:
                raise RuntimeError(f"Expected layer {label!r} to run once between two calls of `take`; it ran twice")
            self._seen[label] = self._reduce(label, output.detach())

        return hook

    def _reduce(self, label: str, output: Tensor) -> TapStats:
        if self.n_views is None:
            return TapStats(None, unit_means(output, unit_dim=1))
        if len(output) % self.n_views:
            raise ValueError(
                f"Expected layer {label!r} to see {self.n_views} views of every point, got {len(output)} rows"
            )
        stats = layer_stats(output.unflatten(0, (-1, self.n_views)), view_dim=1, unit_dim=2)
        return TapStats(stats.alignment, stats.unit_means)
