"""Public names, signatures, schemas of the ops, and `--help` of every command."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
from pathlib import Path
from typing import Any

from frozen import worker
from frozen.normalise import Normaliser
from frozen.worker import Found

MODULES = ("memkern", "memkern.audit", "memkern.lab", "memkern.reference", "memkern.torchmetrics", "memkern.transforms")


def capture(found: Found, checkout: Path) -> None:
    """Adds every public name of the modules, the fields of the options, the ops and the help texts."""
    normaliser = worker.normaliser(checkout)
    for module_name in MODULES:
        try:
            module = importlib.import_module(module_name)
        except ImportError as error:
            found.not_compared[module_name] = normaliser.string(str(error))
            continue
        names = sorted(getattr(module, "__all__", [name for name in vars(module) if _is_own(module, name)]))
        found.add(f"names/{module_name}", "\n".join(["", *names]))
        for name in names:
            _add(found, f"signatures/{module_name}.{name}", getattr(module, name), normaliser)
    for name in worker.MOVED:
        _add(found, f"signatures/moved/{name}", worker.public(name), normaliser)
    _ops(found)
    _help(found, [])


def _add(found: Found, name: str, value: Any, normaliser: Normaliser) -> None:
    for part, text in _described(value):
        found.add(f"{name}{part}", normaliser.string(re.sub(r" at 0x[0-9a-f]+", "", text)))


def _is_own(module: Any, name: str) -> bool:
    value = getattr(module, name)
    return name[0] != "_" and not inspect.ismodule(value) and getattr(value, "__module__", "") == module.__name__


def _described(value: Any) -> list[tuple[str, str]]:
    """What a user can rely on, as (suffix of the name, text): signature, fields with defaults, public methods."""
    if not callable(value):
        return [("", repr(value))]
    if not inspect.isclass(value):
        return [("", str(inspect.signature(value)))]
    described = [("", f"class({', '.join(base.__name__ for base in value.__bases__)})")]
    if dataclasses.is_dataclass(value):
        described += [
            (
                f".{field.name}",
                f"field {field.type} = {'' if field.default is dataclasses.MISSING else field.default!r}",
            )
            for field in dataclasses.fields(value)
        ]
    fields = getattr(value, "_fields", ())
    for name in ("__init__", *(name for name in dir(value) if name[0] != "_" and name not in fields)):
        try:
            member = inspect.getattr_static(value, name)
            described.append((f".{name}()", str(inspect.signature(getattr(value, name)))))
        except (AttributeError, TypeError, ValueError):
            if isinstance(member, property):
                described.append((f".{name}()", "property"))
    return described + [(f".{name}", f"entry {place}") for place, name in enumerate(fields)]


def _ops(found: Found) -> None:
    import torch

    schemas = [each for each in torch._C._jit_get_all_schemas() if each.name.startswith("memkern::")]
    for schema in schemas:
        found.add(f"ops/{schema.name.removeprefix('memkern::')}", str(schema))


def _help(found: Found, command: list[str]) -> None:
    """The help of a command, and of the commands that it lists."""
    texts = dict(worker.command([*command, "--help"]))
    found.add(f"help/{'-'.join(command) or 'memkern'}", texts["stdout"] + texts["stderr"])
    if "COMMAND" in texts["stdout"].split("\n\n")[0]:
        for name in re.findall(r"^    (\w+)", texts["stdout"], re.MULTILINE):
            _help(found, [*command, name])


if __name__ == "__main__":
    worker.main(capture)
