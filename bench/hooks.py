"""Forward hooks on every convolution, norm and activation of an encoder: their time beside the rest of the forward."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import memkern
from bench import load, peers, roofline
from memkern.reference import layer_stats as reference

Reduce = Callable[[Tensor], Any]  # activations [N, V, U, H, W] -> what is kept of them


def _gram(x: Tensor) -> Tensor:
    return peers.unit(peers.gram)(x.flatten(2))


def _rows(x: Tensor) -> Tensor:
    return peers.unit(peers.row_loop)(x.flatten(2))


KINDS: dict[str, tuple[str, Reduce]] = {  # name -> role, what a hook does
    "memkern": ("ours", memkern.layer_stats),
    "memkern alignment alone": ("variant", memkern.alignment),
    "memkern unit_means alone": ("variant", lambda x: memkern.unit_means(x, view_dim=1, unit_dim=2)),
    "memkern alignment, then unit_means": (
        "variant", lambda x: (memkern.alignment(x), memkern.unit_means(x, view_dim=1, unit_dim=2))),
    "torch mean": ("peer", lambda x: x.mean((1, 3, 4))),
    "torch gram": ("peer", _gram),
    "torch mean + gram": ("peer", lambda x: (_gram(x), x.mean((1, 3, 4)))),
    "torch mean + row loop": ("peer", lambda x: (_rows(x), x.mean((1, 3, 4)))),
    "empty hooks": ("yardstick", lambda x: None),
}  # fmt: skip


def _model(name: str) -> nn.Module:
    torch.manual_seed(0)
    if name == "resnet9":
        from memkern.lab.encoders.resnet9 import ResNet9

        return ResNet9().eval().to(memory_format=torch.channels_last)
    from torchvision.models import resnet18

    return resnet18().eval()


class HookedForward:
    """One encoder and batch; every kind of hook in turn, on all layers at once.

    Args:
        text: Model, images x views and image side, such as "resnet9 16x10 32".
    """

    def __init__(self, text: str) -> None:
        name, batch, side = text.split(" ")
        self.text, (self.images, self.views) = text, map(int, batch.split("x"))
        self.model = _model(name)
        x = torch.randn(self.images * self.views, 3, int(side), int(side), generator=torch.Generator().manual_seed(0))
        self.input = x.to(memory_format=torch.channels_last) if name == "resnet9" else x
        kinds = (nn.Conv2d, nn.BatchNorm2d, nn.ReLU)
        self.layers = [module for module in self.model.modules() if isinstance(module, kinds)]
        self.spent = self.bytes = self.calls = 0
        self.shares: dict[str, list[float]] = {kind: [] for kind in KINDS}
        self.hooks_ms: dict[str, list[float]] = {kind: [] for kind in KINDS}
        self.forward_ms: dict[str, list[float]] = {kind: [] for kind in (*KINDS, "no hooks")}
        self.errors: dict[str, float] = {}
        self.load = load.Rounds()

    def _forward(self, reduce: Reduce | None) -> float:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            start = time.perf_counter()
            reduce(output.unflatten(0, (self.images, self.views)))
            self.spent += time.perf_counter() - start
            self.bytes += output.numel() * output.element_size()
            self.calls += 1

        self.spent = self.bytes = self.calls = 0
        handles = [layer.register_forward_hook(hook) for layer in self.layers] if reduce else []
        try:
            with torch.inference_mode():
                start = time.perf_counter()
                self.model(self.input)
                return time.perf_counter() - start
        finally:
            for handle in handles:
                handle.remove()

    def check(self) -> None:
        """Compares the results of every kind with float64 on every layer, before anything is timed."""
        for kind, (_, reduce) in KINDS.items():
            worst = 0.0

            def checked(x: Tensor, reduce: Reduce = reduce) -> None:
                nonlocal worst
                found = reduce(x)
                if found is None:
                    return
                alignment, means = reference(x)
                parts = tuple(found) if isinstance(found, tuple) else (found,)
                for part in parts:
                    truth = alignment if part.dim() == 1 else means
                    # Means of signed activations cancel: their error counts relative to the layer's largest mean.
                    scale = truth.abs() if part.dim() == 1 else truth.abs().max()
                    error = ((part.double() - truth).abs() / scale.clamp_min(1e-30)).max()
                    worst = max(worst, float(error)) if error == error else float("nan")

            self._forward(checked)
            self.errors[kind] = worst

    def round(self) -> None:
        """One forward pass with each kind of hooks, and one without."""
        self.load.before()
        self.forward_ms["no hooks"].append(1e3 * self._forward(None))
        for kind, (_, reduce) in KINDS.items():
            whole = self._forward(reduce)
            self.forward_ms[kind].append(1e3 * whole)
            self.hooks_ms[kind].append(1e3 * self.spent)
            self.shares[kind].append(100 * self.spent / (whole - self.spent))
            if self.spent and self.calls:
                self.kept_bytes, self.kept_calls = self.bytes, self.calls
        self.load.after()

    def result(self) -> dict[str, Any]:
        """The case: per kind, the time in all hooks and its share of the rest of the same forward pass."""
        rows, rounds = [], self.load.kept(3)
        for times in (self.shares, self.hooks_ms, self.forward_ms):
            times.update({kind: [each[number] for number in rounds] for kind, each in times.items()})
        for kind, (role, _) in KINDS.items():
            low, middle, high = np.percentile(self.hooks_ms[kind], [25, 50, 75])
            factors = [a / b for a, b in zip(self.hooks_ms[kind], self.hooks_ms["memkern"], strict=True)]
            error = self.errors[kind]
            accurate = bool(error <= 1e-4)
            row = {
                "peer": kind, "role": role, "error": None if kind == "empty hooks" else error, "accurate": accurate,
                "status": "ok" if role != "ours" or accurate else f"wrong: error {error:.1e}",
                "ms": middle, "ms_q25": low, "ms_q75": high, "samples": len(factors), "inner": 1,
                "gbs": self.kept_bytes / middle / 1e6, "share": float(np.median(self.shares[kind])),
                "factor": float(np.median(factors)), "forward_ms": float(np.median(self.forward_ms[kind])),
            }  # fmt: skip
            rows.append(row)
        bare = float(np.median(self.forward_ms["no hooks"]))
        name, batch, side = self.text.split(" ")
        return {
            "op": "forward hooks", "shape": f"{name} {batch} at {side} px", "dtype": "float32",
            "layout": "channels-last" if name == "resnet9" else "NCHW", "variant": "", "bytes": self.kept_bytes,
            "size": roofline.size_class(self.kept_bytes), "views": self.views, "read_by": "", "budget": 0.0,
            **self.load.record(rounds),
            "note": f"{self.kept_calls} hooked layers, {self.kept_bytes / 1e6:.0f} MB of activations; the forward pass "
            f"without hooks takes {bare:.1f} ms. Share: time in the hooks, in percent of the rest of the same pass.",
            "rows": rows,
        }  # fmt: skip
