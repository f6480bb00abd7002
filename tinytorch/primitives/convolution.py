"""Convolution of images (N, C, H, W) with filters (O, C / groups, KH, KW), and its two gradients.

Knows windows. Convolution is linear in its image and in its filter, so the three rows here are one
another's gradients, to any order. The definitions lay the windows out as the columns of a matrix
and multiply: im2col (Chellapilla et al. 2006, "High performance convolutional neural networks for
document processing").
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tinytorch.base.dtypes import DType, int32
from tinytorch.base.errors import ShapeError
from tinytorch.primitives.contraction import cotangent_for, output_dtype, result_type, working_type
from tinytorch.primitives.elementwise import BOTH, Needs
from tinytorch.primitives.ieee import ieee_steps
from tinytorch.primitives.movement import Sizes
from tinytorch.primitives.pooling import (
    IMAGE,
    Padding,
    Pair,
    Window,
    check_window,
    output_size,
    padded,
)
from tinytorch.primitives.primitive import (
    Array,
    Cotangents,
    ErrorSample,
    OpClass,
    Operand,
    Primitive,
    Spec,
    flags,
    numbers,
    refused,
    sample,
    strided,
)
from tinytorch.primitives.shapes import (
    FLOAT,
    NUMBER,
    check_kind,
    check_positive,
    check_rank,
    check_same_dtype,
    check_sizes,
)


class Im2col:
    """The windows of a batch of images, image by image, so that they stay in the cache.

    Note [im2col of whole rows]
        With a stride of 1 the windows of an output row read neighbouring elements, and those of
        the next row begin one padded image row later. So one run of OH x (padded W) elements,
        which is contiguous, holds a tap of every window, and a few elements at the end of each
        row that belong to none: copied as one run it costs half as much as row by row. Of a view
        this asks that rows follow one another, and `strides[3]` is asked too where W is 1: NumPy
        leaves the stride of an axis of size 1 as it was, and the run goes along it.
        Products carry these elements along; `narrow` leaves them out.

    Args:
        x: images (N, C, H, W).
        kernel: (KH, KW).
        out_size: (OH, OW), positions of the filter.
        window: stride, padding, dilation, groups.
        working: dtype of the columns.
    """

    def __init__(
        self, x: Array, kernel: Sizes, out_size: Pair, window: Window, working: np.dtype[Any]
    ) -> None:
        n, c = x.shape[:2]
        (sh, sw), padding, (eh, ew), groups = window
        oh, ow = self.out_size = out_size
        whole_rows = (sh, sw) == (1, 1)
        image = padded(x, padding, 0, extra_rows=1 if whole_rows and kernel[1] > 1 else 0)
        if whole_rows and image.strides[2] != image.shape[3] * image.strides[3]:
            image = image.copy(order="C")  # a view: its rows do not follow one another
        (dn, dc, dh, dw) = image.strides
        self.row = image.shape[3] if whole_rows else ow
        positions, steps = (
            ((oh * self.row,), (dw,)) if whole_rows else ((oh, ow), (dh * sh, dw * sw))
        )
        self.images = np.lib.stride_tricks.as_strided(
            image,
            (n, groups, c // groups, *kernel, *positions),
            (dn, dc * (c // groups), dc, dh * eh, dw * ew, *steps),
            writeable=False,
        )
        self.matrix: Array = np.empty(self.images.shape[1:], working)
        taps = c // groups * kernel[0] * kernel[1]
        self.flat = self.matrix.reshape(groups, taps, oh * self.row)

    def __iter__(self) -> Iterator[Array]:
        """For each image (groups, C / groups KH KW, OH row); the same memory each time."""
        for image in self.images:
            np.copyto(self.matrix, image, casting="unsafe")
            yield self.flat

    @property
    def width(self) -> int:
        """Columns of the matrix, OH row."""
        return self.out_size[0] * self.row

    def narrow(self, x: Array) -> Array:
        """(..., OH row) -> (..., OH, OW)."""
        return self._rows(x)[..., : self.out_size[1]]

    def clear_between_rows(self) -> None:
        """Zeros where an element belongs to no window: an infinity there times 0 is NaN."""
        self._rows(self.flat)[..., self.out_size[1] :] = 0

    def _rows(self, x: Array) -> Array:
        return x.reshape(*x.shape[:-1], self.out_size[0], self.row)


FILTER = "(O, C / groups, KH, KW)"


def convolved_shape(name: str, image: Sizes, weight: Sizes, window: Window) -> Sizes:
    """The shape of the convolution of an image with a filter, both checked."""
    check_window(name, image[2:], weight[2:], *window[:3])
    check_positive(name, "groups", (window.groups,))
    if image[1] != weight[1] * window.groups or weight[0] % window.groups:
        raise ShapeError(
            f"{name}: the channels do not fit",
            got=f"x {image}, w {weight}, groups={window.groups}",
            rule="C of x = groups * second axis of w, and groups divides O",
            fix=f"w with {image[1]} / groups = {image[1] // max(window.groups, 1)} input channels",
        )
    sizes = zip(image[2:], weight[2:], *window[:3], strict=True)
    return (image[0], weight[0], *(output_size(n, k, s, p, d) for n, k, s, p, d in sizes))


def _convolved(x: Spec, w: Spec, *, dtype: DType | None = None, **window: Any) -> Spec:
    name = "convolution"
    check_kind(name, "x", x, NUMBER)
    check_kind(name, "w", w, NUMBER)
    if dtype is None or x.dtype.is_float or w.dtype.is_float:
        check_same_dtype(name, ("x", "w"), (x, w))
    check_rank(name, "x", x, 4, IMAGE)
    check_rank(name, "w", w, 4, FILTER)
    shape = convolved_shape(name, x.shape, w.shape, Window(**window))
    return Spec(shape, output_dtype(name, x, dtype))


def _check_cotangent(name: str, g: Spec, expected: Sizes) -> None:
    if g.shape != expected:
        raise ShapeError(
            f"{name}: g is not the cotangent of this convolution",
            got=f"g {g.shape}",
            rule=f"the convolution's output shape, {expected}",
            fix="give the same stride, padding, dilation and groups as the convolution",
        )


def _image_gradient(
    g: Spec, w: Spec, *, input_shape: Sizes, dtype: DType | None = None, **window: Any
) -> Spec:
    name = "convolution_input_gradient"
    check_kind(name, "g", g, FLOAT)
    check_same_dtype(name, ("g", "w"), (g, w))
    check_rank(name, "w", w, 4, FILTER)
    check_sizes(name, input_shape)
    _check_cotangent(name, g, convolved_shape(name, input_shape, w.shape, Window(**window)))
    return Spec(tuple(input_shape), output_dtype(name, g, dtype))


def _filter_gradient(
    g: Spec, x: Spec, *, weight_shape: Sizes, dtype: DType | None = None, **window: Any
) -> Spec:
    name = "convolution_weight_gradient"
    check_kind(name, "g", g, FLOAT)
    check_same_dtype(name, ("g", "x"), (g, x))
    check_rank(name, "x", x, 4, IMAGE)
    _check_cotangent(name, g, convolved_shape(name, x.shape, weight_shape, Window(**window)))
    return Spec(tuple(weight_shape), output_dtype(name, g, dtype))


def _taps(weight_shape: Sizes) -> int:
    """Products in one output element."""
    return weight_shape[1] * weight_shape[2] * weight_shape[3]


@ieee_steps
def _convolution(x: Array, w: Array, *, dtype: DType | None = None, **options: Any) -> Array:
    """Image by image, so that the columns (C KH KW, OH OW) stay in the cache: twice as fast."""
    window, working = Window(**options), working_type(x, dtype)
    n, o, oh, ow = convolved_shape("convolution", x.shape, w.shape, window)
    groups = window.groups
    filters = w.astype(working, copy=False).reshape(groups, o // groups, _taps(w.shape))
    columns = Im2col(x, w.shape[2:], (oh, ow), window, working)
    out = np.empty((n, groups, o // groups, oh, ow), result_type(x, dtype))
    product = np.empty((groups, o // groups, columns.width), working)
    for matrix, image in zip(columns, out, strict=True):
        image[...] = columns.narrow(np.matmul(filters, matrix, out=product))
    return out.reshape(n, o, oh, ow)


@ieee_steps
def _input_gradient(
    g: Array, w: Array, *, input_shape: Sizes, dtype: DType | None = None, **options: Any
) -> Array:
    """With a stride of 1 the correlation of g with the filter turned around."""
    window = Window(**options)
    around = _around(w.shape, window)
    if window.stride != (1, 1) or min(around[0] + around[1]) < 0:
        return _scattered(g, w, input_shape, dtype, window)
    groups, (o, _, kh, kw) = window.groups, w.shape
    turned = w.reshape(groups, o // groups, w.shape[1], kh, kw)[..., ::-1, ::-1]
    turned = turned.transpose(0, 2, 1, 3, 4).reshape(input_shape[1], o // groups, kh, kw)
    window = window._replace(padding=around)
    return _convolution(g, turned, dtype=dtype, **window._asdict())


def _around(weight_shape: Sizes, window: Window) -> Padding:
    """The padding with which a gradient becomes an image again."""
    reach = [e * (k - 1) for e, k in zip(window.dilation, weight_shape[2:], strict=True)]
    rows, columns = ((r - p[0], r - p[1]) for r, p in zip(reach, window.padding, strict=True))
    return rows, columns


def _scattered(
    g: Array, w: Array, input_shape: Sizes, dtype: DType | None, window: Window
) -> Array:
    """The windows that g asks for, added back to where they were read."""
    working = working_type(g, dtype)
    (n, o, oh, ow), (_, c, h, width), (_, _, kh, kw) = g.shape, input_shape, w.shape
    (sh, sw), ((top, bottom), (left, right)), (eh, ew), groups = window
    filters = w.astype(working, copy=False).reshape(groups, o // groups, _taps(w.shape))
    out: Array = np.zeros((n, c, top + h + bottom, left + width + right), working)
    for cotangent, image in zip(g.astype(working, copy=False), out, strict=True):
        rows = cotangent.reshape(groups, o // groups, oh * ow)
        columns = np.matmul(filters.transpose(0, 2, 1), rows).reshape(c, kh, kw, oh, ow)
        for i in range(kh):
            for j in range(kw):
                ys = slice(i * eh, i * eh + sh * (oh - 1) + 1, sh)
                xs = slice(j * ew, j * ew + sw * (ow - 1) + 1, sw)
                image[:, ys, xs] += columns[:, i, j]
    return out[:, :, top : top + h, left : left + width].astype(result_type(g, dtype))


@ieee_steps
def _weight_gradient(
    g: Array, x: Array, *, weight_shape: Sizes, dtype: DType | None = None, **options: Any
) -> Array:
    window, working = Window(**options), working_type(g, dtype)
    (_, o, oh, ow), groups, taps = g.shape, window.groups, _taps(weight_shape)
    columns = Im2col(x, weight_shape[2:], (oh, ow), window, working)
    rows = np.zeros((groups, o // groups, columns.width), working)
    out = np.zeros((groups, o // groups, taps), working)
    for matrix, cotangent in zip(columns, g.astype(working, copy=False), strict=True):
        columns.clear_between_rows()
        columns.narrow(rows)[...] = cotangent.reshape(groups, o // groups, oh, ow)
        out += np.matmul(rows, matrix.transpose(0, 2, 1))
    return out.reshape(weight_shape).astype(result_type(g, dtype), copy=False)


def _convolution_vjp(
    g: Operand, out: Operand, x: Operand, w: Operand,
    *, dtype: DType | None = None, needs: Needs = BOTH, **window: Any,
) -> Cotangents:  # fmt: skip
    g, wanted = cotangent_for(g, x)
    g_x = g_w = None
    if needs[0]:
        g_x = convolution_input_gradient(g, w, input_shape=tuple(x.shape), dtype=wanted, **window)
    if needs[1]:
        g_w = convolution_weight_gradient(g, x, weight_shape=tuple(w.shape), dtype=wanted, **window)
    return g_x, g_w


def _input_gradient_vjp(
    c: Operand, out: Operand, g: Operand, w: Operand,
    *, input_shape: Sizes, dtype: DType | None = None, needs: Needs = BOTH, **window: Any,
) -> Cotangents:  # fmt: skip
    c, wanted = cotangent_for(c, g)
    c_g = convolution(c, w, dtype=wanted, **window) if needs[0] else None
    c_w = None
    if needs[1]:
        c_w = convolution_weight_gradient(g, c, weight_shape=tuple(w.shape), dtype=wanted, **window)
    return c_g, c_w


def _weight_gradient_vjp(
    c: Operand, out: Operand, g: Operand, x: Operand,
    *, weight_shape: Sizes, dtype: DType | None = None, needs: Needs = BOTH, **window: Any,
) -> Cotangents:  # fmt: skip
    c, wanted = cotangent_for(c, g)
    c_g = convolution(x, c, dtype=wanted, **window) if needs[0] else None
    c_x = None
    if needs[1]:
        c_x = convolution_input_gradient(g, c, input_shape=tuple(x.shape), dtype=wanted, **window)
    return c_g, c_x


def _window(
    stride: Pair = (1, 1), padding: Padding = ((0, 0), (0, 0)), dilation: Pair = (1, 1),
    groups: int = 1,
) -> dict[str, Any]:  # fmt: skip
    return {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}


_CASES = (  # image, filter, window
    ((1, 1, 1, 1), (1, 1, 1, 1), _window()),
    ((2, 3, 5, 7), (4, 3, 3, 3), _window(padding=((1, 1), (1, 1)))),
    ((2, 3, 5, 7), (4, 3, 2, 3), _window(stride=(2, 3), padding=((0, 1), (2, 0)))),
    ((1, 2, 7, 8), (3, 2, 3, 2), _window(stride=(3, 2), dilation=(2, 3))),
    ((2, 4, 5, 5), (6, 2, 3, 3), _window(padding=((1, 1), (1, 1)), groups=2)),
    ((1, 3, 4, 4), (3, 1, 3, 3), _window(padding=((2, 0), (0, 2)), groups=3)),
    ((0, 2, 3, 3), (2, 2, 2, 2), _window()),
    ((1, 2, 4, 3), (1, 2, 1, 1), _window(stride=(3, 3))),
)


def _cotangent(image: Sizes, weight: Sizes, window: dict[str, Any]) -> Array:
    return numbers(*convolved_shape("convolution", image, weight, Window(**window)), seed=2)


def _errors() -> list[ErrorSample]:
    x, w = numbers(1, 2, 4, 4), numbers(3, 2, 3, 3)
    return [
        refused(ValueError, "channels do not fit", x, numbers(3, 1, 3, 3), **_window()),
        refused(ValueError, "channels do not fit", x, numbers(3, 1, 3, 3), **_window(groups=2)),
        refused(ValueError, "larger than the padded image", x, numbers(3, 2, 5, 1), **_window()),
        refused(ValueError, "wrong number of axes", x[0], w, **_window()),
        refused(ValueError, "stride is outside", x, w, **_window(stride=(0, 1))),
        refused(ValueError, "padding is outside", x, w, **_window(padding=((0, -1), (0, 0)))),
        refused(TypeError, "different number types", x, w.astype("float32"), **_window()),
        refused(TypeError, "does not take", *((flags(1, 1, 2, 2),) * 2), **_window()),
    ]


def _flops(ins: Sequence[Spec], outs: Sequence[Spec], **params: Any) -> int:
    """Two for each output element and each tap of its filter."""
    return 2 * outs[0].size * _taps(ins[1].shape)


def _input_gradient_flops(ins: Sequence[Spec], outs: Sequence[Spec], **params: Any) -> int:
    return 2 * ins[0].size * _taps(ins[1].shape)


def _weight_gradient_flops(ins: Sequence[Spec], outs: Sequence[Spec], **params: Any) -> int:
    return 2 * ins[0].size * _taps(outs[0].shape)


convolution = Primitive(
    "convolution", _convolved, _convolution, vjp=_convolution_vjp, flops=_flops,
    error_samples=_errors, op_class=OpClass.CONTRACTION,
    samples=lambda: [
        *(sample(numbers(*x), numbers(*w, seed=1), **window) for x, w, window in _CASES),
        sample(strided(2, 2, 4, 5), strided(3, 2, 2, 2, seed=1), **_window(stride=(2, 1))),
        *(
            sample(
                numbers(2, c, 5, 7, low=-128, high=127, dtype="int8"),
                numbers(5, c, 3, 3, low=-128, high=127, dtype="int8", seed=1),
                dtype=int32, **_window(padding=((1, 1), (1, 0))),
            )
            for c in (3, 8)
        ),
    ],
    doc="out[n, o, y, ..] = sum of w[o, c, i, ..] x[n, c, y * stride - padding + i * dilation, ..]",
)  # fmt: skip
convolution_input_gradient = Primitive(
    "convolution_input_gradient", _image_gradient, _input_gradient, vjp=_input_gradient_vjp,
    flops=_input_gradient_flops, op_class=OpClass.CONTRACTION,
    samples=lambda: [
        sample(_cotangent(x, w, window), numbers(*w, seed=1), input_shape=x, **window)
        for x, w, window in _CASES
    ],
    error_samples=lambda: [
        refused(
            ValueError,
            "not the cotangent",
            numbers(1, 3, 4, 4),
            numbers(3, 2, 3, 3),
            input_shape=(1, 2, 4, 4),
            **_window(),
        ),
    ],
    doc="The cotangent of the image: transposed convolution of g with w.",
)  # fmt: skip
convolution_weight_gradient = Primitive(
    "convolution_weight_gradient", _filter_gradient, _weight_gradient, vjp=_weight_gradient_vjp,
    flops=_weight_gradient_flops, op_class=OpClass.CONTRACTION,
    samples=lambda: [
        sample(_cotangent(x, w, window), numbers(*x), weight_shape=w, **window)
        for x, w, window in _CASES
    ],
    error_samples=lambda: [
        refused(
            ValueError,
            "not the cotangent",
            numbers(1, 3, 4, 4),
            numbers(1, 2, 4, 4),
            weight_shape=(3, 2, 3, 3),
            **_window(),
        ),
    ],
    doc="The cotangent of the filter: correlation of x with g.",
)  # fmt: skip
