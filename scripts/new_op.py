"""Starts a new op: copies class_sums, the simplest real op, under a new name to every file that an op has.

    python scripts/new_op.py NAME [--room units]

The copy is complete: it builds, is found on every backend, and passes its tests, but for one that says that it is not
written yet. Change its record and row first (csrc/ops.h, csrc/ops_table.h), then the reference, then the kernels.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TEMPLATE = "class_sums"
FILES = (
    "csrc/cpu/{room}/{op}.cpp",
    "csrc/cuda/{op}.cuh",
    "csrc/cuda/{op}.cu",
    "memkern/ops/{op}.py",
    "memkern/reference/{op}.py",
    "memkern/triton_kernels/{op}.py",
    "python_tests/agreement/ops/{op}.py",
    "python_tests/ops/test_{op}.py",
    "bench/bench_{op}.py",
)
# In files that all ops share: what belongs to the template, and is copied below it.
BLOCKS = {
    "csrc/ops.h": r"^// class_sums: .*?\n\n",
    "csrc/cpu/dispatch/parallel.cpp": r"^// Class after class\..*?\n\}\n\n(?=void run\(const Views)",
    "csrc/ops_table.h": r"^OP\(class_sums, .*?\)\)\n",
    "memkern/checks/registered.py": r"^def class_sums\(.*?\n\n\n",
    "memkern/reference/__init__.py": r"^from memkern\.reference\.class_sums .*?\n|^    \"class_sums\",\n",
    "memkern/triton_kernels/launches.py": (
        r"^    Setting\(\"class_sums\"[^\n]*\),\n"
        r"|^    Setting\(\n        \"class_sums\".*?^    \),\n"
    ),
}
NOT_WRITTEN = """

def test_not_written_yet():
    pytest.fail("{op} is a copy of class_sums: write it and its tests, then remove this one")
"""


def renamed(text: str, op: str) -> str:
    """Text about class_sums as text about another op."""
    text = text.replace(TEMPLATE, op).replace("ClassSums", "".join(part.capitalize() for part in op.split("_")))
    words = op.replace("_", " ")
    return text.replace("Class sums", words.capitalize()).replace("class sums", words)


def create(op: str, room: str, root: Path = ROOT) -> list[Path]:
    """Makes the files of a new op and adds it to those that all ops share.

    Args:
        op: Its name, such as ``pair_counts``.
        room: The folder of csrc/cpu for its kernel.
        root: The checkout.

    Returns:
        The files that were made or changed.

    Raises:
        ValueError: If the name is no name for an op, or taken.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)+", op):
        raise ValueError(f"Expected NAME to be two or more lower-case words joined by _, got {op!r}")
    taken = [path for file in FILES if (path := root / file.format(op=op, room=room)).exists()]
    if taken:
        raise ValueError(f"Expected NAME to be a new one, got {op!r}: {taken[0].relative_to(root)} exists")
    touched = []
    for file in FILES:
        text = renamed((root / file.format(op=TEMPLATE, room="units")).read_text(), op)
        if "/test_" in file:
            text += NOT_WRITTEN.format(op=op)
        touched.append(root / file.format(op=op, room=room))
        touched[-1].parent.mkdir(exist_ok=True)
        touched[-1].write_text(text)
    for file, pattern in BLOCKS.items():
        path = root / file
        text, count = re.subn(
            pattern, lambda match: match[0] + renamed(match[0], op), path.read_text(), flags=re.MULTILINE | re.DOTALL
        )
        if not count:
            raise ValueError(f"{file}: nothing of {TEMPLATE} was found by {pattern!r}")
        path.write_text(in_order(text) if path.name == "__init__.py" else text)
        touched.append(path)
    return touched


def in_order(text: str) -> str:
    """The references' ``__init__.py`` with its imports and names sorted."""
    for lines in (r"(?:^from memkern\.reference\..*\n)+", r"(?:^    \"\w+\",\n)+"):
        text = re.sub(lines, lambda match: "".join(sorted(match[0].splitlines(True))), text, flags=re.MULTILINE)
    return text


def main() -> int:
    """Makes the op that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", help="of the new op, such as pair_counts")
    parser.add_argument("--room", default="units", help="folder of csrc/cpu for its kernel (default: units)")
    arguments = parser.parse_args()
    try:
        touched = create(arguments.name, arguments.room)
    except ValueError as error:
        print(f"new_op: {error}", file=sys.stderr)
        return 1
    for path in touched:
        print(path.relative_to(ROOT))
    print(f"Now: pip install -e . && pytest -k {arguments.name}; CONTRIBUTING.md, New op, says what to write where.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
