"""Consumers of outputs: which layer alone reads what another one makes, from the operations of one forward pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from memkern.audit.taps.modules import tensors_in

Call = tuple[str, int]
"""Name of a module, and which call of it in one pass, from 0."""


class Consumers(TorchDispatchMode):
    """Records every operation: which memory it takes, and in which call of which module it runs.

    What calls are given and make is kept alive until the end, because memory that is free is given away again. Of what
    torch offers, only a dispatch mode, which has no public name, sees operations that Python code does not call itself.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Keeps torch from importing its compiler, which is slow and sets an environment variable."""
        return False  # nothing is compiled in an example pass

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._running: list[Call] = []
        self._count = 0  # operations so far
        self._reads: dict[int | None, list[tuple[int, Call | None]]] = {}  # memory -> number of the operation, its call
        self._ends: dict[Call, int] = {}  # how many operations there were when a call ended
        self._given: dict[Call, Tensor | None] = {}
        self._made: dict[Call, Tensor | None] = {}

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        """Runs an operation."""
        call = self._running[-1] if self._running else None
        for tensor in tensors_in((args, kwargs or {})):
            self._reads.setdefault(memory_of(tensor), []).append((self._count, call))
        self._count += 1
        return func(*args, **(kwargs or {}))

    def begin(self, call: Call, given: Tensor | None) -> None:
        """Records that a call begins, and the first tensor, `[…]`, that the call is given."""
        self._running.append(call)
        self._given[call] = given

    def end(self, call: Call, made: Tensor | None) -> None:
        """Records that a call has ended, and the first tensor, `[…]`, that the call made."""
        self._running.remove(call)
        self._ends[call] = self._count
        self._made[call] = made

    def only_consumer(self, call: Call, result: object) -> str:
        """Finds the module that alone reads what a call has made, just as the call has made it.

        Args:
            call: The call.
            result: What the model returned.

        Returns:
            The module's name; "" if there is none.
        """
        made = self._made[call]
        memory = memory_of(made)
        reads = [(at, who) for at, who in self._reads.get(memory, []) if at >= self._ends[call]]
        if memory is None or not reads or reads[0][1] is None:
            return ""
        consumer = reads[0][1]
        in_place = memory_of(self._made.get(consumer)) == memory
        # After a consumer that works in place, the memory holds the consumer's output, so later reads are not counted.
        others = [who for at, who in reads if who != consumer and not (in_place and at >= self._ends[consumer])]
        is_returned = any(memory_of(tensor) == memory for tensor in tensors_in(result))
        same = self._given.get(consumer) is made
        return consumer[0] if same and not others and (in_place or not is_returned) else ""


def memory_of(tensor: Tensor | None) -> int | None:
    """Tells the memory of a tensor `[…]`, its views included, from that of others; `None` if it has none of its own."""
    if tensor is None:
        return None
    try:
        return tensor.untyped_storage().data_ptr() or None
    except (NotImplementedError, RuntimeError):  # sparse, or of another library
        return None
