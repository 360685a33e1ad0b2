"""Which layer alone reads what another one makes, from the operations of one forward pass."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Call = tuple[str, int]
"""Name of a module, and which call of it."""


class Readers(TorchDispatchMode):
    """Notes every operation: which memory it takes, and in which call of which module it runs.

    The tensors that are asked about must be alive until the end, because memory that is free is given away again.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._running: list[Call] = []
        self._count = 0  # of operations so far
        self._reads: dict[int | None, list[tuple[int, Call | None]]] = {}  # memory -> number of the operation, its call
        self._ends: dict[Call, int] = {}  # how many operations there were when a call ended

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs an operation."""
        call = self._running[-1] if self._running else None
        for value in tree_leaves((args, kwargs)):
            if isinstance(value, Tensor):
                self._reads.setdefault(memory_of(value), []).append((self._count, call))
        self._count += 1
        return func(*args, **(kwargs or {}))

    def begin(self, call: Call) -> None:
        """A module begins."""
        self._running.append(call)

    def end(self, call: Call) -> None:
        """A module has ended."""
        self._running.remove(call)
        self._ends[call] = self._count

    def reader(self, call: Call, made: Tensor, given: dict[Call, Any], outputs: dict[Call, Any], result: Any) -> str:
        """The module that alone reads what a call has made, just as it was made; "" if there is none.

        Args:
            call: The call.
            made: What it made.
            given: What each call was given: its first tensor.
            outputs: What each call made.
            result: What the model returned.
        """
        memory = memory_of(made)
        reads = [(at, who) for at, who in self._reads.get(memory, []) if at >= self._ends[call]]
        if memory is None or not reads or reads[0][1] is None:
            return ""
        reader = reads[0][1]
        in_place = memory_of(outputs.get(reader)) == memory
        # What happens to the memory after a reader that works in place happens to the reader's output.
        others = [who for at, who in reads if who != reader and not (in_place and at >= self._ends[reader])]
        kept = [value for value in tree_leaves(result) if isinstance(value, Tensor) and memory_of(value) == memory]
        same = given.get(reader) is made
        return reader[0] if same and not others and (in_place or not kept) else ""


def memory_of(value: Any) -> int | None:
    """Tells the memory of a tensor from that of others, views of it included; `None` if it has none of its own."""
    if not isinstance(value, Tensor):
        return None
    try:
        return int(value.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):  # sparse, or of another library
        return None
