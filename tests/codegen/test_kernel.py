"""What a kernel is to those who schedule it, and what becomes of a result in registers."""

import ctypes

import numpy as np
import pytest

from tinytorch.base.dtypes import float32, float64
from tinytorch.codegen import engine
from tinytorch.codegen.builder import Function
from tinytorch.codegen.kernel import Kernel, Operand, StoreEpilogue, build, offset_of
from tinytorch.codegen.target import Target


def test_what_is_not_said_of_a_kernel_is_nothing():
    """Ground truth: no scratch, no arithmetic, no traffic, no label, where none was named."""
    made = build("k", [], lambda f, pointers: None, tiles=3)
    plain = Kernel("k", made.ir, made.declarations, (), 3)
    assert made == plain
    assert (plain.scratch, plain.flops, plain.bytes, plain.label) == (0, 0, 0, "")


def test_a_place_is_offset_and_strides():
    """Closed form: 7 + 2 * 10 + 3 * 0 + 4 * 1, worked out while the text is written."""
    f = Function("k", [])
    place = offset_of(f, Operand(float32, (10, 0, 1), offset=7), [*map(f.index, (2, 3, 4))])
    assert place.text == "31" and not f.lines


@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("masked", [False, True])
def test_a_vector_is_stored_along_the_last_axis(stride, masked):
    """Ground truth: NumPy's strided views; converted to the output's number type; of a masked store
    the other lanes stay."""
    epilogue = StoreEpilogue(Operand(float64, (100, stride), offset=2))

    def body(f, pointers):
        x = f.load(pointers["x"], "<4 x float>")
        mask = f.mask_below(4, f.index(3)) if masked else None
        epilogue.emit(f, x, (f.tile, f.index(0)), mask, pointers)

    kernel = build("k", ["x", *epilogue.arguments], body, tiles=2)
    library = engine.load([engine.compile_text(engine.module_text([kernel]), Target.host())], ["k"])
    x, out = np.arange(1, 5, dtype=np.float32), np.zeros(200)
    table = (ctypes.c_void_p * 2)(x.ctypes.data, out.ctypes.data)
    call = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p)(library["k"])
    call(ctypes.addressof(table), 1, None)
    expected = np.zeros(200)
    kept = 3 if masked else 4
    expected[102 : 102 + kept * stride : stride] = x[:kept]
    np.testing.assert_array_equal(out, expected)


def test_equal_keys_are_equal_code():
    """Invariant: all that shapes the store is in the key."""
    keys = {
        StoreEpilogue(Operand(dtype, strides, offset)).key
        for dtype in (float32, float64)
        for strides in ((1,), (2,))
        for offset in (0, 1)
    }
    assert len(keys) == 8
