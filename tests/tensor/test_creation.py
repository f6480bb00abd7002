"""Making Tensors: of data, of other Tensors, out of nothing."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch.base.errors import DTypeError, SettingError


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        (1.0, tt.float32), (1, tt.int64), (True, tt.bool_), ([1, 2.5], tt.float32),
        ([], tt.float32),
        (np.ones(2), tt.float64), (np.ones(2, np.int8), tt.int8), (np.float64(2), tt.float64),
        ([[True], [False]], tt.bool_), (np.ones(2, ">f4"), tt.float32),
    ],
)  # fmt: skip
def test_type_of_the_data(data, dtype):
    """Stated: Python floats are float32, ints int64; arrays keep their type."""
    x = tt.tensor(data)
    assert x.dtype is dtype
    assert np.array_equal(x.numpy(), np.asarray(data))


def test_the_data_is_copied_aligned_and_dense():
    """Invariant: memory of its own, at a multiple of 64 bytes."""
    a = np.ones((3, 4), np.float32).T
    x = tt.Tensor(a)
    a[...] = 2
    assert x.sum().item() == 12.0
    assert x._buffer.address % 64 == 0 and x._buffer.array.flags.c_contiguous


def test_asarray_and_from_numpy_share():
    """PyTorch: either sees what the other writes; memory that is read-only is copied first."""
    a = np.ones(3, np.float32)
    x = tt.asarray(a)
    assert np.shares_memory(x._buffer.array, a)
    x += 1.0
    assert a.tolist() == [2.0] * 3 and x.tolist() == [2.0] * 3
    y = tt.from_numpy(a)
    a[0], y[1] = 5.0, 6.0
    x[2:].fill_(7.0)
    assert a.tolist() == x.tolist() == y.tolist() == [5.0, 6.0, 7.0]
    a.flags.writeable = False
    fixed = tt.from_numpy(a)
    row, copy = fixed[:2], tt.tensor(a)
    row += 1.0
    assert a.tolist() == copy.tolist() == [5.0, 6.0, 7.0]
    assert row.tolist() == [6.0, 7.0] and fixed.tolist() == [6.0, 7.0, 7.0]
    fixed.zero_()
    assert row.tolist() == [0.0, 0.0] and a.tolist() == [5.0, 6.0, 7.0]


@pytest.mark.parametrize(
    ("data", "phrase"),
    [
        ([[1], [1, 2]], "do not form an array"),
        (1 + 2j, "not a number type"),
        ("a", "not a number type"),
    ],
)
def test_data_that_is_no_array(data, phrase):
    """Ground truth: the message."""
    with pytest.raises(DTypeError, match=phrase):
        tt.Tensor(data)


def test_data_is_converted_as_cast_converts():
    """Stated for cast: out of range gives the nearest end, NaN 0; overflow to inf is silent."""
    array = np.array([1e20, np.nan, -2.7])
    assert tt.Tensor(array, dtype="int32").tolist() == [2**31 - 1, 0, -2]
    assert tt.Tensor([1e300], dtype="float32").item() == np.inf
    assert tt.Tensor([1 + 2**-9], dtype="bfloat16").item() == 1.0


def test_making_tensors_from_tensors():
    """Stated: tt.tensor copies, asarray shares what fits, full and clone keep type and numbers."""
    x = tt.tensor([1.0, 2.0], dtype="float64", requires_grad=True)
    assert x.requires_grad and x.dtype is tt.float64
    copy = tt.tensor(x.detach())
    assert copy.tolist() == [1.0, 2.0] and not tt.shares_memory(copy, x)
    assert tt.asarray(copy) is copy and not tt.shares_memory(tt.asarray(copy, copy=True), copy)
    assert tt.asarray(copy, copy=False) is copy and tt.asarray(3).item() == 3
    with pytest.raises(SettingError, match="cannot be used where they are"):
        tt.asarray(copy, dtype="float32", copy=False)
    array = np.ones(2)
    assert tt.shares_memory(tt.asarray(array, copy=False), array)
    assert tt.full((2,), tt.tensor(3.0)).tolist() == [3.0, 3.0]
    assert tt.full((2,), np.float32(3)).dtype is tt.float32
    assert tt.full((2,), tt.tensor(3), dtype="float32").dtype is tt.float32
    assert tt.as_tensor([1]).dtype is tt.int64 and tt.is_tensor(x) and not tt.is_tensor(array)
    x.requires_grad = False
    assert not x.requires_grad
    with pytest.raises(SettingError, match="size is negative"):
        tt.zeros(-1)
    with pytest.raises(SettingError, match="step is 0"):
        tt.arange(0, 1, 0)


def test_numbers_that_do_not_fit_are_named():
    """Ground truth: the messages."""
    with pytest.raises(DTypeError, match="does not fit"):
        tt.tensor(2**70)
    with pytest.raises(DTypeError, match="not a number type"):
        tt.ones(2) + {"a": 1}


def test_trace_is_the_sum_of_the_diagonal():
    """Closed form, of a matrix and of a diagonal beside the main one."""
    x = tt.Tensor([[1.0, 2.0, 4.0], [8.0, 16.0, 32.0]])
    assert tt.trace(x).item() == 17.0
