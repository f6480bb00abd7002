"""Rewrite rules of depthwise convolution: a filter for each channel is a sum of shifted products.

Knows primitives, never kernels. With one channel a group there is no matrix to multiply: a product
of matrices for each channel would be as many programs as channels. Written as slices, products and
sums, all taps become one loop over the picture. Narrow floats are multiplied and added up in
float32 and rounded once, as the row says.
"""

from __future__ import annotations

from functools import reduce
from itertools import product

from tinytorch.base.dtypes import DType, float32, float64
from tinytorch.compiler.graph.graph import Node, Value

# Beyond this many taps the loop's body grows past what a compiler likes to see (11 x 11 filters).
MOST_TAPS = 64


def _depthwise(node: Node, filters: tuple[int, ...], x: Value) -> bool:
    p = node.params
    one_each = p["groups"] == filters[0] > 1 and filters[1] == 1
    return one_each and filters[2] * filters[3] <= MOST_TAPS and 0 not in x.shape


def _to(r, x: Value, dtype: DType) -> Value:
    return x if x.dtype is dtype else r.add("cast", x, dtype=dtype)


def _product(r, a: Value, b: Value) -> Value:
    """a * b in the type that products are added up in."""
    wide = float64 if a.dtype is float64 else float32
    return r.add("mul", _to(r, a, wide), _to(r, b, wide))


def _tap(r, x: Value, place: tuple[int, int], size: tuple[int, int], stride) -> Value:
    """What tap `place` of a filter reads for each output of `size`; x is padded."""
    start = (0, 0, *place)
    ends = (a + s * (n - 1) + 1 for a, s, n in zip(place, stride, size, strict=True))
    return r.add("slice", x, start=start, stop=(*x.shape[:2], *ends), step=(1, 1, *stride))


def _weight(r, w: Value, i: int, j: int) -> Value:
    """Tap (i, j) of every filter, (1, C, 1, 1)."""
    one = r.add("slice", w, start=(0, 0, i, j), stop=(w.shape[0], 1, i + 1, j + 1), step=(1,) * 4)
    return r.add("reshape", one, shape=(1, w.shape[0], 1, 1))


def _padded(r, x: Value, padding) -> Value:
    (top, bottom), (left, right) = padding
    if not any((top, bottom, left, right)):
        return x
    return r.add("pad", x, before=(0, 0, top, left), after=(0, 0, bottom, right), value=0.0)


def _correlate(r, x: Value, w: Value, size, stride, dilation, turned: bool) -> Value:
    """The sum over all taps of a padded picture; `turned` reads the filter backwards."""
    kh, kw = w.shape[2:]
    parts = []
    for i, j in product(range(kh), range(kw)):
        seen = _tap(r, x, (i * dilation[0], j * dilation[1]), size, stride)
        tap = (kh - 1 - i, kw - 1 - j) if turned else (i, j)
        parts.append(_product(r, seen, _weight(r, w, *tap)))
    return reduce(lambda total, part: r.add("add", total, part), parts)


def _convolution(r, node: Node, inputs) -> Value | None:
    (x, w), p = inputs, node.params
    if not _depthwise(node, w.shape, x):
        return None
    out = node.outputs[0]
    x = _padded(r, x, p["padding"])
    total = _correlate(r, x, w, out.shape[2:], p["stride"], p["dilation"], turned=False)
    return _to(r, total, out.dtype)


def _input_gradient(r, node: Node, inputs) -> Value | None:
    (g, w), p = inputs, node.params
    shape, stride = p["input_shape"], p["stride"]
    reach = [e * (k - 1) for e, k in zip(p["dilation"], w.shape[2:], strict=True)]
    before = [m - pad[0] for m, pad in zip(reach, p["padding"], strict=True)]
    spread = [s * (n - 1) + 1 for s, n in zip(stride, g.shape[2:], strict=True)]
    after = [n + m - b - d for n, m, b, d in zip(shape[2:], reach, before, spread, strict=True)]
    if not _depthwise(node, w.shape, g) or min(before + after) < 0:
        return None
    around = tuple(zip(before, after, strict=True))
    wide = _padded(r, _spread(r, g, stride), around)
    total = _correlate(r, wide, w, shape[2:], (1, 1), p["dilation"], turned=True)
    return _to(r, total, node.outputs[0].dtype)


def _spread(r, g: Value, stride: tuple[int, int]) -> Value:
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


def _weight_gradient(r, node: Node, inputs) -> Value | None:
    (g, x), p = inputs, node.params
    shape = p["weight_shape"]
    if not _depthwise(node, shape, x):
        return None
    x = _padded(r, x, p["padding"])
    sums = []
    for i, j in product(range(shape[2]), range(shape[3])):
        place = (i * p["dilation"][0], j * p["dilation"][1])
        seen = _tap(r, x, place, g.shape[2:], p["stride"])
        total = r.add("sum", _product(r, g, seen), axes=(0, 2, 3), keepdims=False)
        sums.append(r.add("reshape", total, shape=(shape[0], 1, 1, 1)))
    together = sums[0] if len(sums) == 1 else r.add("concatenate", *sums, axis=3)
    return _to(r, r.add("reshape", together, shape=shape), node.outputs[0].dtype)


DEPTHWISE_RULES = {
    "convolution": _convolution,
    "convolution_input_gradient": _input_gradient,
    "convolution_weight_gradient": _weight_gradient,
}
