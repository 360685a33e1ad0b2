"""The ops of csrc/ops_table.h, for suites that iterate over them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]


class Row(NamedTuple):
    """A row of the table.

    Attributes:
        kind: OP, CPU_OP or CUDA_OP.
        name: Of the op, as torch registers it.
        record: In csrc/ops.h.
    """

    kind: str
    name: str
    record: str


ROWS = [
    Row(*match)
    for match in re.findall(r"^(\w*OP)\((\w+), (\w+),", (ROOT / "csrc" / "ops_table.h").read_text(), re.MULTILINE)
]
NAMES = sorted({row.name for row in ROWS})
ON_CPU = sorted(row.name for row in ROWS if row.kind != "CUDA_OP")
ON_CUDA = sorted(row.name for row in ROWS if row.kind != "CPU_OP")
