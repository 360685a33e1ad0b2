"""Runs the Triton checks under ttsem: the compiler's own intermediate code, executed without a GPU.

python run_ttsem.py [--environment DIR] [--python PYTHON] [PYTEST ARGUMENTS]

ttsem finds, with the line in the source, accesses outside of a tensor, reads of memory nobody wrote, and two programs
that touch one element. It needs Python 3.12, so it has an environment of its own, made on the first run. Never give it
-n: its workers skip every test and call that a success; skips are counted here, and any is a failure.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TTSEM = "ttsem==0.1.0"  # pinned: an alpha of one author
PACKAGES = (TTSEM, "torch==2.14.1", "triton==3.8.0", "numpy", "pytest", "pytest-timeout", "hypothesis")


def environment(place: Path, python: str) -> Path:
    """The Python of an environment that has ttsem; made if it is not there."""
    executable = place / "bin" / "python"
    probe = "import importlib.metadata as m; print(m.version('ttsem'))"
    if executable.exists():
        found = subprocess.run([executable, "-c", probe], capture_output=True, text=True, check=False).stdout.strip()
        if found == TTSEM.partition("==")[2]:
            return executable
    subprocess.run([python, "-m", "venv", place], check=True)
    subprocess.run([executable, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
    return executable


def command(executable: Path, arguments: list[str]) -> list[str]:
    return [str(executable), "-m", "ttsem.sanitize", "pytest", "-q", "-rs", "-p", "no:cacheprovider", *arguments]


def verdict(returncode: int, output: str) -> str:
    """Empty if every test ran and passed; else what is wrong."""
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|skipped|error)", output)}
    if not counts.get("passed"):
        return "no test passed"
    if counts.get("skipped"):
        return f"{counts['skipped']} tests were skipped"
    return f"pytest ended with {returncode}" if returncode else ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environment", type=Path, default=ROOT / "build" / "ttsem")
    parser.add_argument("--python", default=shutil.which("python3.12") or shutil.which("python3.13"))
    options, arguments = parser.parse_known_args()
    if options.python is None:
        print("ttsem needs Python 3.12 or 3.13; name one with --python")
        return 2
    executable = environment(options.environment, options.python)
    arguments = arguments or [str(path) for path in sorted(HERE.glob("check_*.py"))]
    process = subprocess.Popen(
        command(executable, arguments), cwd=ROOT, env=os.environ | {"DEV": "cuda", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    output = ""
    for line in process.stdout:
        print(line, end="", flush=True)
        output += line
    wrong = verdict(process.wait(), output)
    if wrong:
        print(f"ttsem: {wrong}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
