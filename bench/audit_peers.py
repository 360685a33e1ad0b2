"""What an audit is timed beside: the procedure of the released scripts, and a good plain-torch program."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.torchvision_views import as_torchvision
from memkern.audit.measure.job import Job
from memkern.transforms import PRESETS

VIEWS = 10
SCRIPT_ROUNDS = 5  # the scripts compare the image with five views


def nets_of(job: Job) -> dict[str, nn.Module]:
    """The encoders of a job by name; they all stay in memory."""
    with job.encoders.on_device(range(len(job.encoders))) as nets:
        return dict(nets)


# ---- (b) good eager -------------------------------------------------------------------------------------------------


class Eager:
    """Batched passes with hooks; the reductions are torch's.

    Args:
        job: The layers and the encoders.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.kept: dict[str, tuple[Tensor, Tensor]] = {}

    def __call__(self, draw: Callable[[int, int], Tensor]) -> dict[str, Tensor]:
        """Measures all images; `draw(first, last)` gives the views of a batch `[B * V, 3, h, w]`."""
        total, size = len(self.job.source), self.job.batch_size
        nets = nets_of(self.job)
        alignment: dict[str, list[Tensor]] = {"f": [], "g": []}
        means: list[Tensor] = []
        with torch.inference_mode():
            for start in range(0, total, size):
                views = draw(start, min(start + size, total))
                for role, encoder in nets.items():
                    found = self._pass(encoder, views)
                    alignment[role].append(torch.stack([part[0] for part in found.values()]))
                    if role == "f":
                        means.append(torch.cat([part[1] for part in found.values()], 1))
        a_f, a_g, every = torch.cat(alignment["f"], 1), torch.cat(alignment["g"], 1), torch.cat(means)
        peak, _ = every.max(0)
        rest = (every.sum(0) - peak) / (len(every) - 1)
        return {
            "sslmem": a_g[-1] - a_f[-1],
            "layermem": ((a_g - a_f) / (a_g + a_f)).mean(1),
            "unitmem": (peak - rest) / (peak + rest),
            "alignment_f": a_f,
        }

    def _pass(self, encoder: nn.Module, views: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        modules, self.kept, handles = dict(encoder.named_modules()), {}, []
        for name in dict.fromkeys(hook_point.module for hook_point in self.job.layers[0].hook_points):
            handles.append(modules[name].register_forward_hook(self._hook(name)))
        encoder(views)
        for handle in handles:
            handle.remove()
        return self.kept

    def _hook(self, name: str) -> Any:
        hook_points = [each for each in self.job.layers[0].hook_points if each.module == name]
        calls = iter(range(100))

        def hook(module: nn.Module, args: Any, output: Tensor) -> None:
            call = next(calls)
            for each in hook_points:
                if each.call == call:
                    self.kept[each.name] = reduced(output.unflatten(0, (-1, VIEWS)), int(each.unit_dim or 1))

        return hook


def reduced(x: Tensor, unit_dim: int) -> tuple[Tensor, Tensor]:
    """Alignment `[N]` and unit means `[N, U]` of `[N, V, …]` with torch."""
    z = nn.functional.normalize(x.flatten(2), dim=2)
    first, second = torch.triu_indices(VIEWS, VIEWS, 1)
    total = sum(torch.linalg.vector_norm(z[:, i] - z[:, j], dim=1) for i, j in zip(first, second, strict=True))
    space = [dim for dim in range(1, x.ndim) if dim != unit_dim + 1]
    assert isinstance(total, Tensor)
    return total / len(first), x.mean(space)


def torchvision_draw(pictures: Tensor, edge: int) -> Callable[[int, int], Tensor]:
    """Views drawn by torchvision, image by image, because one call draws one set of parameters."""
    transform = as_torchvision(PRESETS["simclr"], edge)

    def draw(first: int, last: int) -> Tensor:
        rows = [transform(image) for image in pictures[first:last].cpu() for _ in range(VIEWS)]
        return torch.stack(rows).to(pictures.device, memory_format=torch.channels_last)

    return draw


# ---- (a) the released scripts' procedure ----------------------------------------------------------------------------


def scripts(job: Job, pictures: Tensor, images: int, layers: list[int]) -> float:
    """Seconds per image and layer of the scripts' procedure, on a few images and layers."""
    from torchvision.transforms import v2

    transform = as_torchvision(PRESETS["simclr"], pictures.shape[-1])
    nets = nets_of(job)
    start = time.perf_counter()
    for layer in layers:
        hook_point = job.layers[0].hook_points[layer]
        outputs: list[Tensor] = []

        def keep(module: nn.Module, args: Any, output: Tensor, outputs: list[Tensor] = outputs) -> None:
            outputs.append(output)

        modules = [dict(net.named_modules())[hook_point.module] for net in nets.values()]
        handles = [module.register_forward_hook(keep) for module in modules]

        def represented(net: nn.Module, x: Tensor, outputs: list[Tensor] = outputs) -> Tensor:
            outputs.clear()
            net(x[None])
            return outputs[0]

        for image in pictures[:images]:
            clean = v2.functional.normalize(image.float() / 255, [0.5] * 3, [0.5] * 3)
            gaps = []
            for _ in range(SCRIPT_ROUNDS):
                view = transform(image)
                found = [represented(net, x) for net in (nets["g"], nets["f"]) for x in (clean, view)]
                flat = [each.detach().cpu().numpy().reshape(-1) for each in found]
                unit = [each / np.linalg.norm(each) for each in flat]
                gaps.append(np.linalg.norm(unit[0] - unit[1]) - np.linalg.norm(unit[2] - unit[3]))
                np.mean(gaps)
            rows = []
            for _ in range(VIEWS):
                output = represented(nets["f"], transform(image)).detach().cpu().numpy()
                rows.append(output.mean(tuple(range(2, output.ndim))))
            np.mean(rows, 0)
        for handle in handles:
            handle.remove()
    return (time.perf_counter() - start) / (images * len(layers))
