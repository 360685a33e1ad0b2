"""Small audits with made-up but plausible numbers, as RUN folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from memkern.audit.run_folder.columns import LAYERS as LAYER_COLUMNS
from memkern.audit.run_folder.columns import UNITS
from memkern.audit.run_folder.reader import Run
from memkern.audit.run_folder.schema import Manifest
from memkern.audit.run_folder.writer import write_run

LAYERS = {"conv1": 8, "conv2": 16, "conv3": 16, "output": 24}


def write(
    folder: Path,
    *,
    n: int = 60,
    layers: dict[str, int] = LAYERS,
    strength: float = 0.3,
    seed: int = 0,
    reference: bool = True,
    labels: bool = True,
    name_candidates: bool = True,
    thumbs: bool = True,
    ids: list[str] | None = None,
    classes: list[str] | None = None,
    **changes: Any,
) -> Run:
    """Writes an audit of `n` images.

    Args:
        folder: Where to.
        n: Images; the first half are candidates.
        layers: Name -> units.
        strength: How much the candidates are memorized at the output; it grows linearly over the layers.
        seed: Of the made-up numbers; the images' own part of them does not depend on it.
        reference: Whether there is a reference encoder.
        labels: Whether images have classes.
        name_candidates: Whether the audit was told which images are candidates.
        thumbs: Whether to write pictures.
        ids: Ids and paths of the images.
        classes: Names of the classes.
        changes: Fields of the manifest to replace, as JSON; of dicts, the entries that are given.
    """
    rng = np.random.default_rng(seed)
    own = np.random.default_rng(99)
    ids = ids or [f"class{i % 3}/{i:04d}.png" for i in range(n)]
    classes = classes or ["cats", "dogs", "ships"]
    is_candidate = np.arange(n) < n // 2
    label = np.arange(n) % len(classes)
    atypical = own.gamma(2.0, 0.5, n) * is_candidate
    samples: dict[str, object] = {"id": ids, "index": np.arange(n), "path": ids}
    samples["candidate"] = is_candidate if name_candidates else np.zeros(n, bool)
    if labels:
        samples["label"] = label
    rows: dict[str, list[object]] = {name: [] for name in LAYER_COLUMNS}
    units: dict[str, list[object]] = {name: [] for name in UNITS}
    previous = None
    for order, (name, width) in enumerate(layers.items()):
        a_g = 0.8 + 0.1 * rng.random(n)
        share = strength * (order + 1) / len(layers)
        a_f = a_g * (1 - np.clip(share * atypical, 0, 0.9)) + 0.01 * rng.standard_normal(n)
        samples[f"alignment_f/{name}"] = torch.tensor(a_f, dtype=torch.float32)
        samples[f"alignment_g/{name}"] = torch.tensor(a_g, dtype=torch.float32) if reference else [None] * n
        ratio = (a_g - a_f) / (a_g + a_f)
        scored = ratio[is_candidate] if name_candidates else ratio
        layermem = float(scored.mean()) if reference else None
        unitmem = np.clip(rng.beta(2, 4, width) + 0.1 * order, 0, 1)
        unitmem[0] = 0.0
        peak_index = rng.choice(n // 2, width)
        values = {
            "layer": name, "order": order, "units": width, "kind": "Conv2d", "alignment_f": float(a_f.mean()),
            "alignment_g": float(a_g.mean()) if reference else None, "layermem": layermem,
            "layermem_range": layermem, "delta": None if previous is None or layermem is None else layermem - previous,
            "layermem_top50": float(np.sort(scored)[-5:].mean()) if reference else None,
            "layermem_least50": float(np.sort(scored)[:5].mean()) if reference else None,
            "layermem_candidates": float(ratio[is_candidate].mean()) if reference and name_candidates else None,
            "layermem_others": float(ratio[~is_candidate].mean()) if reference and name_candidates else None,
            "unitmem_mean": float(unitmem.mean()), "unitmem_max": float(unitmem.max()),
            "classmem_mean": float(unitmem.mean() / 2) if labels else None, "dead": 1, "signed": 0, "undefined": 0,
        }  # fmt: skip
        for key in rows:
            rows[key].append(values.get(key))
        previous = layermem
        for unit in range(width):
            parts = {
                "encoder": "f", "layer": name, "unit": unit, "unitmem": float(unitmem[unit]),
                "peak": float(1 + rng.random()), "rest": float(rng.random()),
                "classmem": float(unitmem[unit] / 2) if labels else None,
                "peak_id": ids[peak_index[unit]], "peak_index": int(peak_index[unit]),
                "peak_class": int(label[peak_index[unit]]) if labels else None, "signed": False,
            }  # fmt: skip
            for key in units:
                units[key].append(parts[key])
    if reference:
        samples["sslmem"] = torch.tensor(a_g - a_f, dtype=torch.float32)
    manifest = merged(_manifest(ids, layers, seed, reference, classes if labels else None), changes)
    if not name_candidates:
        manifest["candidates"] = None
    manifest["plan"]["median"] = manifest["options"]["median"]
    names = ["f", "g"] if reference else ["f"]
    run = write_run(
        folder,
        samples=samples,
        units=units,
        layers=rows,
        encoders={"encoder": names, "role": names},
        state={},
        manifest=Manifest.from_json(manifest, folder),
    )
    if thumbs:
        pictures(folder, n)
    return run


def manifest(ids: list[str], layers: dict[str, int], **changes: Any) -> Manifest:
    """A manifest of these images and layers, some of its fields changed."""
    whole = merged(_manifest(ids, layers, 0, True, None), changes)
    return Manifest.from_json(whole, "manifest.json")


def merged(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The values with some changed, those within dicts too."""
    both = {
        key: merged(values[key], new) if isinstance(new, dict) and isinstance(values[key], dict) else new
        for key, new in changes.items()
    }
    return values | both


def _manifest(
    ids: list[str], layers: dict[str, int], seed: int, reference: bool, classes: list[str] | None
) -> dict[str, Any]:
    """What manifest.json says of such an audit."""
    n = len(ids)
    listed = [{"name": name, "units": width, "points": n, "shape": [width, 4, 4]} for name, width in layers.items()]
    common: dict[str, Any] = {"output": list(layers)[-1], "layers": listed, "blocks": []}
    file: dict[str, Any] = {"prefix": "", "unused": []}
    views = {"n_views": 4, "seed": 0, "size": [32, 32], "pairs": "all", "normalize": True}
    spec = {"flip": 0.5, "scale": [0.08, 1.0]}
    digests = {"weights": f"{seed:064x}", "reference": "b" * 64 if reference else None}
    return {
        "format": "memkern-audit-1",
        "versions": {"memkern": "0.1.0", "torch": "2.14.1", "python": "3.11.2"},
        "created": "2026-11-22T08:00:00+00:00",
        "encoder": "memkern:resnet9",
        "reference": "memkern:resnet9" if reference else None,
        "weights": {
            "f": {"file": "f.safetensors", "sha256": digests["weights"], **file},
            "g": {"file": "g.safetensors", "sha256": digests["reference"], **file} if reference else None,
        },
        "data": {
            "source": "images/", "n_images": n, "n_listed": n, "list_sha256": "c" * 64, "classes": classes,
            "skipped": [], "repeated": [],
            "duplicates": [[ids[1 % n], ids[4 % n], "near"], [ids[2 % n], ids[7 % n], "exact"]],
        },
        "candidates": {"n": n // 2, "sha256": "d" * 64},
        "views": {**views, "transform": "simclr", "spec": spec},
        "options": {"median": False},
        "device": "cpu",
        "precision": "float32",
        "backends": [],
        "wall": {"load": 0.5, "views": 1.0, "forward": 2.0, "metrics": 0.2, "write": 0.1, "total": 3.8},
        "shards": 1,
        "files": {},
        **common,
        "plan": {
            "memkern": "0.1.0", "torch": "2.14.1", "encoder": "memkern:resnet9", "encoder_file": None, **digests,
            "data": "c" * 64, "n_images": n, "labels": None, "candidates": "d" * 64, "views": 4, "transform": spec,
            "size": [32, 32], "pairs": "all", "normalize": True, "seed": 0, "batch_size": 8, "shard_size": 1024,
            "median": False, "precision": "fp32", "device": "cpu", "allow_nan": False, **common,
        },
    }  # fmt: skip


def pictures(folder: Path, n: int, views: int = 4) -> None:
    """Writes a thumbnail of every image and of its views: discs on a gradient, so that a report looks like one."""
    from PIL import Image

    rng = np.random.default_rng(5)
    (folder / "thumbs").mkdir(exist_ok=True)
    y, x = np.mgrid[0:32, 0:32]
    for i in range(n):
        disc = (x - rng.integers(8, 24)) ** 2 + (y - rng.integers(8, 24)) ** 2 < rng.integers(20, 120)
        color, ground = rng.integers(0, 255, 3), rng.integers(0, 255, 3)
        image = np.where(disc[..., None], color, ground * (0.5 + x[..., None] / 64)).clip(0, 255).astype(np.uint8)
        Image.fromarray(image).save(folder / "thumbs" / f"{i}.png")
        for view in range(views):
            shifted = np.roll(image, rng.integers(-8, 8, 2), (0, 1))[:: rng.choice([-1, 1])]
            Image.fromarray(np.ascontiguousarray(shifted)).save(folder / "thumbs" / f"{i}-view{view}.png")
