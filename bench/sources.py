"""The sources of the kernels that a row has timed: a row whose kernels have changed since cannot stay.

Comments and spaces do not count. A row of a function of several ops counts the sources of each.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CSRC = ROOT / "csrc"
# Ops whose kernels a row times, where its name is not that of an op.
OPS = {
    "classmem": ("class_sums", "selectivity"),
    "alignment forward+backward": ("alignment", "alignment_backward"),
    "call overhead": ("alignment", "unit_means"),
    "forward hooks": ("layer_stats", "pointwise_stats"),
}
COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
INCLUDE = re.compile(r'^#include "([^"]+)"', re.MULTILINE)


def digest(op: str) -> str:
    """Computes the digest of the CPU kernels that a row times.

    Args:
        op: The name of the row's op.

    Returns:
        The first 16 hexadecimal digits of the SHA-256 of their sources.

    Raises:
        ValueError: If no kernel has the name, and ``OPS`` names none for it.
    """
    found: dict[Path, str] = {}
    for name in OPS.get(op, (op,)):
        kernels = sorted(CSRC.glob(f"cpu/*/{name}.cpp"))
        if not kernels:
            raise ValueError(f"Expected `op` to be that of a kernel in csrc/cpu or a key of OPS, got {op!r}")
        for path in [*kernels, *sorted(CSRC.glob("cpu/dispatch/*.cpp"))]:
            _read(path, found)
    text = "\n".join(f"{path.relative_to(CSRC).as_posix()} {' '.join(found[path].split())}" for path in sorted(found))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _read(path: Path, found: dict[Path, str]) -> None:
    """Notes a file without its comments, and what it includes of csrc."""
    if path in found:
        return
    text = path.read_text()
    found[path] = COMMENT.sub("", text)
    for name in INCLUDE.findall(text):
        beside = [folder / name for folder in (path.parent, CSRC) if (folder / name).is_file()]
        if beside:
            _read(beside[0].resolve(), found)
