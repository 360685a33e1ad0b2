"""Everything that the template of the report needs, worked out from the tables of an audit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from memkern.audit.report import charts
from memkern.audit.report.gallery import PAIRS, Item, Thumbs, ends, items
from memkern.audit.report.svg import clean
from memkern.audit.report.verdict import RULE, verdict
from memkern.audit.run_folder.arrays import Floats, Readings, readings
from memkern.audit.run_folder.store import Run
from memkern.audit.statistics import kendall, overlap

MAX_HISTOGRAMS, MAX_SCATTERS, MAX_MATRIX, MAX_DOTS, MAX_RANKED = 60, 6, 16, 500, 5000


def content(run: Run, *, images: bool) -> dict[str, Any]:
    """Works out what the report says.

    Args:
        run: The audit.
        images: Whether pictures are shown.

    Returns:
        The variables of the template.
    """
    data = readings(run)
    thumbs = Thumbs(run.folder if images else None)
    most, least = ends(data)
    gallery = (items(data, most, run.manifest, thumbs), items(data, least, run.manifest, thumbs))
    pairs = _duplicates(run, data, thumbs)
    return {
        "title": clean(run.manifest.get("encoder") or "encoder", 80),
        "manifest": run.manifest,
        "data": data,
        "verdict": verdict(run, data),
        "rule": RULE,
        "layers": _layer_rows(data),
        "layers_chart": _layers_chart(data),
        "top": len(data.scored) > 50,
        "distribution": _distribution(data),
        "histograms": _histograms(data),
        "scatters": _scatters(data),
        "matrix": _matrix(data),
        "most": gallery[0],
        "least": gallery[1],
        "pictures": any(item.thumb for item in (*gallery[0], *gallery[1])),
        "images": images,
        "duplicates": pairs,
        "n_duplicates": len(run.manifest.get("data", {}).get("duplicates") or []),
        "left_out": thumbs.left_out,
        "scope": _scope(run.manifest, data),
        "views": _flat(run.manifest.get("views") or {}),
        "provenance": _flat({key: run.manifest.get(key) for key in PROVENANCE if run.manifest.get(key) is not None}),
    }


PROVENANCE = (
    "command", "created", "versions", "weights", "candidates", "options", "device", "precision", "wall", "shards",
)  # fmt: skip


def spread(count: int, most: int) -> list[int]:
    """At most `most` of `count` positions, evenly spaced, the last one among them.

    Example:
        >>> spread(10, 4), spread(3, 4)
        ([0, 3, 6, 9], [0, 1, 2])
    """
    if count <= most:
        return list(range(count))
    return [round(i * (count - 1) / (most - 1)) for i in range(most)]


def _names(data: Readings) -> list[str]:
    return [str(name) for name in data.layers["layer"]]


def _others(data: Readings) -> Floats | None:
    """LayerMem of the images that are no candidates, where both kinds exist."""
    values = data.column("layermem_others")
    return values if data.has_candidates and np.isfinite(values).any() else None


def _layer_rows(data: Readings) -> list[dict[str, Any]]:
    others = _others(data)
    layermem, delta = data.scored_column("layermem"), data.scored_column("delta")
    finite = np.isfinite(delta).any()
    best = int(np.nanargmax(delta)) if finite else -1
    rows = []
    for place, name in enumerate(_names(data)):
        rows.append(
            {
                "name": name,
                "units": int(data.layers["units"][place]),
                "layermem": float(layermem[place]),
                "delta": float(delta[place]),
                "others": math.nan if others is None else float(others[place]),
                "top": float(data.column("layermem_top50")[place]),
                "unitmem": float(data.column("unitmem_mean")[place]),
                "most": float(data.column("unitmem_max")[place]),
                "classmem": float(data.column("classmem_mean")[place]),
                "dead": int(np.nan_to_num(data.column("dead")[place])),
                "best": place == best,
            }
        )
    return rows


def _both(draw: Any) -> str:
    """A chart in both widths; the style sheet shows one of them."""
    return f"{draw(charts.WIDE)}{draw(charts.NARROW)}"


def _layers_chart(data: Readings) -> str:
    layermem = data.scored_column("layermem")
    if not np.isfinite(layermem).any():
        return ""
    return _both(
        lambda width: charts.layers(_names(data), layermem, _others(data), data.scored_column("delta"), width=width)
    )


def _distribution(data: Readings) -> str:
    if data.sslmem is None:
        return ""
    score = data.sslmem[data.scored]
    others = np.delete(data.sslmem, data.scored) if data.has_candidates else np.array([])
    names = ("candidates", "other images") if data.has_candidates else ("images", "")
    return _both(lambda width: charts.distribution(score, others if len(others) else None, names, width=width))


def _histograms(data: Readings) -> dict[str, Any]:
    names = list(data.units)
    chosen = [names[i] for i in spread(len(names), MAX_HISTOGRAMS)]
    drawn = [charts.histogram(name, data.units[name].unitmem, data.units[name].classmem) for name in chosen]
    has_classes = any(layer.classmem is not None for layer in data.units.values())
    return {"charts": drawn, "of": len(names), "classes": has_classes}


def _scatters(data: Readings) -> dict[str, Any]:
    """UnitMem against SSLMem of the peak image, some layers, the last one among them."""
    if data.sslmem is None:
        return {"charts": [], "of": 0}
    score_of = {int(index): float(value) for index, value in zip(data.index, data.sslmem, strict=True)}
    generator = np.random.default_rng(0)
    names = list(data.units)
    points = []
    for i in spread(len(names), MAX_SCATTERS):
        layer = data.units[names[i]]
        score = np.array([score_of.get(int(index), math.nan) for index in layer.peak_index], dtype=np.float64)
        kept = np.flatnonzero(~np.isnan(score) & (np.nan_to_num(layer.unitmem) != 0))
        tau = kendall(score[kept], layer.unitmem[kept])
        if len(kept) > MAX_DOTS:
            kept = np.sort(generator.choice(kept, MAX_DOTS, replace=False))
        points.append((names[i], score[kept], layer.unitmem[kept], tau))
    every = np.concatenate([score for _, score, _, _ in points]) if points else np.array([])
    low, high = (float(every.min()), float(every.max())) if len(every) else (0.0, 1.0)
    drawn = [charts.scatter(*parts, low=low, high=high) for parts in points if len(parts[1])]
    return {"charts": drawn, "of": len(names)}


def _matrix(data: Readings) -> dict[str, Any]:
    """Top-k overlap and Kendall's tau of the scored images, every layer against every other."""
    names = list(data.ratio)
    rows = data.scored
    if len(names) < 2 or len(rows) < 10:
        return {"chart": ""}
    chosen = [names[i] for i in spread(len(names), MAX_MATRIX)]
    k = min(100, max(1, len(rows) // 10))
    ranked = rows[spread(len(rows), MAX_RANKED)]
    overlaps, taus = np.eye(len(chosen)), np.eye(len(chosen))
    for i, first in enumerate(chosen):
        for j, second in enumerate(chosen[:i]):
            overlaps[i, j] = overlaps[j, i] = overlap(data.ratio[first][rows], data.ratio[second][rows], k)
            taus[i, j] = taus[j, i] = kendall(data.ratio[first][ranked], data.ratio[second][ranked])
    near = [float(taus[i, i + 1]) for i in range(len(chosen) - 1)]
    return {
        "chart": _both(lambda width: charts.matrix(chosen, overlaps, taus, k, width=width)),
        "k": k, "of": len(names), "shown": len(chosen), "chance": k / len(rows), "ranked": len(ranked),
        "neighbors": float(np.mean(near)), "ends": float(taus[0, -1]),
    }  # fmt: skip


def _duplicates(run: Run, data: Readings, thumbs: Thumbs) -> list[tuple[Item, Item, str]]:
    place = {name: row for row, name in enumerate(data.ids)}
    found = []
    for first, second, kind in (run.manifest.get("data", {}).get("duplicates") or [])[:PAIRS]:
        if first in place and second in place:
            a, b = items(data, np.array([place[first], place[second]]), run.manifest, thumbs)
            found.append((a, b, str(kind)))
    return found


def _scope(manifest: Mapping[str, Any], data: Readings) -> list[tuple[str, str]]:
    """What was audited, as a list of facts."""
    views = manifest.get("views") or {}
    source = manifest.get("data") or {}
    named = manifest.get("candidates")
    reference = manifest.get("reference")
    rows = [
        ("Encoder", str(manifest.get("encoder") or "unknown")),
        ("Reference encoder", str(reference) if reference else "none: SSLMem and LayerMem are not measured"),
        ("Images", f"{len(data.ids):,} from {source.get('source') or 'unknown'}"),
        ("Candidates", f"{int(data.candidate.sum()):,} images" if named else "not named: all images are scored"),
        ("Views", f"{views.get('n_views')} of each image, “{views.get('transform')}”, seed {views.get('seed')}"),
        ("Layers", f"{len(data.units)}, {sum(len(layer.unit) for layer in data.units.values()):,} units"),
        ("SSLMem measured at", str(manifest.get("output"))),
    ]
    skipped = source.get("skipped") or []
    if skipped:
        rows.append(("Skipped", f"{len(skipped)} images that could not be read"))
    return rows


def _flat(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Nested values as a list of names and texts."""
    if isinstance(value, Mapping):
        return [row for key, part in value.items() for row in _flat(part, f"{prefix}{key}.")]
    if isinstance(value, Sequence) and not isinstance(value, str):
        value = " ".join(str(part) for part in value)
    if value is None or value == "":
        return []
    return [(prefix.rstrip("."), str(Path(value)) if isinstance(value, Path) else str(value))]
