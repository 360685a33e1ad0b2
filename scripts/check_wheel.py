"""Runs memkern's tests on an installed wheel, away from the source tree.

    python scripts/check_wheel.py dist/memkern-*.whl    in a fresh environment, which is removed afterwards
    python scripts/check_wheel.py --here                in this environment, where the wheel is installed already

The tests are copied into an empty folder, so that `import memkern` finds the wheel alone. They are those of the ops,
the metrics and the command line; those that read the source tree skip themselves.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("pytest", "pytest-timeout", "pytest-xdist", "hypothesis", "torchvision")
TESTS = ("ops", "metrics", "test_backends.py", "test_native.py", "test_cli.py", "audit/test_cli.py")


def main() -> int:
    """Returns the exit code of pytest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("wheel", nargs="?", type=Path, help="the wheel to install into a fresh environment")
    what.add_argument("--here", action="store_true", help="test what this environment has installed")
    parser.add_argument("--tests", nargs="+", default=TESTS, help="tests, below python_tests (%(default)s)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="memkern-wheel-") as folder:
        python = Path(sys.executable)
        if not args.here:
            venv.create(Path(folder) / "environment", with_pip=True)
            python = Path(folder) / "environment" / "bin" / "python"
        install = [*PACKAGES, *(() if args.here else (f"memkern[audit] @ {args.wheel.resolve().as_uri()}",))]
        subprocess.run([python, "-m", "pip", "install", "--quiet", *install], check=True)
        away = Path(folder) / "away"
        ignored = shutil.ignore_patterns("__pycache__")
        for name in ("python_tests", "scripts"):
            shutil.copytree(ROOT / name, away / name, ignore=ignored)
        shutil.copy(ROOT / "pyproject.toml", away)
        tests = [f"python_tests/{name}" for name in args.tests if (away / "python_tests" / name).exists()]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        return subprocess.run([python, "-m", "pytest", "-q", "-n", "2", *tests], cwd=away, env=environment).returncode


if __name__ == "__main__":
    raise SystemExit(main())
