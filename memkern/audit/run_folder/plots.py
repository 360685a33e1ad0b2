"""Figures of a finished audit, for notebooks; the report has its own charts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from memkern._util.figures import new_figure
from memkern._util.text import printable
from memkern.audit.run_folder.arrays import RunArrays
from memkern.errors import ArgumentValueError, RunFolderError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GROUPS = ("candidate", "shared", "independent", "extra", "others")
"""Groups in the order of the figure; "others" are images of which nothing is known."""

NO_REFERENCE = (
    "Expected an audit with a reference encoder, got one without: it has no LayerMem and no SSLMem to draw; "
    'plot("units") needs none'
)


def plot(data: RunArrays, what: str) -> Figure:
    """Draws one of `PLOTS`.

    Args:
        data: The audit.
        what: "layers", "groups" or "units", as `Run.plot` describes them.

    Returns:
        The figure.

    Raises:
        ArgumentValueError: If `what` is none of them.
        RunFolderError: If there is no reference encoder, and so nothing to draw.
        MissingPackageError: If matplotlib is missing.
    """
    if what not in PLOTS:
        raise ArgumentValueError(f'Expected what to be "layers", "groups" or "units", got {what!r}')
    return PLOTS[what](data)


def _layers(data: RunArrays) -> Figure:
    scored, control, excess, se = (
        data.scored_column("layermem"), *(data.column(f) for f in ("layermem_control", "layermem_excess", "se"))
    )  # fmt: skip
    if not np.isfinite(scored).any():
        raise RunFolderError(NO_REFERENCE)
    names = [str(name) for name in data.layers["layer"]]
    figure = new_figure(_width(names), 4, extra="audit")
    axes = figure.subplots()
    of_candidates = np.isfinite(data.column("layermem_candidates")).any()
    places = np.arange(len(names))
    lines = {"candidates" if of_candidates else "all images": scored, "control": control, "excess": excess}
    lines = {name: values for name, values in lines.items() if np.isfinite(values).any()}
    sure_of = "excess" if "excess" in lines else next(iter(lines))  # whose standard error `se` is
    for name, values in lines.items():
        if name == sure_of and np.isfinite(se).any():
            axes.errorbar(places, values, se, fmt="o-", capsize=3, label=f"{name} ± standard error")
        else:
            axes.plot(places, values, "o-", label=name)
    axes.axhline(0, color="0.7", linewidth=0.8, zorder=0)
    _name_places(axes, names)
    axes.set_ylabel("LayerMem")
    axes.legend(fontsize=8)
    return figure


def _groups(data: RunArrays) -> Figure:
    if data.sslmem is None:
        raise RunFolderError(NO_REFERENCE)
    group = [
        name or ("candidate" if candidate else "others")
        for name, candidate in zip(data.group, data.candidate, strict=True)
    ]
    finite = np.isfinite(data.sslmem)
    found = {name: data.sslmem[finite & (np.asarray(group) == name)] for name in GROUPS}
    found = {name: values for name, values in found.items() if len(values)}
    names = [f"{name} ({len(values)})" for name, values in found.items()]
    figure = new_figure(_width(names), 4, extra="audit")
    axes = figure.subplots()
    axes.boxplot(list(found.values()), positions=range(len(found)))
    axes.axhline(0, color="0.7", linewidth=0.8, zorder=0)
    _name_places(axes, names)
    axes.set_xlabel("group (images)")
    axes.set_ylabel("SSLMem")
    _say_left_out(axes, int((~finite).sum()), "images without a score")
    return figure


def _units(data: RunArrays) -> Figure:
    bounded = {name: units.unitmem[(units.unitmem >= 0) & (units.unitmem <= 1)] for name, units in data.units.items()}
    names = list(bounded)
    figure = new_figure(_width(names), 4, extra="audit")
    axes = figure.subplots()
    axes.boxplot(list(bounded.values()), positions=range(len(names)), flierprops={"marker": "."})
    _name_places(axes, names)
    axes.set_ylabel("UnitMem")
    left_out = sum(len(units.unitmem) for units in data.units.values()) - sum(map(len, bounded.values()))
    _say_left_out(axes, left_out, "units without a score from 0 to 1")
    return figure


PLOTS: dict[str, Callable[[RunArrays], Figure]] = {"layers": _layers, "groups": _groups, "units": _units}
"""What -> how it is drawn."""


def _width(names: Sequence[str]) -> float:
    """Inches that so many places take."""
    return min(max(5.0, 1.5 + 0.3 * len(names)), 24.0)


def _name_places(axes: Axes, names: Sequence[str]) -> None:
    """Writes names below the places 0, 1, 2; of many every second or third and so on."""
    step = -(-len(names) // 80)
    shown = [printable(name) for name in names[::step]]
    axes.set_xticks(range(0, len(names), step), shown, rotation=45, ha="right", parse_math=False, fontsize=8)


def _say_left_out(axes: Axes, count: int, what: str) -> None:
    if count:
        axes.set_title(f"{count} {what} are left out", fontsize=8)
