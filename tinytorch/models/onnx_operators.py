"""What ONNX's operators compute, in operations of Tensors: one row for each, in one table.

Knows attributes and Tensors, never files or graphs. A row is given its node and its operands; one
that is left out is None. Operands that tell sizes and axes are NumPy arrays: a file says them, or
they follow from shapes, so they are known while a program is compiled.

Source: https://github.com/onnx/onnx/blob/main/docs/Operators.md and Changelog.md there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from tinytorch.base.dtypes import DType, dtype_named, float32, int32
from tinytorch.base.errors import FileFormatError, short
from tinytorch.nn import functional as F
from tinytorch.storage.onnx import NUMBER_TYPES
from tinytorch.tensor import contractions, elementwise, functions, indexing, reductions, shaping
from tinytorch.tensor.creation import arange, full, ones_like, tril, triu

Operator = Callable[..., Any]
REQUIRED: Any = object()  # the default of an attribute that has none


@dataclass(frozen=True, eq=False)
class Step:
    """A node as it is carried out.

    Args:
        operator: its name.
        where: what messages call it.
        opset: version of the operators.
        attributes: plain values by name: numbers, texts, lists, and (array, DType) of tensors.
        inputs, outputs: names of values; "" of one that is left out.
        done: values that nothing reads afterwards.
    """

    operator: str
    where: str
    opset: int
    attributes: dict[str, Any]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    done: tuple[str, ...] = ()

    def refuse(self, problem: str, got: object, rule: str) -> NoReturn:
        """Raise the error of a node that cannot be carried out."""
        raise FileFormatError(
            f"{self.where}: {problem}", got=short(got), rule=rule,
            fix="export the model with fixed settings, or leave that part out of the file",
        )  # fmt: skip

    def get(self, name: str, default: Any = REQUIRED) -> Any:
        """An attribute, of the kind its default is of."""
        value = self.attributes.get(name, default)
        if value is REQUIRED:
            self.refuse("an attribute is missing", "no " + name, f"an attribute {name}")
        if default is not REQUIRED and default is not None and type(value) is not type(default):
            rule = f"{name} is of the kind of {default!r}"
            self.refuse("an attribute is of another kind", value, rule)
        return value

    def option(self, name: str, x: Any, default: Any = None) -> list[int] | None:
        """Whole numbers that newer versions have as an operand, older ones as an attribute."""
        return self.attributes.get(name, default) if x is None else self.numbers(x)

    def keeps_first(self, names: set[str]) -> bool:
        """Whether the first axis of these values is that of the outputs."""
        if self.operator in ELEMENTWISE:
            return not names.isdisjoint(self.inputs)
        if not self.inputs or self.inputs[0] not in names:
            return False
        perm = self.attributes.get("perm")
        return self.operator in OF_SAMPLES or (
            self.operator == "Transpose" and isinstance(perm, list) and perm[:1] == [0]
        )

    def numbers(self, x: Any) -> list[int]:
        """The whole numbers of an operand."""
        return [int(n) for n in self.array(x).reshape(-1)]

    def array(self, x: Any) -> np.ndarray:
        """An operand that is known while a program is compiled."""
        if not isinstance(x, np.ndarray):
            rule = "sizes and axes that the file says, or that follow from shapes"
            self.refuse("a size is computed from the data", "an array", rule)
        return x


def pads_of(n: Step, sizes: Sequence[int], kernel: Sequence[int]) -> Any:
    """((before, after), ...) of each axis of a window, by `pads` or `auto_pad`."""
    rank, auto = len(kernel), n.get("auto_pad", "NOTSET")
    stride, dilation = window_of(n, rank)
    if auto in ("NOTSET", "VALID", ""):
        pads = n.get("pads", [0] * 2 * rank) if auto != "VALID" else [0] * 2 * rank
        if len(pads) != 2 * rank or min(pads) < 0:
            n.refuse("pads do not belong to the window", pads, f"{2 * rank} numbers >= 0")
        return tuple((pads[i], pads[i + rank]) for i in range(rank))
    if auto not in ("SAME_UPPER", "SAME_LOWER"):
        n.refuse("auto_pad is unknown", auto, "NOTSET, VALID, SAME_UPPER or SAME_LOWER")
    found: list[tuple[int, int]] = []
    for size, k, s, d in zip(sizes, kernel, stride, dilation, strict=True):
        total = max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
        less, more = total // 2, total - total // 2
        found.append((less, more) if auto == "SAME_UPPER" else (more, less))
    return tuple(found)


def window_of(n: Step, rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Strides and dilations."""
    found = tuple(tuple(n.get(name, [1] * rank)) for name in ("strides", "dilations"))
    if any(len(x) != rank or min(x) < 1 for x in found):
        n.refuse("strides or dilations do not belong to the window", found, f"{rank} each, >= 1")
    return found[0], found[1]


@dataclass(frozen=True, eq=False)
class Window:
    """A window over images (N, C, H, W); rows (N, C, T) are images of height 1.

    Args:
        x: the images.
        kernel, stride, dilation: of both axes.
        pads: ((top, bottom), (left, right)).
        rows: whether there were rows.
    """

    x: Any
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    pads: Any
    rows: bool

    @classmethod
    def over(cls, n: Step, x: Any, kernel: Sequence[int]) -> Window:
        """The window of a node."""
        rank = len(kernel)
        if rank not in (1, 2) or len(x.shape) != rank + 2 or min(kernel) < 1:
            n.refuse("this window is not done", (list(kernel), x.shape), "over rows or images")
        pads, (stride, dilation) = pads_of(n, x.shape[2:], kernel), window_of(n, rank)
        if rank == 2:
            return cls(x, tuple(kernel), stride, dilation, pads, False)
        x, pads = shaping.unsqueeze(x, 2), ((0, 0), *pads)
        return cls(x, (1, *kernel), (1, *stride), (1, *dilation), pads, True)

    def back(self, y: Any) -> Any:
        """The result as rows, if there were rows."""
        return shaping.squeeze(y, 2) if self.rows else y


def _conv(n: Step, x: Any, w: Any, b: Any = None) -> Any:
    one = Window.over(n, x, w.shape[2:])
    w = shaping.unsqueeze(w, 2) if one.rows else w
    y = contractions.convolution(
        one.x, w, stride=one.stride, padding=one.pads, dilation=one.dilation,
        groups=n.get("group", 1),
    )  # fmt: skip
    return one.back(y if b is None else y + b.reshape(1, -1, 1, 1))


def _conv_transpose(n: Step, x: Any, w: Any, b: Any = None) -> Any:
    pads = pads_of(n, x.shape[2:], w.shape[2:])
    if len(w.shape) != 4 or n.get("auto_pad", "NOTSET") != "NOTSET" or "output_shape" in (
        n.attributes
    ) or any(first != last for first, last in pads):  # fmt: skip
        n.refuse("this transposed convolution is not done", n.attributes, "2-d, even pads")
    stride, dilation = window_of(n, 2)
    return F.conv_transpose2d(
        x, w, b, stride, tuple(first for first, _ in pads),
        tuple(n.get("output_padding", [0, 0])), n.get("group", 1), dilation,
    )  # fmt: skip


def _max_pool(n: Step, x: Any) -> Any:
    one = Window.over(n, x, n.get("kernel_shape", [0]))
    ceil = bool(n.get("ceil_mode", 0))
    return one.back(
        contractions.max_pool2d(one.x, one.kernel, one.stride, one.pads, one.dilation, ceil)
    )


def _average_pool(n: Step, x: Any) -> Any:
    one, ceil = Window.over(n, x, n.get("kernel_shape", [0])), bool(n.get("ceil_mode", 0))
    counts = bool(n.get("count_include_pad", 0))
    even = tuple(first for first, last in one.pads if first == last)
    if one.dilation != (1, 1) or ceil and len(even) < 2:
        n.refuse("this pooling is not done", n.attributes, "even pads or no ceil_mode, dilation 1")
    if len(even) == 2 and all(2 * p <= k for p, k in zip(even, one.kernel, strict=True)):
        return one.back(F.avg_pool2d(one.x, one.kernel, one.stride, even, ceil, counts))

    def mean(y: Any) -> Any:
        before, after = zip((0, 0), (0, 0), *one.pads, strict=True)
        return F.avg_pool2d(shaping.pad(y, before, after), one.kernel, one.stride, 0, ceil)

    return one.back(mean(one.x) if counts else mean(one.x) / mean(ones_like(one.x)))


def _global(function: Operator) -> Operator:
    return lambda n, x: function(x, tuple(range(2, len(x.shape))), keepdim=True)


def _gemm(n: Step, a: Any, b: Any, c: Any = None) -> Any:
    a = a.mT if n.get("transA", 0) else a
    b = b.mT if n.get("transB", 0) else b
    alpha, beta = n.get("alpha", 1.0), n.get("beta", 1.0)
    y = contractions.matmul(a, b)
    y = y if alpha == 1 else y * alpha
    return y if c is None or beta == 0 else y + (c if beta == 1 else c * beta)


def _matmul_integer(n: Step, a: Any, b: Any, a_zero: Any = None, b_zero: Any = None) -> Any:
    a, b = a.astype(int32), b.astype(int32)
    a = a if a_zero is None else a - a_zero.astype(int32)
    b = b if b_zero is None else b - b_zero.astype(int32)
    return contractions.matmul(a, b)


def _dequantized(n: Step, x: Any, scale: Any, zero: Any = None) -> Any:
    """(x - zero) * scale: one scale, one for each place of an axis, or for blocks along it."""
    axis, block = n.get("axis", 1), n.get("block_size", 0)
    wide = x.astype(int32)
    parts = [scale, zero]
    if block:
        parts = [p if p is None else _blocks(p, block, axis, x.shape[axis]) for p in parts]
    elif scale.shape not in ((), (1,)):
        shape = [1] * len(x.shape)
        shape[axis] = -1
        parts = [p if p is None else p.reshape(*shape) for p in parts]
    wide = wide if parts[1] is None else wide - parts[1].astype(int32)
    return wide.astype(scale.dtype) * parts[0]


def _blocks(x: Any, block: int, axis: int, size: int) -> Any:
    """One number for each block, as one for each place."""
    axis %= len(x.shape)
    x = shaping.repeat_interleave(x, block, axis)
    return shaping.narrow(x, axis, 0, size)


def _quantized(n: Step, x: Any, scale: Any, zero: Any = None) -> Any:
    """round(x / scale) + zero, as bytes: uint8 without a zero point."""
    if scale.shape not in ((), (1,)):
        n.refuse("scales of places are not done", scale.shape, "one scale")
    kind = dtype_named("uint8") if zero is None else zero.dtype
    if kind.name not in ("uint8", "int8"):
        n.refuse("its number type is not done", kind.name, "uint8 or int8")
    q, ends = elementwise.round(x / scale), np.iinfo(kind.storage)
    q = q if zero is None else q + zero.astype(q.dtype)
    return elementwise.clip(q, float(ends.min), float(ends.max)).astype(kind)


def _instance_norm(n: Step, x: Any, scale: Any, b: Any) -> Any:
    return F.group_norm(x, x.shape[1], scale, b, n.get("epsilon", 1e-5))


def _batch_norm(n: Step, x: Any, scale: Any, b: Any, mean: Any, var: Any) -> Any:
    if n.get("training_mode", 0):
        n.refuse("batch statistics are not computed", "training_mode=1", "a file for inference")
    return F.batch_norm(x, mean, var, scale, b, eps=n.get("epsilon", 1e-5))


def _layer_norm(n: Step, x: Any, scale: Any, b: Any = None) -> Any:
    shape = x.shape[n.get("axis", -1) :]
    return F.layer_norm(x, shape, scale, b, n.get("epsilon", 1e-5))


def _softmax(function: Operator) -> Operator:
    """Before version 13 over all axes from one on."""

    def rule(n: Step, x: Any) -> Any:
        if n.opset >= 13:
            return function(x, n.get("axis", -1))
        flat = _flatten(n, x)
        return shaping.reshape(function(flat, 1), *x.shape)

    return rule


def _flatten(n: Step, x: Any) -> Any:
    axis = n.get("axis", 1)
    axis = axis + len(x.shape) if axis < 0 else axis
    return shaping.reshape(x, math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


def _reshape(n: Step, x: Any, shape: Any) -> Any:
    sizes = n.numbers(shape)
    if not n.get("allowzero", 0):
        kept = x.shape + (0,) * len(sizes)
        sizes = [size or kept[i] for i, size in enumerate(sizes)]
    return shaping.reshape(x, *sizes)


def _squeeze(n: Step, x: Any, axes: Any = None) -> Any:
    found = n.option("axes", axes)
    return shaping.squeeze(x, None if found is None else tuple(found))


def _unsqueeze(n: Step, x: Any, axes: Any = None) -> Any:
    found = n.option("axes", axes) or []
    rank = len(x.shape) + len(found)
    for axis in sorted(a % rank for a in found):
        x = shaping.unsqueeze(x, axis)
    return x


def _slice(n: Step, x: Any, *rest: Any) -> Any:
    start, stop, axes, step = (*rest, *(None,) * (4 - len(rest)))
    first, last = n.option("starts", start) or [], n.option("ends", stop) or []
    axes_cut = n.option("axes", axes) or list(range(len(first)))
    steps = [1] * len(first) if step is None else n.numbers(step)
    index: list[Any] = [slice(None)] * len(x.shape)
    if not len(first) == len(last) == len(axes_cut) == len(steps) <= len(x.shape) or 0 in steps:
        got = (first, last, axes_cut, steps)
        n.refuse("these are no slices", got, "a start, an end and a step for each axis")
    for i, a, b, s in zip(axes_cut, first, last, steps, strict=True):
        # An end before the first place, going down, is what Python writes as None.
        end = None if s < 0 and b < -x.shape[i] else b
        index[i] = slice(a, end, s)
    return x[tuple(index)]


def _split(n: Step, x: Any, sizes: Any = None) -> Any:
    axis, found = n.get("axis", 0), n.option("split", sizes)
    if found is None:
        parts = n.get("num_outputs", len(n.outputs))
        each = -(-x.shape[axis] // parts)
        found = [each] * (parts - 1) + [x.shape[axis] - each * (parts - 1)]
    return shaping.split(x, found, axis)


def _expand(n: Step, x: Any, shape: Any) -> Any:
    sizes = shaping.broadcast_shapes(tuple(x.shape), tuple(n.numbers(shape)))
    return shaping.broadcast_to(x, *sizes)


def _pad(n: Step, x: Any, pads: Any = None, value: Any = None, axes: Any = None) -> Any:
    rank, found, mode = len(x.shape), n.option("pads", pads) or [], n.get("mode", "constant")
    axes_cut = list(range(rank)) if axes is None else [a % rank for a in n.numbers(axes)]
    modes = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}
    if len(found) != 2 * len(axes_cut) or mode not in modes:
        n.refuse("this padding is not done", (found, mode), f"two numbers an axis; {list(modes)}")
    pairs = [(0, 0)] * rank
    for place, axis in enumerate(axes_cut):
        pairs[axis] = found[place], found[place + len(axes_cut)]
    cut = tuple(slice(max(-a, 0), x.shape[i] - max(-b, 0)) for i, (a, b) in enumerate(pairs))
    x, ends = x[cut], [max(p, 0) for pair in reversed(pairs) for p in pair]
    if mode != "constant":
        while len(ends) > 2 and ends[-2:] == [0, 0]:
            ends = ends[:-2]
        return F.pad(x, ends, modes[mode])
    fill = n.get("value", 0.0) if value is None else value
    if isinstance(fill, np.ndarray):
        fill = fill.item()
    return F.pad(x, ends, "constant", fill)


def _clip(n: Step, x: Any, least: Any = None, most: Any = None) -> Any:
    least = n.attributes.get("min") if least is None else least
    most = n.attributes.get("max") if most is None else most
    return elementwise.clip(x, least, most)


def _cast(n: Step, x: Any) -> Any:
    return x.astype(_dtype(n, n.get("to")))


def _dtype(n: Step, code: Any) -> DType:
    if code not in NUMBER_TYPES:
        rule = "one of " + ", ".join(NUMBER_TYPES.values())
        n.refuse("its number type is none of ours", f"type {code}", rule)
    return dtype_named(NUMBER_TYPES[code])


def _div(n: Step, a: Any, b: Any) -> Any:
    """Of whole numbers the fraction is dropped."""
    return elementwise.divide(a, b, rounding_mode=None if a.dtype.is_float else "trunc")


def _mod(n: Step, a: Any, b: Any) -> Any:
    """Of the divisor's sign; with fmod of the dividend's, as C has it."""
    if not n.get("fmod", 0):
        return a % b
    return a - b * elementwise.divide(a, b, rounding_mode="trunc")


def _many(function: Operator, mean: bool = False) -> Operator:
    def rule(n: Step, first: Any, *rest: Any) -> Any:
        y = first
        for x in rest:
            y = function(y, x)
        return y / float(1 + len(rest)) if mean else y

    return rule


def _reduced(function: Operator, before: Operator | None = None) -> Operator:
    def rule(n: Step, x: Any, axes: Any = None) -> Any:
        found = n.option("axes", axes)
        x = x if before is None else before(x)
        if not found and n.get("noop_with_empty_axes", 0):
            return x
        return function(x, tuple(found) if found else None, keepdim=bool(n.get("keepdims", 1)))

    return rule


def _logsumexp(x: Any, dim: Any, keepdim: bool) -> Any:
    axes: Any = tuple(range(len(x.shape))) if dim is None else dim
    return reductions.logsumexp(x, axes, keepdim)


def _place(function: Operator) -> Operator:
    def rule(n: Step, x: Any) -> Any:
        if n.get("select_last_index", 0):
            n.refuse("the last of equal numbers is not looked for", 1, "select_last_index=0")
        return function(x, n.get("axis", 0), keepdim=bool(n.get("keepdims", 1)))

    return rule


def _cumsum(n: Step, x: Any, axis: Any) -> Any:
    if n.get("exclusive", 0) or n.get("reverse", 0):
        n.refuse("this running sum is not done", n.attributes, "exclusive=0, reverse=0")
    return reductions.cumsum(x, n.numbers(axis)[0])


def _trilu(n: Step, x: Any, k: Any = None) -> Any:
    diagonal = 0 if k is None else n.numbers(k)[0]
    return (triu if n.get("upper", 1) else tril)(x, diagonal)


def _range(n: Step, start: Any, stop: Any, step: Any) -> Any:
    first, last, by = (n.array(x).item() for x in (start, stop, step))
    return arange(first, last, by, dtype=start.dtype)


def _constant_of_shape(n: Step, shape: Any) -> Any:
    array, dtype = n.get("value", None) or (np.zeros(1, np.float32), float32)
    return full(tuple(n.numbers(shape)), array.reshape(-1)[0].item(), dtype=dtype)


def _shifted(n: Step, x: Any, by: Any) -> Any:
    right = n.get("direction") == "RIGHT"
    return (functions.shift_right if right else functions.shift_left)(x, by)


def _shape(n: Step, x: Any) -> np.ndarray:
    sizes = x.shape[n.attributes.get("start") : n.attributes.get("end")]
    return np.array(sizes, np.int64)


def _sloped(n: Step, x: Any, slope: Any = None) -> Any:
    slope = n.get("alpha", 0.01) if slope is None else slope
    return elementwise.where(x < 0, x * slope, x)


def _selu(n: Step, x: Any) -> Any:
    # The defaults are the operator's own, rounded to float32.
    return F.elu(x, n.get("alpha", 1.67326319)) * n.get("gamma", 1.05070102)


def _hard_sigmoid(n: Step, x: Any) -> Any:
    return elementwise.clip(x * n.get("alpha", 0.2) + n.get("beta", 0.5), 0.0, 1.0)


def _isinf(n: Step, x: Any) -> Any:
    found = functions.isinf(x)
    found = found & (x > 0) if not n.get("detect_negative", 1) else found
    return found & (x < 0) if not n.get("detect_positive", 1) else found


SIMPLE = {
    "Abs": functions.abs, "Acos": elementwise.acos, "Acosh": elementwise.acosh,
    "Asin": elementwise.asin, "Asinh": elementwise.asinh, "Atan": elementwise.atan,
    "Atanh": elementwise.atanh, "BitwiseNot": functions.bitwise_not, "Ceil": elementwise.ceil,
    "Cos": functions.cos, "Cosh": elementwise.cosh, "Erf": functions.erf, "Exp": functions.exp,
    "Floor": elementwise.floor, "HardSwish": F.hardswish, "Identity": lambda x: x,
    "IsNaN": functions.isnan, "Log": functions.log, "Mish": F.mish, "Neg": functions.negative,
    "Not": functions.logical_not, "Reciprocal": functions.reciprocal, "Relu": elementwise.relu,
    "Round": elementwise.round, "Sigmoid": elementwise.sigmoid, "Sign": functions.sign,
    "Sin": functions.sin, "Sinh": elementwise.sinh, "Softplus": F.softplus,
    "Softsign": F.softsign, "Sqrt": functions.sqrt, "Tan": elementwise.tan,
    "Tanh": functions.tanh,
}  # fmt: skip
_TWO = {
    "Add": elementwise.add, "And": functions.logical_and, "BitwiseAnd": functions.bitwise_and,
    "BitwiseOr": functions.bitwise_or, "BitwiseXor": functions.bitwise_xor,
    "Equal": functions.eq, "Greater": functions.greater,
    "GreaterOrEqual": functions.greater_equal, "Less": functions.less,
    "LessOrEqual": functions.less_equal, "MatMul": contractions.matmul,
    "Mul": functions.multiply, "Or": functions.logical_or, "Sub": elementwise.subtract,
    "Xor": elementwise.logical_xor,
}  # fmt: skip


def _of_one(function: Operator) -> Operator:
    return lambda n, x: function(x)


def _of_two(function: Operator) -> Operator:
    return lambda n, a, b: function(a, b)


OPERATORS: dict[str, Operator] = {
    **{name: _of_one(function) for name, function in SIMPLE.items()},
    **{name: _of_two(function) for name, function in _TWO.items()},
    "ArgMax": _place(reductions.argmax), "ArgMin": _place(reductions.argmin),
    "AveragePool": _average_pool, "BatchNormalization": _batch_norm, "BitShift": _shifted,
    "Cast": _cast, "Clip": _clip,
    "Concat": lambda n, *xs: shaping.concat(xs, n.get("axis")),
    "ConstantOfShape": _constant_of_shape, "Conv": _conv, "ConvTranspose": _conv_transpose,
    "CumSum": _cumsum, "DequantizeLinear": _dequantized, "Div": _div,
    "Dropout": lambda n, x, ratio=None, training=None: x,
    "Einsum": lambda n, *xs: contractions.einsum(n.get("equation"), *xs),
    "Elu": lambda n, x: F.elu(x, n.get("alpha", 1.0)), "Expand": _expand, "Flatten": _flatten,
    "Gather": lambda n, x, index: indexing.take(x, index, n.get("axis", 0)),
    "GatherElements": lambda n, x, index: indexing.take_along_axis(x, index, n.get("axis", 0)),
    "Gelu": lambda n, x: F.gelu(x, n.get("approximate", "none")), "Gemm": _gemm,
    "GlobalAveragePool": _global(reductions.mean), "GlobalMaxPool": _global(reductions.amax),
    "HardSigmoid": _hard_sigmoid, "InstanceNormalization": _instance_norm, "IsInf": _isinf,
    "LayerNormalization": _layer_norm, "LeakyRelu": _sloped,
    "LogSoftmax": _softmax(reductions.log_softmax), "MatMulInteger": _matmul_integer,
    "Max": _many(functions.maximum), "MaxPool": _max_pool,
    "Mean": _many(elementwise.add, mean=True), "Min": _many(functions.minimum), "Mod": _mod,
    "PRelu": _sloped, "Pad": _pad, "Pow": lambda n, a, b: elementwise.power(a, b.astype(a.dtype)),
    "QuantizeLinear": _quantized, "Range": _range,
    "ReduceL1": _reduced(reductions.sum, functions.abs),
    "ReduceL2": _reduced(lambda x, dim, keepdim: functions.sqrt(
        reductions.sum(x * x, dim, keepdim=keepdim))),
    "ReduceLogSumExp": _reduced(_logsumexp), "ReduceMax": _reduced(reductions.amax),
    "ReduceMean": _reduced(reductions.mean), "ReduceMin": _reduced(reductions.amin),
    "ReduceProd": _reduced(lambda x, dim, keepdim: reductions.prod(x, dim, keepdim=keepdim)),
    "ReduceSum": _reduced(reductions.sum),
    "ReduceSumSquare": _reduced(reductions.sum, elementwise.square), "Reshape": _reshape,
    "Selu": _selu, "Shape": _shape, "Slice": _slice, "Softmax": _softmax(reductions.softmax),
    "Split": _split, "Squeeze": _squeeze, "Sum": _many(elementwise.add),
    "Tile": lambda n, x, repeats: shaping.tile(x, *n.numbers(repeats)),
    "Transpose": lambda n, x: shaping.permute(
        x, *n.get("perm", list(range(len(x.shape)))[::-1])),
    "Trilu": _trilu, "Unsqueeze": _unsqueeze,
    "Where": lambda n, c, a, b: elementwise.where(c, a, b),
}  # fmt: skip

# Operators whose outputs begin with the axis that their operands begin with.
ELEMENTWISE = {*SIMPLE, *_TWO, "Cast", "Clip", "Div", "Max", "Min", "Pow", "Where"} - {"MatMul"}
OF_SAMPLES = {
    "AveragePool", "BatchNormalization", "Conv", "Dropout", "Elu", "Flatten", "Gelu", "Gemm",
    "GlobalAveragePool", "GlobalMaxPool", "InstanceNormalization", "LayerNormalization",
    "LeakyRelu", "LogSoftmax", "MatMul", "MaxPool", "PRelu", "Reshape", "Selu", "Softmax",
}  # fmt: skip
# Operands that tell sizes and axes, by place: they are given as arrays.
READ = {
    "ConstantOfShape": (0,), "CumSum": (1,), "Expand": (1,), "Pad": (1, 2, 3), "Range": (0, 1, 2),
    "Reshape": (1,), "Slice": (1, 2, 3, 4), "Split": (1,), "Squeeze": (1,), "Tile": (1,),
    "Trilu": (1,), "Unsqueeze": (1,),
    **{name: (1,) for name in OPERATORS if name.startswith("Reduce")},
}  # fmt: skip
