"""One audit as tasks of Ray: each part is a task, which Ray starts again if its machine is lost; then they are merged.

    python scripts/scale/ray_tasks.py RUN --parts 8 --gpus 1 -- ENCODER --weights F --reference G --data DIR …

All machines must see RUN and the images under the same paths.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence

import ray


@ray.remote(max_retries=3)
def part(number: int, parts: int, run: str, arguments: Sequence[str]) -> int:
    """Does part `number` of the audit; what was done before it was started again is not done again."""
    command = [sys.executable, "-m", "memkern", "audit", *arguments, "--out", run, "--shard", f"{number}/{parts}"]
    return subprocess.run(command, check=True).returncode


def main(argv: Sequence[str] | None = None) -> None:
    """Starts the parts, waits for them, and merges them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="folder of the results")
    parser.add_argument("--parts", type=int, default=8)
    parser.add_argument("--cpus", type=float, default=1, help="processors of each part")
    parser.add_argument("--gpus", type=float, default=0, help="GPUs of each part")
    parser.add_argument("audit", nargs=argparse.REMAINDER, help="arguments of memkern audit, after --")
    args = parser.parse_args(argv)
    arguments = args.audit[1:] if args.audit[:1] == ["--"] else args.audit
    ray.init(ignore_reinit_error=True)
    task = part.options(num_cpus=args.cpus, num_gpus=args.gpus)
    ray.get([task.remote(number, args.parts, args.run, arguments) for number in range(1, args.parts + 1)])
    subprocess.run([sys.executable, "-m", "memkern", "merge", args.run, "--out", args.run], check=True)


if __name__ == "__main__":
    main()
