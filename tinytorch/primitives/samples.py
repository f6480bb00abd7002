"""Numbers for the samples of the contract test: reproducible, distinct, of any shape and dtype.

Knows arrays, never primitives. No random generator: the multiples of the golden ratio, modulo one,
spread evenly and never repeat (Weyl's sequence), so no two are closer than about 1 / (2 n).
"""

from __future__ import annotations

import numpy as np

from tinytorch.primitives.primitive import ErrorSample, Sample

_GOLDEN = 0.6180339887498949  # (sqrt(5) - 1) / 2
_PLASTIC = 0.7548776662466927  # the real root of x^3 + x^2 = 1: unrelated to the golden ratio


def numbers(
    *shape: int, low: float = -2.0, high: float = 2.0, seed: int = 0, dtype="float64"
) -> np.ndarray:
    """Distinct numbers between `low` and `high` in no simple order.

    >>> numbers(3, low=0, high=10, dtype="int32")
    array([6, 2, 8], dtype=int32)
    """
    n = int(np.prod(shape, dtype=np.int64))
    unit = (np.arange(1, 1 + n) * _GOLDEN + seed * _PLASTIC) % 1.0
    return (low + (high - low) * unit).reshape(shape).astype(dtype)


def flags(*shape: int, seed: int = 0) -> np.ndarray:
    """Booleans of both kinds."""
    return np.asarray(numbers(*shape, low=0.0, high=1.0, seed=seed) < 0.5)


def strided(*shape: int, **options) -> np.ndarray:
    """`numbers` in a view with a negative and a doubled stride, so that nothing relies on order."""
    wide = numbers(*(2 * n for n in shape), **options)
    return wide[tuple(slice(None, None, -2 if i == 0 else 2) for i in range(len(shape)))]


def one(low: float = -2.0, high: float = 2.0):
    """Samples of a row with one operand, numbers in the given range."""

    def samples():
        shapes = ((), (1,), (7,), (2, 3), (0,), (3, 0, 2), (5, 1, 3))
        made = [Sample((numbers(*s, low=low, high=high),)) for s in shapes]
        return [*made, Sample((strided(3, 5, low=low, high=high),))]

    return samples


def two(
    low: float = -2.0, high: float = 2.0, low_b: float | None = None, high_b: float | None = None
):
    """Samples of a row with two operands, broadcast in every way."""
    low_b, high_b = low if low_b is None else low_b, high if high_b is None else high_b

    def samples():
        pairs = (
            ((), ()), ((3,), (3,)), ((2, 3), (3,)), ((2, 1), (1, 5)), ((), (2, 2)),
            ((4, 1, 3), (7, 1)), ((0,), (1,)), ((2, 0), (2, 1)), ((1,), (1, 1, 1)),
        )  # fmt: skip
        made = [
            Sample((numbers(*a, low=low, high=high), numbers(*b, low=low_b, high=high_b, seed=1)))
            for a, b in pairs
        ]
        crooked = (strided(3, 5, low=low, high=high), strided(5, low=low_b, high=high_b, seed=1))
        return [*made, Sample(crooked)]

    return samples


def of_dtype(make, dtype: str):
    """The same samples converted to another dtype."""
    return lambda: [Sample(tuple(x.astype(dtype) for x in s.inputs), s.params) for s in make()]


def wrong_kind(dtype: str, operands: int = 1, **params):
    """Error samples: operands of a number type that the row refuses."""
    x = np.zeros((2,), dtype)
    return lambda: [ErrorSample((x,) * operands, TypeError, "number type", params)]


def wrong_pair(good: str, refused: str | None = None, other: str | None = None):
    """Error samples of a row with two operands.

    Args:
        good: a dtype the row takes.
        refused: one it does not take, if there is any.
        other: another dtype it takes, to be refused when mixed with `good`.
    """

    def samples():
        a, b = np.zeros((2, 3), good), np.zeros((2, 4), good)
        made = [ErrorSample((a, b), ValueError, "do not fit together")]
        if refused:
            made.append(ErrorSample((a.astype(refused),) * 2, TypeError, "does not take"))
        if other:
            made.append(ErrorSample((a, a.astype(other)), TypeError, "different number types"))
        return made

    return samples
