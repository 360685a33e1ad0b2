"""Names the layers to fine-tune or the units to prune by what an audit found, and how sure each choice is."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from statistics import NormalDist

import numpy as np
import torch
from torch import nn

from memkern._util.optional_imports import require
from memkern._util.text import did_you_mean, first_of, printable
from memkern.audit.encoders.build import build_encoder
from memkern.audit.interventions.units import submodules, unit_rows
from memkern.audit.run_folder.arrays import Floats, read_arrays
from memkern.audit.run_folder.reader import Run
from memkern.errors import ArgumentValueError, DataError, MemkernError

ERROR = 0.05
"""Probability that an interval of any layer misses, or that any two layers are told apart wrongly."""


@dataclass(frozen=True)
class AdvisedLayer:
    """A layer to fine-tune.

    Attributes:
        layer: Its name.
        excess: LayerMem beyond the control, which is what memorization makes.
        low: Lower end of its interval over images and trainings; NaN with one training in a role. All intervals of an
            audit hold at once with 95 % (Bonferroni), so that they hold for the layers that stood out, too.
        high: Upper end.
        apart: Whether the best layer that was not chosen is told apart from it, over all pairs of layers; `None` where
            nobody can know. Errors that two layers share are counted twice, so the answer is no too often, never yes.
    """

    layer: str
    excess: float
    low: float
    high: float
    apart: bool | None


@dataclass(frozen=True)
class AdvisedUnits:
    """Units of a layer to prune.

    Attributes:
        layer: Its name.
        units: Indices of the units, by falling UnitMem.
        unitmem: The lowest UnitMem among them.
        next: The highest UnitMem of a unit that was not chosen; NaN if all were.
        members: Share of them whose strongest image the encoder was trained on; NaN where that is not known.
        expected: The same share of all its units with a known image.
    """

    layer: str
    units: tuple[int, ...]
    unitmem: float
    next: float
    members: float
    expected: float


@dataclass(frozen=True)
class Advice:
    """Choice of layers to fine-tune, or of units to prune.

    Attributes:
        encoder: Name of the encoder in the audit; "" of layers, which are those of all encoders.
        layers: The layers to fine-tune, the one that memorizes most first; empty for units.
        units: The units to prune, layer by layer in forward order; empty for layers.
        notes: Sentences about what was left out, and what the choice does not say.
    """

    encoder: str
    layers: tuple[AdvisedLayer, ...] = ()
    units: tuple[AdvisedUnits, ...] = ()
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """Returns what JSON holds: `layers`, as `finetune_layers` takes them, or `units`, as `prune_units` does.

        Returns:
            The choice under `layers` or `units`, and everything else under `why` and `notes`; NaN is `None`.
        """
        chosen: dict[str, object] = (
            {"layers": [each.layer for each in self.layers]}
            if self.layers
            else {"units": {each.layer: list(each.units) for each in self.units}}
        )
        records = [asdict(each) for each in self.layers] + [asdict(each) for each in self.units]
        why = [{key: _json(value) for key, value in record.items()} for record in records]
        return {**chosen, "encoder": self.encoder, "why": why, "notes": list(self.notes)}

    def __str__(self) -> str:
        return "\n".join([*map(_line_of_layer, self.layers), *map(_line_of_units, self.units), *self.notes])


def advise_layers(run: Run, n: int, *, layers: str = "*") -> Advice:
    """Names the layers that memorize most, to fine-tune them: those with the highest LayerMem beyond the control.

    Layers without parameters are left out, and of a layer and one inside it the one with more is taken.

    Args:
        run: A finished audit with a control.
        n: How many layers.
        layers: Globs, separated by commas, of the layers to choose from.

    Returns:
        The layers, and how sure the choice is.

    Raises:
        ArgumentValueError: If `n` is not between 1 and the number of layers to choose from.
        DataError: If the audit has no control, so that a high score may be a tight encoder.
    """
    data = read_arrays(run)
    if data.significance is None or data.significance.method == "none":
        raise DataError(
            f"Expected an audit with a control (--groups with extra images, or --encoders), got {run.folder}, whose "
            "LayerMem may be that of a tight encoder"
        )
    module_of, notes = _modules(run, lambda layer, module: any(True for _ in module.parameters()), "parameters")
    excess, high, se = (data.column(name) for name in ("layermem_excess", "high", "se"))
    places = [i for i, name in enumerate(data.layers["layer"]) if _fits(name, layers) and module_of(name)]
    places = [i for i in places if math.isfinite(excess[i])]
    order: list[int] = []
    for i in sorted(places, key=lambda i: -excess[i]):
        if not any(_inside(data.layers["layer"][i], data.layers["layer"][j]) for j in order):
            order.append(i)
    if not 1 <= n <= len(order):
        raise ArgumentValueError(f"Expected `n` in [1, {len(order)}], the layers to choose from, got {n}")
    rest = order[n] if n < len(order) else None
    pairs = max(1, len(places) * (len(places) - 1))
    quantile = NormalDist().inv_cdf(1 - ERROR / pairs)  # two-sided, over pairs / 2 comparisons
    chosen = []
    for i in order[:n]:
        error = math.nan if rest is None else math.hypot(float(se[i]), float(se[rest]))
        apart = bool(excess[i] - excess[rest] > quantile * error) if rest is not None and math.isfinite(error) else None
        reach = _reach(float(se[i]), float(high[i] - excess[i]), len(places))
        name, value = data.layers["layer"][i], float(excess[i])
        chosen.append(AdvisedLayer(name, value, value - reach, value + reach, apart))
    if rest is not None:
        name = printable(data.layers["layer"][rest])
        notes.append(f"The next is {name}, with {float(excess[rest]):+.4f}.")
    if not np.isfinite(se[order[:n]]).all():
        notes.append("There is no error: one training in a role cannot show how much trainings differ.")
    return Advice("", layers=tuple(chosen), notes=tuple(notes))


def advise_units(run: Run, share: float, *, layers: str = "*", encoder: str = "") -> Advice:
    """Names the most selective units of each layer, to prune them: those with the highest UnitMem.

    Layers whose units have no weights of their own are left out, and units whose UnitMem is undefined or has no bounds
    (`--activation relu` or `abs` gives every unit a bounded one).

    Args:
        run: A finished audit.
        share: Part of the units of each layer, above 0 and at most 1; at least one unit is named.
        layers: Globs, separated by commas, of the layers to choose from.
        encoder: Name of the encoder in the audit; default: the first, whose units the tables begin with.

    Returns:
        The units of each layer, and whether their strongest images are ones that the encoder saw.

    Raises:
        ArgumentValueError: If `share` is out of bounds, or there is no such encoder or layer.
    """
    if not 0 < share <= 1:
        raise ArgumentValueError(f"Expected `share` in (0, 1], got {share}")
    table = run.units.to_pydict()
    known = list(dict.fromkeys(table["encoder"]))
    name = encoder or known[0]
    if name not in known:
        near = did_you_mean(name, known) or f"; its encoders are {first_of(known)}"
        raise ArgumentValueError(f"Expected `encoder` to be in the audit, got {name!r}{near}")
    module_of, notes = _modules(run, _prunable, "units with weights of their own")
    own = np.array([each == name for each in table["encoder"]])
    layer_of, member = np.array(table["layer"], dtype=object), _members(run, name)
    peak = np.array([member.get(each, math.nan) for each in table["peak_index"]])
    unitmem = np.array([math.nan if each is None else each for each in table["unitmem"]], dtype=np.float64)
    bounded = np.isfinite(unitmem) & ~np.array(table["signed"], dtype=bool)
    chosen: list[AdvisedUnits] = []
    for layer in run.layers["layer"].to_pylist():
        rows = np.flatnonzero(own & (layer_of == layer))
        if not len(rows) or not _fits(layer, layers) or not module_of(layer):
            continue
        able = rows[bounded[rows]]
        if not len(able):
            notes.append(f"{printable(layer)} was left out: none of its {len(rows)} units has a bounded UnitMem.")
            continue
        order = able[np.argsort(-unitmem[able], kind="stable")]
        count = min(len(order), max(1, round(share * len(rows))))
        units = tuple(table["unit"][row] for row in order[:count])
        following = float(unitmem[order[count]]) if count < len(order) else math.nan
        shares = (_mean(peak[order[:count]]), _mean(peak[rows]))
        chosen.append(AdvisedUnits(layer, units, float(unitmem[order[count - 1]]), following, *shares))
    if not chosen:
        raise ArgumentValueError(f"Expected `layers` to match a layer whose units can be pruned, got {layers!r}")
    notes.append("UnitMem says how selective units are; that they peak at images that were seen speaks for memory.")
    return Advice(name, units=tuple(chosen), notes=tuple(notes))


def _reach(se: float, reach: float, layers: int) -> float:
    """Widens half a 95 % interval of one layer so that those of all layers hold at once."""
    if not (math.isfinite(se) and se > 0 and math.isfinite(reach)):
        return math.nan
    t, brentq = require("scipy.stats", "scipy").t, require("scipy.optimize", "scipy").brentq
    # The tables have no degrees of freedom; the interval tells them.
    factor, most = reach / se, 1e6
    df = most if factor <= t.ppf(0.975, most) else brentq(lambda df: t.ppf(0.975, df) - factor, 0.5, most)
    return float(t.ppf(1 - ERROR / (2 * layers), df)) * se


def _json(value: object) -> object:
    return None if isinstance(value, float) and math.isnan(value) else value


def _modules(run: Run, wanted: Callable[[str, nn.Module], bool], what: str) -> tuple[Callable[[str], bool], list[str]]:
    """Makes a test of which layers can be changed, by the encoder that the audit names, and notes on the test."""
    text = run.manifest.encoders[0].encoder if run.manifest.encoders else run.manifest.encoder
    try:
        with torch.device("meta"):
            encoder = build_encoder(text)
    except (MemkernError, OSError, RuntimeError, NotImplementedError):
        return lambda layer: True, [f"Layers without {what} may be among them: {text!r} cannot be built here."]

    def fits(layer: str) -> bool:
        try:
            return wanted(layer, submodules(encoder, [layer])[layer])
        except MemkernError:
            return False

    return fits, []


def _prunable(layer: str, module: nn.Module) -> bool:
    return bool(unit_rows(layer, module, []))


def _fits(layer: str, patterns: str) -> bool:
    return any(fnmatch.fnmatchcase(layer, each.strip()) for each in patterns.split(","))


def _inside(one: str, other: str) -> bool:
    return one.startswith(f"{other}.") or other.startswith(f"{one}.")


def _members(run: Run, encoder: str) -> Mapping[int, float]:
    """Index of an image -> 1.0 if the encoder saw it, 0.0 if not; without those of which nobody knows."""
    samples = run.samples
    if f"member/{encoder}" not in samples.column_names:
        return {}
    seen = samples[f"member/{encoder}"].to_pylist()
    pairs = zip(samples["index"].to_pylist(), seen, strict=True)
    return {index: float(value) for index, value in pairs if value in (0, 1)}


def _mean(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else math.nan


def _line_of_layer(layer: AdvisedLayer) -> str:
    interval = f" [{layer.low:+.4f}, {layer.high:+.4f}]" if math.isfinite(layer.low) else ""
    apart = {True: "  told apart from the next", False: "  not told apart from the next", None: ""}[layer.apart]
    return f"{printable(layer.layer):<32} LayerMem {layer.excess:+.4f}{interval}{apart}"


def _line_of_units(layer: AdvisedUnits) -> str:
    least = f"UnitMem from {layer.unitmem:.3f}, the next {layer.next:.3f}"
    line = f"{printable(layer.layer):<32} {len(layer.units):>4} units, {least}"
    if math.isnan(layer.members):
        return line
    return f"{line}  {layer.members:.0%} peak at an image that was seen (all units: {layer.expected:.0%})"


__all__ = ["Advice", "AdvisedLayer", "AdvisedUnits", "advise_layers", "advise_units"]
