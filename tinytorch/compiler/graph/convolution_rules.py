"""Rewrite rules of convolutions that a kernel of theirs would not suit: dilated, grouped,
depthwise, and those of many channels over few pixels.

Knows primitives, never kernels. A filter dilated by d reads every d-th pixel, so the d x d pictures
made of every d-th pixel are convolved without dilation (Yu, Koltun 2016, "Multi-scale context
aggregation by dilated convolutions"; the splitting is the a trous algorithm of wavelets). A few
groups are so many convolutions side by side. With one channel a group (depthwise) there is no
matrix to multiply: a product of matrices for each channel would be as many programs as channels.
Written as slices, products and sums, all taps become one loop over the picture; narrow floats are
multiplied and added up in float32 and rounded once, as the row says. Where a picture has few pixels
and the filters are large, a kernel that goes from picture to picture would read all filters for
each: the windows of all pictures become the rows of one matrix (im2col; K. Chellapilla et al.,
"High performance convolutional neural networks for document processing", 2006), as long as they
are small beside the filters, which are read as they lie.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from itertools import product
from math import prod
from typing import Any

from tinytorch.base.dtypes import DType, float32, float64
from tinytorch.compiler.graph.graph import Node, Value
from tinytorch.compiler.graph.rewriter import Inputs, Rewriter, Rule

Params = dict[str, Any]
Pair = Sequence[int]  # of a picture: rows, columns
Padding = Sequence[Sequence[int]]  # (top, bottom), (left, right)
MOST_GROUPS = 8  # beyond that the programs of the groups outweigh what each of them does
NONE = ((0, 0), (0, 0))


def _plain(p: Params, **changes: Any) -> Params:
    return {**p, "dilation": (1, 1), "padding": NONE, **changes}


class _Phases:
    """A picture of height H and width W, padded, and every d-th pixel of it as a picture.

    Args:
        size: (H, W).
        kernel: (KH, KW).
        padding, dilation: of the convolution.
    """

    def __init__(self, size: Pair, kernel: Pair, padding: Padding, dilation: Pair):
        self.d, self.size, self.padding = dilation, size, padding
        whole = [n + sum(p) for n, p in zip(size, padding, strict=True)]
        # rounded up to whole steps of d, so that every phase has one size
        self.padded = [-(-n // d) * d for n, d in zip(whole, dilation, strict=True)]
        reach = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        self.out = [n - r for n, r in zip(self.padded, reach, strict=True)]

    def image(self, r: Rewriter, x: Value) -> Value:
        """(N, C, H, W) -> (d d N, C, padded H / d, padded W / d)."""
        before = [p[0] for p in self.padding]
        return self._split(r, x, before, self.padded)

    def output(self, r: Rewriter, g: Value) -> Value:
        """A cotangent (N, O, OH, OW) in phases; zeros where the picture was rounded up."""
        return self._split(r, g, (0, 0), self.out)

    def _split(self, r: Rewriter, x: Value, before: Pair, size: Pair) -> Value:
        n, c, h, w = x.shape
        after = [m - b - k for m, b, k in zip(size, before, (h, w), strict=True)]
        if any((*before, *after)):
            x = r.add("pad", x, before=(0, 0, *before), after=(0, 0, *after), value=0.0)
        (dh, dw), (rows, columns) = self.d, (m // d for m, d in zip(size, self.d, strict=True))
        x = r.add("reshape", x, shape=(n, c, rows, dh, columns, dw))
        x = r.add("permute", x, axes=(3, 5, 0, 1, 2, 4))
        return r.add("reshape", x, shape=(dh * dw * n, c, rows, columns))

    def together(self, r: Rewriter, x: Value, start: Pair, size: Pair) -> Value:
        """Phases back into one picture, of which the part at `start` of `size` is given."""
        (dh, dw), (many, c, rows, columns) = self.d, x.shape
        n = many // (dh * dw)
        x = r.add("reshape", x, shape=(dh, dw, n, c, rows, columns))
        x = r.add("permute", x, axes=(2, 3, 4, 0, 5, 1))
        x = r.add("reshape", x, shape=(n, c, rows * dh, columns * dw))
        stop = tuple(a + k for a, k in zip(start, size, strict=True))
        return r.add("slice", x, start=(0, 0, *start), stop=(n, c, *stop), step=(1,) * 4)


def _dilated(p: Params, kernel: Pair) -> bool:
    """Whether the filter leaves pixels out between its taps, one step at a time."""
    taps = zip(p["dilation"], kernel, strict=True)
    return p["stride"] == (1, 1) and any(d > 1 and k > 1 for d, k in taps)


def _grouped(p: Params) -> bool:
    return 1 < p["groups"] <= MOST_GROUPS


def _part(r: Rewriter, x: Value, axis: int, number: int, many: int) -> Value:
    """One of `many` equal parts along an axis."""
    size = x.shape[axis] // many
    start, stop = [0] * 4, list(x.shape)
    start[axis], stop[axis] = number * size, (number + 1) * size
    return r.add("slice", x, start=tuple(start), stop=tuple(stop), step=(1,) * 4)


def _by_group(
    r: Rewriter, name: str, p: Params, pairs: Iterable[Inputs], axis: int, **sizes: Any
) -> Value:
    """A primitive for each group's operands, side by side along `axis`."""
    parts = [r.add(name, a, b, **{**p, "groups": 1, **sizes}) for a, b in pairs]
    return r.add("concatenate", *parts, axis=axis)


def _convolution(r: Rewriter, node: Node, inputs: Inputs) -> Value | None:
    (x, w), p = inputs, node.params
    if _dilated(p, w.shape[2:]):
        phases = _Phases(x.shape[2:], w.shape[2:], p["padding"], p["dilation"])
        y = r.add("convolution", phases.image(r, x), w, **_plain(p))
        return phases.together(r, y, (0, 0), node.outputs[0].shape[2:])
    if _grouped(p):
        many = p["groups"]
        pairs = ((_part(r, x, 1, i, many), _part(r, w, 0, i, many)) for i in range(many))
        return _by_group(r, "convolution", p, pairs, 1)
    return None


def _input_gradient(r: Rewriter, node: Node, inputs: Inputs) -> Value | None:
    (g, w), p = inputs, node.params
    n, c, *size = p["input_shape"]
    if _dilated(p, w.shape[2:]):
        phases = _Phases(size, w.shape[2:], p["padding"], p["dilation"])
        g = phases.output(r, g)
        shape = (g.shape[0], c, *(m // d for m, d in zip(phases.padded, phases.d, strict=True)))
        x = r.add("convolution_input_gradient", g, w, **_plain(p, input_shape=shape))
        return phases.together(r, x, [side[0] for side in p["padding"]], size)
    if _grouped(p):
        many = p["groups"]
        pairs = ((_part(r, g, 1, i, many), _part(r, w, 0, i, many)) for i in range(many))
        shape = (n, c // many, *size)
        return _by_group(r, "convolution_input_gradient", p, pairs, 1, input_shape=shape)
    return None


def _weight_gradient(r: Rewriter, node: Node, inputs: Inputs) -> Value | None:
    (g, x), p = inputs, node.params
    o, c, *kernel = p["weight_shape"]
    if _dilated(p, tuple(kernel)):
        phases = _Phases(x.shape[2:], kernel, p["padding"], p["dilation"])
        g, x = phases.output(r, g), phases.image(r, x)
        return r.add("convolution_weight_gradient", g, x, **_plain(p))
    if _grouped(p):
        many = p["groups"]
        pairs = ((_part(r, g, 1, i, many), _part(r, x, 1, i, many)) for i in range(many))
        shape = (o // many, c, *kernel)
        return _by_group(r, "convolution_weight_gradient", p, pairs, 0, weight_shape=shape)
    return None


# many channels over few pixels: products of matrices

# Note [few pixels]
# Two cores, AMD Zen 5, ResNet-18's last stages. 512 channels of 2 x 2 pixels in 32 pictures: the
# kernels that read pictures reach 32 % of the peak, the filters' gradient 13 % (it also adds up 16
# parts as large as the filters). At 256 channels of 4 x 4 they reach 94 %, the filters' gradient
# 46 %. At 128 of 8 x 8 all are above 80 %.
FEW_PIXELS = 8
FEW_PIXELS_SUMMED = 32  # the same where pixels are summed over
LARGE_FILTERS = 1 << 17  # numbers: no longer in the second-level cache beside what else is there


def _few_pixels(p: Params, filters: Pair, size: Pair, most: int) -> bool:
    """Whether windows in the rows of a matrix suit; size: (OH, OW) of a picture."""
    return p["groups"] == 1 and prod(size) <= most and prod(filters) >= LARGE_FILTERS


def _rows(r: Rewriter, g: Value) -> Value:
    """(N, O, OH, OW) -> (N OH OW, O)."""
    n, o, h, w = g.shape
    return r.add("reshape", r.add("permute", g, axes=(0, 2, 3, 1)), shape=(n * h * w, o))


def _windows(r: Rewriter, x: Value, kernel: Pair, size: Pair, p: Params) -> Value:
    """The numbers under each window as a row: (N OH OW, C KH KW)."""
    x = _padded(r, x, p["padding"])
    n, c = x.shape[:2]
    parts: list[Value] = []
    for i, j in product(range(kernel[0]), range(kernel[1])):
        place = (i * p["dilation"][0], j * p["dilation"][1])
        seen = r.add("permute", _tap(r, x, place, size, p["stride"]), axes=(0, 2, 3, 1))
        parts.append(r.add("reshape", seen, shape=(*seen.shape, 1)))
    together = r.add("concatenate", *parts, axis=4) if len(parts) > 1 else parts[0]
    return r.add("reshape", together, shape=(n * prod(size), c * len(parts)))


def _of_few_pixels(r: Rewriter, node: Node, inputs: Inputs) -> Value | None:
    (x, w), p, (n, o, *size) = inputs, node.params, node.outputs[0].shape
    if not _few_pixels(p, w.shape, size, FEW_PIXELS):
        return None
    matrix = r.add("reshape", w, shape=(o, prod(w.shape[1:])))
    y = _matrix_product(r, _windows(r, x, w.shape[2:], size, p), _turned(r, matrix), p)
    return r.add("permute", r.add("reshape", y, shape=(n, *size, o)), axes=(0, 3, 1, 2))


def _weight_gradient_of_few_pixels(r: Rewriter, node: Node, inputs: Inputs) -> Value | None:
    (g, x), p, shape = inputs, node.params, node.params["weight_shape"]
    if not _few_pixels(p, shape, g.shape[2:], FEW_PIXELS_SUMMED):
        return None
    windows = _windows(r, x, shape[2:], g.shape[2:], p)
    total = _matrix_product(r, _turned(r, _rows(r, g)), windows, p)
    return r.add("reshape", total, shape=shape)


def _input_gradient_of_few_pixels(r: Rewriter, node: Node, inputs: Inputs) -> Value | None:
    """What each window gives to the pixels under it, added up where windows overlap."""
    (g, w), p = inputs, node.params
    around = _reached(p, w.shape[2:], g.shape[2:])
    if not _few_pixels(p, w.shape, g.shape[2:], FEW_PIXELS) or min(*around[0], *around[1]) < 0:
        return None
    (n, o, h, x), (_, c, *kernel) = g.shape, w.shape
    matrix = r.add("reshape", w, shape=(o, prod(w.shape[1:])))
    given = _matrix_product(r, _rows(r, g), matrix, {**p, "dtype": _sums_of(g.dtype)})
    taps = prod(kernel)
    given = r.add("reshape", given, shape=(n, h, x, c * taps))
    wide = _padded(r, _spread(r, r.add("permute", given, axes=(0, 3, 1, 2)), p["stride"]), around)
    wide = r.add("reshape", wide, shape=(n, c, taps, *wide.shape[2:]))
    parts: list[Value] = []
    for number, (i, j) in enumerate(product(range(kernel[0]), range(kernel[1]))):
        start, stop = (0, 0, number, 0, 0), (n, c, number + 1, *wide.shape[3:])
        part = r.add("slice", wide, start=start, stop=stop, step=(1,) * 5)
        part = r.add("reshape", part, shape=(n, c, *wide.shape[3:]))
        place = ((kernel[0] - 1 - i) * p["dilation"][0], (kernel[1] - 1 - j) * p["dilation"][1])
        parts.append(_tap(r, part, place, p["input_shape"][2:], (1, 1)))
    total = reduce(lambda total, part: r.add("add", total, part), parts)
    return _to(r, total, node.outputs[0].dtype)


def _turned(r: Rewriter, x: Value) -> Value:
    return r.add("permute", x, axes=(1, 0))


def _matrix_product(r: Rewriter, a: Value, b: Value, p: Params) -> Value:
    return r.add("matmul", a, b, **({"dtype": p["dtype"]} if "dtype" in p else {}))


def _sums_of(dtype: DType) -> DType:
    """The type that products are added up in."""
    return float64 if dtype is float64 else float32


# depthwise: a sum of shifted products

# Beyond this many taps the loop's body grows past what a compiler likes to see (11 x 11 filters).
MOST_TAPS = 64


def _is_depthwise(node: Node, filters: tuple[int, ...], x: Value) -> bool:
    p = node.params
    one_each = p["groups"] == filters[0] > 1 and filters[1] == 1
    return one_each and filters[2] * filters[3] <= MOST_TAPS and 0 not in x.shape


def _to(r: Rewriter, x: Value, dtype: DType) -> Value:
    return x if x.dtype is dtype else r.add("cast", x, dtype=dtype)


def _product(r: Rewriter, a: Value, b: Value) -> Value:
    """a * b in the type that products are added up in."""
    wide = _sums_of(a.dtype)
    return r.add("mul", _to(r, a, wide), _to(r, b, wide))


def _tap(r: Rewriter, x: Value, place: tuple[int, int], size: Pair, stride: Pair) -> Value:
    """What tap `place` of a filter reads for each output of `size`; x is padded."""
    start = (0, 0, *place)
    ends = (a + s * (n - 1) + 1 for a, s, n in zip(place, stride, size, strict=True))
    return r.add("slice", x, start=start, stop=(*x.shape[:2], *ends), step=(1, 1, *stride))


def _weight(r: Rewriter, w: Value, i: int, j: int) -> Value:
    """Tap (i, j) of every filter, (1, C, 1, 1)."""
    one = r.add("slice", w, start=(0, 0, i, j), stop=(w.shape[0], 1, i + 1, j + 1), step=(1,) * 4)
    return r.add("reshape", one, shape=(1, w.shape[0], 1, 1))


def _padded(r: Rewriter, x: Value, padding: Padding) -> Value:
    (top, bottom), (left, right) = padding
    if not any((top, bottom, left, right)):
        return x
    return r.add("pad", x, before=(0, 0, top, left), after=(0, 0, bottom, right), value=0.0)


def _correlate(
    r: Rewriter, x: Value, w: Value, size: Pair, stride: Pair, dilation: Pair, turned: bool
) -> Value:
    """The sum over all taps of a padded picture; `turned` reads the filter backwards."""
    kh, kw = w.shape[2:]
    parts: list[Value] = []
    for i, j in product(range(kh), range(kw)):
        seen = _tap(r, x, (i * dilation[0], j * dilation[1]), size, stride)
        tap = (kh - 1 - i, kw - 1 - j) if turned else (i, j)
        parts.append(_product(r, seen, _weight(r, w, *tap)))
    return reduce(lambda total, part: r.add("add", total, part), parts)


def _depthwise_convolution(r: Rewriter, node: Node, inputs: Inputs) -> Value | None:
    (x, w), p = inputs, node.params
    if not _is_depthwise(node, w.shape, x):
        return None
    out = node.outputs[0]
    x = _padded(r, x, p["padding"])
    total = _correlate(r, x, w, out.shape[2:], p["stride"], p["dilation"], turned=False)
    return _to(r, total, out.dtype)


def _depthwise_input_gradient(r: Rewriter, node: Node, inputs: Inputs) -> Value | None:
    (g, w), p = inputs, node.params
    shape, stride = p["input_shape"], p["stride"]
    around = _reached(p, w.shape[2:], g.shape[2:])
    if not _is_depthwise(node, w.shape, g) or min(*around[0], *around[1]) < 0:
        return None
    wide = _padded(r, _spread(r, g, stride), around)
    total = _correlate(r, wide, w, shape[2:], (1, 1), p["dilation"], turned=True)
    return _to(r, total, node.outputs[0].dtype)


def _reached(p: Params, kernel: Pair, size: Pair) -> list[tuple[int, int]]:
    """How much lies before and after the spread cotangent of `size` when it is laid so that its
    windows of stride 1 are what each pixel has touched: rows, then columns."""
    found: list[tuple[int, int]] = []
    for axis in (0, 1):
        reach = p["dilation"][axis] * (kernel[axis] - 1)
        before = reach - p["padding"][axis][0]
        spread = p["stride"][axis] * (size[axis] - 1) + 1
        found.append((before, p["input_shape"][2 + axis] + reach - before - spread))
    return found


def _spread(r: Rewriter, g: Value, stride: tuple[int, int]) -> Value:
    """g with stride - 1 zeros between its elements."""
    if stride == (1, 1):
        return g
    (n, c, h, w), (sh, sw) = g.shape, stride
    cells = r.add("reshape", g, shape=(n, c, h, 1, w, 1))
    gaps = (0, 0, 0, sh - 1, 0, sw - 1)
    cells = r.add("pad", cells, before=(0,) * 6, after=gaps, value=0.0)
    whole = r.add("reshape", cells, shape=(n, c, h * sh, w * sw))
    stop = (n, c, sh * (h - 1) + 1, sw * (w - 1) + 1)
    return r.add("slice", whole, start=(0,) * 4, stop=stop, step=(1,) * 4)


def _depthwise_weight_gradient(r: Rewriter, node: Node, inputs: Inputs) -> Value | None:
    (g, x), p = inputs, node.params
    shape = p["weight_shape"]
    if not _is_depthwise(node, shape, x):
        return None
    x = _padded(r, x, p["padding"])
    sums: list[Value] = []
    for i, j in product(range(shape[2]), range(shape[3])):
        place = (i * p["dilation"][0], j * p["dilation"][1])
        seen = _tap(r, x, place, g.shape[2:], p["stride"])
        total = r.add("sum", _product(r, g, seen), axes=(0, 2, 3), keepdims=False)
        sums.append(r.add("reshape", total, shape=(shape[0], 1, 1, 1)))
    together = sums[0] if len(sums) == 1 else r.add("concatenate", *sums, axis=3)
    return _to(r, r.add("reshape", together, shape=shape), node.outputs[0].dtype)


def _first(*rules: Rule) -> Rule:
    """The first of these that applies."""

    def rule(r: Rewriter, node: Node, inputs: Inputs) -> Value | None:
        if any(0 in v.shape for v in (*inputs, *node.outputs)):
            return None
        found = (each(r, node, inputs) for each in rules)
        return next((v for v in found if v is not None), None)

    return rule


CONVOLUTION_RULES: dict[str, Rule] = {
    "convolution": _first(_depthwise_convolution, _of_few_pixels, _convolution),
    "convolution_input_gradient": _first(
        _depthwise_input_gradient, _input_gradient_of_few_pixels, _input_gradient
    ),
    "convolution_weight_gradient": _first(
        _depthwise_weight_gradient, _weight_gradient_of_few_pixels, _weight_gradient
    ),
}
