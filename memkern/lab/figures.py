"""Pictures of an audit that a person can look at. No pyplot: nothing global is touched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from memkern._util.files import replace_atomically
from memkern._util.optional_imports import require
from memkern.lab.data.packaged import ImageSet
from memkern.lab.data.splits import GROUPS
from memkern.lab.encoders.resnet9 import CONV_TAPS
from memkern.lab.measure import Audit

COLORS = {"shared": "#4477aa", "candidate": "#cc3311", "independent": "#228833", "extra": "#888888"}


def draw_all(audit: Audit, data: ImageSet, folder: Path) -> list[Path]:
    """Draws every picture of an audit as PNG.

    Args:
        audit: What was measured.
        data: The images, for the gallery.
        folder: Where to write.

    Returns:
        The files written: `groups.png`, `layers.png`, `units.png`, `gallery.png`.

    Raises:
        ImportError: If matplotlib is missing.
    """
    drawings = {
        "groups": groups(audit),
        "layers": layers(audit),
        "units": units(audit),
        "gallery": gallery(audit, data),
    }
    written = []
    for name, figure in drawings.items():
        path = folder / f"{name}.png"
        with replace_atomically(path) as part:
            figure.savefig(part, dpi=120)
        written.append(path)
    return written


def groups(audit: Audit) -> Any:
    """Draws the SSLMem of every image, one column a group, with the group's mean."""
    figure, axes = _figure(7, 4)
    jitter = torch.Generator().manual_seed(0)
    for column, name in enumerate(GROUPS):
        score = audit.sslmem[audit.of(name)]
        x = column + 0.5 * (torch.rand(len(score), generator=jitter) - 0.5)
        axes.scatter(x.numpy(), score.numpy(), s=14, alpha=0.6, color=COLORS[name], linewidths=0)
        axes.hlines(audit.means[name], column - 0.35, column + 0.35, color="black", linewidth=2)
        axes.annotate(f"{audit.means[name]:+.3f}", (column + 0.37, audit.means[name]), va="center", fontsize=9)
    axes.axhline(0, color="black", linewidth=0.6)
    seen = {"shared": "f and g", "candidate": "f only", "independent": "g only", "extra": "neither"}
    axes.set_xticks(range(len(GROUPS)), [f"{name}\n(seen by {seen[name]})" for name in GROUPS])
    axes.set_ylabel("SSLMem = A_g − A_f")
    axes.set_title("Memorization of single images")
    return figure


def layers(audit: Audit) -> Any:
    """Draws LayerMem of every group, and mean UnitMem and ClassMem, against depth."""
    figure, (left, right) = _figure(11, 4, columns=2)
    names = [layer.name for layer in audit.layers]
    for name in GROUPS:
        left.plot(names, [layer.layermem[name] for layer in audit.layers], "o-", color=COLORS[name], label=name)
    left.axhline(0, color="black", linewidth=0.6)
    left.set_ylabel("LayerMem")
    left.set_title("LayerMem by layer and group")
    left.legend()
    convs = [layer for layer in audit.layers if layer.name in CONV_TAPS]
    right.plot([layer.name for layer in convs], [layer.unitmem for layer in convs], "o-", label="UnitMem")
    right.plot([layer.name for layer in convs], [layer.classmem for layer in convs], "s-", label="ClassMem")
    right.set_ylim(bottom=0)
    right.set_title("Mean over the units of f")
    right.legend()
    for axes in (left, right):
        axes.tick_params(axis="x", labelrotation=45)
    return figure


def units(audit: Audit) -> Any:
    """Draws UnitMem against ClassMem, one dot a unit, one panel a convolution."""
    figure, grid = _figure(12, 6.4, rows=2, columns=4)
    for axes, name in zip(grid.flat, CONV_TAPS, strict=True):
        axes.scatter(audit.unitmem[name].numpy(), audit.classmem[name].numpy(), s=6, alpha=0.6, linewidths=0)
        axes.plot([0, 1], [0, 1], color="black", linewidth=0.6)
        share = float((audit.unitmem[name] > audit.classmem[name]).float().mean())
        axes.set_title(f"{name}: UnitMem > ClassMem\nin {share:.0%} of the units", fontsize=9)
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="UnitMem", ylabel="ClassMem")
    return figure


def gallery(audit: Audit, data: ImageSet, count: int = 10) -> Any:
    """Draws the most and the least memorized candidates."""
    order = ranked_candidates(audit)
    count = min(count, len(order) // 2)
    figure, grid = _figure(1.25 * count, 3.4, rows=2, columns=count)
    for row, (title, chosen) in enumerate((("most", order[:count]), ("least", order.flip(0)[:count]))):
        for axes, place in zip(grid[row], chosen.tolist(), strict=True):
            axes.imshow(data.images[audit.ids[place]].permute(1, 2, 0).numpy())
            axes.set_axis_off()
            picture = data.label_names[int(audit.labels[place])].split("_")[0][:10]
            axes.set_title(f"{float(audit.sslmem[place]):+.3f}\n{picture}", fontsize=8)
        grid[row][0].text(-6, 16, f"{title} memorized", rotation=90, va="center", ha="center", fontsize=9)
    return figure


def ranked_candidates(audit: Audit) -> Tensor:
    """Returns the positions of the candidates in the audit, most memorized first, int64."""
    places = audit.of("candidate")
    return places[audit.sslmem[places].argsort(descending=True, stable=True)]


def _figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Any, Any]:
    figure = require("matplotlib.figure", "matplotlib", extra="lab").Figure(
        figsize=(width, height), layout="constrained"
    )
    return figure, figure.subplots(rows, columns, squeeze=rows * columns == 1 or rows == 1)
