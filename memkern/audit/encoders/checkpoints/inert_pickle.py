"""Pickles, read without running anything from them: tensors and plain containers, and a placeholder for all else.

What a pickle may call is decided by name, in one table: functions of this file that put tensors together, and plain
types. Every other name becomes a class that does nothing. `os.system`, an `argparse.Namespace` and a class of the
training code are all the same then: objects that hold what the file says of them. `torch.load(weights_only=True)`
refuses such files, and `weights_only=False` does more than to unpickle them, so files are read here.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict, UserDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO

import torch
from torch import Tensor

Made = Callable[..., object]


class Placeholder(UserDict[object, object]):
    """Object of a class that is not trusted: what the file says of it, and no behavior.

    It takes what a pickle can do to an object (arguments, a state, entries, items), so that objects of every kind can
    be read past, and be looked through for tensors.

    Args:
        *args: What the file makes the object of; not kept.
        **kwargs: The same.

    Attributes:
        KIND: Full name of what the file means.
    """

    KIND = ""

    def __new__(cls, *args: object, **kwargs: object) -> Placeholder:
        """Makes an empty object, whatever it is made of."""
        made = super().__new__(cls)
        made.data = {}  # a pickle may leave `__init__` out
        return made

    def __init__(self, *args: object, **kwargs: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        """Takes a state, as an object does that is read from a pickle."""
        for part in state if isinstance(state, tuple) else (state,):
            if isinstance(part, Mapping):
                self.update(part)

    def __call__(self, *args: object, **kwargs: object) -> Placeholder:
        """Stands for what a call of the object would give."""
        return self

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    def append(self, item: object) -> None:
        """Takes an item, as a list does."""
        self[len(self)] = item

    add = append

    def extend(self, items: Sequence[object]) -> None:
        """Takes items, as a list does."""
        for item in items:
            self.append(item)


@dataclass(frozen=True)
class Storage:
    """Numbers that tensors are views of.

    Attributes:
        dtype: Of the numbers; `None` where each tensor says so itself.
        memory: The bytes, `[n]` uint8.
    """

    dtype: torch.dtype | None
    memory: Tensor


def _view(
    storage: Storage, dtype: torch.dtype | None, offset: int, size: Sequence[int], stride: Sequence[int]
) -> Tensor:
    if not isinstance(storage, Storage) or dtype is None:
        raise pickle.UnpicklingError("tensors that torch.save did not write; save them with it")
    numbers = storage.memory[: len(storage.memory) // dtype.itemsize * dtype.itemsize].view(dtype)
    return numbers.as_strided(tuple(size), tuple(stride), offset)  # torch checks the bounds


def _tensor(storage: Storage, offset: int, size: Sequence[int], stride: Sequence[int], *ignored: object) -> Tensor:
    return _view(storage, getattr(storage, "dtype", None), offset, size, stride)


def _tensor_of_dtype(
    storage: Storage, offset: int, size: Sequence[int], stride: Sequence[int], grad: object, hooks: object,
    dtype: torch.dtype, *ignored: object,
) -> Tensor:  # fmt: skip
    return _view(storage, dtype, offset, size, stride)


def _parameter(data: object, *ignored: object) -> object:
    return data


def _encoded(text: str, encoding: str) -> bytes:
    return text.encode("latin1")  # what bytes are written as


def _subclass(function: object, kind: object, args: Sequence[object], state: object) -> object:
    return function(*args) if isinstance(function, _Trusted) else Placeholder()


class _Trusted:
    """Function that a pickle may call, and whose attributes it cannot set."""

    __slots__ = ("_call",)
    _call: Made

    def __init__(self, call: Made) -> None:
        object.__setattr__(self, "_call", call)

    def __setattr__(self, name: str, value: object) -> None:
        raise pickle.UnpicklingError(f"a pickle that sets {name!r} of a function")

    def __call__(self, *arguments: object) -> object:
        return self._call(*arguments)


TRUSTED: Mapping[str, object] = {
    "torch._utils._rebuild_tensor": _Trusted(_tensor),
    "torch._utils._rebuild_tensor_v2": _Trusted(_tensor),
    "torch._utils._rebuild_tensor_v3": _Trusted(_tensor_of_dtype),
    "torch._utils._rebuild_parameter": _Trusted(_parameter),
    "torch._utils._rebuild_parameter_with_state": _Trusted(_parameter),
    "torch._tensor._rebuild_from_type_v2": _Trusted(_subclass),
    "torch.nn.parameter.Parameter": _Trusted(_parameter),
    "torch.Size": torch.Size,
    "_codecs.encode": _Trusted(_encoded),
    "collections.OrderedDict": OrderedDict,
    "builtins.set": set,
}
"""Name in a pickle -> what is called in its place. Types are built-in ones, which a pickle cannot change."""

STORAGES: Mapping[str, torch.dtype] = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64, "ComplexDoubleStorage": torch.complex128, "QInt8Storage": torch.int8,
    "QUInt8Storage": torch.uint8, "QInt32Storage": torch.int32,
}  # fmt: skip
"""Name of a type of storage -> dtype of its numbers."""

Fetch = Callable[[str, torch.dtype | None, int], Tensor]
"""From a storage's key, dtype and number of elements to its bytes."""


class Unpickler(pickle.Unpickler):
    """Unpickler that makes tensors, plain containers and placeholders, and calls nothing else.

    Args:
        file: The pickle.
        fetch: Where the numbers of tensors are; `None` if the pickle has none.
    """

    def __init__(self, file: IO[bytes], fetch: Fetch | None = None) -> None:
        super().__init__(file, encoding="utf-8")
        self._fetch = fetch
        self._storages: dict[str, Storage] = {}

    def find_class(self, module: str, name: str) -> object:
        """Returns what a name in a pickle stands for."""
        full = f"{module}.{name}".replace("__builtin__.", "builtins.")
        if full in TRUSTED:
            return TRUSTED[full]
        if module == "torch" and isinstance(found := getattr(torch, name, None), torch.dtype):
            return found
        if module.partition(".")[0] == "torch" and name in STORAGES:
            return STORAGES[name]
        return type("Placeholder", (Placeholder,), {"KIND": full})

    def persistent_load(self, identity: object) -> object:
        """Returns the storage that a pickle refers to."""
        if isinstance(identity, tuple) and len(identity) > 1 and identity[0] == "module":
            return identity[1]  # a class, beside its source code
        if not isinstance(identity, tuple) or len(identity) < 5 or identity[0] != "storage" or self._fetch is None:
            return Placeholder()
        dtype = identity[1] if isinstance(identity[1], torch.dtype) else None
        key = str(identity[2])
        if key not in self._storages:
            self._storages[key] = Storage(dtype, self._fetch(key, dtype, int(identity[4])))
        return self._storages[key]
