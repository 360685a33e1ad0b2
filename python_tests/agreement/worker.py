"""A process that runs cases on the Triton kernels: in the interpreter, or under ttsem. Cases come in on stdin.

Both must be chosen before Triton is imported, so they cannot run in the process of the tests.
"""

from __future__ import annotations

import sys
import tempfile
import traceback
from pathlib import Path

import torch

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS / "gpu_triton")]

# What a line of stdout that answers a case begins with; others are chatter.
DONE, FAILED = "\x01done ", "\x01failed "


def main() -> None:
    """One answer per line: the file of the results, or the error on one line."""
    import inside_ttsem
    import support
    from agreement.cases import Case
    from agreement.ops import OPS

    from memkern import dispatch

    if inside_ttsem.running():
        inside_ttsem.quicken()
        dispatch.why_not = inside_ttsem.why_not
    with tempfile.TemporaryDirectory() as folder:
        print(DONE, flush=True)
        for line in sys.stdin:
            case = Case.parse(line)
            try:
                inputs = tuple(support.on_device(x) for x in OPS[case.op].inputs(case))
                results = support.on_cpu(OPS[case.op].call(case, inputs, "triton"))
            except Exception:
                print(FAILED + traceback.format_exc().replace("\n", "\x02"), flush=True)
                continue
            torch.save(tuple(results), Path(folder, "results"))
            print(f"{DONE}{folder}/results", flush=True)


if __name__ == "__main__":
    main()
