"""The table of `bench.bench_audit`: one line per encoder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bench.markdown import markdown_table

COLUMNS = (
    "encoder", "layers", "(a) scripts", "(b) eager", "(b) as Python starts", "(c) memkern", "a / c", "b / c",
    "b as Python starts / c", "(c) in bf16", "metrics / forward passes", "one read / forward passes",
    "peak memory / theirs",
)  # fmt: skip


def table(rows: Iterable[Mapping[str, Any]]) -> str:
    """The results as a Markdown table; times are milliseconds per image, of both encoders and all layers."""
    return markdown_table(COLUMNS, [_line(row) for row in rows])


def _line(row: Mapping[str, Any]) -> tuple[str, ...]:
    ways = ("scripts", "eager", "eager_as_python_starts", "memkern")
    return (
        f"{row['encoder']}, {row['edge']} px",
        str(row["layers"]),
        *(f"{row[way] * 1e3:.1f}" for way in ways),
        *(f"{row[way] / row['memkern']:.{digits}f}" for way, digits in zip(ways[:3], (0, 2, 2), strict=True)),
        f"{row['memkern_bf16'] * 1e3:.1f}",
        *shares(row),
        f"{row['peak_bytes']['memkern'] / row['peak_bytes']['bare']:.2f}",
    )


def shares(row: Mapping[str, Any]) -> tuple[str, str]:
    """What taps, and one read of every output, cost: shares of the passes of both encoders, and of f and of g."""
    taps, read = (
        f"{row[key]:.1%}" + (f" ({row[key + '_f']:.1%}, {row[key + '_g']:.1%})" if key + "_f" in row else "")
        for key in ("taps_over_bare", "read_over_bare")
    )
    return taps, read
