"""Number types: how they are found, rounded, joined, and what does not fit them."""

import copy
import pickle

import numpy as np
import pytest

from tinytorch.base import dtypes
from tinytorch.base.dtypes import (
    DTYPES,
    as_dtype,
    bfloat16,
    check_fits,
    dtype_named,
    float16,
    float32,
    float64,
    from_bfloat16,
    int8,
    int32,
    int64,
    promote,
    round_to_bfloat16,
    uint8,
)
from tinytorch.base.errors import DTypeError


@pytest.mark.parametrize("dtype", DTYPES, ids=repr)
def test_there_is_one_object_for_each_type(dtype):
    """Invariant: types are compared with `is`, copies and pickles too."""
    assert dtype_named(dtype.name) is as_dtype(dtype.name) is as_dtype(dtype) is dtype
    assert copy.deepcopy(dtype) is pickle.loads(pickle.dumps(dtype)) is dtype
    assert dtype.itemsize == dtype.storage.itemsize
    assert dtype.is_float == (dtype.kind == "f")
    if dtype is not bfloat16:
        assert as_dtype(dtype.storage) is dtype and dtype.storage == dtype.compute


def test_what_a_type_is_taken_from():
    """Ground truth: the docstring; Python's float is the framework's default."""
    assert as_dtype(float) is float32 and as_dtype(int) is int64 and as_dtype(bool) is dtypes.bool_
    for wrong in ("float8", complex, np.uint64, "x", 3):
        with pytest.raises(DTypeError, match="not a number type TinyTorch has"):
            as_dtype(wrong)
    with pytest.raises(DTypeError, match="no number type of that name"):
        dtype_named("float8")


def test_bfloat16_is_the_nearest_with_ties_to_even():
    """Ground truth: every bfloat16 and the float32 numbers around each of them, in float64."""
    bits = np.arange(2**16, dtype=np.uint32)
    values = from_bfloat16(bits.astype(np.uint16))
    finite = np.isfinite(values)
    np.testing.assert_array_equal(round_to_bfloat16(values)[finite], bits[finite])
    assert (round_to_bfloat16(values[np.isnan(values)]) == 0x7FC0).all()
    kept = bits[finite & (bits % 2**15 < 0x7F7F)]  # the largest has no neighbour above
    for low, up in ((0x7FFF, 0), (0x8000, None), (0x8001, 1)):
        between = ((kept << 16) | low).view(np.float32)
        wanted = kept + (kept % 2 if up is None else up)  # a tie goes to the even one
        np.testing.assert_array_equal(round_to_bfloat16(between), wanted)
    assert round_to_bfloat16(np.float32(1.0)).shape == ()


def test_types_join():
    """Ground truth: the array API's lattice; two halves of different kinds give float32."""
    assert promote(float16, bfloat16) is promote(bfloat16, float16) is float32
    assert promote(float16, float64) is promote(float64, bfloat16) is float64
    assert promote(float32, bfloat16) is promote(float16, float32) is float32
    assert promote(int64, float16) is promote(float16, int64) is float16
    assert promote(uint8, int8) is dtypes.int16 and promote(int8, int32) is int32
    assert promote(dtypes.uint32, int64) is int64 and promote(dtypes.bool_, uint8) is uint8
    for dtype in DTYPES:
        assert promote(dtype, dtype) is dtype


@pytest.mark.parametrize("dtype", [uint8, int8, int32, int64], ids=repr)
def test_the_ends_of_integers_fit_and_nothing_beyond(dtype):
    """Ground truth: NumPy's iinfo; fractions are dropped, so up to 1 more fits as a float."""
    ends = np.iinfo(dtype.storage)
    low, high = int(ends.min), int(ends.max)
    check_fits(low, dtype)
    check_fits(high, dtype)
    for wrong in (low - 1, high + 1, float("nan"), float("inf"), -float("inf")):
        with pytest.raises(DTypeError, match="does not fit into the tensor's type"):
            check_fits(wrong, dtype)
    if dtype is not int64:  # whose ends are no floats
        check_fits(np.array([low - 0.5, high + 0.5]), dtype)
        for wrong in (low - 1.0, high + 1.0):
            with pytest.raises(DTypeError):
                check_fits(np.array([0.0, wrong]), dtype)


def test_a_long_number_fits_no_float():
    """Ground truth: the largest float64; arrays and smaller numbers fit."""
    check_fits(int(np.finfo(np.float64).max), float32)
    check_fits(np.array([1e300]), float16)
    check_fits(2**2000, dtypes.bool_)
    with pytest.raises(DTypeError) as caught:
        check_fits(-(2**2000), float64)
    assert caught.value.got == "a long number for float64"
    with pytest.raises(DTypeError) as caught:
        check_fits(300, uint8)
    assert (caught.value.got, caught.value.rule) == ("300 for uint8", "0 to 255")
