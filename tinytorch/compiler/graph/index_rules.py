"""Rewrite rules of the primitives with run-time positions, and the checks they ask for.

Knows primitives, never kernels. Each rule is given the rewriter, a node and its simplified inputs,
as those of `compiler/graph/simplify.py`. Checks run before anything is written; kernels rely on it.
"""

from __future__ import annotations

from tinytorch.base.dtypes import bool_, int64
from tinytorch.compiler.graph.graph import Node, Value
from tinytorch.compiler.graph.rewriter import IndexCheck, Inputs, Rewriter, Rule


def _check(r: Rewriter, node: Node, index: Value, size: int) -> None:
    r.checks.append(IndexCheck(index, size, node.primitive.name, node.where or r.where))


def _wrapped(r: Rewriter, index: Value, size: int) -> Value:
    index = r.add("cast", index, dtype=int64)
    past = r.add("add", index, r.scalar(size, index))
    return r.add("where", r.add("less", index, r.scalar(0, index)), past, index)


def _hits(r: Rewriter, index: Value, shape: tuple[int, ...], axis: int) -> Value:
    """Where position along the axis = index, as booleans of `shape`; index has size 1 there."""
    places = r.add("iota", shape=shape, axis=axis, dtype=int64)
    return r.add("equal", places, _wrapped(r, index, shape[axis]))


def _take(r: Rewriter, node: Node, inputs: Inputs) -> Value | None:
    x, index = inputs
    _check(r, node, index, x.shape[node.params["axis"]])
    return None


def _scatter_add(r: Rewriter, node: Node, inputs: Inputs) -> Value | None:
    _check(r, node, inputs[1], node.params["size"])
    return None


def _put_rows(r: Rewriter, node: Node, inputs: Inputs) -> Value | None:
    _check(r, node, inputs[2], inputs[0].shape[0])
    return None if inputs[1].spec.size else inputs[0]


def _take_along(r: Rewriter, node: Node, inputs: Inputs) -> Value | None:
    x, index = inputs
    axis = node.params["axis"] % len(x.shape)
    _check(r, node, index, x.shape[axis])
    if index.shape[axis] != 1 or x.shape[axis] == 0:
        return None
    hits = _hits(r, index, x.shape, axis)
    if x.dtype is bool_:
        return r.add("any", r.add("logical_and", hits, x), axes=(axis,), keepdims=True)
    picked = r.add(
        "where",
        hits,
        x,
        r.scalar(0, x)
        if x.dtype.name != "bfloat16"
        else r.add("full", shape=(), value=0, dtype=x.dtype),
    )
    return r.add("sum", picked, axes=(axis,), keepdims=True)


def _scatter_along(r: Rewriter, node: Node, inputs: Inputs) -> Value | None:
    g, index = inputs
    axis, size = node.params["axis"] % len(g.shape), node.params["size"]
    _check(r, node, index, size)
    if g.shape[axis] != 1:
        return None
    shape = (*g.shape[:axis], size, *g.shape[axis + 1 :])
    zero = r.add("full", shape=(), value=0, dtype=g.dtype)
    return r.add("where", _hits(r, index, shape, axis), g, zero)


def _slice_update(r: Rewriter, node: Node, inputs: Inputs) -> Value | None:
    """One check an axis: a position outside stays itself, any other counts from the front."""
    x, y, start = inputs
    for axis, (n, m) in enumerate(zip(x.shape, y.shape, strict=True)):
        first = r.add("slice", start, start=(axis,), stop=(axis + 1,), step=(1,))
        front = r.add("add", first, r.scalar(n, start))
        below = r.add("sub", first, r.scalar(n + 1, start))
        inside = r.add("less_equal", r.scalar(0, start), front)
        negative = r.add("where", inside, front, below)
        place = r.add("where", r.add("less", first, r.scalar(0, start)), negative, first)
        _check(r, node, place, n - m + 1)
    return None if y.spec.size else x


def _flat_images(r: Rewriter, *values: Value) -> list[Value]:
    """(N, C, H, W) as (N, C, H * W)."""
    return [r.add("reshape", v, shape=(*v.shape[:2], v.shape[2] * v.shape[3])) for v in values]


def _pool_gradient(r: Rewriter, node: Node, inputs: Inputs) -> Value | None:
    """Unknown indices are scattered to; those of a pooling in this program need no check."""
    g, index = inputs
    shape = tuple(node.params["input_shape"])
    pooled = r.maker(index, "max_pool2d")
    if pooled is not None and pooled.inputs[0].shape == shape:
        return None
    flat = r.add("scatter_along", *_flat_images(r, g, index), axis=2, size=shape[2] * shape[3])
    return r.add("reshape", flat, shape=shape)


def _pool_take(r: Rewriter, node: Node, inputs: Inputs) -> Value | None:
    x, index = inputs
    if not index.spec.size:
        return r.add("full", shape=index.shape, value=0, dtype=x.dtype)
    return r.add(
        "reshape", r.add("take_along", *_flat_images(r, x, index), axis=2), shape=index.shape
    )


INDEX_RULES: dict[str, Rule] = {
    "take": _take,
    "scatter_add": _scatter_add,
    "put_rows": _put_rows,
    "take_along": _take_along,
    "scatter_along": _scatter_along,
    "slice_update": _slice_update,
    "max_pool2d_gradient": _pool_gradient,
    "max_pool2d_take": _pool_take,
}
