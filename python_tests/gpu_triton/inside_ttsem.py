"""What a process that ttsem runs needs of the tests: less work at each launch, and an answer where tensors are."""

from __future__ import annotations

import functools
import importlib
import sys
import types
from typing import Any

import torch

from memkern import dispatch

_why_not = dispatch.why_not


def running() -> bool:
    """Whether this is such a process."""
    return "ttsem" in sys.modules


def quicken() -> None:
    """Leaves out what no result depends on: with nothing compiled before, the checks took 267 s and now take 145."""
    harness, mlir = importlib.import_module("ttsem.harness"), importlib.import_module("ttsem.mlir")
    mlir.parse = functools.lru_cache(maxsize=64)(mlir.parse)  # it parses anew at every launch
    made: dict[str, str] = {}

    def compile_to_ttir(fn: Any, args: Any, kwargs: Any, target: Any) -> dict[str, str]:
        """It executes Triton's own IR, and for that compiles every kernel down to machine code."""
        key = repr((fn.cache_key, harness._specialize(fn, args, kwargs, target)))
        if key not in made:
            launch = types.SimpleNamespace(fn=fn, args=args, kwargs=kwargs)
            made[key] = harness._stage_text(launch, "ttir", target)
        return {"ttir": made[key]}

    harness._compile_asm = compile_to_ttir


def why_not(backend: str, device: torch.device) -> str:
    """For ``dispatch.why_not``: ttsem calls its tensors "cuda" except inside of an op, where memkern asks."""
    return "" if backend == "triton" else _why_not(backend, device)
