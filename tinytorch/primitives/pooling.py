"""Windows, and max pooling: the largest element of each window of images, and where it was.

Knows images (N, C, H, W), sizes, steps and padding. A winner is known by its flat offset h * W + w
inside its image; the first of equal elements wins, a NaN wins over everything, padding never wins.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tinytorch.base.dtypes import int32
from tinytorch.base.errors import ShapeError
from tinytorch.primitives.ieee import ieee_steps, select
from tinytorch.primitives.indexing import checked
from tinytorch.primitives.movement import Sizes, accumulator, reduced_flops
from tinytorch.primitives.primitive import (
    Array,
    Cotangents,
    OpClass,
    Operand,
    Primitive,
    Spec,
    flags,
    no_flops,
    numbers,
    refused,
    sample,
    strided,
)
from tinytorch.primitives.shapes import INTEGER, NUMBER, check_kind, check_positive, check_rank

IMAGE = "(N, C, H, W)"


Pair = tuple[int, int]  # along H and W
Padding = tuple[Pair, Pair]  # before and behind, along H and W


class Window(NamedTuple):
    """How filters step over images."""

    stride: Pair
    padding: Padding
    dilation: Pair
    groups: int


def output_size(n: int, k: int, stride: int, padding: tuple[int, int], dilation: int = 1) -> int:
    """Positions of a filter of k taps along an axis of n."""
    return (n + padding[0] + padding[1] - dilation * (k - 1) - 1) // stride + 1


def reaching(
    n: int, k: int, stride: int, padding: tuple[int, int], dilation: int = 1
) -> tuple[int, int]:
    """Padding before and behind an axis of n so that a last window, begun before the end, fits.

    That is PyTorch's `ceil_mode`: no cell of the image is left over, and no window begins in the
    padding behind it.

    >>> reaching(5, 2, 2, (0, 0)), reaching(4, 2, 2, (0, 0)), reaching(3, 2, 2, (1, 1))
    ((0, 1), (0, 0), (1, 1))
    """
    before, behind = padding
    whole = n + before + behind - dilation * (k - 1) - 1
    last = -(-whole // stride)
    if last * stride >= n + before:
        last -= 1
    return before, behind + max(0, last * stride - whole)


def check_window(
    name: str, size: Sizes, kernel: Sizes, stride: Pair, padding: Padding, dilation: Pair = (1, 1)
) -> None:
    """Refuse steps that do not exist and kernels larger than the padded image."""
    for argument, pair in (("kernel", kernel), ("stride", stride), ("dilation", dilation)):
        check_positive(name, argument, pair)
    check_positive(name, "padding", (*padding[0], *padding[1]), least=0)
    for axis, n, k, p, d in zip("HW", size, kernel, padding, dilation, strict=True):
        if d * (k - 1) + 1 > n + sum(p):
            raise ShapeError(
                f"{name}: the kernel is larger than the padded image",
                got=f"{axis} = {n}, padding {p}, kernel {k} with dilation {d}",
                rule="dilation * (kernel - 1) + 1 <= size + padding",
                fix="use a smaller kernel, more padding, or fewer poolings before it",
            )


def padded(x: Array, padding: Padding, value: float, extra_rows: int = 0) -> Array:
    """Images with `value` around them, and below them `extra_rows` more."""
    (top, bottom), (left, right) = padding
    if not (top or bottom or left or right or extra_rows):
        return x
    n, c, h, w = x.shape
    out = np.full((n, c, top + h + bottom + extra_rows, left + w + right), value, x.dtype)
    out[:, :, top : top + h, left : left + w] = x
    return out


# --- max pooling ---

NAME = "max_pool2d"


def _pooled(
    x: Spec, *, kernel: Pair, stride: Pair, padding: Padding, dilation: Pair = (1, 1)
) -> tuple[Spec, Spec]:
    check_kind(NAME, "x", x, NUMBER)
    check_rank(NAME, "x", x, 4, IMAGE)
    check_window(NAME, x.shape[2:], kernel, stride, padding, dilation)
    if 0 in x.shape[2:]:
        raise ShapeError(
            f"{NAME}: the image is empty", got=f"x {x.shape}", rule="H, W >= 1", fix="check H, W"
        )
    axes = list(zip(x.shape[2:], kernel, stride, padding, dilation, strict=True))
    if any(_sees_padding_only(*axis) for axis in axes):
        raise ShapeError(
            f"{NAME}: a window would hold nothing but padding",
            got=f"kernel={kernel}, padding={padding}, dilation={dilation}",
            rule="padding is smaller than the kernel on each side, and each window meets the image",
            fix="pad the image itself, or use a larger kernel",
        )
    shape = (*x.shape[:2], *(output_size(*axis) for axis in axes))
    return Spec(shape, x.dtype), Spec(shape, int32)


def _sees_padding_only(n: int, k: int, stride: int, padding: Pair, dilation: int) -> bool:
    """Whether some window along an axis has no cell in 0 .. n - 1."""
    windows = output_size(n, k, stride, padding, dilation)
    for start in (-padding[0] + stride * i for i in range(windows)):
        first = start + dilation * max(0, -(start // dilation))  # the first cell at 0 or behind
        if first >= n or first > start + dilation * (k - 1):
            return True
    return False


@ieee_steps
def _max_pool2d(
    x: Array, *, kernel: Pair, stride: Pair, padding: Padding, dilation: Pair = (1, 1)
) -> tuple[Array, Array]:
    """One pass for each position in the window, keeping the best so far."""
    _, _, height, width = x.shape
    lowest = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    oh, ow = (
        output_size(*axis)
        for axis in zip(x.shape[2:], kernel, stride, padding, dilation, strict=True)
    )
    places = np.arange(height * width, dtype=np.int32).reshape(1, 1, height, width)
    x, places = padded(x, padding, lowest), padded(places, padding, -1)
    picks = [
        (
            ...,
            slice(i * dilation[0], i * dilation[0] + stride[0] * (oh - 1) + 1, stride[0]),
            slice(j * dilation[1], j * dilation[1] + stride[1] * (ow - 1) + 1, stride[1]),
        )
        for i in range(kernel[0])
        for j in range(kernel[1])
    ]
    best = x[picks[0]].copy()
    index = np.broadcast_to(places[picks[0]], best.shape).copy()
    for pick in picks[1:]:
        candidate, place = x[pick].copy(), places[pick]
        # "not <=" lets a NaN win, "best == best" keeps the first NaN, index -1 is padding
        better = ~(candidate <= best) & (best == best)
        if padding != ((0, 0), (0, 0)):
            better = (better | (index < 0)) & (place >= 0)
        best = select(better, candidate, best)
        index = select(better, np.broadcast_to(place, better.shape).copy(), index)
    return best, index


def _check_index(name: str, index: Spec) -> None:
    check_kind(name, "index", index, INTEGER)
    check_rank(name, "index", index, 4, "(N, C, OH, OW)")


def _spread(g: Spec, index: Spec, *, input_shape: Sizes) -> Spec:
    name = "max_pool2d_gradient"
    check_kind(name, "g", g, NUMBER)
    _check_index(name, index)
    if g.shape != index.shape or tuple(input_shape[:2]) != g.shape[:2] or len(input_shape) != 4:
        raise ShapeError(
            f"{name}: the shapes do not belong to one pooling",
            got=f"g {g.shape}, index {index.shape}, input_shape={input_shape}",
            rule="g and index have one shape, and N, C of the input",
            fix="give the index that max_pool2d returned with this output",
        )
    return Spec(tuple(input_shape), g.dtype)


def _picked(x: Spec, index: Spec) -> Spec:
    name = "max_pool2d_take"
    check_rank(name, "x", x, 4, IMAGE)
    _check_index(name, index)
    if x.shape[:2] != index.shape[:2]:
        raise ShapeError(
            f"{name}: the shapes do not belong to one pooling",
            got=f"x {x.shape}, index {index.shape}",
            rule="one N and one C",
            fix="give the index that max_pool2d returned for this image",
        )
    return Spec(index.shape, x.dtype)


def _flat(name: str, index: Array, size: int) -> Array:
    """Offsets into all images laid end to end, checked."""
    images: int = index.shape[0] * index.shape[1]
    inside = checked(name, index, size).reshape(images, -1)
    return inside + size * np.arange(images)[:, None]


@ieee_steps
def _gradient(g: Array, index: Array, *, input_shape: Sizes) -> Array:
    size = input_shape[2] * input_shape[3]
    out: Array = np.zeros(input_shape[0] * input_shape[1] * size, accumulator(g.dtype))
    if g.size:
        np.add.at(
            out,
            _flat("max_pool2d_gradient", index, size).ravel(),
            g.ravel().astype(out.dtype, copy=False),
        )
    return out.reshape(input_shape).astype(g.dtype, copy=False)


def _take(x: Array, index: Array) -> Array:
    if not index.size:
        return np.zeros(index.shape, x.dtype)
    flat = _flat("max_pool2d_take", index, x.shape[2] * x.shape[3])
    return x.reshape(-1)[flat].reshape(index.shape)


def _max_pool2d_vjp(
    g: Cotangents, out: tuple[Operand, Operand], x: Operand, **window: Any
) -> Cotangents:
    g_out, index = g[0], out[1]
    if g_out is None:
        return (None,)
    return (max_pool2d_gradient(g_out, index, input_shape=tuple(x.shape)),)


def _gradient_vjp(
    c: Operand, out: Operand, g: Operand, index: Operand, *, input_shape: Sizes
) -> Cotangents:
    return max_pool2d_take(c, index), None


def _take_vjp(c: Operand, out: Operand, x: Operand, index: Operand) -> Cotangents:
    return max_pool2d_gradient(c, index, input_shape=tuple(x.shape)), None


def _max_pool2d_flops(
    ins: Sequence[Spec], outs: Sequence[Spec], *, kernel: Pair, **params: Any
) -> int:
    return outs[0].size * kernel[0] * kernel[1]


def _window(
    kernel: Pair = (2, 2), stride: Pair = (2, 2), padding: Padding = ((0, 0), (0, 0)), **more: Pair
) -> dict[str, Any]:
    return {"kernel": kernel, "stride": stride, "padding": padding, **more}


_INDEX = np.array([[[[0, 5], [5, 11]], [[3, 3], [3, 2]]]], np.int32)  # (1, 2, 2, 2) into 3 x 4
max_pool2d = Primitive(
    NAME, _pooled, _max_pool2d, vjp=_max_pool2d_vjp, flops=_max_pool2d_flops, selects=(0,),
    op_class=OpClass.WINDOW,
    samples=lambda: [
        sample(numbers(1, 1, 1, 1), **_window((1, 1), (1, 1))),
        sample(numbers(2, 3, 4, 6), **_window()),
        sample(numbers(2, 1, 7, 5), **_window((3, 2), (2, 1))),
        sample(strided(1, 2, 5, 5), **_window((3, 3), (2, 2), ((1, 1), (0, 2)))),
        sample(numbers(1, 1, 4, 4) - 9.0, **_window((3, 3), (1, 1), ((2, 2), (2, 2)))),
        sample(numbers(0, 2, 4, 4), **_window()),
        sample(np.zeros((1, 1, 4, 4), np.int32), **_window((3, 3), (1, 1), ((1, 1), (1, 1)))),
        sample(np.array([[[[1.0, np.nan], [np.nan, 2.0]]]]), **_window()),
        sample(np.full((1, 1, 3, 3), -np.inf), **_window((2, 2), (1, 1), ((1, 1), (1, 1)))),
        sample(numbers(2, 3, 7, 6), **_window((2, 3), (1, 2), dilation=(3, 2))),
        sample(
            numbers(1, 2, 5, 6) - 9.0, **_window((3, 2), (2, 1), ((1, 2), (1, 0)), dilation=(2, 3))
        ),
    ],
    error_samples=lambda: [
        refused(ValueError, "wrong number of axes", numbers(2, 4, 4), **_window()),
        refused(ValueError, "larger than the padded image", numbers(1, 1, 1, 4), **_window()),
        refused(
            ValueError,
            "nothing but padding",
            numbers(1, 1, 4, 4),
            **_window(padding=((2, 0), (0, 0))),
        ),
        refused(ValueError, "outside its range", numbers(1, 1, 4, 4), **_window(stride=(0, 1))),
        refused(ValueError, "is empty", numbers(1, 1, 0, 4), **_window(padding=((1, 1), (0, 0)))),
        refused(TypeError, "does not take", flags(1, 1, 4, 4), **_window()),
    ],
    doc="The largest element of each window, and its flat offset in the image (int32).",
)  # fmt: skip
max_pool2d_gradient = Primitive(
    "max_pool2d_gradient", _spread, _gradient, vjp=_gradient_vjp, flops=reduced_flops,
    op_class=OpClass.SCATTER,
    samples=lambda: [
        sample(numbers(1, 2, 2, 2), _INDEX, input_shape=(1, 2, 3, 4)),
        sample(numbers(0, 2, 2, 2), np.zeros((0, 2, 2, 2), np.int32), input_shape=(0, 2, 3, 4)),
    ],
    error_samples=lambda: [
        refused(
            IndexError, "outside its axis", numbers(1, 2, 2, 2), _INDEX, input_shape=(1, 2, 3, 3)
        ),
        refused(ValueError, "one pooling", numbers(1, 2, 2, 1), _INDEX, input_shape=(1, 2, 3, 4)),
        refused(
            TypeError, "take", numbers(1, 2, 2, 2), numbers(1, 2, 2, 2), input_shape=(1, 2, 3, 4)
        ),
    ],
    doc="Zeros of the image's shape, to which g is added at the winners.",
)  # fmt: skip
max_pool2d_take = Primitive(
    "max_pool2d_take", _picked, _take, vjp=_take_vjp, flops=no_flops, op_class=OpClass.GATHER,
    samples=lambda: [
        sample(numbers(1, 2, 3, 4), _INDEX),
        sample(strided(1, 2, 3, 4), _INDEX),
        sample(numbers(0, 2, 3, 4), np.zeros((0, 2, 2, 2), np.int32)),
    ],
    error_samples=lambda: [
        refused(IndexError, "outside its axis", numbers(1, 2, 3, 3), _INDEX),
        refused(ValueError, "one pooling", numbers(1, 3, 3, 4), _INDEX),
    ],
    doc="The elements of x at the winners of a pooling.",
)  # fmt: skip
