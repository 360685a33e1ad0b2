"""Faults that neither the interpreter nor ttsem sees, found in the source and in the compiler's intermediate form."""

from __future__ import annotations

import ast
import re
from pathlib import Path

# A promise that is broken on a GPU moves other elements; no emulator believes it in the first place.
PROMISES = ("multiple_of", "max_contiguous", "max_constancy", "assume")
# Without an order between programs, atomics on floats give other bits on every run.
UNORDERED = ("atomic_add", "atomic_cas", "atomic_xchg", "inline_asm_elementwise")


def source_faults(path: Path) -> list[str]:
    """Names that no kernel may use."""
    names = [
        (node.lineno, node.attr) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)
    ]
    return [f"{path.name}:{line}: {name}" for line, name in names if name in PROMISES + UNORDERED]


def ir_faults(ttir: str) -> list[str]:
    """Masked loads without `other` (their lanes are undefined on a GPU), and pointers both loaded and stored through.

    The second, because a load may overtake another thread's store to the same address: nothing orders the two.
    """
    base: dict[str, str] = {}
    loaded, stored, faults = set[str](), set[str](), []
    for line in ttir.splitlines():
        if "tt.func" in line:
            base |= {name: name for name in re.findall(r"(%\w+): !tt\.ptr", line)}
            continue
        line = re.sub(r"\s*loc\(.*", "", line).strip()
        result, _, operation = line.rpartition(" = ") if re.match(r"%[\w:]+ = ", line) else ("", "", line)
        match = re.match(r'"?(tt\.\w+|arith\.select)"?\s+(.*?)(?:\s*\{[^}]*\})?\s*(?::|$)', operation)
        if match is None:
            if "!tt.ptr" in operation:
                faults.append(f"a pointer that cannot be followed: {line[:100]}")
            continue
        name, operands = match[1], re.findall(r"%[\w#.]+", match[2])
        if name in ("tt.addptr", "tt.splat", "tt.broadcast", "tt.expand_dims", "tt.reshape") and operands[0] in base:
            base[result] = base[operands[0]]
        elif name == "tt.load":
            loaded.add(base.get(operands[0], operands[0]))
            if len(operands) == 2:
                faults.append(f"a masked load without other=: {line[:100]}")
        elif name == "tt.store":
            stored.add(base.get(operands[0], operands[0]))
        elif "!tt.ptr" in operation:
            faults.append(f"a pointer that cannot be followed: {line[:100]}")
    faults += [f"loaded and stored through one pointer: {name}" for name in sorted(loaded & stored)]
    if not loaded:
        faults.append("no load was found: the lint does not understand this text")
    return faults
