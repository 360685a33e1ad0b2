"""Philox 4x32-10 (Salmon et al., SC 2011): four random words for every counter, in any order, without a state."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Words = NDArray[np.uint64]
"""Words of 32 bits, each kept in 64: products of two do not overflow."""

_MULTIPLIERS = np.array([0xD2511F53, 0xCD9E8D57], dtype=np.uint64)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_ROUNDS = 10


def words(counter: tuple[Words, Words, Words, Words], seed: int) -> tuple[Words, Words, Words, Words]:
    """Computes the random words of a block of counters.

    Args:
        counter: Four arrays of uint64, each below 2**32, of shapes that broadcast.
        seed: The key, in [0, 2**64).

    Returns:
        Four arrays of words, of the broadcast shape.
    """
    shape = np.broadcast_shapes(*(np.shape(word) for word in counter))
    # Words 0 and 2 beside each other, and 1 and 3. Halves of products are read where they lie: three calls a round.
    even, odd = np.empty((2, 2, *shape), dtype="<u4")
    even[0], odd[0], even[1], odd[1] = counter
    ones = (1,) * len(shape)
    multipliers, key = _MULTIPLIERS.reshape(2, *ones), (seed & 0xFFFFFFFF, seed >> 32)
    products, others = np.empty((2, 2, *shape), dtype="<u8")
    for _ in range(_ROUNDS):
        np.multiply(even, multipliers, out=products)
        halves = products[::-1, ..., None].view("<u4")
        np.bitwise_xor(halves[..., 1], odd, out=even)
        even ^= np.array(key, dtype=np.uint32).reshape(2, *ones)
        odd, products, others = halves[..., 0], others, products
        key = ((key[0] + _KEY_STEPS[0]) & 0xFFFFFFFF, (key[1] + _KEY_STEPS[1]) & 0xFFFFFFFF)
    first, second = even.astype(np.uint64), odd.astype(np.uint64)
    return first[0], second[0], first[1], second[1]


def unit(word: Words) -> NDArray[np.float64]:
    """Maps words ``[...]`` to uniform numbers in [0, 1), multiples of 2**-24.

    That is the grid that torch draws float32 numbers from.
    """
    return (word >> np.uint64(8)).astype(np.float64) * 2.0**-24


def below(word: Words, bound: ArrayLike) -> NDArray[np.int64]:
    """Maps words ``[...]`` to uniform whole numbers in [0, bound), bound below 2**32."""
    return ((word * np.asarray(bound, dtype=np.uint64)) >> _HALF).astype(np.int64)
