"""What the contract cannot see: gradients at ties and at zero, integers at their ends."""

import numpy as np
import pytest

from tests.reverse_mode import Traced, gradient
from tinytorch.base.dtypes import bfloat16, from_bfloat16
from tinytorch.primitives import TABLE


def gradients_of(name, *arrays, **params):
    """Gradients of the sum of a row's output."""
    variables = [Traced(np.array(a, float)) for a in arrays]
    out = TABLE[name](*variables, **params)
    return [
        None if g is None else g.array
        for g in gradient([(out, Traced(np.ones(out.shape)))], variables)
    ]


@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_ties_share_the_gradient(name):
    """Ground truth: torch.maximum gives each of two equal operands one half."""
    a, b = gradients_of(name, [1.0, 2.0, 3.0], [2.0, 2.0, 2.0])
    np.testing.assert_array_equal(a + b, 1.0)
    assert a[1] == b[1] == 0.5
    assert sorted([a[0], a[2]]) == [0.0, 1.0]


@pytest.mark.parametrize("name", ["max", "min"])
def test_tied_extremes_share_the_gradient(name):
    """Ground truth: torch.amax and amin give each of n equal extremes 1 / n."""
    (g,) = gradients_of(name, [[2.0, 2.0, 2.0], [0.0, 0.0, 1.0]], axes=(0, 1), keepdims=False)
    wanted = {"max": [[1 / 3] * 3, [0, 0, 0]], "min": [[0, 0, 0], [0.5, 0.5, 0]]}[name]
    np.testing.assert_allclose(g, wanted, rtol=1e-15)


def test_powers_at_zero_have_finite_gradients():
    """Closed form: d(x^2) = 2x, d(x^1) = 1, d(x^0) = 0 at x = 0; d(0^b)/db = 0 for b > 0."""
    a, b = gradients_of("pow", [0.0, 0.0, 0.0], [2.0, 1.0, 0.0])
    np.testing.assert_array_equal(a, [0.0, 1.0, 0.0])
    np.testing.assert_array_equal(b, [0.0, 0.0, 0.0])


def test_products_with_zeros_have_the_right_gradient():
    """Closed form: the derivative of a product is the product of the others, zeros included."""
    (g,) = gradients_of("prod", [[2.0, 0.0, 3.0], [0.0, 0.0, 5.0]], axes=(1,), keepdims=False)
    np.testing.assert_array_equal(g, [[0.0, 6.0, 0.0], [0.0, 0.0, 0.0]])


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "int64", "uint32"])
def test_integers_divided_by_zero_give_zero(dtype):
    """Ground truth: the stated rule; and the least integer divided by -1 wraps to itself."""
    info = np.iinfo(dtype)
    x = np.array([info.min, info.max, 7], dtype)
    for name in ("floor_div", "remainder"):
        np.testing.assert_array_equal(TABLE[name](x, np.zeros(3, dtype)), 0)
    if info.min < 0:
        minus = np.full(3, -1, dtype)
        assert TABLE["floor_div"](x, minus)[0] == info.min
        assert TABLE["remainder"](x, minus)[0] == 0


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "int64", "uint32"])
def test_shifts_beyond_the_width(dtype):
    """Ground truth: the stated rule, 0 to the left, the sign to the right."""
    info = np.iinfo(dtype)
    width = info.bits
    counts = np.array([0, 1, width - 1, width, width + 1, info.max], dtype)
    x = np.full(6, info.min or info.max, dtype)
    left, right = TABLE["shift_left"](x, counts), TABLE["shift_right"](x, counts)
    np.testing.assert_array_equal(left[3:], 0)
    np.testing.assert_array_equal(right[3:], -1 if info.min else 0)
    assert right[1] == (int(x[0]) >> 1)


# Casts at the ends of every type.

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
