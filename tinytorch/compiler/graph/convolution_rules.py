"""Rewrite rules of dilated and grouped convolution: both become plain ones, which have a kernel.

Knows primitives, never kernels. A filter dilated by d reads every d-th pixel, so the d x d pictures
made of every d-th pixel are convolved without dilation (Yu, Koltun 2016, "Multi-scale context
aggregation by dilated convolutions"; the splitting is the a trous algorithm of wavelets). A few
groups are so many convolutions side by side.
"""

from __future__ import annotations

from collections.abc import Callable

from tinytorch.compiler.graph.depthwise_rules import DEPTHWISE_RULES
from tinytorch.compiler.graph.graph import Node, Value

MOST_GROUPS = 8  # beyond that the programs of the groups outweigh what each of them does
NONE = ((0, 0), (0, 0))


def _plain(p: dict, **changes) -> dict:
    return {**p, "dilation": (1, 1), "padding": NONE, **changes}


class _Phases:
    """A picture of height H and width W, padded, and every d-th pixel of it as a picture.

    Args:
        size: (H, W).
        kernel: (KH, KW).
        padding, dilation: of the convolution.
    """

    def __init__(self, size, kernel, padding, dilation):
        self.d, self.size, self.padding = dilation, size, padding
        whole = [n + sum(p) for n, p in zip(size, padding, strict=True)]
        # rounded up to whole steps of d, so that every phase has one size
        self.padded = [-(-n // d) * d for n, d in zip(whole, dilation, strict=True)]
        reach = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        self.out = [n - r for n, r in zip(self.padded, reach, strict=True)]

    def image(self, r, x: Value) -> Value:
        """(N, C, H, W) -> (d d N, C, padded H / d, padded W / d)."""
        before = [p[0] for p in self.padding]
        return self._split(r, x, before, self.padded)

    def output(self, r, g: Value) -> Value:
        """A cotangent (N, O, OH, OW) in phases; zeros where the picture was rounded up."""
        return self._split(r, g, (0, 0), self.out)

    def _split(self, r, x: Value, before, size) -> Value:
        n, c, h, w = x.shape
        after = [m - b - k for m, b, k in zip(size, before, (h, w), strict=True)]
        if any((*before, *after)):
            x = r.add("pad", x, before=(0, 0, *before), after=(0, 0, *after), value=0.0)
        (dh, dw), (rows, columns) = self.d, (m // d for m, d in zip(size, self.d, strict=True))
        x = r.add("reshape", x, shape=(n, c, rows, dh, columns, dw))
        x = r.add("permute", x, axes=(3, 5, 0, 1, 2, 4))
        return r.add("reshape", x, shape=(dh * dw * n, c, rows, columns))

    def together(self, r, x: Value, start, size) -> Value:
        """Phases back into one picture, of which the part at `start` of `size` is given."""
        (dh, dw), (many, c, rows, columns) = self.d, x.shape
        n = many // (dh * dw)
        x = r.add("reshape", x, shape=(dh, dw, n, c, rows, columns))
        x = r.add("permute", x, axes=(2, 3, 4, 0, 5, 1))
        x = r.add("reshape", x, shape=(n, c, rows * dh, columns * dw))
        stop = tuple(a + k for a, k in zip(start, size, strict=True))
        return r.add("slice", x, start=(0, 0, *start), stop=(n, c, *stop), step=(1,) * 4)


def _dilated(p: dict, kernel: tuple[int, ...]) -> bool:
    """Whether the filter leaves pixels out between its taps, one step at a time."""
    taps = zip(p["dilation"], kernel, strict=True)
    return p["stride"] == (1, 1) and any(d > 1 and k > 1 for d, k in taps)


def _grouped(p: dict) -> bool:
    return 1 < p["groups"] <= MOST_GROUPS


def _part(r, x: Value, axis: int, number: int, many: int) -> Value:
    """One of `many` equal parts along an axis."""
    size = x.shape[axis] // many
    start, stop = [0] * 4, list(x.shape)
    start[axis], stop[axis] = number * size, (number + 1) * size
    return r.add("slice", x, start=tuple(start), stop=tuple(stop), step=(1,) * 4)


def _by_group(r, name: str, p: dict, pairs, axis: int, **sizes) -> Value:
    """A primitive for each group's operands, side by side along `axis`."""
    parts = [r.add(name, a, b, **{**p, "groups": 1, **sizes}) for a, b in pairs]
    return r.add("concatenate", *parts, axis=axis)


def _convolution(r, node: Node, inputs) -> Value | None:
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


def _input_gradient(r, node: Node, inputs) -> Value | None:
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


def _weight_gradient(r, node: Node, inputs) -> Value | None:
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


def _first_of(depthwise: Callable, other: Callable) -> Callable:
    def rule(r, node: Node, inputs) -> Value | None:
        if any(0 in v.shape for v in (*inputs, *node.outputs)):
            return None
        found = depthwise(r, node, inputs)
        return other(r, node, inputs) if found is None else found

    return rule


CONVOLUTION_RULES = {
    name: _first_of(DEPTHWISE_RULES[name], rule)
    for name, rule in (
        ("convolution", _convolution),
        ("convolution_input_gradient", _input_gradient),
        ("convolution_weight_gradient", _weight_gradient),
    )
}
