"""Random bits from a counter: Philox 4x32-10, the same bits everywhere.

Knows keys and counters, never distributions. Nothing is remembered between calls but a counter, so
any block of the stream can be made by anyone, in any order.

Source: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011,
section 3.3 and table 2; the known-answer vectors in tests/primitives/test_random.py are theirs.
"""

from __future__ import annotations

import numpy as np

from tinytorch.base.dtypes import uint32
from tinytorch.base.errors import ShapeError
from tinytorch.primitives.primitive import (
    NOT_DIFFERENTIABLE,
    ErrorSample,
    OpClass,
    Primitive,
    Sample,
    Spec,
)
from tinytorch.primitives.shapes import check_sizes

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)  # Salmon et al. 2011: the best found for 4x32
WEYL = (0x9E3779B9, 0xBB67AE85)  # golden ratio and sqrt(3) - 1, as fractions of 2^32
ROUNDS = 10
_MASK, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)


def philox(counter: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Ten rounds of Philox on counters (4, n) of uint32 with one key (2,); returns (4, n)."""
    c0, c1, c2, c3 = (np.asarray(c).astype(np.uint64) for c in counter)
    first, second = (np.uint64(m) for m in MULTIPLIERS)
    k0, k1 = (int(k) for k in key)
    for _ in range(ROUNDS):
        p, q = c0 * first, c2 * second  # 32 x 32 -> 64 bits
        c0, c1, c2, c3 = (
            (q >> _HALF) ^ c1 ^ np.uint64(k0),
            q & _MASK,
            (p >> _HALF) ^ c3 ^ np.uint64(k1),
            p & _MASK,
        )
        k0, k1 = (k0 + WEYL[0]) & 0xFFFFFFFF, (k1 + WEYL[1]) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3]).astype(np.uint32)


def _bits_spec(state: Spec, *, shape) -> tuple[Spec, Spec]:
    if state != Spec((4,), uint32):
        raise ShapeError(
            "random_bits: this is not the state of a generator",
            got=f"state of dtype {state.dtype.name}, shape {state.shape}",
            rule="four uint32: key0, key1, counter_low, counter_high",
            fix="np.array([seed, 0, 0, 0], np.uint32)",
        )
    check_sizes("random_bits", shape)
    return Spec(tuple(shape), uint32), state


def _random_bits(state: np.ndarray, *, shape):
    n = int(np.prod(shape, dtype=np.int64))
    blocks = -(-n // 4)
    counter = int(state[2]) | int(state[3]) << 32
    with np.errstate(over="ignore"):  # the counter wraps after 2^64 blocks
        line = np.arange(blocks, dtype=np.uint64) + np.uint64(counter)
    zeros = np.zeros(blocks, np.uint64)
    words = philox(np.stack([line & _MASK, line >> _HALF, zeros, zeros]), state[:2])
    after = (counter + blocks) % 2**64
    new_state = np.array([state[0], state[1], after & 0xFFFFFFFF, after >> 32], np.uint32)
    return words.reshape(-1)[:n].reshape(shape), new_state


random_bits = Primitive(
    "random_bits",
    _bits_spec,
    _random_bits,
    vjp=NOT_DIFFERENTIABLE,
    flops=lambda ins, outs, **params: 10 * ROUNDS * -(-outs[0].size // 4),
    samples=lambda: [
        Sample((np.array([0, 0, 0, 0], np.uint32),), {"shape": (4,)}),
        Sample((np.array([7, 9, 0xFFFFFFFE, 0], np.uint32),), {"shape": (3, 5)}),
        Sample((np.array([7, 9, 0xFFFFFFFE, 0xFFFFFFFF], np.uint32),), {"shape": (13,)}),
        Sample((np.array([1, 2, 3, 4], np.uint32),), {"shape": (0, 2)}),
        Sample((np.array([1, 2, 3, 4], np.uint32),), {"shape": ()}),
    ],
    error_samples=lambda: [
        ErrorSample((np.zeros(3, np.uint32),), ValueError, "not the state", {"shape": (2,)}),
        ErrorSample((np.zeros(4, np.int64),), ValueError, "not the state", {"shape": (2,)}),
        ErrorSample((np.zeros(4, np.uint32),), ValueError, "not a size", {"shape": (-2,)}),
    ],
    op_class=OpClass.RANDOM,
    doc="""Uniform bits (uint32 of `shape`) and the state after them.

    Element i of n is word i // b of block i % b, where b = ceil(n / 4): the blocks are independent,
    and each of their words fills one contiguous quarter. The counter moves on by b.""",
)
