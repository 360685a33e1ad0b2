"""Runs gpu.tiny in a process of its own: on a given library, under the sanitizer that it was built with."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from gpu import build, emulated

OPTIONS = {
    # torch leaks on exit by design; and its own memory is not checked, only what the kernels do to it
    # Huge pages: what lies far apart has a shadow of 0.8 GB a tensor, most of the time of these cases in pages of 4 KB.
    "ASAN_OPTIONS": "detect_leaks=0:halt_on_error=1:exitcode=66:allocator_may_return_null=1:no_huge_pages_for_shadow=0",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
    "TSAN_OPTIONS": "halt_on_error=1:exitcode=66:ignore_noninstrumented_modules=1:report_signal_unsafe=0",
}
# Cases of gpu.tiny that a mode does without. The two 16-bit types differ in how a register is widened, which no
# sanitizer sees: bfloat16 stands for both. TSan does not see how far apart points lie either: of those cases it gets
# the ones that reach a kernel which no other case does; and it holds 8000 threads a launch.
FAR = "far apart (means|layer_stats|alignment (few|tiles|elements|parallel$))"
SKIPPED = {"plain": "nothing", "asan": " float16|many views", "tsan": f" float16|{FAR}|many (looks|views)"}


class Finished(NamedTuple):
    """A run of gpu.tiny."""

    code: int
    output: str


def run_tiny(library: Path, mode: str, *arguments: str, seconds: float = 1200) -> Finished:
    """Runs ``python -m gpu.tiny ARGUMENTS`` on a library built in this mode.

    Args:
        library: From ``build.emulated_library``.
        mode: "plain", "asan" or "tsan".
        arguments: As for gpu.tiny.
        seconds: After that, ``subprocess.TimeoutExpired``.

    Returns:
        The exit status (0: all cases passed, 1: wrong values, 66 or a signal: stopped by the sanitizer) and the output.
    """
    tests = Path(__file__).resolve().parents[1]
    environment = {**os.environ, **OPTIONS, emulated.LIBRARY_VARIABLE: str(library), "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(tests), str(build.ROOT)])
    if mode != "plain":
        environment["LD_PRELOAD"] = str(build.runtime_of(mode))
    command = [sys.executable, "-m", "gpu.tiny", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=seconds)
    return Finished(done.returncode, done.stdout + done.stderr)
