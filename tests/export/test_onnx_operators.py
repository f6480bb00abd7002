"""export/onnx_operators.py: every row, beside its definition.

Ground truth: onnxruntime on the samples of each row against the row's own definition in NumPy.
"""

import numpy as np
import onnx
import pytest

import tinytorch as tt
from tests.export.test_onnx import run
from tinytorch import export
from tinytorch.base.errors import CompileError
from tinytorch.export.onnx_operators import REDUCTIONS, RULES, SAME
from tinytorch.primitives import TABLE
from tinytorch.tensor.dispatch import apply

F = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
G = np.random.default_rng(1).normal(size=(2, 3, 4)).astype(np.float32)
P = np.abs(F) + np.float32(0.5)
B = F > 0
C = G > 0
WHOLE = np.arange(-12, 12).reshape(2, 3, 4)
BY = np.array([3, -2, 5, -7])
SMALL = (np.arange(24, dtype=np.uint8) * 9).reshape(2, 3, 4)
ODD = np.array([1.5, -2.5, np.nan, np.inf, -np.inf, 300.0], np.float32)
IMAGE = np.random.default_rng(2).normal(size=(2, 4, 7, 6)).astype(np.float32)
FILTERS = np.random.default_rng(3).normal(size=(6, 2, 3, 2)).astype(np.float32)
HEADS = np.random.default_rng(4).normal(size=(3, 2, 2, 5, 4)).astype(np.float32)
BYTES = np.arange(-12, 12, dtype=np.int8).reshape(4, 6)
WINDOW = {"stride": (2, 1), "padding": ((1, 0), (0, 1)), "dilation": (1, 2)}
AXES = [{"axes": (1,), "keepdims": False}, {"axes": (0, 2), "keepdims": True},
        {"axes": (), "keepdims": False}]  # fmt: skip

ONE = ("neg", "abs", "sign", "floor", "ceil", "round", "exp", "sin", "cos", "tanh", "erf", "gelu")
POSITIVE = ("log", "sqrt", "rsqrt", "reciprocal")
TWO = ("add", "sub", "mul", "div", "maximum", "minimum", "floor_div", "remainder", "equal",
       "not_equal", "less", "less_equal", "greater", "greater_equal")  # fmt: skip
CASES = [
    *((row, (F,), {}) for row in ONE),
    *((row, (P,), {}) for row in POSITIVE),
    *((row, (F, G), {}) for row in TWO),
    *((row, (B, C), {}) for row in ("add", "mul", "logical_and", "logical_or")),
    *((row, (WHOLE, BY), {}) for row in ("floor_div", "remainder", "add", "maximum")),
    *((row, (SMALL, SMALL.T.reshape(2, 3, 4)), {})
      for row in ("bitwise_and", "bitwise_or", "bitwise_xor")),
    *((row, (ODD,), {}) for row in ("isnan", "isinf", "isfinite")),
    *((row, (F,), params) for row in REDUCTIONS for params in AXES),
    *((row, (B,), params) for row in ("any", "all") for params in AXES[:2]),
    ("logical_not", (B,), {}), ("bitwise_not", (SMALL,), {}), ("pow", (P, G), {}),
    ("shift_right", (SMALL, np.uint8(3)), {}), ("where", (B, F, G), {}),
    ("where", (F <= 0, np.float32(0), F), {}),
    ("cast", (ODD,), {"dtype": tt.int8}), ("cast", (ODD,), {"dtype": tt.uint8}),
    ("cast", (F,), {"dtype": tt.float64}), ("cast", (B,), {"dtype": tt.int64}),
    ("full", (), {"shape": (2, 3), "value": 2.5, "dtype": tt.float32}),
    ("iota", (), {"shape": (2, 3), "axis": 1, "dtype": tt.int64}),
    ("reshape", (F,), {"shape": (4, 6)}), ("permute", (F,), {"axes": (2, 0, 1)}),
    ("broadcast_to", (F[:, :1],), {"shape": (3, 2, 5, 4)}),
    ("slice", (F,), {"start": (0, 1, 0), "stop": (2, 3, 4), "step": (1, 1, 3)}),
    ("flip", (F,), {"axes": (0, 2)}),
    ("pad", (F,), {"before": (1, 0, 0), "after": (0, 0, 2), "value": 1.5}),
    ("concatenate", (F, G), {"axis": 1}),
    ("argmax", (F,), {"axis": 1}), ("argmin", (F,), {"axis": 2}), ("cumsum", (F,), {"axis": 1}),
    ("take", (F, np.array([[2, 0], [1, -1]])), {"axis": 1}),
    ("take", (F, np.array([1], np.int8)), {"axis": 0}),
    ("take_along", (F, np.array([[[1, 0, 2, 1]], [[0, 2, 2, 0]]])), {"axis": 1}),
    ("matmul", (F, G.transpose(0, 2, 1).copy()), {}), ("matmul", (F[0], G[1].T.copy()), {}),
    ("matmul", (BYTES, BYTES.T.copy()), {"dtype": tt.int32}),
    ("attention", tuple(HEADS), {"causal": True, "scale": 0.5}),
    ("attention", (HEADS[0, :, :, :3], HEADS[1], HEADS[2]), {"causal": True, "scale": 0.5}),
    ("attention", tuple(HEADS), {"causal": False, "scale": 0.3}),
    ("convolution", (IMAGE, FILTERS), {**WINDOW, "groups": 2}),
    ("max_pool2d", (IMAGE,), {**WINDOW, "kernel": (3, 2)}),
]  # fmt: skip


def computed(cases):
    """A function of all arrays that gives the first output of each row; of views the opposite, as
    what is given back unchanged is no output."""

    def function(*arrays):
        left, out = list(arrays), []
        for row, inputs, params in cases:
            given = tuple(left.pop(0) for _ in inputs)
            found = apply(TABLE[row], given, params)
            first = found[0] if isinstance(found, tuple) else found
            out.append(-first if TABLE[row].view else first)
        return tuple(out)

    return function


def test_every_row_is_tried():
    """Ground truth: the table; products of few bits are in the models of test_onnx.py."""
    assert {row for row, _, _ in CASES} | {"grouped_matmul"} == {*RULES, *SAME, *REDUCTIONS}
    assert {*RULES, *SAME, *REDUCTIONS} <= set(TABLE)


@pytest.mark.peer
def test_each_row_is_computed_as_it_is_defined(tmp_path):
    """Ground truth: the row's definition. Functions of analysis round to a few units of 2^-24, sums
    of 24 numbers to 24 of them."""
    function = computed(CASES)
    arrays = [np.asarray(x) for _, inputs, _ in CASES for x in inputs]
    place = str(tmp_path / "rows.onnx")
    export.onnx(function, place, *arrays)
    onnx.checker.check_model(onnx.load(place), full_check=True)
    for (row, inputs, params), got in zip(CASES, run(place, *arrays), strict=True):
        wanted = TABLE[row](*inputs, **params)
        wanted = np.asarray(wanted[0] if isinstance(wanted, tuple) else wanted)
        wanted = -wanted if TABLE[row].view else wanted
        assert got.shape == wanted.shape and got.dtype == wanted.dtype, row
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=32 * 2.0**-24, err_msg=row)


@pytest.mark.parametrize(
    ("row", "inputs", "params", "phrase"),
    [
        ("sort", (F,), {"axis": 0}, "no operator for this"),
        ("shift_right", (WHOLE, np.int64(1)), {}, "numbers without a sign"),
        ("attention", (HEADS[0], HEADS[1, :, :, :2], HEADS[2, :, :, :2]),
         {"causal": True, "scale": 1.0}, "no more queries than keys"),
    ],
)  # fmt: skip
def test_what_has_no_operator_is_refused_with_its_line(row, inputs, params, phrase, tmp_path):
    """Ground truth: the operators' own rules; the line is one of this file."""
    with pytest.raises(CompileError, match=phrase) as caught:
        export.onnx(computed([(row, inputs, params)]), tmp_path / "a.onnx", *inputs)
    assert f"{row} at test_onnx_operators.py:" in caught.value.got
