"""How long some calls take: by the processor's clock, or by events on a GPU's stream."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch


def wall(call: Callable[[], Any], calls: int) -> float:
    """Seconds a call, for work that is done when the call returns."""
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - start) / calls


def cuda_events(call: Callable[[], Any], calls: int) -> float:
    """Seconds a call on torch's current stream: from the first launch being reached to the last one being done.

    What Python needs to launch is inside as far as the GPU waits for it, as it does in a program.
    """
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    start.record()
    for _ in range(calls):
        call()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3 / calls
