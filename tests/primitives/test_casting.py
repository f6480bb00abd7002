"""Casts at the ends of every type."""

import numpy as np
import pytest

from tinytorch.base.dtypes import bfloat16, from_bfloat16
from tinytorch.primitives import TABLE

cast = TABLE["cast"]


@pytest.mark.parametrize("source", ["float16", "float32", "float64"])
@pytest.mark.parametrize("target", ["int8", "uint8", "int16", "int32", "int64", "uint32"])
def test_floats_out_of_range_saturate(source, target):
    """Ground truth: the stated rule, by Python's integers: clip, drop the fraction, NaN is 0."""
    info = np.iinfo(target)
    with np.errstate(over="ignore"):
        ends = np.array([info.min, info.max], np.float64).astype(source)
        near = np.concatenate([np.nextafter(ends, -np.inf), ends, np.nextafter(ends, np.inf)])
    x = np.concatenate([near, np.array([np.nan, np.inf, -np.inf, -0.5, 0.5, -1.5], source)])

    def rule(v: float) -> int:
        if v != v:
            return 0
        return info.max if v >= info.max else info.min if v <= info.min else int(v)

    np.testing.assert_array_equal(cast(x, dtype=target), [rule(float(v)) for v in x])


def test_numbers_in_range_take_the_short_way_to_the_same_answer():
    """Invariant: a number casts the same whether or not another one beside it is out of range."""
    x = np.array([3.7, -3.7, 2.0**31 - 1])
    alone = cast(x, dtype="int32")
    np.testing.assert_array_equal(cast(np.append(x, 1e300), dtype="int32")[:3], alone)


def test_integers_wrap():
    """Closed form: modulo 2 to the width."""
    np.testing.assert_array_equal(cast(np.array([300, -1, 128]), dtype="uint8"), [44, 255, 128])
    np.testing.assert_array_equal(cast(np.array([300, -1, 128]), dtype="int8"), [44, -1, -128])


def test_bfloat16_rounds_to_even():
    """Closed form: ties at 1 + 2^-8 and 1 + 3 * 2^-8; overflow to inf; NaN stays NaN."""
    x = np.array([1 + 2**-8, 1 + 3 * 2**-8, 3.4e38, -1e300, np.nan, 0.0, -0.0])
    back = from_bfloat16(cast(x, dtype=bfloat16))
    np.testing.assert_array_equal(back[:4], [1.0, 1 + 2**-6, np.inf, -np.inf])
    assert np.isnan(back[4]) and np.signbit(back[6]) and not np.signbit(back[5])
