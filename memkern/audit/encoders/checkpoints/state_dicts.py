"""State dicts in a checkpoint, however deep, and their names without what wrappers add."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from memkern.audit.encoders.checkpoints.inert_pickle import Placeholder

WRAPPERS = frozenset({
    "module", "_orig_mod", "_fsdp_wrapped_module", "_fpw_module", "_checkpoint_wrapped_module", "_forward_module",
    "base_layer",
})  # fmt: skip
"""Parts that wrappers add to names, anywhere: DDP, torch.compile, FSDP (torch's and fairscale's), activation
checkpointing, Fabric, PEFT."""

DEEPEST = 8
"""Containers in containers that are looked through."""

_CHUNKS = re.compile(r"(^|\.)blocks\.\d+\.(\d+)\.")


@dataclass(frozen=True)
class StateDict:
    """Tensors by name, somewhere in a checkpoint.

    Attributes:
        path: Keys that lead to it, joined by dots; "" for the checkpoint itself.
        tensors: Name in the file -> tensor.
        objects: Name of an entry that is no tensor but an object -> the class that the file says it is of.
        chunked: Whether blocks are numbered by chunk and block, as DINOv2 saves them under FSDP, and the chunk is left
            out of their cleaned names.
        cleaned: Name without the parts of wrappers -> name in the file.
    """

    path: str
    tensors: Mapping[str, Tensor]
    objects: Mapping[str, str]
    chunked: bool = False
    cleaned: Mapping[str, str] = field(init=False)

    def __post_init__(self) -> None:
        names = {(_CHUNKS.sub(r"\1blocks.\2.", each) if self.chunked else each): each for each in self.tensors}
        names = dict(zip(clean(list(names)), names.values(), strict=True))
        object.__setattr__(self, "cleaned", names)


def clean(names: list[str]) -> list[str]:
    """Takes the parts that wrappers add out of names, unless two names would be one then."""
    cleaned = [".".join(part for part in name.split(".") if part not in WRAPPERS) or name for name in names]
    return cleaned if len(set(cleaned)) == len(names) else names


def state_dicts(content: Mapping[object, object]) -> Iterator[StateDict]:
    """Yields every state dict of a checkpoint, outer ones first.

    A module that was saved as a whole is one too: its parameters and buffers by name.

    Args:
        content: What the checkpoint holds.

    Yields:
        The state dicts; one with blocks in chunks a second time, with the chunks left out of names.
    """
    level: list[tuple[str, Mapping[object, object]]] = [("", content)]
    for _ in range(DEEPEST):
        below: list[tuple[str, Mapping[object, object]]] = []
        for path, each in level:
            if _is_module(each):
                yield StateDict(path, dict(_of_module(each, "")), {})
                continue  # its parts are no networks of their own
            named = {key: value for key, value in each.items() if isinstance(key, str)}
            tensors = {key: value for key, value in named.items() if isinstance(value, Tensor)}
            if tensors:
                objects = {key: value.KIND for key, value in named.items() if isinstance(value, Placeholder)}
                yield StateDict(path, tensors, objects)
                if any(_CHUNKS.search(name) for name in tensors):
                    yield StateDict(path, tensors, objects, chunked=True)
            below += [
                (f"{path}.{key}".lstrip("."), value) for key, value in named.items() if isinstance(value, Mapping)
            ]
        level = below


def _is_module(content: Mapping[object, object]) -> bool:
    """Tells a module that was saved as a whole; TorchScript has its parts among its attributes."""
    return isinstance(content, Placeholder) and ("_modules" in content or "training" in content)


def _of_module(module: Mapping[object, object], prefix: str, depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    keys = ("_parameters", "_buffers", "_modules")
    for part in [module[key] for key in keys if key in module] or [module]:
        for name, value in part.items() if isinstance(part, Mapping) and depth < 99 else ():
            if isinstance(value, Tensor):
                yield f"{prefix}{name}", value
            elif isinstance(value, Placeholder):
                yield from _of_module(value, f"{prefix}{name}.", depth + 1)
