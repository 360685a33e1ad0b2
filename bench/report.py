"""Tables from measured cases: in the terminal, and as Markdown between markers of a document.

python -m bench.report bench/results/NAME.json                      # print everything
python -m bench.report bench/results/NAME.json --write docs/performance.md
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from bench import audit_report, gpu_report, load, targets
from bench.markdown import markdown_table

Case = dict[str, Any]


def rounded(value: Any) -> Any:
    """Floats with five digits: all that a timing holds."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {name: rounded(entry) for name, entry in value.items()}
    return [rounded(entry) for entry in value] if isinstance(value, list) else value


# ---- one case -----------------------------------------------------------------------------------------------------


def heading(case: Case) -> str:
    """Op, input, size and where it lies."""
    size = case["bytes"]
    text = f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"
    busy = f"; other work took {case['disturbed']:.0%} of the processors" if case["disturbed"] > load.QUIET else ""
    return f"{case['op']} {targets.label(case)} ({text}, {case['size']}{busy})"


def _time(row: dict[str, Any]) -> str:
    ms, half = row["ms"], (row["ms_q75"] - row["ms_q25"]) / 2
    number = f"{ms:.3g} ms" if ms >= 0.1 else f"{ms * 1e3:.3g} us"
    return f"{number} ±{100 * half / ms:.0f} %"


def _error(row: dict[str, Any]) -> str:
    if row["error"] is None:
        return ""
    return f"{row['error']:.1e}" + ("" if row["accurate"] else " inexact")


COLUMNS = ("peer", "time", "GB/s", "of read", "x memkern", "worst error")


def cells(case: Case, row: dict[str, Any]) -> tuple[str, ...]:
    """One row: name, median time and half the quartile distance, GB/s, share of the read speed, factor, error."""
    if "ms" not in row:
        return (row["peer"], row["status"], "", "", "", "")
    share = f"{row['of_read']:.2f}" if "of_read" in row else f"{row['share']:.1f} %" if "share" in row else ""
    speed = f"{row['gbs']:.1f}" if row.get("gbs") else ""
    factor = f"{row['factor']:.2f}" if "factor" in row else ""
    return (row["peer"], _time(row), speed, share, factor, _error(row))


def text_table(case: Case) -> str:
    """A case for the terminal."""
    rows = [COLUMNS, *(cells(case, row) for row in case["rows"])]
    widths = [max(len(row[i]) for row in rows if i != 1 or row[2]) for i in range(len(COLUMNS))]
    lines = [heading(case)]
    lines += [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    return "\n".join([*lines, *([f"  {case['note']}"] if case["note"] else [])])


def case_markdown(case: Case) -> str:
    """A case for a document."""
    rows = [tuple(f"**{cell}**" if cell and row["role"] == "ours" else cell for cell in cells(case, row))
            for row in case["rows"]]  # fmt: skip
    text = f"### {heading(case)}\n\n{markdown_table(COLUMNS, rows)}\n"
    return text + (f"\n{case['note']}\n" if case["note"] else "")


# ---- summary ------------------------------------------------------------------------------------------------------

SUMMARY = (
    "input",
    "lies in",
    "memkern",
    "GB/s",
    "of read",
    "best accurate peer",
    "x",
    "best peer of any accuracy",
    "x",
)


def summary_row(case: Case) -> tuple[str, ...] | None:
    """A case in one line: memkern, the best accurate peer, the best peer of any accuracy."""
    ours = targets.row(case, "memkern")
    if ours is None:
        return None
    share = f"{ours['of_read']:.2f}" if "of_read" in ours else ""
    mark = " †" if case["disturbed"] > load.QUIET else ""
    line = [
        targets.label(case) + mark,
        f"{case['size']}, {case['bytes'] / 1e6:.3g} MB",
        _time(ours),
        f"{ours['gbs']:.1f}",
        share,
    ]
    for accurate in (True, False):
        peer = targets.best(case, accurate=accurate)
        line += [f"{peer['peer']}, {_time(peer)}", f"{peer['factor']:.2f}"] if peer else ["", ""]
    return tuple(line)


def summary(cases: list[Case]) -> str:
    """One table per op."""
    parts = []
    for op in dict.fromkeys(case["op"] for case in cases):
        rows = [
            row for case in cases if case["op"] == op and "share" not in case["rows"][0] and (row := summary_row(case))
        ]
        if rows:
            parts.append(f"### {op}\n\n{markdown_table(SUMMARY, rows)}\n")
    return "\n".join(parts)


def _target_cells(entry: dict[str, Any]) -> tuple[str, ...]:
    bound = f"{'>=' if entry['at_least'] else '<='} {entry['bound']:g}"
    if "worst" not in entry:
        return (entry["target"], bound, "not measured", "", "", "")
    met = entry["met"] == entry["cases"]
    against = f" ({entry['against']})" if entry["against"] else ""
    verdict = "met" if met else f"**missed** ({entry['met']} of {entry['cases']} met)"
    return (
        entry["target"],
        bound,
        f"{entry['worst']:.2f}",
        f"{entry['median']:.2f}",
        f"{entry['at']}{against}",
        verdict,
    )


TARGET_COLUMNS = ("target", "bound", "worst", "median", "worst at", "verdict")


def targets_text(judged: list[dict[str, Any]]) -> str:
    """The targets for the terminal."""
    lines = []
    for entry in judged:
        name, bound, worst, median, where, verdict = (cell.replace("**", "") for cell in _target_cells(entry))
        lines.append(
            f"{name} {bound}: {verdict or worst}" + (f"; worst {worst} at {where}, median {median}" if verdict else "")
        )
    return "\n".join(lines)


def environment_text(found: dict[str, Any]) -> str:
    """Machine, versions, commit in one paragraph."""
    e = found["environment"]
    versions = ", ".join(f"{name} {number}" for name, number in e["versions"].items())
    commits = sorted({case["commit"] for case in found["cases"]})
    gpu = f"{e['gpu']}; " if e.get("gpu", "none") != "none" else ""
    return (
        f"{gpu}{e['machine']} ({e['cpu']}, {e['cores']} cores, {e['threads']} threads, "
        f"{e['l2_mib']:.0f} MiB L2 per core, {e['l3_mib']:.0f} MiB L3 as reported), {e['system']}, "
        f"Python {e['python']}, {versions}, {e['compiler']}; "
        f"memkern {e['memkern']} at {', '.join(commits)}, kernels {e['backend']}; {e['date']}."
    )


HEADLINE = (
    ("alignment", "512x10x2048", "float32", ""),
    ("alignment", "4000x10x2048", "float32", ""),
    ("alignment", "1024x4x2048", "float32", ""), ("alignment", "1024x2x4096", "float32", ""),
    ("alignment", "256x32x2048", "bfloat16", ""),
    ("alignment forward+backward", "512x10x2048", "float32", "warm pages"),
    ("alignment forward+backward", "512x10x2048", "float32", "fresh pages"),
    ("unit_means", "64x10x64x56x56", "float32", ""), ("unit_means", "64x10x64x56x56", "bfloat16", ""),
    ("selectivity", "25000x4096", "float32", ""), ("median_of_others", "5000x2048", "float32", "large"),
    ("layer_stats", "64x10x256x8x8", "float32", ""),
)  # fmt: skip


def headline(cases: list[Case]) -> str:
    """The table at the top of docs/performance.md: memkern beside the best accurate peer."""
    rows = []
    for op, shape, dtype, variant in HEADLINE:
        wanted = (op, shape, dtype, variant)
        for case in cases:
            if tuple(case[name] for name in ("op", "shape", "dtype", "variant")) == wanted and case["layout"] in (
                "contiguous",
                "NCHW",
            ):
                found = summary_row(case)
                if found:
                    rows.append((f"{op}, {found[0]}", *found[2:7]))
    return markdown_table(("op and input", "memkern", "GB/s", "of read", "best accurate peer", "x"), rows)


# ---- documents ----------------------------------------------------------------------------------------------------


def parts(found: dict[str, Any]) -> dict[str, str]:
    """What documents can hold, by the name of the marker."""
    if "cases" not in found:  # of bench.bench_audit
        return {"audit": audit_report.table(found.values())}
    if any(case.get("backend", "cpu") != "cpu" for case in found["cases"]):
        return {
            "gpu-environment": environment_text(found), "gpu": gpu_report.tables(found["cases"]),
            "gpu-headline": gpu_report.headline(found["cases"]),
        }  # fmt: skip
    judged = targets.judge(found["cases"])
    return {
        "environment": environment_text(found),
        "targets": markdown_table(TARGET_COLUMNS, [_target_cells(entry) for entry in judged]),
        "summary": summary(found["cases"]),
        "hooks": "\n".join(case_markdown(case) for case in found["cases"] if case["op"] == "forward hooks"),
        "cases": "\n".join(case_markdown(case) for case in found["cases"]),
        "headline": headline(found["cases"]),
    }


def write(path: Path, found: dict[str, Any]) -> None:
    """Replaces what stands between ``<!-- bench:NAME -->`` and ``<!-- bench:end -->`` in a document."""
    text, marks = path.read_text(), 0
    for name, part in parts(found).items():
        start = f"<!-- bench:{name} -->"
        if start in text:
            before, rest = text.split(start, 1)
            text = f"{before}{start}\n{part.rstrip()}\n<!-- bench:end -->{rest.split('<!-- bench:end -->', 1)[1]}"
            marks += 1
    path.write_text(text)
    print(f"{path}: {marks} parts written")


def main() -> None:
    """Prints the tables, or writes them into documents."""
    parser = argparse.ArgumentParser(description="Tables from stored benchmark results.")
    parser.add_argument("results", type=Path)
    parser.add_argument("--write", type=Path, nargs="+", default=[], metavar="DOCUMENT")
    arguments = parser.parse_args()
    found = json.loads(arguments.results.read_text())
    for path in arguments.write:
        write(path, found)
    if not arguments.write and "cases" not in found:
        print(audit_report.table(found.values()))
    elif not arguments.write:
        print(environment_text(found), "\n")
        print("\n\n".join(text_table(case) for case in found["cases"]), "\n")
        print(targets_text(targets.judge(found["cases"])))


if __name__ == "__main__":
    main()
