"""Compiles the shipped launches for GPUs that are not here and holds each to its line of budgets.json.

python compile_gate.py [--target sm_90 ...] [--only REGEX] [--update], REGEX for "case | kernel | target"

A budget is a promise about one kernel of one case on one GPU: registers, spills, shared memory at most, wide loads at
least. Spills are none unless the line says how many and why, and never in an innermost loop. --update writes what was
measured and keeps the reasons: review the difference.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import triton
from launches_offline import TARGETS, Launch, compiled, launches
from lint import ir_faults
from machine_code import Resources, resources
from torch import Tensor

from memkern.triton_kernels.alignment import alignment
from memkern.triton_kernels.alignment_backward import alignment_backward
from memkern.triton_kernels.class_sums import class_sums
from memkern.triton_kernels.layer_stats import layer_stats
from memkern.triton_kernels.selectivity import selectivity
from memkern.triton_kernels.unit_means import unit_means
from memkern.triton_kernels.views import views

Budget = dict[str, Any]
BUDGETS = Path(__file__).with_name("budgets.json")
f32, f64, bf16, f16 = torch.float32, torch.float64, torch.bfloat16, torch.float16


def x(*shape: int, dtype: torch.dtype = f32) -> Tensor:
    return torch.empty(shape, dtype=dtype)  # never written: costs no memory


def view_sums(points: int, views: int) -> tuple[Tensor, ...]:
    return x(points, views), x(2, points), x(points)


def channels_last(*shape: int, dtype: torch.dtype = f32) -> Tensor:
    """[N, V, U, H, W] with units innermost."""
    n, v, u, h, w = shape
    return x(n, v, h, w, u, dtype=dtype).permute(0, 1, 4, 2, 3)


def backward(z: Tensor, anchor: bool, normalize: bool) -> None:
    points, views = z.shape[:2]
    wide = f64 if z.dtype == f64 else f32
    kept = (views - 1 if anchor else views * (views - 1) // 2) + (views if normalize else 0)
    alignment_backward(x(points, dtype=wide), z, x(points, kept, dtype=wide), anchor, normalize)


def drawn(
    *images: Tensor, size: int, stages: int, blur_size: int = 0, antialias: bool = True, dtype: torch.dtype = f32,
    last: bool = False, masked: bool = False,
) -> None:  # fmt: skip
    n, channels = sum(len(batch) for batch in images), images[0].shape[1]
    out = x(n, 2, size, size, channels, dtype=dtype).permute(0, 1, 4, 2, 3) if last else x(n, 2, channels, size, size,
                                                                                         dtype=dtype)  # fmt: skip
    hidden = torch.zeros(n, 2, size // 4, size // 4, dtype=torch.bool) if masked else None
    views(images, torch.ones(n, 2, 22), hidden, 4, stages, antialias, blur_size, (0.5,) * 3, (0.5,) * 3, out)


def photos(n: int, size: int, channels: int = 3, dtype: torch.dtype = torch.uint8) -> Tensor:
    return torch.zeros(n, channels, size, size, dtype=dtype)


# Between them every kernel, dtype, tile and path of the launch table.
CASES: dict[str, Callable[[], object]] = {
    "alignment": lambda: alignment(x(2, 10, 65536), False, True, True),
    "alignment view sums": lambda: alignment(x(2, 10, 65536), False, True, False, view_sums(2, 10)),
    "alignment bf16": lambda: alignment(x(2, 10, 65536, dtype=bf16), False, True, False),
    "alignment f16": lambda: alignment(x(2, 10, 65536, dtype=f16), False, True, False),
    "alignment f64": lambda: alignment(x(2, 10, 65536, dtype=f64), False, True, False),
    "alignment raw": lambda: alignment(x(2, 10, 65536), False, False, False),
    "alignment anchor": lambda: alignment(x(2, 10, 65536), True, True, False),
    "alignment anchor bf16": lambda: alignment(x(2, 10, 65536, dtype=bf16), True, True, False),
    "alignment 2 views": lambda: alignment(x(2, 2, 65536), False, True, False),
    "alignment 2 views bf16": lambda: alignment(x(2, 2, 65536, dtype=bf16), False, True, False),
    "alignment 128 dims": lambda: alignment(x(2, 10, 128), False, True, False),
    "alignment 256 dims": lambda: alignment(x(2, 10, 256), False, True, False),
    "alignment angular": lambda: alignment(x(2, 10, 256), False, True, False, None, "angular"),
    "alignment l1": lambda: alignment(x(2, 10, 256), False, True, False, None, "l1"),
    "alignment odd dims": lambda: alignment(x(2, 10, 65537), False, True, False),
    "backward": lambda: backward(x(2, 10, 65536), False, True),
    "backward bf16": lambda: backward(x(2, 10, 65536, dtype=bf16), False, True),
    "backward f64": lambda: backward(x(2, 10, 65536, dtype=f64), False, True),
    "backward anchor raw": lambda: backward(x(2, 10, 65536), True, False),
    "means 56x56": lambda: unit_means(x(4, 10, 64, 56, 56), 2, "raw"),
    "means 56x56 bf16": lambda: unit_means(x(4, 10, 64, 56, 56, dtype=bf16), 2, "relu"),
    "means 56x56 f64": lambda: unit_means(x(4, 10, 64, 56, 56, dtype=f64), 2, "raw"),
    "means 7x7": lambda: unit_means(x(4, 10, 512, 7, 7), 2, "abs"),
    "means channels-last": lambda: unit_means(channels_last(4, 10, 64, 56, 56), 2, "raw"),
    "means tokens bf16": lambda: unit_means(x(4, 10, 197, 768, dtype=bf16), 3, "raw"),
    "means matrix": lambda: unit_means(x(64, 2048), 1, "raw"),
    "means transposed": lambda: unit_means(x(2048, 4, 4096).permute(2, 0, 1), 1, "raw"),
    "selectivity": lambda: selectivity(x(50000, 512), 1, "raw", None),
    "selectivity bf16": lambda: selectivity(x(200, 512, dtype=bf16), 1, "relu", None),
    "selectivity f64": lambda: selectivity(x(50000, 512, dtype=f64), 1, "raw", None),
    "selectivity ordered": lambda: selectivity(x(200, 512), 1, "raw", torch.arange(200)),
    "selectivity transposed": lambda: selectivity(x(512, 50048).t(), 1, "raw", None),
    "layer maps": lambda: layer_stats(x(2, 10, 64, 56, 56), 2, False, True, False),
    "layer maps bf16": lambda: layer_stats(x(2, 2, 64, 56, 56, dtype=bf16), 2, False, True, False),
    "layer tokens bf16": lambda: layer_stats(x(2, 10, 197, 768, dtype=bf16), 3, False, True, False),
    "class sums": lambda: class_sums(x(256, 2048), torch.zeros(256, dtype=torch.int64), 10),
    "class sums f64": lambda: class_sums(x(256, 2048, dtype=f64), torch.zeros(256, dtype=torch.int64), 10),
    "views 32": lambda: drawn(photos(8, 32), size=32, stages=2),
    "views 224 blur bf16": lambda: drawn(photos(8, 256), size=224, stages=3, blur_size=23, dtype=bf16, last=True),
    "views 224 float": lambda: drawn(photos(2, 256, dtype=f32), size=224, stages=3, blur_size=23, antialias=False),
    "views gray f16": lambda: drawn(photos(8, 32, 1), size=32, stages=3, blur_size=3, dtype=f16),
    "views sizes masked": lambda: drawn(photos(1, 40), photos(1, 50), size=32, stages=1, masked=True),
}  # fmt: skip


def measured(got: Resources) -> Budget:
    """A kernel's line of the data file."""
    line: Budget = {
        "registers": got.registers,
        "shared": got.shared,
        "wide_loads": got.wide_loads,
        "narrow_loads": got.loads - got.wide_loads,
    }
    return line | {name: getattr(got, name) for name in ("spills", "lanes") if getattr(got, name)}


# Second launches are compiled for these cases only: for others they differ in a constant, or the type they load.
SECOND = {
    "_finish": (
        "alignment",
        "alignment f64",
        "alignment raw",
        "alignment anchor bf16",
        "alignment odd dims",
        "alignment 256 dims",
        "alignment angular",
        "alignment l1",
    ),
    "_divide": ("means 56x56", "means 56x56 f64"),
}


def excess(got: Resources, budget: Budget) -> list[str]:
    """What of a kernel is beyond its budget."""
    line = measured(got)
    found = [
        f"{name} {line[name]} > {budget.get(name, 0)}"
        for name in ("registers", "shared", "narrow_loads", "spills", "lanes")
        if line.get(name, 0) > budget.get(name, 0)
    ]
    if got.wide_loads < budget["wide_loads"]:
        found.append(f"wide_loads {got.wide_loads} < {budget['wide_loads']}")
    if got.inner_spills:
        found.append(f"{got.inner_spills} spills in an innermost loop")
    if "spills" in budget and not budget.get("why"):
        found.append("spills without a reason")
    return found


def key(case: str, launch: Launch, target: str, number: int = 1) -> str:
    """Of a line; a kernel that a case launches in several forms has several lines."""
    return f"{case} | {launch.kernel.__name__}{f' {number}' if number > 1 else ''} | {target}"


def chosen(target: str, only: str, made_before: dict[tuple[str, int], Any]) -> dict[str, Any]:
    """By the key of its line, every kernel whose key matches, compiled; what two cases share, for the first one.

    Args:
        target: For which GPU.
        only: An expression that keys match.
        made_before: By case and number of the launch, what was made for another GPU of the kind; new ones are added.
    """
    found: dict[str, Any] = {}
    seen = set[str]()
    for case, call in CASES.items():
        made: dict[str, int] = {}  # different machine code of one kernel in this case
        for n, launch in enumerate(launches(call, target)):
            name = key(case, launch, target)
            if case not in SECOND.get(launch.kernel.__name__, (case,)) or not re.search(only, name):
                continue
            kernel = compiled(launch, target, made_before.get((case, n)))
            first = made_before.setdefault((case, n), kernel)
            if first.hash in seen:
                continue
            seen.add(first.hash)
            made[name] = made.get(name, 0) + 1
            found[key(case, launch, target, made[name])] = kernel
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", nargs="*", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--only", default="")
    parser.add_argument("--update", action="store_true")
    options = parser.parse_args(arguments)
    budgets = json.loads(BUDGETS.read_text()) if BUDGETS.exists() else {}
    if options.update:
        budgets["made with"] = f"Triton {triton.__version__}"
    done = bad = 0
    made_before: dict[str, dict[tuple[str, int], Any]] = {}
    for target in options.target:
        kernels = chosen(target, options.only, made_before.setdefault(TARGETS[target].backend, {}))
        for (name, kernel), got in zip(kernels.items(), resources(list(kernels.values())), strict=True):
            faults = ir_faults(kernel.asm["ttir"])
            if options.update:
                why = {"why": budgets.get(name, {}).get("why", "")} if got.spills else {}
                budgets[name] = measured(got) | why
            else:
                faults += excess(got, budgets[name]) if name in budgets else ["no line in budgets.json"]
            bad += bool(faults)
            done += 1
            print(f"{'BAD' if faults else 'ok ':<4} {name:<62} {got._asdict()} {'; '.join(faults)}", flush=True)
    if options.update:
        lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(budgets[name])}" for name in sorted(budgets))
        BUDGETS.write_text("{\n" + lines + "\n}\n")
    print(f"{done} kernels compiled, {bad} bad")
    return 1 if bad or not done else 0


if __name__ == "__main__":
    sys.exit(main())
