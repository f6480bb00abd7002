"""erf to two units in the last place."""

import math

import numpy as np
import pytest

from tinytorch.primitives import TABLE


def test_float64_is_within_two_units_in_the_last_place():
    """Ground truth: the C library's erf (below one unit), around every seam and far out."""
    x = np.concatenate(
        [np.linspace(-7, 7, 20001), np.linspace(0.4, 1.1, 20000), np.linspace(3.9, 4.1, 5000)]
        + [np.logspace(-308, 1, 5000), [5e-324, 0.0, -0.0, np.inf, -np.inf]]
    )
    truth = np.array([math.erf(v) for v in x.tolist()])
    worst = np.abs(TABLE["erf"](x) - truth) / np.spacing(np.abs(truth))
    assert worst.max() <= 2


@pytest.mark.parametrize(("dtype", "eps"), [("float32", 2**-24), ("float16", 2**-11)])
def test_narrow_types_are_rounded_once(dtype, eps):
    """Ground truth: the C library's erf; half a unit in the last place."""
    x = np.linspace(-5, 5, 10007).astype(dtype)
    truth = np.array([math.erf(v) for v in x.tolist()])
    found = TABLE["erf"](x)
    assert found.dtype == dtype
    tiny = float(np.finfo(dtype).smallest_subnormal)
    assert (np.abs(found - truth) <= eps * np.abs(truth) * (1 + 1e-6) + tiny).all()


def test_nan_stays_nan_and_odd_symmetry():
    """Invariant: erf(-x) = -erf(x), bit for bit; NaN in, NaN out."""
    x = np.linspace(0, 8, 1001)
    np.testing.assert_array_equal(TABLE["erf"](-x), -TABLE["erf"](x))
    assert np.isnan(TABLE["erf"](np.array(np.nan)))
