"""Audits of several trainings with made-up alignments, scored by `memkern.families`, as RUN folders."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import audit_runs
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import save_file

from memkern import families
from memkern._util.files import sha256
from memkern.audit.measure.readings import folder_of, path_of
from memkern.audit.run_folder.reader import Run, read_run

LAYERS = {"conv1": 8, "conv2": 16, "conv3": 16, "output": 24}
GROUPS = {"candidate": 60, "independent": 40, "shared": 40, "extra": 100}


def write(
    folder: Path,
    *,
    n_f: int = 4,
    n_g: int = 4,
    varying: int = 0,
    groups: dict[str, int] = GROUPS,
    strength: float = 0.12,
    memorized: float = 0.4,
    control: families.Control = "auto",
    seed: int = 0,
    recipe: int = 0,
    thumbs: bool = False,
    **changes: Any,
) -> Run:
    """Writes an audit of several trainings.

    Args:
        folder: Where to.
        n_f: Trainings f of a fixed split.
        n_g: Trainings g.
        varying: Trainings on random halves, in place of f and g.
        groups: Group of a fixed split -> how many images; their sum is the number of images of any design.
        strength: How much closer the views of a memorized image lie in a training that saw it, at the output.
        memorized: Share of the images that are memorized.
        control: The control group to take.
        seed: Of the trainings; images, groups and who is memorized do not depend on it.
        recipe: Of the images.
        thumbs: Whether to write pictures.
        changes: What `audit_runs.write` takes.
    """
    images, rng = np.random.default_rng(recipe), np.random.default_rng(1000 + seed)
    n = sum(groups.values())
    group = [name for name, count in groups.items() for _ in range(count)]
    ids = [f"class{i % 3}/{i:04d}.png" for i in range(n)]
    if varying:
        names, roles = [f"e{k}" for k in range(varying)], [None] * varying
        half = np.arange(varying) < varying // 2
        membership = images.permuted(np.tile(half, (n, 1)), axis=1).astype(np.int8)
    else:
        names = [f"f{k + 1}" for k in range(n_f)] + [f"g{k + 1}" for k in range(n_g)]
        names = ["f", "g"] if n_f == n_g == 1 else names
        roles = ["f"] * n_f + ["g"] * n_g
        membership = families.membership_of_groups(group, n_f=n_f, n_g=n_g)
    own = images.normal(0.6, 0.08, n)
    effect = strength * images.gamma(3.0, 1 / 3, n) * (images.random(n) < memorized)
    count, depth = len(names), len(LAYERS)
    levels = rng.normal(0, 0.03, count)
    alignment = np.empty((depth, n, count), dtype=np.float32)
    for layer in range(depth):
        share = (layer + 1) / depth
        noise = 0.02 * rng.normal(size=(n, count))
        alignment[layer] = own[:, None] + levels - share * effect[:, None] * (membership == 1) + noise
    rows = [_rows(rng, alignment[-1, :, k]) for k in range(count)]
    changes.setdefault("shards", 2)
    run = audit_runs.write(folder, n=n, ids=ids, layers=LAYERS, seed=seed, thumbs=thumbs, **changes)
    split = families.design(membership, encoders=names, control=control)
    _samples(folder, alignment, split, rows, None if varying else group)
    _layers(folder, alignment, split, rng)
    _encoders(folder, alignment, split, roles, rng)
    _manifest(folder, alignment, split, rows)
    for k, name in enumerate(names):
        folder_of(folder, name).mkdir(parents=True)
        middle = n // 2
        for shard, part in enumerate((slice(0, middle), slice(middle, n))):
            whole = np.ascontiguousarray(alignment[:, part, k])
            save_file({"alignment": whole}, path_of(folder, name, shard))
    return read_run(run.folder)


def _rows(rng: np.random.Generator, alignment: np.ndarray, views: int = 4) -> np.ndarray:
    """Sums of the distances of each view to the others whose mean over pairs is the alignment."""
    rows = alignment[:, None] * (views - 1) + 0.05 * rng.normal(size=(len(alignment), views))
    return np.asarray(rows + (alignment * (views - 1) - rows.mean(1))[:, None])


def _scores(alignment: np.ndarray, split: families.Design, rows: list[np.ndarray]) -> families.ImageScores:
    return families.image_scores(alignment, split, rows=rows)


def _replaced(path: Path, columns: dict[str, pa.Array]) -> None:
    table = pq.read_table(path)
    for name, values in columns.items():
        if name in table.column_names:
            table = table.set_column(table.column_names.index(name), name, values)
        else:
            table = table.append_column(name, values)
    pq.write_table(table, path)


def _numbers(values: Any, kind: pa.DataType | None = None) -> pa.Array:
    """A column in which NaN is null."""
    listed = [None if math.isnan(value) else value for value in np.asarray(values, dtype=np.float64).tolist()]
    return pa.array(listed, type=kind or pa.float64())


def _samples(
    folder: Path, alignment: np.ndarray, split: families.Design, rows: list[np.ndarray], group: list[str] | None
) -> None:
    scores, n = _scores(alignment, split, rows), len(split.membership)
    seen, unseen = (split.membership == 1).sum(1), (split.membership == 0).sum(1)
    plain = alignment.astype(np.float64)
    columns = {
        "group": pa.array(group or [None] * n, type=pa.string()),
        "n_in": pa.array(seen.tolist(), type=pa.int64()),
        "n_out": pa.array(unseen.tolist(), type=pa.int64()),
        "sslmem_ratio": _numbers(scores.ratio[-1]),
        "se": _numbers(scores.se[-1]),
        "se_ratio": _numbers(scores.se_ratio[-1]),
        "se_views": _numbers(scores.se_views),
        "p": _numbers(scores.p[-1]),
        "p_check": _numbers(scores.p_check),
        "q": _numbers(scores.q[-1]),
        "memorized": pa.array(
            [bool(m) if s else None for m, s in zip(scores.memorized, split.scored, strict=True)], type=pa.bool_()
        ),
        "leaked_by": pa.array([None] * n, type=pa.string()),
    }
    for layer, name in enumerate(LAYERS):
        columns[f"a_in/{name}"] = _numbers(scores.a_in[layer], pa.float32())
        columns[f"a_out/{name}"] = _numbers(scores.a_out[layer], pa.float32())
        by_role = [None, None] if split.role is None else [plain[layer][:, split.role], plain[layer][:, ~split.role]]
        for letter, values in zip("fg", by_role, strict=True):
            mean = pa.nulls(n, pa.float32()) if values is None else _numbers(values.mean(1), pa.float32())
            columns[f"alignment_{letter}/{name}"] = mean
    columns |= {f"member/{name}": pa.array(split.membership[:, k]) for k, name in enumerate(split.encoders)}
    sslmem = scores.sslmem[-1]
    if split.role is not None:
        sslmem = plain[-1][:, ~split.role].mean(1) - plain[-1][:, split.role].mean(1)
        columns["candidate"] = pa.array([name == "candidate" for name in group or []], type=pa.bool_())
    else:
        columns["candidate"] = pa.array([False] * n, type=pa.bool_())
    columns["sslmem"] = _numbers(sslmem, pa.float32())
    _replaced(folder / "samples.parquet", columns)


def _layers(folder: Path, alignment: np.ndarray, split: families.Design, rng: np.random.Generator) -> None:
    found = families.layer_scores(alignment, split, halves=(alignment, alignment))
    scores = families.image_scores(alignment, split)
    depth, several = len(LAYERS), split.n_encoders > 2
    named = (np.nan_to_num(scores.q, nan=2.0) <= 0.05).sum(1) if np.isfinite(scores.q).any() else [math.nan] * depth
    columns = {
        "layermem": _numbers(found.layermem),
        "delta": _numbers(found.delta),
        "layermem_candidates": _numbers(found.layermem if split.role is not None else [math.nan] * depth),
        "delta_candidates": _numbers(found.delta if split.role is not None else [math.nan] * depth),
        "layermem_others": _numbers([math.nan] * depth),
        "layermem_top50": _numbers(found.top),
        "layermem_least50": _numbers(found.least),
        "n_top": pa.array([found.n_top] * depth, type=pa.int64()),
        "layermem_top50_control": _numbers(found.top_control),
        "layermem_least50_control": _numbers(found.least_control),
        "layermem_control": _numbers(found.control),
        "layermem_excess": _numbers(found.excess),
        "delta_excess": _numbers(found.delta_excess),
        "se": _numbers(found.se),
        "se_images": _numbers(found.se_images),
        "se_encoders": _numbers(found.se_encoders),
        "low": _numbers(found.low),
        "high": _numbers(found.high),
        "n_memorized": _numbers(named, pa.int64()),
        "reliability": _numbers(scores.reliability),
        "level_sd": _numbers(scores.sd_levels),
        "member_peaks": _numbers(0.5 + 0.1 * rng.random(depth)),
        "member_peaks_expected": _numbers([0.5] * depth),
        "member_peaks_p": _numbers(rng.random(depth)),
        "unitmem_se": _numbers(0.01 + 0.01 * rng.random(depth) if several else [math.nan] * depth),
        "classmem_se": _numbers(0.01 + 0.01 * rng.random(depth) if several else [math.nan] * depth),
    }
    _replaced(folder / "layers.parquet", columns)


def _encoders(
    folder: Path, alignment: np.ndarray, split: families.Design, roles: list[str | None], rng: np.random.Generator
) -> None:
    attacks, levels = families.attack(alignment, split).alignment, families.image_scores(alignment, split).levels[-1]
    measured = [role != "g" for role in roles]
    units = [0.5 + 0.02 * rng.normal() if each else math.nan for each in measured]
    columns = {
        "encoder": pa.array(list(split.encoders)),
        "role": pa.array(roles, type=pa.string()),
        "n_members": pa.array((split.membership == 1).sum(0).tolist(), type=pa.int64()),
        "level": _numbers(levels),
        "unitmem_mean": _numbers(units),
        "classmem_mean": _numbers([value / 2 for value in units]),
    }
    curves = [curve if each else None for curve, each in zip(attacks.encoders, measured, strict=True)]
    for field, name in (("auc", "auc"), ("auc_low", "auc_lo"), ("auc_high", "auc_hi")):
        columns[name] = _numbers([math.nan if curve is None else getattr(curve, field) for curve in curves])
    for place, name in enumerate(("tpr_10", "tpr_01", "tpr_001")):
        for field, ending in (("tpr", ""), ("low", "_lo"), ("high", "_hi")):
            values = [math.nan if curve is None else getattr(curve, field)[place] for curve in curves]
            columns[f"{name}{ending}"] = _numbers(values)
    pq.write_table(pa.table(columns), folder / "encoders.parquet")


def _manifest(folder: Path, alignment: np.ndarray, split: families.Design, rows: list[np.ndarray]) -> None:
    scores = _scores(alignment, split, rows)
    layers, said = families.layer_scores(alignment, split), families.verdict(scores, split)
    reliable, needed = float(scores.reliability[-1]), float(scores.encoders_for_08[-1])
    check = "permutation" if split.kind == "varying" else "conformal"
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["significance"] = {
        "design": split.kind, "control": split.control_name, "n_scored": said.n_scored,
        "n_control": int(split.control.sum()), "method": scores.method,
        "check": "none" if said.n_check is None else check, "reason": said.reason or scores.reason,
        "fdr": scores.fdr, "levels_removed": scores.levels_removed, "n_memorized": said.n_memorized,
        "n_check": said.n_check, "verdict": said.sentence,
        "reliability": None if math.isnan(reliable) else reliable,
        "encoders_for_08": None if not math.isfinite(needed) else needed, "unscored_nan": 0,
        "findings": [each.sentence for each in families.findings(scores, layers, split)],
    }  # fmt: skip
    if split.kind == "varying":
        manifest["candidates"] = None
    else:
        manifest["candidates"] = {"n": said.n_scored, "sha256": "d" * 64}
    manifest["files"]["encoders.parquet"] = ""
    path.write_text(json.dumps(manifest))
    accept_files(folder)


def accept_files(folder: Path) -> None:
    """Makes a manifest name the files that are there: they were edited after memkern wrote them."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest.pop("sha256", None)
    path.write_text(json.dumps(manifest | {"files": {name: sha256(folder / name) for name in manifest["files"]}}))
