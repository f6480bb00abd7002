"""Which ONNX operators a primitive is: one row for each, in one table.

Knows primitives and operators, never models or files. A rule writes its nodes and gives the name of
the first output. What has an operator that runtimes are fast at becomes that one: Conv, Gemm,
MatMul, MaxPool, Relu, Gelu; a norm stays the arithmetic it is.

Source: https://github.com/onnx/onnx/blob/main/docs/Operators.md
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinytorch.base.dtypes import bool_, float32, int8, int32, int64, uint8
from tinytorch.export.onnx_writer import Batch, Call, Writer, pairs, refuse
from tinytorch.primitives.grouped import unpack_groups
from tinytorch.primitives.primitive import store
from tinytorch.storage.onnx import INT4

Rule = Callable[[Writer, Call], str]
INT4_SINCE = 21  # opset

# Primitives that are one operator of the same operands.
SAME = {
    "add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "neg": "Neg", "abs": "Abs",
    "sign": "Sign", "floor": "Floor", "ceil": "Ceil", "round": "Round", "exp": "Exp", "log": "Log",
    "reciprocal": "Reciprocal", "sqrt": "Sqrt", "sin": "Sin", "cos": "Cos", "tanh": "Tanh",
    "pow": "Pow", "erf": "Erf", "equal": "Equal", "less": "Less", "less_equal": "LessOrEqual",
    "greater": "Greater", "greater_equal": "GreaterOrEqual", "logical_and": "And",
    "logical_or": "Or", "logical_not": "Not", "isnan": "IsNaN", "isinf": "IsInf", "where": "Where",
    "maximum": "Max", "minimum": "Min", "bitwise_and": "BitwiseAnd", "bitwise_or": "BitwiseOr",
    "bitwise_xor": "BitwiseXor", "bitwise_not": "BitwiseNot",
}  # fmt: skip
OF_BOOLS = {"add": "Or", "mul": "And", "maximum": "Or", "minimum": "And"}
# Primitives whose parameters may be sizes of the batch.
SIZED = {"broadcast_to", "full", "iota", "pad", "reshape", "slice"}
REDUCTIONS = {"sum": "ReduceSum", "prod": "ReduceProd", "max": "ReduceMax", "min": "ReduceMin"}


def written(w: Writer, call: Call) -> str:
    """Write the operators of a call; gives the name of its first output."""
    row = call.node.primitive.name
    if row in RULES:
        return RULES[row](w, call)
    if row in SAME:
        return _same(w, call)
    if row in REDUCTIONS:
        return _reduced(w, call, REDUCTIONS[row], call.inputs[0])
    rule = "what follows from the input alone: no loops, random numbers or calls of Python"
    return refuse(call, "ONNX has no operator for this", rule)


def _same(w: Writer, call: Call) -> str:
    row, operator = call.node.primitive.name, SAME[call.node.primitive.name]
    if call.dtype is bool_:
        operator = OF_BOOLS.get(row, operator)
    return w.add(operator, *call.inputs)


# --- elementwise ---


def _add(w: Writer, call: Call) -> str:
    """A bias behind a product or a convolution is an operand of that."""
    for product, bias in pairs(call):
        node = w.only_node(product)
        if node is None or node["operator"] not in ("Gemm", "Conv") or len(node["inputs"]) > 2:
            continue
        if node["operator"] == "Conv":
            shaped = w.maker(bias, "reshape")
            if shaped is None or bias.shape != (1, product.shape[1], 1, 1):
                continue
            bias = shaped.inputs[0]
        if bias.shape == (product.shape[1],) and w.weight(bias) is not None:
            node["inputs"].append(w.name(bias))
            return node["outputs"][0]
    return _same(w, call)


def _where(w: Writer, call: Call) -> str:
    condition, yes, no = call.inputs
    compared = w.maker(condition, "less_equal")
    if compared and compared.inputs == (no, yes) and w.zero(yes):
        return w.add("Relu", no)
    return w.add("Where", *call.inputs)


def _rsqrt(w: Writer, call: Call) -> str:
    return w.add("Reciprocal", w.add("Sqrt", *call.inputs))


def _gelu(w: Writer, call: Call) -> str:
    if w.opset >= 20:
        return w.add("Gelu", *call.inputs)
    x, dtype = w.name(call.inputs[0]), call.dtype
    below = w.add("Erf", w.add("Mul", x, w.number(np.sqrt(0.5), dtype)))
    both = w.add("Add", below, w.number(1.0, dtype))
    return w.add("Mul", w.add("Mul", x, w.number(0.5, dtype)), both)


def _not_equal(w: Writer, call: Call) -> str:
    return w.add("Not", w.add("Equal", *call.inputs))


def _isfinite(w: Writer, call: Call) -> str:
    return w.add("Not", w.add("Or", w.add("IsNaN", *call.inputs), w.add("IsInf", *call.inputs)))


def _remainder(w: Writer, call: Call) -> str:
    a, b = (w.name(x) for x in call.inputs)
    if not call.dtype.is_float:
        return w.add("Mod", a, b)
    return w.add("Sub", a, w.add("Mul", w.add("Floor", w.add("Div", a, b)), b))


def _floor_div(w: Writer, call: Call) -> str:
    a, b = (w.name(x) for x in call.inputs)
    if call.dtype.is_float:
        return w.add("Floor", w.add("Div", a, b))
    return w.add("Div", w.add("Sub", a, w.add("Mod", a, b)), b)


def _shift_right(w: Writer, call: Call) -> str:
    if call.dtype.kind != "u":
        refuse(call, "ONNX shifts numbers without a sign only", "uint8 or uint32")
    return w.add("BitShift", *call.inputs, direction="RIGHT")


def _cast(w: Writer, call: Call) -> str:
    """Floats to few bits: NaN is 0 and numbers outside are the ends, which ONNX leaves open."""
    x, dtype = w.name(call.inputs[0]), call.output.dtype
    if call.dtype.is_float and dtype in (int8, uint8):
        ends = np.iinfo(dtype.storage)
        zero = w.number(0.0, call.dtype)
        x = w.add("Where", w.add("IsNaN", x), zero, x)
        x = w.add("Clip", x, w.number(ends.min, call.dtype), w.number(ends.max, call.dtype))
    return w.cast(x, dtype)


# --- sources ---


def _full(w: Writer, call: Call) -> str:
    shape, value = call.params["shape"], call.params["value"]
    if isinstance(value, Batch):
        one = w.cast(w.add("Squeeze", w.integers([value])), call.output.dtype)
    else:
        one = w.number(value, call.output.dtype)
    return w.expand(one, shape) if shape else one


def _iota(w: Writer, call: Call) -> str:
    shape, axis, dtype = call.params["shape"], call.params["axis"], call.output.dtype
    line = [n if i == axis else 1 for i, n in enumerate(shape)]
    if isinstance(n := shape[axis], Batch):
        ends = [w.number(0, int64), w.add("Squeeze", w.integers([n])), w.number(1, int64)]
        x = w.reshape(w.cast(w.add("Range", *ends), dtype), line)
    else:
        x = w.constant(store(np.arange(n).reshape(line), dtype), dtype)
    return x if line == list(shape) else w.expand(x, shape, line)


# --- movement ---


def _reshape(w: Writer, call: Call) -> str:
    return w.reshape(call.inputs[0], w.shape(call.output))


def _permute(w: Writer, call: Call) -> str:
    return w.add("Transpose", *call.inputs, perm=call.params["axes"])


def _broadcast_to(w: Writer, call: Call) -> str:
    return w.expand(call.inputs[0], w.shape(call.output), w.shape(call.inputs[0]))


def _slice(w: Writer, call: Call) -> str:
    (x,) = call.inputs
    cut = zip(call.params["start"], call.params["stop"], call.params["step"], strict=True)
    some = [(i, *c) for i, c in enumerate(cut) if c != (0, w.shape(x)[i], 1)]
    if not some:
        return w.add("Identity", x)
    axes, start, stop, step = (w.integers(list(part)) for part in zip(*some, strict=True))
    return w.add("Slice", x, start, stop, axes, step)


def _flip(w: Writer, call: Call) -> str:
    axes = call.params["axes"]
    start, stop, step = ([n] * len(axes) for n in (-1, np.iinfo(np.int64).min + 1, -1))
    lists = (w.integers(part) for part in (start, stop, list(axes), step))
    return w.add("Slice", *call.inputs, *lists)


def _pad(w: Writer, call: Call) -> str:
    before, after = call.params["before"], call.params["after"]
    value = w.number(call.params.get("value", 0.0), call.dtype)
    return w.add("Pad", *call.inputs, w.integers([*before, *after]), value)


def _concatenate(w: Writer, call: Call) -> str:
    return w.add("Concat", *call.inputs, axis=call.params["axis"])


# --- along axes ---


def _reduced(w: Writer, call: Call, operator: str, x: Any) -> str:
    axes = call.params["axes"]
    if not axes and axes is not None:
        return w.add("Identity", x)
    lists = [] if axes is None else [w.integers(list(axes))]
    return w.add(operator, x, *lists, keepdims=int(call.params["keepdims"]))


def _truth(operator: str) -> Rule:
    def rule(w: Writer, call: Call) -> str:
        return w.cast(_reduced(w, call, operator, w.cast(call.inputs[0], int32)), bool_)

    return rule


def _place(operator: str) -> Rule:
    def rule(w: Writer, call: Call) -> str:
        return w.add(operator, *call.inputs, axis=call.params["axis"], keepdims=0)

    return rule


def _cumsum(w: Writer, call: Call) -> str:
    return w.add("CumSum", *call.inputs, w.number(call.params["axis"], int64))


def _looked_up(operator: str) -> Rule:
    def rule(w: Writer, call: Call) -> str:
        x, index = call.inputs
        places = index if index.dtype in (int32, int64) else w.cast(index, int64)
        return w.add(operator, x, places, axis=call.params["axis"])

    return rule


# --- contractions ---


def _matmul(w: Writer, call: Call) -> str:
    a, b = call.inputs
    if a.dtype in (int8, uint8) and b.dtype in (int8, uint8):
        return w.add("MatMulInteger", a, b)
    turned = w.maker(b, "permute")
    if len(a.shape) == len(b.shape) == 2 and turned and a.dtype is call.output.dtype:
        return w.add("Gemm", a, turned.inputs[0], transB=1)
    return w.add("MatMul", *(_as(w, x, call) for x in (a, b)))


def _as(w: Writer, x: Any, call: Call) -> Any:
    """An operand in the number type of the result, where sums are wider than what is summed."""
    return x if x.dtype is call.output.dtype else w.cast(x, call.output.dtype)


def _grouped_matmul(w: Writer, call: Call) -> str:
    """The weight stays in the file as it is, of 4 or 8 bits with a scale for each group."""
    x, weight, scale = call.inputs
    bits, group = call.params["bits"], call.params["group"]
    stored = w.weight(weight)
    if stored is None or (bits == 4 and w.opset < INT4_SINCE):
        rule = f"a weight that is no part of another; of 4 bits opset={INT4_SINCE}"
        refuse(call, "this weight of few bits has no form in ONNX", rule)
    n, k = len(stored), x.shape[-1]
    numbers = unpack_groups(stored.reshape(n, -1, group * bits // 8), bits).reshape(n, -1)
    name = w.name(weight)
    message = w.initializers[name]
    message["shape"] = list(numbers.shape)
    if bits == 4:
        nibbles = numbers.astype(np.uint8).reshape(-1, 2) & 15
        message.update(raw_data=(nibbles[:, 0] | nibbles[:, 1] << 4).tobytes(), number_type=INT4)
    scales = scale if scale.dtype is float32 else w.cast(scale, float32)
    plain = w.add("DequantizeLinear", name, scales, axis=1, block_size=group)
    if k < numbers.shape[1]:
        plain = w.add("Slice", plain, w.integers([0]), w.integers([k]), w.integers([1]))
    return w.add("MatMul", w.cast(x, float32), w.add("Transpose", plain, perm=[1, 0]))


def _attention(w: Writer, call: Call) -> str:
    """softmax(scale q k^T) v; what a query does not see is minus infinity before."""
    q, k, v = call.inputs
    t, s = w.shape(q)[2], w.shape(k)[2]
    wide = call.dtype if call.dtype.itemsize >= 4 else float32
    names = [w.name(x) if x.dtype is wide else w.cast(x, wide) for x in (q, k, v)]
    turned = w.add("Transpose", names[1], perm=[0, 1, 3, 2])
    scores = w.add("Mul", w.add("MatMul", names[0], turned), w.number(call.params["scale"], wide))
    if call.params["causal"]:
        if isinstance(t, Batch) or isinstance(s, Batch) or t > s:
            rule = "lengths that are known, no more queries than keys"
            refuse(call, "causal attention over these lengths has no form in ONNX", rule)
        seen = np.arange(s) <= np.arange(t)[:, None] + (s - t)  # type: ignore[operator]
        scores = w.add("Where", w.constant(seen, bool_), scores, w.number(-np.inf, wide))
    out = w.add("MatMul", w.add("Softmax", scores, axis=-1), names[2])
    return out if call.output.dtype is wide else w.cast(out, call.output.dtype)


def _window(call: Call, kernel: Any) -> dict[str, Any]:
    (top, bottom), (left, right) = call.params["padding"]
    return {
        "kernel_shape": list(kernel), "strides": call.params["stride"],
        "pads": [top, left, bottom, right], "dilations": call.params.get("dilation", (1, 1)),
    }  # fmt: skip


def _convolution(w: Writer, call: Call) -> str:
    """Sums of bytes are whole numbers below 2^24 for up to 1,040 taps, so exact as floats too."""
    x, filters = call.inputs
    window = _window(call, filters.shape[2:])
    group = call.params["groups"]
    if call.output.dtype.is_float:
        return w.add("Conv", *(_as(w, v, call) for v in (x, filters)), group=group, **window)
    names = (w.cast(_bytes_behind(w, v), float32) for v in (x, filters))
    return w.cast(w.add("Conv", *names, group=group, **window), call.output.dtype)


def _bytes_behind(w: Writer, x: Any) -> Any:
    """What was widened to whole numbers of 32 bits."""
    cast = w.maker(x, "cast")
    return cast.inputs[0] if cast else x


def _max_pool2d(w: Writer, call: Call) -> str:
    return w.add("MaxPool", *call.inputs, **_window(call, call.params["kernel"]))


RULES: dict[str, Rule] = {
    "add": _add, "where": _where, "rsqrt": _rsqrt, "gelu": _gelu, "not_equal": _not_equal,
    "isfinite": _isfinite, "remainder": _remainder, "floor_div": _floor_div,
    "shift_right": _shift_right, "cast": _cast, "full": _full, "iota": _iota, "reshape": _reshape,
    "permute": _permute, "broadcast_to": _broadcast_to, "slice": _slice, "flip": _flip,
    "pad": _pad, "concatenate": _concatenate, "any": _truth("ReduceMax"),
    "all": _truth("ReduceMin"), "argmax": _place("ArgMax"), "argmin": _place("ArgMin"),
    "cumsum": _cumsum, "take": _looked_up("Gather"), "take_along": _looked_up("GatherElements"),
    "matmul": _matmul, "grouped_matmul": _grouped_matmul, "attention": _attention,
    "convolution": _convolution, "max_pool2d": _max_pool2d,
}  # fmt: skip
