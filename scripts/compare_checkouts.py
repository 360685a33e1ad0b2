#!/usr/bin/env python3
"""Shows what a change does: runs two checkouts of memkern on the same inputs and compares all that comes out.

    python scripts/compare_checkouts.py capture CHECKOUT --out DIR [--only kernels|runs|lab|api]
    python scripts/compare_checkouts.py compare DIR_A DIR_B [--planned FILE]

`capture` runs memkern as it lies in CHECKOUT, in processes of its own, and writes one JSON file for each part:

- `kernels`: bits of every op, dtype, layout, instruction set and option; fused layers, metrics, interventions;
- `runs`: RUN folders of eight kinds, column by column and tensor by tensor, with reports, exports and what was printed;
- `lab`: tables and figures of every experiment at its smallest, the demo, a training;
- `api`: public names, signatures, schemas of the ops, `--help` of every command.

A checkout needs its compiled library (`python setup.py build_ext --inplace`). `compare` prints every difference; it
exits with 1 if one of them is not in the file of planned differences, or if a planned one does not occur. Compare only
captures of one machine with one set of packages: sums of a forward pass depend on the processor.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from frozen import planned  # noqa: E402

PARTS = ("kernels", "runs", "lab", "api")
# Instruction sets that a processor may have; "" is what memkern chooses by itself.
ISAS = ("", "baseline", "avx2", "avx512")


def main() -> int:
    """Parses the command line and runs it; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    made = commands.add_parser("capture", help="run a checkout and store what comes out")
    made.add_argument("checkout", type=Path)
    made.add_argument("--out", type=Path, required=True, help="folder to write")
    made.add_argument("--only", choices=PARTS, action="append", help="one part; may be given several times")
    compared = commands.add_parser("compare", help="print what differs between two captures")
    compared.add_argument("a", type=Path, metavar="DIR_A")
    compared.add_argument("b", type=Path, metavar="DIR_B")
    compared.add_argument("--planned", type=Path, default=HERE / "planned_differences.toml")
    compared.add_argument("--most", type=int, default=40, help="differences to print of each part (%(default)s)")
    args = parser.parse_args()
    if args.command == "capture":
        return capture(args.checkout.resolve(), args.out, args.only or PARTS)
    return compare(args.a, args.b, args.planned, args.most)


# ---- capture --------------------------------------------------------------------------------------------------------


def capture(checkout: Path, out: Path, parts: Sequence[str]) -> int:
    """Runs the parts and writes `<part>.json` for each."""
    out.mkdir(parents=True, exist_ok=True)
    for part in parts:
        start = time.monotonic()
        whole: dict[str, dict[str, Any]] = {"entries": {}, "not_compared": {}, "machine": {}}
        jobs = [{"MEMKERN_ISA": isa} for isa in ISAS] if part == "kernels" else [{}]
        for environment in jobs:
            found = _run(checkout, part, environment)
            for kind, values in whole.items():
                values.update(found[kind])
        (out / f"{part}.json").write_text(json.dumps(whole, indent=0, sort_keys=True) + "\n", encoding="utf-8")
        print(f"{part}: {len(whole['entries'])} entries in {time.monotonic() - start:.0f} s", flush=True)
        for name, reason in whole["not_compared"].items():
            print(f"  not compared: {name}: {reason}")
    return 0


def _run(checkout: Path, part: str, environment: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Runs one part in a process that imports memkern from the checkout, in an empty folder."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MEMKERN_", "TRITON_"))}
    fixed = {
        "PYTHONPATH": os.pathsep.join([str(checkout), str(HERE)]), "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1", "COLUMNS": "100", "NO_COLOR": "1", "MPLBACKEND": "agg", "PYTHONHASHSEED": "0",
    }  # fmt: skip
    given = {name: value for name, value in environment.items() if value}
    with tempfile.TemporaryDirectory(prefix="memkern-frozen-") as scratch:
        result = Path(scratch, "result.json")
        command = [sys.executable, "-W", "ignore", "-m", f"frozen.{part}", str(checkout), str(result)]
        work = Path(scratch, "work")
        work.mkdir()
        subprocess.run(command, cwd=work, env={**inherited, **fixed, **given}, check=True)
        found: dict[str, dict[str, Any]] = json.loads(result.read_text(encoding="utf-8"))
        return found


# ---- compare --------------------------------------------------------------------------------------------------------


def compare(a: Path, b: Path, file: Path, most: int) -> int:
    """Prints the differences; returns 1 if one is not planned, or a planned one does not occur."""
    here = [part for part in PARTS if (a / f"{part}.json").exists() and (b / f"{part}.json").exists()]
    if not here:
        print(f"Expected captures of the same part in {a} and {b}, got none", file=sys.stderr)
        return 2
    plan = [each for each in planned.read(file) if each.part in here]
    unplanned = 0
    for part in PARTS:
        if part not in here:
            print(f"{part}: not captured in both, not compared")
            continue
        first, second = (json.loads((folder / f"{part}.json").read_text(encoding="utf-8")) for folder in (a, b))
        if first["machine"] != second["machine"]:
            print(f"{part}: WARNING: not of one machine, bits may differ: {first['machine']}, {second['machine']}")
        for name, reason in sorted({**first["not_compared"], **second["not_compared"]}.items()):
            print(f"{part}: not compared: {name}: {reason}")
        differences = planned.differences(first["entries"], second["entries"], part)
        new = [each for each in differences if not planned.explains(plan, each)]
        unplanned += len(new)
        total = len(first["entries"].keys() | second["entries"].keys())
        print(f"{part}: {total} entries, {len(differences)} differ, {len(differences) - len(new)} of these as planned")
        for each in new[:most]:
            _show(each)
        if len(new) > most:
            print(f"  … and {len(new) - most} more; --most {len(new)} prints all")
    idle = [each for each in plan if not each.found]
    for each in plan:
        print(f"planned: {each.pattern}: {len(each.found)} differences: {each.reason}")
    for each in idle:
        print(f"planned, but nothing differs there: {each.pattern}: remove it from {file}")
    return 1 if unplanned or idle else 0


def _show(difference: planned.Difference) -> None:
    print(f"  DIFFERS {difference.key}")
    a, b = difference.a, difference.b
    if a is None or b is None:
        print(f"    only in {'the second' if a is None else 'the first'}: {str(b if a is None else a)[:200]}")
    elif "\n" in a + b:
        for line in list(difflib.unified_diff(a.splitlines(), b.splitlines(), lineterm="", n=0))[2:14]:
            print(f"    {line[:240]}")
    else:
        print(f"    - {a[:240]}\n    + {b[:240]}")


if __name__ == "__main__":
    sys.exit(main())
