"""The random number generators of the process, left as they were found."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def kept_rng() -> Iterator[None]:
    """Puts Python's, numpy's and torch's generators (CPU and every GPU in use) back when the block ends.

    An audit in the middle of a training must not change what the training draws next, even if an encoder draws in its
    forward pass.
    """
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    # A CUDA that nobody has used is not initialized here, because that would take memory and time.
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() and torch.cuda.is_initialized() else []
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)
        if cuda:
            torch.cuda.set_rng_state_all(cuda)
