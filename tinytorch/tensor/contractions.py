"""Functions that multiply and add: matmul, convolution (and transposed), attention, pooling.

Knows shapes, and the precision mode: float32 inputs are rounded here to bfloat16 or float16.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinytorch.base.dtypes import bfloat16, float16, float32, int64, promote
from tinytorch.base.errors import ShapeError
from tinytorch.primitives import TABLE
from tinytorch.primitives.quiet import quiet_call
from tinytorch.primitives.windows import reaching
from tinytorch.tensor import autograd
from tinytorch.tensor.base import TensorBase, from_array
from tinytorch.tensor.dispatch import apply, product, tensor_of, to_dtype
from tinytorch.tensor.interpreter import STATE
from tinytorch.tensor.number_types import check_one_float
from tinytorch.tensor.shaping import pad, reshape, squeeze, unsqueeze

_MATMUL, _PERMUTE, _SUM = (TABLE[name] for name in ("matmul", "permute", "sum"))


def _inputs(owner: str, /, **xs) -> tuple[list, dict]:
    """Operands of one dtype, and the `dtype` param: rounded if the mode says so.

    Raises:
        DTypeError: floats of different types, unless the mode rounds them all to one.
    """
    tensors = [tensor_of(x) for x in xs.values()]
    dtype = tensors[0].dtype
    for t in tensors[1:]:
        if t.dtype is not dtype:
            check_one_float(owner, **dict(zip(xs, tensors, strict=True)))
            dtype = promote(dtype, t.dtype)
    if dtype is float32 and STATE.precision == "bf16":
        return [to_dtype(t, bfloat16) for t in tensors], {"dtype": float32}
    if dtype is float32 and STATE.precision == "float16":
        return [to_dtype(to_dtype(t, float16), float32) for t in tensors], {}
    return [t if t.dtype is dtype else to_dtype(t, dtype) for t in tensors], {}


def matmul(a, b) -> Any:
    """Matrix product over the last two axes; leading axes broadcast; vectors as NumPy treats them.

    Args:
        a: (..., M, K) or (K,).
        b: (..., K, N) or (K,).

    Returns:
        (..., M, N), without M or N for vectors.

    Cost: 2 M K N operations for each matrix.
    """
    try:
        same = a._buffer.dtype is b._buffer.dtype and STATE.precision == "float32"
    except AttributeError:  # an operand is no Tensor, or a captured one
        same = False
    params: dict = {}
    if same:
        if len(a.shape) >= 2 and len(b.shape) >= 2:
            return product(_MATMUL, a, b)
    else:
        (a, b), params = _inputs("matmul", a=a, b=b)
    rank_a, rank_b = len(a.shape), len(b.shape)
    if rank_a >= 2 and rank_b >= 2:
        return apply(_MATMUL, (a, b), params)
    if not rank_a or not rank_b:
        raise ShapeError(
            "matmul: an operand is a single number",
            got=f"a {a.shape}, b {b.shape}",
            rule="both have at least one axis",
            fix="a * b",
        )
    left = unsqueeze(a, 0) if rank_a == 1 else a
    right = unsqueeze(b, 1) if rank_b == 1 else b
    out = apply(TABLE["matmul"], (left, right), params)
    if rank_b == 1:
        out = squeeze(out, -1)
    return squeeze(out, -2 if rank_b > 1 else -1) if rank_a == 1 else out


class _Affine:
    """Stands in the tape for x @ w.T + b of matrices: one entry for three, 15 us less."""

    asks_needs, mixes = True, True

    @staticmethod
    def vjp(g: Any, out: Any, x: Any, w: Any, b: Any, *, needs: tuple) -> tuple:
        """g @ w, g.T @ x, and g summed over the rows."""
        return (
            matmul(g, w) if needs[0] else None,
            matmul(apply(_PERMUTE, (g,), {"axes": (1, 0)}), x) if needs[1] else None,
            apply(_SUM, (g,), {"axes": (0,), "keepdims": False}) if needs[2] else None,
        )

    def __repr__(self) -> str:
        return "affine"


_AFFINE = _Affine()


def affine(x: Any, w: Any, b: Any) -> Any:
    """x @ w.T + b for matrices x (N, C), w (K, C) and b (K,) in memory; None for anything else."""
    if STATE.interpreter is not None or STATE.precision != "float32":
        return None
    parts = [t._buffer for t in (x, w, b)]
    if any(p is None or p.dtype is not parts[0].dtype for p in parts):
        return None
    left, right, bias = (p.array for p in parts)
    if left.dtype.char not in "fd" or left.ndim != 2 or bias.shape != right.shape[:1]:
        return None
    array = _MATMUL.numpy(left, right.T)
    quiet_call(np.add, array, bias, array)
    out = from_array(array, parts[0].dtype)
    if STATE.recording and any(t._node is not None for t in (x, w, b)):
        return autograd.record(_AFFINE, (x, w, b), {}, out)
    return out


def outer(a, b) -> Any:
    """The products of each element of `a` with each of `b`, (M, N)."""
    return unsqueeze(tensor_of(a), 1) * unsqueeze(tensor_of(b), 0)


def _pair_of(value: Any) -> tuple[Any, Any]:
    """One for both image axes, alone or as the only one of a tuple, or a pair."""
    if isinstance(value, int):
        return value, value
    return (value[0], value[0]) if len(value) == 1 else (value[0], value[1])


def _pair(value: Any) -> tuple[int, int]:
    vertical, horizontal = _pair_of(value)
    return int(vertical), int(horizontal)


def convolution(
    x, weight, *, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Any:
    """Cross-correlation of images with windows of weights.

    Args:
        x: (N, C, H, W).
        weight: (K, C / groups, kernel height, kernel width).
        stride: step of the window, one number or a pair.
        padding: zeros on each side: one number, a pair, or ((top, bottom), (left, right)).
        dilation: distance between rows of the window, one number or a pair.
        groups: so many parts of the channels do not see each other.

    Returns:
        (N, K, H', W').
    """
    (x, weight), params = _inputs("convolution", x=x, weight=weight)
    vertical, horizontal = _pair_of(padding)
    params |= {
        "stride": _pair(stride),
        "padding": (_pair(vertical), _pair(horizontal)),
        "dilation": _pair(dilation),
        "groups": int(groups),
    }
    return apply(TABLE["convolution"], (x, weight), params)


def convolution_transpose(
    x, weight, *, stride: Any = 1, padding: Any = 0, output_padding: Any = 0, dilation: Any = 1,
    groups: int = 1,
) -> Any:  # fmt: skip
    """The gradient of `convolution` with respect to its image, as an operation of its own.

    Args:
        x: (N, C, H, W).
        weight: (C, K / groups, kernel height, kernel width).
        stride: distance between the windows in the output, one number or a pair.
        padding: cells cut off on each side of the output, one number or a pair.
        output_padding: cells added below and to the right, fewer than stride or than dilation.
        dilation: distance between rows of the window, one number or a pair.
        groups: so many parts of the channels do not see each other.

    Returns:
        (N, K, H', W') with H' = (H - 1) stride - 2 padding + dilation (kernel - 1) + 1 +
        output_padding.

    Raises:
        ShapeError: other axes, more output_padding than fits, or an output without cells.
    """
    (x, weight), params = _inputs("convolution_transpose", x=x, weight=weight)
    steps, sides, extra, gaps = (_pair(p) for p in (stride, padding, output_padding, dilation))
    if (
        len(x.shape) != 4
        or len(weight.shape) != 4
        or any(e >= max(s, d) for e, s, d in zip(extra, steps, gaps, strict=True))
    ):
        raise ShapeError(
            "convolution_transpose: the sizes do not fit",
            got=f"x {x.shape}, weight {weight.shape}, output_padding={extra}, stride={steps}",
            rule="four axes each, and output_padding smaller than stride or dilation",
            fix="output_padding=0, x as (N, C, H, W), weight as (C, K / groups, KH, KW)",
        )
    # Of extra cells fewer than the stride the primitive knows: a window more would not fit. Others
    # are some of those that the padding cut off below, and beyond them zeros.
    inner = tuple(e if e < s else 0 for e, s in zip(extra, steps, strict=True))
    outer = tuple(e - i for e, i in zip(extra, inner, strict=True))
    padding = tuple((p, max(0, p - e)) for p, e in zip(sides, outer, strict=True))
    beyond = tuple(max(0, e - p) for p, e in zip(sides, outer, strict=True))
    size = tuple(
        (n - 1) * s + d * (k - 1) + 1 - sum(p) + i
        for n, s, p, d, k, i in zip(
            x.shape[2:], steps, padding, gaps, weight.shape[2:], inner, strict=True
        )
    )
    if min(size) < 1:
        raise ShapeError(
            "convolution_transpose: nothing is left of the output",
            got=f"x {x.shape}, weight {weight.shape}, stride={steps}, padding={sides}: an output "
            f"of {size[0]} x {size[1]}",
            rule="(H - 1) stride - 2 padding + dilation (kernel - 1) + 1 + output_padding >= 1",
            fix="less padding, or a larger kernel",
        )
    params |= {
        "input_shape": (x.shape[0], weight.shape[1] * int(groups), *size),
        "stride": steps,
        "padding": padding,
        "dilation": gaps,
        "groups": int(groups),
    }
    out = apply(TABLE["convolution_input_gradient"], (x, weight), params)
    return pad(out, (0,) * 4, (0, 0, *beyond)) if any(beyond) else out


def scale_of(q: Any) -> float:
    """1 / sqrt(D) for queries (..., D); 1 where they have no numbers: any factor is right there."""
    return float(q.shape[-1] or 1) ** -0.5


def attention(q, k, v, *, causal: bool = False, scale: Any = None) -> Any:
    """softmax(q k^T * scale) v for each head, without ever holding T x S numbers when compiled.

    Args:
        q: (B, A, T, D).
        k: (B, A, S, D).
        v: (B, A, S, D).
        causal: query t sees keys s <= t + S - T.
        scale: default 1 / sqrt(D), of D = 0: 1; a number or a 0-d Tensor.

    Returns:
        (B, A, T, D).
    """
    if isinstance(scale, TensorBase):  # an operand like others, with its gradient
        q, scale = tensor_of(q) * scale, 1.0
    (q, k, v), params = _inputs("attention", q=q, k=k, v=v)
    factor = scale_of(q) if scale is None else float(scale)
    params |= {"causal": bool(causal), "scale": factor}
    return apply(TABLE["attention"], (q, k, v), params)[0]


def max_pool2d(
    x, kernel_size, stride: Any = None, padding: Any = 0, dilation: Any = 1,
    ceil_mode: bool = False, return_indices: bool = False,
) -> Any:  # fmt: skip
    """The largest number in each window of an image; the padding never wins.

    Args:
        x: (N, C, H, W) or (C, H, W).
        kernel_size: window, one number or (vertical, horizontal).
        stride: step of the window, one number or a pair; default kernel_size.
        padding: cells of minus infinity on each side: one number, a pair, or ((top, bottom),
            (left, right)).
        dilation: distance between rows of the window, one number or a pair.
        ceil_mode: a window that begins before the end reaches over it, so that none is left over.
        return_indices: give the places h * W + w of the largest numbers (int64) too.

    Returns:
        (N, C, H', W') with H' = (H + 2 padding - dilation (kernel - 1) - 1) // stride + 1, rounded
        up with ceil_mode; with return_indices a pair.

    Raises:
        ShapeError: the window is larger than the padded image, or one would hold padding alone.
    """
    x = tensor_of(x)
    if len(x.shape) == 3:
        out = max_pool2d(
            unsqueeze(x, 0), kernel_size, stride, padding, dilation, ceil_mode, return_indices
        )
        return tuple([squeeze(o, 0) for o in out]) if return_indices else squeeze(out, 0)
    kernel, gaps = _pair(kernel_size), _pair(dilation)
    steps = kernel if stride is None or stride == () else _pair(stride)
    sides = tuple([_pair(side) for side in _pair_of(padding)])
    if ceil_mode and len(x.shape) == 4 and min(*kernel, *steps, *gaps) > 0:
        axes = zip(x.shape[2:], kernel, steps, sides, gaps, strict=True)
        sides = tuple([reaching(n, k, s, p, d) for n, k, s, p, d in axes])
    params = {"kernel": kernel, "stride": steps, "padding": sides}
    if gaps != (1, 1):
        params["dilation"] = gaps
    out, places = apply(TABLE["max_pool2d"], (x,), params)
    return (out, to_dtype(places, int64)) if return_indices else out


def dot(a, b) -> Any:
    """Sum of the products of two vectors."""
    return matmul(reshape(tensor_of(a), -1), reshape(tensor_of(b), -1))
