"""Faults that neither the interpreter nor ttsem sees, found in the source and in the compiler's intermediate form."""

from __future__ import annotations

import ast
import re
from pathlib import Path

# A promise that is broken on a GPU moves other elements; no emulator believes it in the first place.
PROMISES = ("multiple_of", "max_contiguous", "max_constancy", "assume")
# Without an order between programs, atomics on floats give other bits on every run.
UNORDERED = ("atomic_add", "atomic_cas", "atomic_xchg", "inline_asm_elementwise")
# Arguments whose square fits 31 bits: a state of all pairs is allocated.
SMALL = ("%views",)


def source_faults(path: Path) -> list[str]:
    """Names that no kernel may use."""
    names = [
        (node.lineno, node.attr) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)
    ]
    return [f"{path.name}:{line}: {name}" for line, name in names if name in PROMISES + UNORDERED]


def ir_faults(ttir: str) -> list[str]:
    """Everything that this file looks for in a kernel's intermediate form."""
    return pointer_faults(ttir) + narrow_products(ttir)


def narrow_products(ttir: str) -> list[str]:
    """Products in 32 bits, which wrap where an offset passes 2^31; those of numbers known to be small may stay.

    So may those of a byte: a pixel times its weight, below 2^15. An offset is made of no bytes.
    """
    small, bytes_, faults = set(SMALL), set[str](), []
    for line in ttir.splitlines():
        line = re.sub(r"\s*loc\(.*", "", line).strip()
        match = re.match(r"(%\w+) = (?:tt|arith)\.(\w+)\b(.*)", line)
        if match is None:
            continue
        result, name, operands = match[1], match[2], re.findall(r"%\w+", match[3])
        wrapped = name == "muli" and re.search(r"(^|x)i32>?$", line.rpartition(": ")[2])
        if name in ("constant", "make_range"):
            small.add(result)
        elif name == "extui" and re.search(r"\bx?i8\b|xi8>", line):
            bytes_.add(result)
        elif name == "muli" and bytes_.intersection(operands):
            continue
        elif name in ("splat", "broadcast", "expand_dims", "reshape", "muli", "addi", "minsi", "divsi", "remsi"):
            if small.issuperset(operands):
                small.add(result)
            elif wrapped:
                faults.append(f"a product in 32 bits: {line[:100]}")
    return faults


def pointer_faults(ttir: str) -> list[str]:
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
