"""Max pooling of images (N, C, H, W): the largest element of each window, and where it was.

Knows windows and positions. A winner is known by its flat offset h * W + w inside its image; the
first of equal elements wins, a NaN wins over everything, padding never wins.
"""

from __future__ import annotations

import numpy as np

from tinytorch.base.dtypes import int32
from tinytorch.base.errors import ShapeError
from tinytorch.primitives.broadcasting import accumulator
from tinytorch.primitives.indexing import checked
from tinytorch.primitives.primitive import ErrorSample, OpClass, Primitive, Sample, Spec
from tinytorch.primitives.quiet import quietly
from tinytorch.primitives.samples import flags, numbers, strided
from tinytorch.primitives.selection import select
from tinytorch.primitives.shapes import INTEGER, NUMBER, check_kind, check_rank
from tinytorch.primitives.windows import IMAGE, check_window, output_size, padded

NAME = "max_pool2d"


def _pooled(x: Spec, *, kernel, stride, padding, dilation=(1, 1)) -> tuple[Spec, Spec]:
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


def _sees_padding_only(n: int, k: int, stride: int, padding: tuple, dilation: int) -> bool:
    """Whether some window along an axis has no cell in 0 .. n - 1."""
    windows = output_size(n, k, stride, padding, dilation)
    for start in (-padding[0] + stride * i for i in range(windows)):
        first = start + dilation * max(0, -(start // dilation))  # the first cell at 0 or behind
        if first >= n or first > start + dilation * (k - 1):
            return True
    return False


@quietly
def _max_pool2d(x: np.ndarray, *, kernel, stride, padding, dilation=(1, 1)):
    """One pass for each position in the window, keeping the best so far."""
    _, _, height, width = x.shape
    lowest = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    oh, ow = (
        output_size(*axis)
        for axis in zip(x.shape[2:], kernel, stride, padding, dilation, strict=True)
    )
    places = np.arange(height * width, dtype=np.int32).reshape(1, 1, height, width)
    x, places = padded(x, padding, lowest), padded(places, padding, -1)
    best = index = None
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            pick = (
                ...,
                slice(i * dilation[0], i * dilation[0] + stride[0] * (oh - 1) + 1, stride[0]),
                slice(j * dilation[1], j * dilation[1] + stride[1] * (ow - 1) + 1, stride[1]),
            )
            candidate, place = x[pick].copy(), places[pick]
            if best is None or index is None:
                best, index = candidate, np.broadcast_to(place, candidate.shape).copy()
                continue
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


def _spread(g: Spec, index: Spec, *, input_shape) -> Spec:
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


def _flat(name: str, index: np.ndarray, size: int) -> np.ndarray:
    """Offsets into all images laid end to end, checked."""
    images = index.shape[0] * index.shape[1]
    inside = checked(name, index, size).reshape(images, -1)
    return inside + size * np.arange(images)[:, None]


@quietly
def _gradient(g: np.ndarray, index: np.ndarray, *, input_shape):
    size = input_shape[2] * input_shape[3]
    out = np.zeros(input_shape[0] * input_shape[1] * size, accumulator(g.dtype))
    if g.size:
        np.add.at(
            out,
            _flat("max_pool2d_gradient", index, size).ravel(),
            g.ravel().astype(out.dtype, copy=False),
        )
    return out.reshape(input_shape).astype(g.dtype, copy=False)


def _take(x: np.ndarray, index: np.ndarray):
    if not index.size:
        return np.zeros(index.shape, x.dtype)
    flat = _flat("max_pool2d_take", index, x.shape[2] * x.shape[3])
    return x.reshape(-1)[flat].reshape(index.shape)


def _max_pool2d_vjp(g, out, x, **window):
    g_out, index = g[0], out[1]
    if g_out is None:
        return (None,)
    return (max_pool2d_gradient(g_out, index, input_shape=tuple(x.shape)),)


def _window(kernel=(2, 2), stride=(2, 2), padding=((0, 0), (0, 0))) -> dict:
    return {"kernel": kernel, "stride": stride, "padding": padding}


_INDEX = np.array([[[[0, 5], [5, 11]], [[3, 3], [3, 2]]]], np.int32)  # (1, 2, 2, 2) into 3 x 4
max_pool2d = Primitive(
    NAME,
    _pooled,
    _max_pool2d,
    vjp=_max_pool2d_vjp,
    flops=lambda ins, outs, *, kernel, **params: outs[0].size * kernel[0] * kernel[1],
    samples=lambda: [
        Sample((numbers(1, 1, 1, 1),), _window((1, 1), (1, 1))),
        Sample((numbers(2, 3, 4, 6),), _window()),
        Sample((numbers(2, 1, 7, 5),), _window((3, 2), (2, 1))),
        Sample((strided(1, 2, 5, 5),), _window((3, 3), (2, 2), ((1, 1), (0, 2)))),
        Sample((numbers(1, 1, 4, 4) - 9.0,), _window((3, 3), (1, 1), ((2, 2), (2, 2)))),
        Sample((numbers(0, 2, 4, 4),), _window()),
        Sample((np.zeros((1, 1, 4, 4), np.int32),), _window((3, 3), (1, 1), ((1, 1), (1, 1)))),
        Sample((np.array([[[[1.0, np.nan], [np.nan, 2.0]]]]),), _window()),
        Sample((np.full((1, 1, 3, 3), -np.inf),), _window((2, 2), (1, 1), ((1, 1), (1, 1)))),
        Sample((numbers(2, 3, 7, 6),), _window((2, 3), (1, 2)) | {"dilation": (3, 2)}),
        Sample(
            (numbers(1, 2, 5, 6) - 9.0,),
            _window((3, 2), (2, 1), ((1, 2), (1, 0))) | {"dilation": (2, 3)},
        ),
    ],
    error_samples=lambda: [
        ErrorSample((numbers(2, 4, 4),), ValueError, "wrong number of axes", _window()),
        ErrorSample((numbers(1, 1, 1, 4),), ValueError, "larger than the padded image", _window()),
        ErrorSample(
            (numbers(1, 1, 4, 4),),
            ValueError,
            "nothing but padding",
            _window(padding=((2, 0), (0, 0))),
        ),
        ErrorSample(
            (numbers(1, 1, 4, 4),), ValueError, "outside its range", _window(stride=(0, 1))
        ),
        ErrorSample(
            (numbers(1, 1, 0, 4),), ValueError, "is empty", _window(padding=((1, 1), (0, 0)))
        ),
        ErrorSample((flags(1, 1, 4, 4),), TypeError, "does not take", _window()),
    ],
    selects=(0,),
    op_class=OpClass.WINDOW,
    doc="The largest element of each window, and its flat offset in the image (int32).",
)
max_pool2d_gradient = Primitive(
    "max_pool2d_gradient",
    _spread,
    _gradient,
    vjp=lambda c, out, g, index, *, input_shape: (max_pool2d_take(c, index), None),
    flops=lambda ins, outs, **params: ins[0].size,
    samples=lambda: [
        Sample((numbers(1, 2, 2, 2), _INDEX), {"input_shape": (1, 2, 3, 4)}),
        Sample(
            (numbers(0, 2, 2, 2), np.zeros((0, 2, 2, 2), np.int32)), {"input_shape": (0, 2, 3, 4)}
        ),
    ],
    error_samples=lambda: [
        ErrorSample(
            (numbers(1, 2, 2, 2), _INDEX),
            IndexError,
            "outside its axis",
            {"input_shape": (1, 2, 3, 3)},
        ),
        ErrorSample(
            (numbers(1, 2, 2, 1), _INDEX), ValueError, "one pooling", {"input_shape": (1, 2, 3, 4)}
        ),
        ErrorSample(
            (numbers(1, 2, 2, 2), numbers(1, 2, 2, 2)),
            TypeError,
            "take",
            {"input_shape": (1, 2, 3, 4)},
        ),
    ],
    op_class=OpClass.SCATTER,
    doc="Zeros of the image's shape, to which g is added at the winners.",
)
max_pool2d_take = Primitive(
    "max_pool2d_take",
    _picked,
    _take,
    vjp=lambda c, out, x, index: (max_pool2d_gradient(c, index, input_shape=tuple(x.shape)), None),
    flops=lambda ins, outs, **params: 0,
    samples=lambda: [
        Sample((numbers(1, 2, 3, 4), _INDEX)),
        Sample((strided(1, 2, 3, 4), _INDEX)),
        Sample((numbers(0, 2, 3, 4), np.zeros((0, 2, 2, 2), np.int32))),
    ],
    error_samples=lambda: [
        ErrorSample((numbers(1, 2, 3, 3), _INDEX), IndexError, "outside its axis"),
        ErrorSample((numbers(1, 3, 3, 4), _INDEX), ValueError, "one pooling"),
    ],
    op_class=OpClass.GATHER,
    doc="The elements of x at the winners of a pooling.",
)
