"""The CPU kernels in another program, python_tests/cpp/replay.cpp: built for another processor, or with sanitizers.

The ops run as they always do; what they would call in memkern._native is written to the program instead, with the
memory that its addresses point into, and what the program leaves in that memory is copied back.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from agreement.cases import Case
from agreement.ops import OPS, Results
from torch import Tensor

from memkern import native


class Program:
    """Stands for ``memkern._native``: every op is run by the program.

    Args:
        process: The running program.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process, self._write, self._read = process, process.stdin, process.stdout
        self._memory: dict[int, torch.UntypedStorage] = {}  # by its address, of tensors whose address was asked for

    def see(self, x: Tensor) -> None:
        """Notes the memory of a tensor whose address is asked for."""
        storage = x.untyped_storage()
        self._memory[storage.data_ptr()] = storage

    def forget(self) -> None:
        """Lets go of all memory."""
        self._memory.clear()

    def __getattr__(self, op: str) -> Callable[..., None]:
        return lambda threads, **fields: self._run(op, threads, fields)

    def _run(self, op: str, threads: int, fields: dict[str, object]) -> None:
        used: list[int] = []
        text = self._text(fields, used)
        sizes = [self._memory[address].nbytes() for address in used]
        self._write.write(f"{op} {threads} {len(used)} {' '.join(map(str, sizes))} {text}\n".encode())
        for address, size in zip(used, sizes, strict=True):
            self._write.write(ctypes.string_at(address, size))
        self._write.flush()
        answer = self._read.readline().decode().strip()
        assert answer == "done", answer or f"the program ended with {self._process.wait()}"
        for address, size in zip(used, sizes, strict=True):
            ctypes.memmove(address, self._read.read(size), size)

    def _text(self, value: object, used: list[int]) -> str:
        if isinstance(value, dict):
            return "{ " + " ".join(f"{name} {self._text(each, used)}" for name, each in value.items()) + " }"
        if isinstance(value, list | tuple):
            return "[ " + " ".join(self._text(each, used) for each in value) + " ]"
        if isinstance(value, float):
            return value.hex()
        assert isinstance(value, int), value
        for address, storage in self._memory.items():
            if address <= value < address + max(storage.nbytes(), 1):
                if address not in used:
                    used.append(address)
                return f"{used.index(address)}+{value - address}"
        assert value < 1 << 32, "an address in no tensor's memory"
        return str(int(value))


@contextlib.contextmanager
def running(
    command: list[str | Path], environment: dict[str, str] | None = None
) -> Iterator[Callable[[Case], Results]]:
    """Starts the program.

    Args:
        command: Of the program.
        environment: Beside that of this process.

    Yields:
        What runs a case on its kernels.
    """
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | (environment or {})
    )
    program: Any = Program(process)
    data_ptr = Tensor.data_ptr

    def noted(x: Tensor) -> int:
        program.see(x)
        return data_ptr(x)

    def run(case: Case) -> Results:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(native, "library", lambda: program)
            patch.setattr(Tensor, "data_ptr", noted)
            try:
                return OPS[case.op].call(case, OPS[case.op].inputs(case), "cpu")
            finally:
                program.forget()

    try:
        yield run
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(60)
