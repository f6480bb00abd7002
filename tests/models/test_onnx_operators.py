"""models/onnx_operators.py: every operator.

Ground truth: onnx's own reference implementation, in NumPy.
"""

import numpy as np
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from tinytorch import models
from tinytorch.models.onnx_operators import ELEMENTWISE, OF_SAMPLES, OPERATORS, READ, SIMPLE

F = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
G = np.random.default_rng(1).normal(size=(2, 3, 4)).astype(np.float32)
UNIT = np.tanh(F).astype(np.float32)
B, C = F > 0, G > 0
WHOLE = np.arange(-12, 12).reshape(2, 3, 4)
BY = np.array([3, -2, 5, -7])
BYTES = np.arange(24, dtype=np.uint8).reshape(4, 6)
IMAGE = np.random.default_rng(2).normal(size=(2, 4, 7, 6)).astype(np.float32)
FILTERS = np.random.default_rng(3).normal(size=(6, 2, 3, 2)).astype(np.float32)
ROWS = IMAGE[:, :, 0]
CHANNELS = np.array([0.5, -1.0, 2.0, 0.1], np.float32)
ODD = np.array([1.5, np.nan, np.inf, -np.inf], np.float32)
S = np.float32
I = np.array  # noqa: E741

WINDOW = {"kernel_shape": [3, 2], "strides": [2, 1]}
# operator: [(operands, attributes), ...]
CASES = {
    **{name: [((F,), {})] for name in SIMPLE},
    **{name: [((UNIT,), {})] for name in ("Acos", "Asin", "Atanh")},
    "Acosh": [((np.abs(F) + 1,), {})], "Log": [((np.abs(F),), {})], "Sqrt": [((np.abs(F),), {})],
    "Reciprocal": [((np.abs(F) + 1,), {})], "Not": [((B,), {})], "BitwiseNot": [((BYTES,), {})],
    "IsNaN": [((ODD,), {})],
    **{name: [((F, G), {})] for name in (
        "Add", "Sub", "Mul", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal")},
    **{name: [((B, C), {})] for name in ("And", "Or", "Xor")},
    **{name: [((BYTES, BYTES[::-1].copy()), {})] for name in (
        "BitwiseAnd", "BitwiseOr", "BitwiseXor")},
    "BitShift": [((BYTES, np.uint8(2)), {"direction": "LEFT"}),
                 ((BYTES, np.uint8(2)), {"direction": "RIGHT"})],
    "Div": [((F, G), {}), ((WHOLE, BY), {})],
    "Mod": [((WHOLE, BY), {}), ((F, G), {"fmod": 1})],
    "Pow": [((np.abs(F), G), {}), ((F, I(2)), {})],
    "MatMul": [((F, G.transpose(0, 2, 1).copy()), {})],
    "ArgMax": [((F,), {"axis": 1}), ((F,), {"axis": 2, "keepdims": 0})],
    "ArgMin": [((F,), {"axis": 1})],
    "AveragePool": [((IMAGE,), WINDOW), ((ROWS,), {"kernel_shape": [3]}),
                    ((IMAGE,), {**WINDOW, "pads": [1, 0, 0, 1]}),
                    ((IMAGE,), {**WINDOW, "pads": [1, 1, 1, 1], "count_include_pad": 1})],
    "BatchNormalization": [((IMAGE, CHANNELS, CHANNELS, CHANNELS, np.abs(CHANNELS)), {})],
    "Cast": [((F,), {"to": 7}), ((WHOLE,), {"to": 1})],
    "Clip": [((F, S(-0.5), S(0.5)), {}), ((F, "", S(0.5)), {})],
    "Concat": [((F, G), {"axis": -1})],
    "ConstantOfShape": [((I([2, 3]),), {"value": numpy_helper.from_array(I([7]))})],
    "Conv": [((IMAGE, FILTERS, np.ones(6, S)), {"group": 2, "pads": [1, 0, 0, 1]}),
             ((IMAGE, FILTERS), {"group": 2, "auto_pad": "SAME_UPPER", "strides": [2, 2]}),
             ((IMAGE, FILTERS), {"group": 2, "auto_pad": "SAME_LOWER"}),
             ((ROWS, FILTERS[:, :, 0]), {"group": 2, "dilations": [2]})],
    "ConvTranspose": [((IMAGE, FILTERS[:4]), {"strides": [2, 2], "pads": [1, 0, 1, 0]})],
    "CumSum": [((F, I(1)), {})],
    "DequantizeLinear": [((BYTES, S(0.5), np.uint8(3)), {}),
                         ((BYTES, np.ones(6, S) * 2), {"axis": 1}),
                         ((BYTES, np.arange(12, dtype=S).reshape(4, 3)), {"block_size": 2})],
    "Dropout": [((F,), {})], "Einsum": [((F, G), {"equation": "bij,bkj->bik"})],
    "Elu": [((F,), {"alpha": 0.5})], "Expand": [((F[:, :1], I([3, 1])), {})],
    "Flatten": [((F,), {}), ((F,), {"axis": -1}), ((F,), {"axis": 0})],
    "Gather": [((F, I([[0, -1]])), {"axis": 1})],
    "GatherElements": [((F, np.zeros((2, 1, 4), np.int64)), {"axis": 1})],
    "Gelu": [((F,), {}), ((F,), {"approximate": "tanh"})],
    "Gemm": [((F[0], G[0], F[0][:, :3].copy()), {"transB": 1, "alpha": 0.5, "beta": 2.0}),
             ((F[0], G[0]), {"transA": 1})],
    "GlobalAveragePool": [((IMAGE,), {})], "GlobalMaxPool": [((IMAGE,), {})],
    "HardSigmoid": [((F,), {"alpha": 0.3})],
    "InstanceNormalization": [((IMAGE, CHANNELS, CHANNELS), {})],
    "IsInf": [((ODD,), {}), ((ODD,), {"detect_negative": 0})],
    "LayerNormalization": [((F, CHANNELS, CHANNELS), {}), ((F, G[0], G[1]), {"axis": 1})],
    "LeakyRelu": [((F,), {"alpha": 0.3})], "LogSoftmax": [((F,), {"axis": 1})],
    "MatMulInteger": [((BYTES, BYTES.T.copy(), np.uint8(3), np.uint8(2)), {})],
    "Max": [((F, G, F[:1]), {})], "Min": [((F, G), {})], "Sum": [((F, G, F), {})],
    "Mean": [((F, G), {})],
    "MaxPool": [((IMAGE,), WINDOW), ((IMAGE,), {**WINDOW, "pads": [1, 0, 0, 1]}),
                ((ROWS,), {"kernel_shape": [2], "strides": [2]})],
    "PRelu": [((F, CHANNELS), {})],
    "Pad": [((F, I([1, 0, 0, 0, 2, 1]), S(1.5)), {}),
            ((F, I([0, 1, 0, 0, 0, 2])), {"mode": "reflect"}),
            ((F, I([1, 1]), "", I([-1])), {"mode": "edge"})],
    "QuantizeLinear": [((F, S(0.1), np.uint8(100)), {}), ((F, S(0.01), np.int8(-5)), {})],
    "Range": [((I(2), I(9), I(3)), {})],
    **{name: [((np.abs(F), I([1])), {}), ((np.abs(F),), {"keepdims": 0})] for name in (
        "ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin",
        "ReduceProd", "ReduceSum", "ReduceSumSquare")},
    "Reshape": [((F, I([0, -1])), {}), ((F, I([4, 6])), {})],
    "Selu": [((F,), {})], "Shape": [((F,), {}), ((F,), {"start": 1, "end": -1})],
    "Slice": [((F, I([1]), I([3]), I([1])), {}),
              ((F, I([-1, 3]), I([-99, 0]), I([1, 2]), I([-1, -2])), {}),
              ((F, I([0]), I([2**62]), I([2])), {})],
    "Softmax": [((F,), {"axis": 1})], "Split": [((F, I([1, 3])), {"axis": 2})],
    "Squeeze": [((F[:, :1], I([1])), {}), ((F[:, :1],), {})], "Tile": [((F, I([1, 2, 1])), {})],
    "Transpose": [((F,), {"perm": [1, 2, 0]}), ((F,), {})],
    "Trilu": [((F,), {}), ((F, I(1)), {"upper": 0})], "Unsqueeze": [((F, I([0, -1])), {})],
    "Where": [((B, F, G), {})],
}  # fmt: skip
OUTPUTS = {"Split": 2}


def graph_of(operator, operands, attributes, opset):
    """A file of one node; what is read while compiling is a weight. Gives it and its inputs."""
    names = [f"a{i}" if isinstance(x, np.ndarray | np.generic) else "" for i, x in
             enumerate(operands)]  # fmt: skip
    arrays = {n: np.asarray(x) for n, x in zip(names, operands, strict=True) if n}
    count = OUTPUTS.get(operator, 1)
    node = helper.make_node(operator, names, [f"y{i}" for i in range(count)], **attributes)
    fixed = [f"a{i}" for i in READ.get(operator, ())]
    given = {n: a for n, a in arrays.items() if n not in fixed}
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node], "one", [value(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for n, a in
                        given.items()],
        [value(f"y{i}", 1, None) for i in range(count)],
        [numpy_helper.from_array(a, n) for n, a in arrays.items() if n not in given],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)]), given


def outputs_of(model, given):
    found = model(*given.values())
    return [x.numpy() for x in (found if isinstance(found, tuple) else (found,))]


def test_every_operator_is_tried():
    """Ground truth: the table."""
    assert set(CASES) == set(OPERATORS)
    assert set(OPERATORS) >= ELEMENTWISE | OF_SAMPLES


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("operator", CASES)
def test_each_operator_as_its_reference(operator, tmp_path):
    """Ground truth: onnx's reference; a few units of float32, sums of up to 24 numbers."""
    for operands, attributes in CASES[operator]:
        made, given = graph_of(operator, operands, attributes, 21)
        (tmp_path / "a.onnx").write_bytes(made.SerializeToString())
        got = outputs_of(models.load(tmp_path / "a.onnx"), given)
        wanted = ReferenceEvaluator(made).run(None, given)
        for one, other in zip(got, wanted, strict=True):
            other = np.asarray(other)
            assert one.shape == other.shape and one.dtype == other.dtype, attributes
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=32 * 2.0**-24)


OLD = [
    ("Squeeze", (F[:, :1],), {"axes": [1]}, F[:, 0]),
    ("Unsqueeze", (F,), {"axes": [0]}, F[None]),
    ("ReduceSum", (F,), {"axes": [1], "keepdims": 0}, F.sum(1)),
    ("Slice", (F,), {"axes": [1], "starts": [1], "ends": [3]}, F[:, 1:3]),
    ("Clip", (F,), {"min": -0.5, "max": 0.5}, F.clip(-0.5, 0.5)),
    ("Pad", (F,), {"pads": [0, 0, 0, 0, 0, 1], "value": 2.0},
     np.pad(F, ((0, 0), (0, 0), (0, 1)), constant_values=2.0)),
    ("Pad", (F,), {"pads": [0, 0, -1, 0, 1, 0]}, np.pad(F[..., 1:], ((0, 0), (0, 1), (0, 0)))),
    ("Split", (F,), {"axis": 2, "split": [1, 3]}, F[..., :1]),
    ("Softmax", (F,), {}, None),
]  # fmt: skip


@pytest.mark.parametrize(("operator", "operands", "attributes", "wanted"), OLD)
def test_operators_as_version_9_has_them(operator, operands, attributes, wanted, tmp_path):
    """Ground truth: NumPy; softmax went over all axes but the first then."""
    made, given = graph_of(operator, operands, attributes, 9)
    (tmp_path / "a.onnx").write_bytes(made.SerializeToString())
    if wanted is None:
        e = np.exp(F.reshape(2, 12))
        wanted = (e / e.sum(1, keepdims=True)).reshape(F.shape)
    got = outputs_of(models.load(tmp_path / "a.onnx"), given)[0]
    np.testing.assert_allclose(got, wanted, rtol=1e-5)
