"""Convolution of images (N, C, H, W) with filters (O, C / groups, KH, KW), and its two gradients.

Knows windows. Convolution is linear in its image and in its filter, so the three rows here are one
another's gradients, to any order. The definitions lay the windows out as the
rows of a matrix and multiply.
"""

from __future__ import annotations

import numpy as np

from tinytorch.base.errors import ShapeError
from tinytorch.primitives.columns import Columns
from tinytorch.primitives.contraction import cotangent_for, output_dtype, result_type, working_type
from tinytorch.primitives.primitive import ErrorSample, OpClass, Primitive, Sample, Spec
from tinytorch.primitives.quiet import quietly
from tinytorch.primitives.samples import numbers, strided
from tinytorch.primitives.shapes import (
    FLOAT,
    check_kind,
    check_positive,
    check_rank,
    check_same_dtype,
    check_sizes,
)
from tinytorch.primitives.windows import IMAGE, Window, check_window, output_size

FILTER = "(O, C / groups, KH, KW)"
_BOTH = (True, True)  # which cotangents a rule of two operands gives unless it is told


def convolved_shape(name: str, image: tuple, weight: tuple, window: Window) -> tuple[int, ...]:
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


def _convolved(x: Spec, w: Spec, *, dtype=None, **window) -> Spec:
    name = "convolution"
    check_kind(name, "x", x, FLOAT)
    check_same_dtype(name, ("x", "w"), (x, w))
    check_rank(name, "x", x, 4, IMAGE)
    check_rank(name, "w", w, 4, FILTER)
    shape = convolved_shape(name, x.shape, w.shape, Window(**window))
    return Spec(shape, output_dtype(name, x, dtype))


def _check_cotangent(name: str, g: Spec, expected: tuple) -> None:
    if g.shape != expected:
        raise ShapeError(
            f"{name}: g is not the cotangent of this convolution",
            got=f"g {g.shape}",
            rule=f"the convolution's output shape, {expected}",
            fix="give the same stride, padding, dilation and groups as the convolution",
        )


def _image_gradient(g: Spec, w: Spec, *, input_shape, dtype=None, **window) -> Spec:
    name = "convolution_input_gradient"
    check_kind(name, "g", g, FLOAT)
    check_same_dtype(name, ("g", "w"), (g, w))
    check_rank(name, "w", w, 4, FILTER)
    check_sizes(name, input_shape)
    _check_cotangent(name, g, convolved_shape(name, input_shape, w.shape, Window(**window)))
    return Spec(tuple(input_shape), output_dtype(name, g, dtype))


def _filter_gradient(g: Spec, x: Spec, *, weight_shape, dtype=None, **window) -> Spec:
    name = "convolution_weight_gradient"
    check_kind(name, "g", g, FLOAT)
    check_same_dtype(name, ("g", "x"), (g, x))
    check_rank(name, "x", x, 4, IMAGE)
    _check_cotangent(name, g, convolved_shape(name, x.shape, weight_shape, Window(**window)))
    return Spec(tuple(weight_shape), output_dtype(name, g, dtype))


def _taps(weight_shape: tuple) -> int:
    """Products in one output element."""
    return weight_shape[1] * weight_shape[2] * weight_shape[3]


@quietly
def _convolution(x, w, *, dtype=None, **options):
    """Image by image, so that the columns (C KH KW, OH OW) stay in the cache: twice as fast."""
    window, working = Window(**options), working_type(x, dtype)
    n, o, oh, ow = convolved_shape("convolution", x.shape, w.shape, window)
    groups = window.groups
    filters = w.astype(working, copy=False).reshape(groups, o // groups, _taps(w.shape))
    columns = Columns(x, w.shape[2:], (oh, ow), window, working)
    out = np.empty((n, groups, o // groups, oh, ow), result_type(x, dtype))
    product = np.empty((groups, o // groups, columns.width), working)
    for matrix, image in zip(columns, out, strict=True):
        image[...] = columns.narrow(np.matmul(filters, matrix, out=product))
    return out.reshape(n, o, oh, ow)


@quietly
def _input_gradient(g, w, *, input_shape, dtype=None, **options):
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


def _around(weight_shape: tuple, window: Window) -> tuple:
    """The padding with which a gradient becomes an image again."""
    reach = [e * (k - 1) for e, k in zip(window.dilation, weight_shape[2:], strict=True)]
    return tuple((r - p[0], r - p[1]) for r, p in zip(reach, window.padding, strict=True))


def _scattered(g, w, input_shape, dtype, window: Window):
    """The windows that g asks for, added back to where they were read."""
    working = working_type(g, dtype)
    (n, o, oh, ow), (_, c, h, width), (_, _, kh, kw) = g.shape, input_shape, w.shape
    (sh, sw), ((top, bottom), (left, right)), (eh, ew), groups = window
    filters = w.astype(working, copy=False).reshape(groups, o // groups, _taps(w.shape))
    out = np.zeros((n, c, top + h + bottom, left + width + right), working)
    for cotangent, image in zip(g.astype(working, copy=False), out, strict=True):
        rows = cotangent.reshape(groups, o // groups, oh * ow)
        columns = np.matmul(filters.transpose(0, 2, 1), rows).reshape(c, kh, kw, oh, ow)
        for i in range(kh):
            for j in range(kw):
                ys = slice(i * eh, i * eh + sh * (oh - 1) + 1, sh)
                xs = slice(j * ew, j * ew + sw * (ow - 1) + 1, sw)
                image[:, ys, xs] += columns[:, i, j]
    return out[:, :, top : top + h, left : left + width].astype(result_type(g, dtype))


@quietly
def _weight_gradient(g, x, *, weight_shape, dtype=None, **options):
    window, working = Window(**options), working_type(g, dtype)
    (_, o, oh, ow), groups, taps = g.shape, window.groups, _taps(weight_shape)
    columns = Columns(x, weight_shape[2:], (oh, ow), window, working)
    rows = np.zeros((groups, o // groups, columns.width), working)
    out = np.zeros((groups, o // groups, taps), working)
    for matrix, cotangent in zip(columns, g.astype(working, copy=False), strict=True):
        columns.clear_between_rows()
        columns.narrow(rows)[...] = cotangent.reshape(groups, o // groups, oh, ow)
        out += np.matmul(rows, matrix.transpose(0, 2, 1))
    return out.reshape(weight_shape).astype(result_type(g, dtype), copy=False)


def _convolution_vjp(g, out, x, w, *, dtype=None, needs=_BOTH, **window):
    g, wanted = cotangent_for(g, x)
    return (
        convolution_input_gradient(g, w, input_shape=tuple(x.shape), dtype=wanted, **window)
        if needs[0]
        else None,
        convolution_weight_gradient(g, x, weight_shape=tuple(w.shape), dtype=wanted, **window)
        if needs[1]
        else None,
    )


def _input_gradient_vjp(c, out, g, w, *, input_shape, dtype=None, needs=_BOTH, **window):
    c, wanted = cotangent_for(c, g)
    return (
        convolution(c, w, dtype=wanted, **window) if needs[0] else None,
        convolution_weight_gradient(g, c, weight_shape=tuple(w.shape), dtype=wanted, **window)
        if needs[1]
        else None,
    )


def _weight_gradient_vjp(c, out, g, x, *, weight_shape, dtype=None, needs=_BOTH, **window):
    c, wanted = cotangent_for(c, g)
    return (
        convolution(x, c, dtype=wanted, **window) if needs[0] else None,
        convolution_input_gradient(g, c, input_shape=tuple(x.shape), dtype=wanted, **window)
        if needs[1]
        else None,
    )


def _window(stride=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1), groups=1) -> dict:
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


def _strided_case():
    return Sample((strided(2, 2, 4, 5), strided(3, 2, 2, 2, seed=1)), _window(stride=(2, 1)))


def _cotangent(image, weight, window) -> np.ndarray:
    return numbers(*convolved_shape("convolution", image, weight, Window(**window)), seed=2)


def _errors():
    x, w = numbers(1, 2, 4, 4), numbers(3, 2, 3, 3)
    return [
        ErrorSample((x, numbers(3, 1, 3, 3)), ValueError, "channels do not fit", _window()),
        ErrorSample((x, numbers(3, 1, 3, 3)), ValueError, "channels do not fit", _window(groups=2)),
        ErrorSample(
            (x, numbers(3, 2, 5, 1)), ValueError, "larger than the padded image", _window()
        ),
        ErrorSample((x[0], w), ValueError, "wrong number of axes", _window()),
        ErrorSample((x, w), ValueError, "stride is outside", _window(stride=(0, 1))),
        ErrorSample((x, w), ValueError, "padding is outside", _window(padding=((0, -1), (0, 0)))),
        ErrorSample((x, w.astype("float32")), TypeError, "different number types", _window()),
        ErrorSample((x.astype("int32"),) * 2, TypeError, "does not take", _window()),
    ]


def _operations(images: Spec, weight_shape: tuple) -> int:
    """Two for each output element and each tap of its filter."""
    return 2 * images.size * _taps(weight_shape)


convolution = Primitive(
    "convolution",
    _convolved,
    _convolution,
    vjp=_convolution_vjp,
    flops=lambda ins, outs, **params: _operations(outs[0], ins[1].shape),
    samples=lambda: [
        *(Sample((numbers(*x), numbers(*w, seed=1)), window) for x, w, window in _CASES),
        _strided_case(),
    ],
    error_samples=_errors,
    op_class=OpClass.CONTRACTION,
    doc="out[n, o, y, ..] = sum of w[o, c, i, ..] x[n, c, y * stride - padding + i * dilation, ..]",
)
convolution_input_gradient = Primitive(
    "convolution_input_gradient",
    _image_gradient,
    _input_gradient,
    vjp=_input_gradient_vjp,
    flops=lambda ins, outs, **params: _operations(ins[0], ins[1].shape),
    samples=lambda: [
        Sample((_cotangent(x, w, window), numbers(*w, seed=1)), {"input_shape": x, **window})
        for x, w, window in _CASES
    ],
    error_samples=lambda: [
        ErrorSample(
            (numbers(1, 3, 4, 4), numbers(3, 2, 3, 3)),
            ValueError,
            "not the cotangent",
            {"input_shape": (1, 2, 4, 4), **_window()},
        ),
    ],
    op_class=OpClass.CONTRACTION,
    doc="The cotangent of the image: transposed convolution of g with w.",
)
convolution_weight_gradient = Primitive(
    "convolution_weight_gradient",
    _filter_gradient,
    _weight_gradient,
    vjp=_weight_gradient_vjp,
    flops=lambda ins, outs, **params: _operations(ins[0], outs[0].shape),
    samples=lambda: [
        Sample((_cotangent(x, w, window), numbers(*x)), {"weight_shape": w, **window})
        for x, w, window in _CASES
    ],
    error_samples=lambda: [
        ErrorSample(
            (numbers(1, 3, 4, 4), numbers(1, 2, 4, 4)),
            ValueError,
            "not the cotangent",
            {"weight_shape": (3, 2, 3, 3), **_window()},
        ),
    ],
    op_class=OpClass.CONTRACTION,
    doc="The cotangent of the filter: correlation of x with g.",
)
