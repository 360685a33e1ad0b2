"""Runs the Triton checks under ttsem: the compiler's own intermediate code, executed without a GPU.

python run_ttsem.py [--environment DIR] [--python PYTHON] [--install-only] [PYTEST ARGUMENTS]

ttsem finds, with the line in the source, accesses outside of a tensor, reads of memory nobody wrote, and two programs
that touch one element. It needs Python 3.12, so it has an environment of its own, made on the first run (about 5 GB,
most of it torch). Never give it -n: its workers skip every test and call that a success; skips are counted here, and
any is a failure.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import rungs

TTSEM = "ttsem==0.1.0"  # pinned: an alpha of one author
PACKAGES = (
    TTSEM,
    "torch==2.14.1",
    "torchvision==0.29.1",
    "triton==3.8.0",
    "numpy",
    "pytest",
    "pytest-timeout",
    "hypothesis",
)
MISSING = "ttsem has no environment; `python python_tests/gpu_triton/run_ttsem.py --install-only` makes one"
PLACE = Path(os.environ.get("MEMKERN_TTSEM", rungs.ROOT / "build" / "ttsem"))


def installed(place: Path = PLACE) -> Path | None:
    """The Python of an environment that has this ttsem, and torchvision, the reference of views."""
    executable = place / "bin" / "python"
    probe = "import importlib.metadata as m; print(m.version('torchvision') and m.version('ttsem'))"
    return executable if executable.exists() and _says(executable, probe) == TTSEM.partition("==")[2] else None


def install(place: Path = PLACE, python: str | None = None) -> Path:
    """Makes that environment, once if several processes ask for it at the same time.

    Args:
        place: Where.
        python: Which Python; default: any of 3.12 or later that is found.

    Raises:
        RuntimeError: If there is none.
    """
    python = python or find_python()
    if python is None:
        raise RuntimeError("ttsem needs Python 3.12 or later, and none was found; name one with --python")
    executable = place / "bin" / "python"
    with alone(place):
        if installed(place) is None:
            subprocess.run([python, "-m", "venv", place], check=True)
            subprocess.run([executable, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
    return executable


@contextlib.contextmanager
def alone(place: Path) -> Iterator[None]:
    """Waits for a process that is making the environment."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with open(place.with_name(f"{place.name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def environment() -> Path | None:
    """The Python of the environment, when it is made; in CI one is made if there is none."""
    with alone(PLACE):
        made = installed()
    return made or (install() if rungs.IN_CI else None)


def find_python() -> str | None:
    """A Python of 3.12 or later: this one, one on the path, one of pyenv's."""
    names = [sys.executable, *filter(None, (shutil.which(f"python3.{minor}") for minor in (12, 13, 14)))]
    home = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    names += sorted(str(path) for path in home.glob("versions/3.1[234]*/bin/python"))
    probe = "import sys; print(sys.version_info >= (3, 12))"
    return next((name for name in names if _says(name, probe) == "True"), None)  # pyenv's shims may refuse to run


def _says(python: str | Path, code: str) -> str:
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=False).stdout.strip()


def command(executable: Path, arguments: list[str]) -> list[str]:
    """ttsem around pytest around the checks."""
    checks = rungs.checks(*(arguments or [str(rungs.HERE)]), marked=rungs.MARKED["ttsem"])
    return [str(executable), "-m", "ttsem.sanitize", "pytest", *checks]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environment", type=Path, default=PLACE)
    parser.add_argument("--python")
    parser.add_argument("--install-only", action="store_true")
    options, arguments = parser.parse_known_args()
    executable = installed(options.environment) or install(options.environment, options.python)
    if options.install_only:
        return 0
    returncode, output = rungs.run(command(executable, arguments), DEV="cuda")
    wrong = rungs.verdict(returncode, output)
    print(output, f"ttsem: {wrong}" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
