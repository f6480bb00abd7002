"""Functions that multiply and add: matmul, einsum, convolution, its transpose, attention, pooling.

Knows shapes, and the precision mode: float32 inputs are rounded here to bfloat16 or float16.
"""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from tinytorch.base.dtypes import bfloat16, float16, float32, int64, promote
from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.primitives import TABLE
from tinytorch.primitives.ieee import ieee_call
from tinytorch.primitives.pooling import reaching
from tinytorch.tensor import autograd
from tinytorch.tensor.autograd import GradientRule
from tinytorch.tensor.creation import arange
from tinytorch.tensor.dispatch import apply, common, in_float32, product, to_dtype
from tinytorch.tensor.interpreter import STATE
from tinytorch.tensor.memory import TensorBase, from_array
from tinytorch.tensor.operands import Operand, check_one_float, entries_of, tensor_of
from tinytorch.tensor.reductions import sum as total
from tinytorch.tensor.shaping import (
    axis_of,
    broadcast_to,
    moveaxis,
    pad,
    permute,
    reshape,
    squeeze,
    transpose,
    unsqueeze,
)

__all__ = [
    "attention", "convolution", "dot", "einsum", "matmul", "max_pool2d", "outer", "tensordot",
    "vecdot",
]  # fmt: skip

Pair: TypeAlias = int | Sequence[int]  # for both image axes, alone or as the only one, or two
Padding: TypeAlias = int | Sequence[Any]  # a Pair, or ((top, bottom), (left, right))

_MATMUL, _PERMUTE, _SUM = (TABLE[name] for name in ("matmul", "permute", "sum"))


def _inputs(owner: str, /, **xs: Operand) -> tuple[list[TensorBase], dict[str, Any]]:
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


def matmul(a: Operand, b: Operand) -> Any:
    """Matrix product over the last two axes; leading axes broadcast; vectors as NumPy treats them.

    Args:
        a: (..., M, K) or (K,).
        b: (..., K, N) or (K,).

    Returns:
        (..., M, N), without M or N for vectors.

    Cost: 2 M K N operations for each matrix.
    """
    inputs: list[Any] = [a, b]
    params: dict[str, Any] = {}
    left, right = inputs
    try:
        same = left._buffer.dtype is right._buffer.dtype and STATE.precision == "float32"
    except AttributeError:  # an operand is no Tensor, or a captured one
        same = False
    if not same:
        (left, right), params = _inputs("matmul", a=a, b=b)
    elif left._buffer.array.ndim >= 2 and right._buffer.array.ndim >= 2:
        return product(_MATMUL, left, right)
    rank_a, rank_b = len(left.shape), len(right.shape)
    if rank_a >= 2 and rank_b >= 2:
        return apply(_MATMUL, (left, right), params)
    if not rank_a or not rank_b:
        raise ShapeError(
            "matmul: an operand is a single number",
            got=f"a {left.shape}, b {right.shape}",
            rule="both have at least one axis",
            fix="a * b",
        )
    left = unsqueeze(left, 0) if rank_a == 1 else left
    right = unsqueeze(right, 1) if rank_b == 1 else right
    out = apply(_MATMUL, (left, right), params)
    if rank_b == 1:
        out = squeeze(out, -1)
    return squeeze(out, -2 if rank_b > 1 else -1) if rank_a == 1 else out


class _Affine(GradientRule):
    """Stands in the tape for `linear` of matrices in memory: one entry for three, 15 us less."""

    name = "affine"

    asks_needs, mixes = True, True

    @staticmethod
    def vjp(g: Any, out: Any, x: Any, w: Any, b: Any, *, needs: tuple[Any, ...]) -> tuple[Any, ...]:
        """g @ w, g.T @ x, and g summed over the rows."""
        return (
            matmul(g, w) if needs[0] else None,
            matmul(apply(_PERMUTE, (g,), {"axes": (1, 0)}), x) if needs[1] else None,
            apply(_SUM, (g,), {"axes": (0,), "keepdims": False}) if needs[2] else None,
        )


_AFFINE = _Affine()


def linear(input: Any, weight: Any, bias: Any = None) -> Any:
    """input @ weight.T + bias.

    Args:
        input: (..., C).
        weight: (K, C).
        bias: (K,).

    Returns:
        (..., K).
    """
    if bias is not None and STATE.interpreter is None and STATE.precision == "float32":
        x, w, b = input._buffer, weight._buffer, bias._buffer
        if x is not None and w is not None and b is not None and x.dtype is w.dtype is b.dtype:
            rows, matrix, shift = x.array, w.array, b.array
            if (
                rows.dtype.char in "fd"
                and rows.ndim == matrix.ndim == 2
                and rows.shape[1] == matrix.shape[1]
                and shift.shape == matrix.shape[:1]
            ):
                array = ieee_call(np.matmul, rows, matrix.T)
                ieee_call(np.add, array, shift, array)
                out = from_array(array, x.dtype)
                places = input._node, weight._node, bias._node
                if STATE.recording and places != (None, None, None):
                    return autograd.record(_AFFINE, (input, weight, bias), {}, out)
                return out
    if len(weight.shape) != 2 or not input.shape or input.shape[-1] != weight.shape[1]:
        raise ShapeError(
            "linear: input and weight do not belong together",
            got=f"input {tuple(input.shape)}, weight {tuple(weight.shape)}",
            rule="input (..., C), weight (K, C)",
            fix="transpose the weight, or reshape the input",
        )
    # No reshape to one matrix: the row `matmul` and the compiler do that, and without it the
    # arithmetic that follows still has the shape of the product and is fused into it.
    if input.dtype is not weight.dtype or (bias is not None and bias.dtype is not weight.dtype):
        check_one_float("linear", input=input, weight=weight, bias=bias)
    out = matmul(input, transpose(weight))
    return out if bias is None else out + bias


def outer(a: Operand, b: Operand) -> Any:
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
    x: Operand, weight: Operand, *, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
    groups: int = 1,
) -> Any:  # fmt: skip
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
    x: Operand, weight: Operand, *, stride: Any = 1, padding: Any = 0, output_padding: Any = 0,
    dilation: Any = 1, groups: int = 1,
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


def attention(
    q: Operand, k: Operand, v: Operand, *, causal: bool = False, scale: Any = None
) -> Any:
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
    x: Operand, kernel_size: Pair, stride: Any = None, padding: Any = 0, dilation: Any = 1,
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


def dot(a: Operand, b: Operand) -> Any:
    """Sum of the products of two vectors."""
    return matmul(reshape(tensor_of(a), -1), reshape(tensor_of(b), -1))


# --- sums of products over named axes ---
#
# Every product of two operands becomes one matmul: axes that both keep are its batches, axes that
# one has are its rows or columns, axes that end here are summed.

_DOTS = "0123456789"  # names of the axes that "..." stands for, the last one first


def _refuse(what: str, equation: str, xs: Sequence[Any]) -> ShapeError:
    return ShapeError(
        f"einsum: {what}",
        got=f"{equation!r} with {', '.join(str(x.shape) for x in xs)}",
        rule="one letter for each axis; axes of one letter have one size, or size 1",
        fix='for example einsum("bij,bjk->bik", a, b)',
    )


def _parse(equation: str, xs: Sequence[Any]) -> tuple[list[str], str]:
    """Letters of each operand, and of the result, with "..." written out as digits."""
    text = equation.replace(" ", "")
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(xs):
        raise _refuse("another number of operands than terms", equation, xs)
    spelled: list[str] = []
    most = 0
    for term, x in zip(terms, xs, strict=True):
        letters = term.replace("...", "")
        hidden = len(x.shape) - len(letters)
        plain = all(c.isascii() and c.isalpha() for c in letters) and term.count("...") < 2
        if hidden < 0 or (hidden and "..." not in term) or not plain or hidden > len(_DOTS):
            raise _refuse("the letters do not fit the axes", equation, xs)
        most = max(most, hidden)
        spelled.append(term.replace("...", _DOTS[:hidden][::-1]))
    dots = _DOTS[:most][::-1]
    if not arrow:
        every = "".join(spelled)
        single = sorted(c for c in set(every) - set(_DOTS) if every.count(c) == 1)
        right = "..." + "".join(single)
    result = right.replace("...", dots, 1)
    if "." in result or len(set(result)) != len(result) or set(result) - set("".join(spelled)):
        raise _refuse("the result names an axis twice, or one that no operand has", equation, xs)
    return spelled, result


def _without_repeats(x: Any, letters: str) -> tuple[Any, str]:
    """The diagonal where an operand names an axis twice."""
    for letter in letters:
        while letters.count(letter) > 1:
            a, b = letters.index(letter), letters.rindex(letter)
            n = x.shape[a]
            moved = moveaxis(moveaxis(x, b, 0), a + 1, 0)
            flat = reshape(moved, (n * n, *moved.shape[2:]))
            x = apply(TABLE["take"], (flat, arange(n) * (n + 1)), {"axis": 0})
            letters = letter + letters.replace(letter, "")
    return x, letters


def _summed(x: Any, letters: str, keep: set[str]) -> tuple[Any, str]:
    """x without the axes that nobody needs."""
    drop = tuple(i for i, c in enumerate(letters) if c not in keep)
    return (total(x, drop), "".join(c for c in letters if c in keep)) if drop else (x, letters)


def _ordered(x: Any, letters: str, order: str) -> Any:
    """x with its axes in this order; axes it has not are new, of size 1."""
    have = [c for c in order if c in letters]
    x = permute(x, [letters.index(c) for c in have]) if "".join(have) != letters else x
    shape: list[int] = []
    at = 0
    for c in order:
        shape.append(x.shape[at] if c in letters else 1)
        at += c in letters
    return reshape(x, shape) if shape != list(x.shape) else x


def _product(a: Any, in_a: str, b: Any, in_b: str, keep: set[str]) -> tuple[Any, str]:
    """Two operands as one, by matmul."""
    a, in_a = _summed(a, in_a, keep | set(in_b))
    b, in_b = _summed(b, in_b, keep | set(in_a))
    sizes = dict(zip(in_a, a.shape, strict=True))
    for c, n in zip(in_b, b.shape, strict=True):
        sizes[c] = n if sizes.get(c, 1) == 1 else sizes[c]
    both = [c for c in in_a if c in in_b]
    gone = "".join(c for c in both if c not in keep)
    batch = "".join(c for c in both if c in keep)
    rows = "".join(c for c in in_a if c not in in_b)
    columns = "".join(c for c in in_b if c not in in_a)
    if not gone:
        order = batch + rows + columns
        return _ordered(a, in_a, order) * _ordered(b, in_b, order), order
    left, right = _ordered(a, in_a, batch + rows + gone), _ordered(b, in_b, batch + gone + columns)
    # size 1 beside a larger one: stretched, since joined axes cannot broadcast
    left = broadcast_to(left, [sizes[c] for c in batch + rows + gone])
    right = broadcast_to(right, [sizes[c] for c in batch + gone + columns])
    outer = tuple(sizes[c] for c in batch)
    m, k, n = (math.prod(sizes[c] for c in part) for part in (rows, gone, columns))
    out = matmul(reshape(left, (*outer, m, k)), reshape(right, (*outer, k, n)))
    order = batch + rows + columns
    return reshape(out, [sizes[c] for c in order]), order


def einsum(equation: str, *operands: Any) -> Any:
    """The sum of products that an equation of letters says.

        einsum("bij,bjk->bik", a, b)[b, i, k] = sum over j of a[b, i, j] * b[b, j, k]

    Args:
        equation: for each operand one letter an axis, "..." for axes that broadcast, after "->" the
            letters of the result (left out: those that stand once, in alphabetical order).
        operands: Tensors, from left to right; a list of them too.

    Raises:
        ShapeError: letters and axes do not fit.

    Cost: operands are multiplied from left to right; each product is one matmul.

    Example:
        >>> import tinytorch as tt
        >>> tt.einsum("ij,j->i", tt.ones(2, 3), tt.arange(3)).tolist()
        [3.0, 3.0]
    """
    operands = tuple(entries_of(operands[0])) if len(operands) == 1 else operands
    if not operands:
        raise SettingError("einsum: no operands", got=equation, rule="at least one", fix="give a")
    xs = [tensor_of(x) for x in operands]
    check_one_float("einsum", **{f"operand {i}": x for i, x in enumerate(xs)})
    terms, result = _parse(equation, xs)
    _check_sizes(equation, xs, terms)
    pairs = [_without_repeats(x, letters) for x, letters in zip(xs, terms, strict=True)]
    x, letters = pairs[0]
    for i, (y, more) in enumerate(pairs[1:], 2):
        later = set(result).union(*(set(t) for _, t in pairs[i:]))
        x, letters = _product(x, letters, y, more, later)
    x, letters = _summed(x, letters, set(result))
    return permute(x, [letters.index(c) for c in result]) if letters != result else x


def _check_sizes(equation: str, xs: Sequence[Any], terms: Sequence[str]) -> None:
    sizes: dict[str, int] = {}
    for x, letters in zip(xs, terms, strict=True):
        for c, n in zip(letters, x.shape, strict=True):
            have = sizes.get(c, n)
            if n != have and 1 not in (n, have):
                raise _refuse(f"axes called {c!r} have sizes {have} and {n}", equation, xs)
            sizes[c] = max(n, have) if 0 not in (n, have) else 0
        for c in set(letters):
            if len({n for d, n in zip(letters, x.shape, strict=True) if d == c}) > 1:
                raise _refuse(f"an operand names {c!r} twice with different sizes", equation, xs)


def tensordot(a: Operand, b: Operand, axes: Any = 2, *, dims: Any = None) -> Any:
    """Sums of products over some axes of a and as many of b; the others follow one another.

    Args:
        a: any shape.
        b: any shape.
        axes: how many of the last axes of a and the first of b, or two lists of axes.
        dims: `axes` by PyTorch's name.

    Raises:
        ShapeError: their sizes differ.
    """
    a, b = tensor_of(a), tensor_of(b)
    axes = axes if dims is None else dims
    if isinstance(axes, int):
        of_a, of_b = list(range(len(a.shape) - axes, len(a.shape))), list(range(axes))
    else:
        of_a, of_b = (
            [axis_of(x, i) for i in ([at] if isinstance(at, int) else at)]
            for x, at in zip((a, b), axes, strict=True)
        )
    if [a.shape[i] for i in of_a] != [b.shape[i] for i in of_b]:
        raise ShapeError(
            "tensordot: the summed axes have different sizes",
            got=f"a {a.shape} axes {of_a}, b {b.shape} axes {of_b}",
            rule="pairwise equal",
            fix="give the pairs: axes=([...], [...])",
        )
    rest_a = [i for i in range(len(a.shape)) if i not in of_a]
    rest_b = [i for i in range(len(b.shape)) if i not in of_b]
    k = math.prod(a.shape[i] for i in of_a)
    left = reshape(permute(a, rest_a + of_a), (math.prod(a.shape[i] for i in rest_a), k))
    right = reshape(permute(b, of_b + rest_b), (k, math.prod(b.shape[i] for i in rest_b)))
    shape = [a.shape[i] for i in rest_a] + [b.shape[i] for i in rest_b]
    return reshape(matmul(left, right), shape)


@in_float32("a", "b")
def vecdot(a: Operand, b: Operand, *, axis: int = -1) -> Any:
    """Sum of a * b along one axis, which both have; the other axes broadcast.

    Args:
        a: any shape.
        b: any shape.
        axis: counted from the end, -1 is the last.
    """
    a, b = common(a, b)
    if axis >= 0 and len(a.shape) != len(b.shape):
        axis -= max(len(a.shape), len(b.shape))
    if a.shape[axis] != b.shape[axis]:
        raise ShapeError(
            "vecdot: the vectors have different lengths",
            got=f"a {a.shape}, b {b.shape}, axis={axis}",
            rule="equal sizes along the axis",
            fix="(a * b).sum(axis), which broadcasts",
        )
    return total(moveaxis(a, axis, -1) * moveaxis(b, axis, -1), -1)
