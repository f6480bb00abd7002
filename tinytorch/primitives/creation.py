"""Rows that make numbers: a constant array, positions along an axis, random bits from a counter.

Knows shapes, dtypes, one value, keys and counters; never distributions. A gradient rule that needs
a constant asks `full_like`, which makes it of the same kind (array, Tensor, captured value) as the
array it stands beside.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinytorch.base.dtypes import DType, as_dtype, check_fits, float32, float64, int64, uint32
from tinytorch.base.errors import ShapeError
from tinytorch.base.lengths import is_symbolic
from tinytorch.primitives.ieee import ieee_steps
from tinytorch.primitives.primitive import (
    NOT_DIFFERENTIABLE,
    Array,
    Cotangents,
    OpClass,
    Operand,
    Primitive,
    Spec,
    dtype_of,
    no_flops,
    refused,
    sample,
)
from tinytorch.primitives.shapes import check_axis, check_sizes


def _constant(*, shape: tuple[int, ...], value: float, dtype: DType) -> Spec:
    check_sizes("full", shape)
    dtype = as_dtype(dtype)
    if not is_symbolic(value):
        check_fits(value, dtype)
    return Spec(shape, dtype)


def _positions(*, shape: tuple[int, ...], axis: int, dtype: DType) -> Spec:
    check_sizes("iota", shape)
    check_axis("iota", len(shape), axis)
    return Spec(shape, as_dtype(dtype))


@ieee_steps
def _full(*, shape: tuple[int, ...], value: float, dtype: DType) -> Array:
    return np.full(shape, np.asarray(value).astype(as_dtype(dtype).compute))


def _iota(*, shape: tuple[int, ...], axis: int, dtype: DType) -> Array:
    line = np.arange(shape[axis], dtype=np.int64).astype(as_dtype(dtype).compute)
    return np.broadcast_to(line.reshape((-1,) + (1,) * (len(shape) - axis - 1)), shape)


def _no_inputs(g: Operand, out: Operand, **params: Any) -> Cotangents:
    return ()


full = Primitive(
    "full", _constant, _full, vjp=_no_inputs, flops=no_flops, op_class=OpClass.SOURCE,
    samples=lambda: [
        sample(shape=(), value=0.5, dtype=float64),
        sample(shape=(2, 3), value=-3, dtype=int64),
        sample(shape=(0, 3), value=1.0, dtype=float32),
    ],
    error_samples=lambda: [
        refused(ValueError, "not a size", shape=(-1,), value=0.0, dtype=float32),
    ],
    doc="An array of `shape` with `value` everywhere.",
)  # fmt: skip
iota = Primitive(
    "iota", _positions, _iota, vjp=_no_inputs, flops=no_flops, op_class=OpClass.SOURCE,
    samples=lambda: [
        sample(shape=(5,), axis=0, dtype=int64),
        sample(shape=(2, 3, 2), axis=1, dtype=float64),
        sample(shape=(0, 3), axis=0, dtype=float32),
    ],
    error_samples=lambda: [
        refused(ValueError, "does not exist", shape=(2,), axis=1, dtype=int64),
        refused(ValueError, "not a size", shape=(-2,), axis=0, dtype=int64),
    ],
    doc="out[i0, i1, ...] = the index along `axis`.",
)  # fmt: skip


def made_like(x: Operand, primitive: Primitive, **params: Any) -> Any:
    """A row without operands, of the same kind as x: an array, or what x's type makes of it."""
    handler = getattr(x.__class__, "__primitive__", None)
    return primitive(**params) if handler is None else handler(primitive, (), params)


def full_like(
    x: Operand, value: float, shape: tuple[int, ...] = (), dtype: DType | None = None
) -> Operand:
    """A constant of x's kind and dtype (or the one given).

    >>> full_like(np.zeros(3), 0.5)
    array(0.5)
    """
    return made_like(x, full, shape=shape, value=value, dtype=dtype or dtype_of(x))


# --- random bits from a counter: Philox 4x32-10, the same bits everywhere ---
# Nothing is remembered between calls but a counter, so any block of the stream can be made by
# anyone, in any order.
#
# Source: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011,
# section 3.3 and table 2; the known-answer vectors in tests/primitives/test_creation.py are theirs.

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)  # Salmon et al. 2011: the best found for 4x32
WEYL = (0x9E3779B9, 0xBB67AE85)  # golden ratio and sqrt(3) - 1, as fractions of 2^32
ROUNDS = 10
_MASK, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)


def philox(counter: Array, key: Array) -> Array:
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


def _bits_spec(state: Spec, *, shape: tuple[int, ...]) -> tuple[Spec, Spec]:
    if state != Spec((4,), uint32):
        raise ShapeError(
            "random_bits: this is not the state of a generator",
            got=f"state of dtype {state.dtype.name}, shape {state.shape}",
            rule="four uint32: key0, key1, counter_low, counter_high",
            fix="np.array([seed, 0, 0, 0], np.uint32)",
        )
    check_sizes("random_bits", shape)
    return Spec(tuple(shape), uint32), state


def _random_bits(state: Array, *, shape: tuple[int, ...]) -> tuple[Array, Array]:
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


def _bits_flops(ins: Sequence[Spec], outs: Sequence[Spec], **params: Any) -> int:
    return 10 * ROUNDS * -(-outs[0].size // 4)


random_bits = Primitive(
    "random_bits", _bits_spec, _random_bits, vjp=NOT_DIFFERENTIABLE, flops=_bits_flops,
    op_class=OpClass.RANDOM,
    samples=lambda: [
        sample(np.array([0, 0, 0, 0], np.uint32), shape=(4,)),
        sample(np.array([7, 9, 0xFFFFFFFE, 0], np.uint32), shape=(3, 5)),
        sample(np.array([7, 9, 0xFFFFFFFE, 0xFFFFFFFF], np.uint32), shape=(13,)),
        sample(np.array([1, 2, 3, 4], np.uint32), shape=(0, 2)),
        sample(np.array([1, 2, 3, 4], np.uint32), shape=()),
    ],
    error_samples=lambda: [
        refused(ValueError, "not the state", np.zeros(3, np.uint32), shape=(2,)),
        refused(ValueError, "not the state", np.zeros(4, np.int64), shape=(2,)),
        refused(ValueError, "not a size", np.zeros(4, np.uint32), shape=(-2,)),
    ],
    doc="""Uniform bits (uint32 of `shape`) and the state after them.

    Element i of n is word i // b of block i % b, where b = ceil(n / 4): the blocks are independent,
    and each of their words fills one contiguous quarter. The counter moves on by b.""",
)  # fmt: skip
