"""The table of the GPU benchmark: one line per input, the call, the device alone, both backends, the best peers."""

from __future__ import annotations

from typing import Any

from bench import targets
from bench.markdown import markdown_table

Case = dict[str, Any]
Row = dict[str, Any] | None

COLUMNS = (
    "input", "lies in", "memkern, call", "device alone", "GB/s", "of x.sum()", "Triton, device alone",
    "best accurate peer", "x", "best peer of any accuracy", "x", "worst error",
)  # fmt: skip
HEADLINE = (
    ("alignment", "4000x10x2048", "float32", ""), ("alignment", "4000x10x2048", "bfloat16", ""),
    ("alignment", "4000x10x2048", "float32", "unit"), ("alignment forward+backward", "4000x10x2048", "float32", ""),
    ("unit_means", "64x10x64x56x56", "bfloat16", ""), ("selectivity", "50000x4096", "float32", ""),
    ("layer_stats", "64x10x64x56x56", "float32", ""), ("median_of_others", "5000x2048", "float32", ""),
    ("views", "256x2x256x224", "float32", "simclr"),
)  # fmt: skip


def time(row: Row) -> str:
    """Milliseconds or microseconds; nothing if it did not run."""
    if row is None:
        return ""
    return f"{row['ms']:.3g} ms" if row["ms"] >= 0.1 else f"{row['ms'] * 1e3:.3g} us"


def line(case: Case) -> tuple[str, ...]:
    """One line. ``views`` draw their parameters on the host: its device time is that with parameters given."""
    given = ", parameters given" if case["op"] == "views" else ""
    call, device = targets.row(case, "memkern"), targets.row(case, f"memkern, CUDA graph{given}")
    triton = targets.row(case, f"memkern, triton, CUDA graph{given}")
    ours = device or call
    speed = [f"{ours['gbs']:.0f}", f"{ours['of_sum']:.2f}" if "of_sum" in ours else ""] if ours else ["", ""]
    cells = [targets.label(case), f"{case['size']}, {case['bytes'] / 1e6:.3g} MB", time(call), time(device), *speed,
             time(triton)]  # fmt: skip
    for accurate in (True, False):
        peer = targets.best(case, accurate=accurate)
        cells += [f"{peer['peer']}, {time(peer)}", f"{peer['factor']:.1f}"] if peer else ["none", ""]
    error = call["error"] if call and not given else None
    return (*cells, "" if error is None else f"{error:.1e}")


def tables(cases: list[Case]) -> str:
    """One Markdown table per op."""
    parts = []
    for op in dict.fromkeys(case["op"] for case in cases):
        rows = [line(case) for case in cases if case["op"] == op]
        parts.append(f"### {op}\n\n{markdown_table(COLUMNS, rows)}\n")
    return "\n".join(parts)


def headline(cases: list[Case]) -> str:
    """The table at the top of docs/gpu-performance.md."""
    rows = []
    for case in cases:
        if (case["op"], case["shape"], case["dtype"], case["variant"]) in HEADLINE:
            cells = line(case)
            rows.append((f"{case['op']} {cells[0]}", *cells[2:6], *cells[7:9]))
    return markdown_table(("input", *COLUMNS[2:6], *COLUMNS[7:9]), rows)
