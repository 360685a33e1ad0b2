"""Philox 4x32-10 (Salmon et al., SC 2011): four random words for every counter, in any order, without a state."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
"""Words of 32 bits, each kept in 64: products of two do not overflow."""

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_ROUNDS = 10


def words(counter: tuple[Any, Any, Any, Any], seed: int) -> tuple[Words, Words, Words, Words]:
    """Random words of a block of counters.

    Args:
        counter: Four arrays of uint64, each below 2**32, of shapes that broadcast.
        seed: The key, in [0, 2**64).

    Returns:
        Four arrays of words, of the broadcast shape.
    """
    c0, c1, c2, c3 = counter
    key0, key1 = seed & 0xFFFFFFFF, seed >> 32
    for _ in range(_ROUNDS):
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            (p1 >> _HALF) ^ c1 ^ np.uint64(key0),
            p1 & _LOW,
            (p0 >> _HALF) ^ c3 ^ np.uint64(key1),
            p0 & _LOW,
        )
        key0, key1 = (key0 + _KEY_STEPS[0]) & 0xFFFFFFFF, (key1 + _KEY_STEPS[1]) & 0xFFFFFFFF
    return c0, c1, c2, c3


def unit(word: Words) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1), multiples of 2**-24: the grid that torch draws float32 numbers from."""
    return (word >> np.uint64(8)).astype(np.float64) * 2.0**-24


def below(word: Words, bound: Any) -> NDArray[np.int64]:
    """Uniform whole numbers in [0, bound), bound below 2**32."""
    return ((word * np.asarray(bound, dtype=np.uint64)) >> _HALF).astype(np.int64)
