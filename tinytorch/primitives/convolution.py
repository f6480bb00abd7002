"""Convolution of images (N, C, H, W) with filters (O, C / groups, KH, KW), and its two gradients.

Knows windows. Convolution is linear in its image and in its filter, so the three rows here are one
another's gradients, to any order. The definitions lay the windows out as the
rows of a matrix and multiply.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tinytorch.base.errors import ShapeError
from tinytorch.primitives.contraction import cotangent_for, output_dtype, result_type, working_type
from tinytorch.primitives.primitive import ErrorSample, Primitive, Sample, Spec
from tinytorch.primitives.quiet import quietly
from tinytorch.primitives.samples import numbers, strided
from tinytorch.primitives.shapes import (
    FLOAT,
    check_kind,
    check_positive,
    check_rank,
    check_same_dtype,
)

IMAGE, FILTER = "(N, C, H, W)", "(O, C / groups, KH, KW)"


class Window(NamedTuple):
    """How filters step over images."""

    stride: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]
    dilation: tuple[int, int]
    groups: int


def output_size(n: int, k: int, stride: int, padding: tuple[int, int], dilation: int = 1) -> int:
    """Positions of a filter of k taps along an axis of n."""
    return (n + padding[0] + padding[1] - dilation * (k - 1) - 1) // stride + 1


def check_window(name: str, size: tuple, kernel: tuple, stride, padding, dilation=(1, 1)) -> None:
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
    _check_cotangent(name, g, convolved_shape(name, input_shape, w.shape, Window(**window)))
    return Spec(tuple(input_shape), output_dtype(name, g, dtype))


def _filter_gradient(g: Spec, x: Spec, *, weight_shape, dtype=None, **window) -> Spec:
    name = "convolution_weight_gradient"
    check_kind(name, "g", g, FLOAT)
    check_same_dtype(name, ("g", "x"), (g, x))
    check_rank(name, "x", x, 4, IMAGE)
    _check_cotangent(name, g, convolved_shape(name, x.shape, weight_shape, Window(**window)))
    return Spec(tuple(weight_shape), output_dtype(name, g, dtype))


def padded(x: np.ndarray, padding, value) -> np.ndarray:
    """Images with `value` around them."""
    (top, bottom), (left, right) = padding
    if not (top or bottom or left or right):
        return x
    n, c, h, w = x.shape
    out = np.full((n, c, top + h + bottom, left + w + right), value, x.dtype)
    out[:, :, top : top + h, left : left + w] = x
    return out


def _windows(x: np.ndarray, kernel: tuple, out_size: tuple, window: Window) -> np.ndarray:
    """Every window of padded images: (N, groups, C / groups, KH, KW, OH, OW), a view."""
    (n, c, _, _), (dn, dc, dh, dw) = x.shape, x.strides
    (sh, sw), _, (eh, ew), groups = window
    return np.lib.stride_tricks.as_strided(
        x,
        (n, groups, c // groups, *kernel, *out_size),
        (dn, dc * (c // groups), dc, dh * eh, dw * ew, dh * sh, dw * sw),
        writeable=False,
    )


def _taps(weight_shape: tuple) -> int:
    """Products in one output element."""
    return weight_shape[1] * weight_shape[2] * weight_shape[3]


@quietly
def _convolution(x, w, *, dtype=None, **options):
    """Image by image, so that the columns (C KH KW, OH OW) stay in the cache: twice as fast."""
    window, working = Window(**options), working_type(x, dtype)
    n, o, oh, ow = convolved_shape("convolution", x.shape, w.shape, window)
    groups, taps = window.groups, _taps(w.shape)
    filters = w.astype(working, copy=False).reshape(groups, o // groups, taps)
    views = _windows(padded(x, window.padding, 0), w.shape[2:], (oh, ow), window)
    out = np.empty((n, groups, o // groups, oh * ow), working)
    for view, image in zip(views, out, strict=True):
        columns = view.astype(working, copy=False).reshape(groups, taps, oh * ow)
        np.matmul(filters, columns, out=image)
    return out.reshape(n, o, oh, ow).astype(result_type(x, dtype), copy=False)


@quietly
def _input_gradient(g, w, *, input_shape, dtype=None, **options):
    """The windows that g asks for, added back to where they were read."""
    window, working = Window(**options), working_type(g, dtype)
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
    views = _windows(padded(x, window.padding, 0), weight_shape[2:], (oh, ow), window)
    out = np.zeros((groups, o // groups, taps), working)
    for view, cotangent in zip(views, g.astype(working, copy=False), strict=True):
        columns = view.astype(working, copy=False).reshape(groups, taps, oh * ow)
        rows = cotangent.reshape(groups, o // groups, oh * ow)
        out += np.matmul(rows, columns.transpose(0, 2, 1))
    return out.reshape(weight_shape).astype(result_type(g, dtype), copy=False)


def _convolution_vjp(g, out, x, w, *, dtype=None, **window):
    g, wanted = cotangent_for(g, x)
    return (
        convolution_input_gradient(g, w, input_shape=tuple(x.shape), dtype=wanted, **window),
        convolution_weight_gradient(g, x, weight_shape=tuple(w.shape), dtype=wanted, **window),
    )


def _input_gradient_vjp(c, out, g, w, *, input_shape, dtype=None, **window):
    c, wanted = cotangent_for(c, g)
    return (
        convolution(c, w, dtype=wanted, **window),
        convolution_weight_gradient(g, c, weight_shape=tuple(w.shape), dtype=wanted, **window),
    )


def _weight_gradient_vjp(c, out, g, x, *, weight_shape, dtype=None, **window):
    c, wanted = cotangent_for(c, g)
    return (
        convolution(x, c, dtype=wanted, **window),
        convolution_input_gradient(g, c, input_shape=tuple(x.shape), dtype=wanted, **window),
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
    doc="The cotangent of the filter: correlation of x with g.",
)
