"""How operands meet and an operation is carried out: number types, zeros, arrays, refusals."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch.base.errors import DTypeError, ShapeError, TinyTorchError
from tinytorch.tensor import dispatch


def test_python_numbers_take_the_tensors_type():
    """Stated: numbers are weak; an integer tensor with a float gives float32."""
    for dtype in ("float16", "bfloat16", "float32", "float64"):
        x = tt.ones(2, dtype=dtype)
        for y in (x + 1, 1 - x, x * 0.5, 2.0 / x, x**2, x > 0.5, tt.maximum(x, 0), 3 // x):
            assert y.dtype.name in (dtype, "bool")
    i = tt.ones(2, dtype="int8")
    assert (
        (i + 1).dtype is tt.int8 and (i * 0.5).dtype is tt.float32 and (i / 2).dtype is tt.float32
    )
    assert (tt.tensor([True]) + 1).dtype is tt.int64
    assert (tt.ones(1) + np.float64(1)).dtype is tt.float32
    with pytest.raises(DTypeError, match="does not fit into the tensor's type"):
        i + 300


def test_signed_zero_is_kept():
    """IEEE 754: 1 / -0.0 is -inf; a cache of numbers must not mix the zeros up."""
    x = tt.Tensor([1.0])
    assert (x / 0.0).item() == np.inf and (x / -0.0).item() == -np.inf and (x * 0.5).item() == 0.5
    assert np.signbit((x * -0.0).item()) and not np.signbit((x * 0.0).item())
    assert (x * 1.5).item() == 1.5


def test_arrays_on_either_side():
    """NumPy: values; the result is a Tensor."""
    a = np.arange(3, dtype=np.float32)
    x = tt.Tensor([1.0, 2.0, 3.0])
    for y in (a + x, x + a, a @ x, a - x, a == x, a < x, np.float32(2) * x):
        assert isinstance(y, tt.Tensor)
    assert (a - x).tolist() == [-1.0] * 3
    assert np.asarray(x).tolist() == [1.0, 2.0, 3.0] and np.add(a, np.asarray(x)).dtype == a.dtype


def test_types_meet():
    """Stated in promote(): int with float is the float; float32 with float64 is float64."""
    f, d, i = tt.ones(1), tt.ones(1, dtype="float64"), tt.ones(1, dtype="int64")
    assert (f + d).dtype is tt.float64 and (f + i).dtype is tt.float32
    assert (i @ d).dtype is tt.float64


def test_shape_errors_come_from_the_rule():
    """Ground truth: four parts, though NumPy was tried first."""
    with pytest.raises(TinyTorchError, match=r"(?s)add.*got:.*rule:.*fix:"):
        tt.ones(2) + tt.ones(3)
    with pytest.raises(TinyTorchError, match=r"(?s)matmul.*got:.*rule:.*fix:"):
        tt.ones(2, 3) @ tt.ones(2, 3)
    with pytest.raises(ShapeError, match="no such axis"):
        tt.ones(2).sum(1)


def test_a_full_cache_is_emptied(monkeypatch):
    """Closed form: a cache of two holds the third entry alone."""
    monkeypatch.setattr(dispatch, "_LIMIT", 2)
    cache = {}
    for key, held in ((1, [1]), (2, [1, 2]), (3, [3])):
        dispatch._remember(cache, key, str(key))
        assert list(cache) == held and cache[key] == str(key)
