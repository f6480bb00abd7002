"""Simplifies a captured program: equal computations once, nothing unused, cheaper equals in place.

Every rule is a row of a table. Rules keep values the same up to rounding, NaN and infinities
included. The sign of a zero is kept but in two places: numbers picked by a sum with zeros
(take_along), and padded numbers that are added, give 0.0 for -0.0. Rows with positions that are
known at run time ask for checks, which run before anything is written; kernels rely on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np

from tinytorch.base.dtypes import (
    bfloat16,
    bool_,
    float16,
    float32,
    float64,
    int8,
    int32,
    int64,
    uint8,
)
from tinytorch.base.errors import CompileError
from tinytorch.compiler.graph.convolution_rules import CONVOLUTION_RULES
from tinytorch.compiler.graph.frozen import folded
from tinytorch.compiler.graph.graph import Captured, Graph, Node, Value, verify
from tinytorch.compiler.graph.parts import by_parts
from tinytorch.compiler.graph.rewriter import IndexCheck, Inputs, Rewriter, Rule, Simplified
from tinytorch.kernels.grouped_dots import MOST_ROWS
from tinytorch.primitives.primitive import TABLE, OpClass


def _check(r: Rewriter, node: Node, index: Value, size: int, least: int | None = None) -> None:
    where = node.where or r.where
    r.checks.append(IndexCheck(index, size, node.primitive.name, where, least))


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
    _check(r, node, index, x.shape[int(node.params["axis"])])
    return None


def _scatter_add(r: Rewriter, node: Node, inputs: Inputs) -> Value | None:
    _check(r, node, inputs[1], node.params["size"])
    return None


def _put_rows(r: Rewriter, node: Node, inputs: Inputs) -> Value | None:
    _check(r, node, inputs[2], inputs[0].shape[0])
    return None if inputs[1].spec.size else inputs[0]


_FAR = 1 << 60  # no position is as far


def _check_once(r: Rewriter, node: Node, index: Value, size: int) -> None:
    """A check that is not made yet, and not of places along an axis of that size."""
    made = r.maker(index, "iota")
    known = made is not None and made.params["shape"][made.params["axis"]] <= size
    if not known and not any(c.index is index and c.size == size for c in r.checks):
        _check(r, node, index, size)


def _put_tokens(r: Rewriter, node: Node, inputs: Inputs) -> Value | None:
    """Checked are each row's pages and the position of its last token, or its first below 0."""
    x, new, starts, counts, table = inputs
    _check_once(r, node, table, x.shape[0])
    one, none = r.scalar(1, starts), r.scalar(0, starts)
    counts = r.add("minimum", counts, r.scalar(new.shape[2], counts))
    last = r.add("sub", r.add("add", starts, counts), one)
    last = r.add("where", r.add("less", counts, one), none, last)
    wrong = r.add("sub", starts, r.scalar(_FAR + 1, starts))
    last = r.add("where", r.add("less", starts, none), wrong, last)
    _check_once(r, node, last, node.params["bound"] or _FAR)
    return None if new.spec.size else x


def _cached_attention(r: Rewriter, node: Node, inputs: Inputs) -> Value | None:
    _check_once(r, node, inputs[4], inputs[1].shape[0])
    return None


def _sparse_matmul(r: Rewriter, node: Node, inputs: Inputs) -> Value | None:
    """Checked are the columns, and that starts lie among the numbers and do not fall."""
    x, values, columns, starts = inputs
    count, rows = values.shape[0], starts.shape[0] - 1
    before, after, first, last = (
        r.add("slice", starts, start=(begin,), stop=(end,), step=(1,))
        for begin, end in ((0, rows), (1, rows + 1), (0, 1), (rows, rows + 1))
    )
    _check(r, node, columns, x.shape[1], least=0)
    for index in (first, last, r.add("sub", after, before)):
        _check(r, node, index, count + 1, least=0)
    if count and node.outputs[0].spec.size:
        return None
    out = node.outputs[0]
    return r.add("full", shape=out.shape, value=0, dtype=out.dtype)


def _take_along(r: Rewriter, node: Node, inputs: Inputs) -> Value | None:
    x, index = inputs
    axis = int(node.params["axis"]) % len(x.shape)
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
    axis, size = int(node.params["axis"]) % len(g.shape), int(node.params["size"])
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
    "put_tokens": _put_tokens,
    "cached_attention": _cached_attention,
    "sparse_matmul": _sparse_matmul,
    "take_along": _take_along,
    "scatter_along": _scatter_along,
    "slice_update": _slice_update,
    "max_pool2d_gradient": _pool_gradient,
    "max_pool2d_take": _pool_take,
}
# movement, arithmetic and reductions


def _reshape(r: Rewriter, node: Node, inputs: Inputs) -> Value | None:
    (x,) = inputs
    shape = tuple(node.params["shape"])
    if x.shape == shape:
        return x
    before = r.maker(x, "reshape")
    return r.add("reshape", before.inputs[0], shape=shape) if before else None


def _permute(r: Rewriter, node: Node, inputs: Inputs) -> Value | None:
    (x,) = inputs
    axes = tuple(node.params["axes"])
    if axes == tuple(range(len(axes))):
        return x
    before = r.maker(x, "permute")
    if before:
        joined = tuple(before.params["axes"][a] for a in axes)
        return r.add("permute", before.inputs[0], axes=joined)
    product = r.maker(x, "matmul")
    swap = (*range(len(axes) - 2), len(axes) - 1, len(axes) - 2)
    if product and axes == swap and _only_user(r, node):  # (a b)^T = b^T a^T, without a copy
        a, b = product.inputs
        return r.add("matmul", _swapped(r, b), _swapped(r, a), **product.params)
    return None


def _only_user(r: Rewriter, node: Node) -> bool:
    return (
        bool(node.inputs)
        and len(r.users.get(node.inputs[0], [])) == 1
        and node.inputs[0] not in r.outputs
    )


def _swapped(r: Rewriter, x: Value) -> Value:
    n = len(x.shape)
    return r.add("permute", x, axes=(*range(n - 2), n - 1, n - 2))


def _broadcast(r: Rewriter, node: Node, inputs: Inputs) -> Value | None:
    (x,) = inputs
    shape = tuple(node.params["shape"])
    if x.shape == shape:
        return x
    before = r.maker(x, "broadcast_to")
    return r.add("broadcast_to", before.inputs[0], shape=shape) if before else None


def _pad(r: Rewriter, node: Node, inputs: Inputs) -> Value | None:
    return None if any(node.params["before"]) or any(node.params["after"]) else inputs[0]


# of each number type others, all of whose numbers it has
WIDENED = {float32: (bfloat16, float16), float64: (float32, bfloat16, float16)}


def _cast(r: Rewriter, node: Node, inputs: Inputs) -> Value | None:
    """A narrowing cast goes in front of movement: there it is fused into what makes the numbers,
    and views of one array share it."""
    (x,), dtype = inputs, node.params["dtype"]
    if x.dtype is dtype:
        return x
    wider = r.maker(x, "cast")
    if wider is not None and wider.inputs[0].dtype is dtype and dtype in WIDENED.get(x.dtype, ()):
        return wider.inputs[0]  # every number of it is one of the wider type
    moved = r.made.get(x)
    if (
        moved is None
        or dtype.itemsize >= x.dtype.itemsize
        or not x.dtype.is_float
        or not dtype.is_float
    ):
        return None
    if moved.primitive.op_class is not OpClass.MOVEMENT:
        return None
    first = moved.inputs[0]
    if not x.spec.size <= first.spec.size <= 4 * x.spec.size:  # of little repeated, or of a part
        return None
    return r.add(moved.primitive.name, r.add("cast", first, dtype=dtype), **moved.params)


def _slice(r: Rewriter, node: Node, inputs: Inputs) -> Value | None:
    (x,) = inputs
    p = node.params
    whole = all(
        a == 0 and s == 1 and b >= n
        for a, b, s, n in zip(p["start"], p["stop"], p["step"], x.shape, strict=True)
    )
    return x if whole else None


def _reduction(r: Rewriter, node: Node, inputs: Inputs) -> Value | None:
    (x,) = inputs
    axes = node.reduced_axes
    if x.dtype is not node.outputs[0].dtype:
        return None
    combines = node.primitive.combines
    if x.spec.size == 0 and combines and np.isfinite(combines[1]):
        out = node.outputs[0]
        return r.add("full", shape=out.shape, value=combines[1], dtype=out.dtype)
    if all(x.shape[a] == 1 for a in axes):
        kept = node.params["keepdims"]
        shape = tuple(1 if d in axes else n for d, n in enumerate(x.shape) if kept or d not in axes)
        return r.add("reshape", x, shape=shape)
    return None


def _spread_dropped(r: Rewriter, node: Node, inputs: Inputs) -> Inputs:
    """Operands without a broadcast_to that the operation would do by itself."""
    out = list(inputs)
    for i, v in enumerate(inputs):
        before = r.maker(v, "broadcast_to")
        others = [w.shape for j, w in enumerate(out) if j != i]
        if before and others:
            spread = np.broadcast_shapes(before.inputs[0].shape, *others)
            if spread == np.broadcast_shapes(*(w.shape for w in inputs)):
                out[i] = before.inputs[0]
    return tuple(out)


def _elementwise(special: Rule | None = None) -> Rule:
    """The rule of an elementwise row: a special one first, its neutral number, broadcasting."""

    def rule(r: Rewriter, node: Node, inputs: Inputs) -> Value | None:
        for identity in (special, _neutral):
            found = identity(r, node, inputs) if identity else None
            if found is not None:
                return found
        plain = _spread_dropped(r, node, inputs)
        return r.again(node, plain)[0] if plain != inputs else None

    return rule


def _neutral(r: Rewriter, node: Node, inputs: Inputs) -> Value | None:
    """x op neutral = x, and neutral op x = x if operands may change places."""
    number = node.primitive.neutral
    if number is None:
        return None
    a, b = inputs
    shape = np.broadcast_shapes(a.shape, b.shape)
    sides = ((a, b), (b, a)) if node.primitive.commutes else ((a, b),)
    for x, other in sides:
        if x.shape == shape and r.number(other) == number and not _negative_zero(r.number(other)):
            return x
    return None


def _negative_zero(x: float | None) -> bool:
    return x is not None and x == 0 and bool(np.signbit(x))


def _add(r: Rewriter, node: Node, inputs: Inputs) -> Value | None:
    a, b = (r.maker(v, "pad") for v in inputs)
    if (
        a is None
        or b is None
        or a.outputs[0].shape != b.outputs[0].shape
        or a.params.get("value", 0.0) != 0.0
        or b.params.get("value", 0.0) != 0.0
    ):
        return None
    return _side_by_side(r, a, b)


def _side_by_side(r: Rewriter, a: Node, b: Node) -> Value | None:
    """pad(x) + pad(y), x and y side by side along one axis: their concatenation, padded."""
    (x,), (y,) = a.inputs, b.inputs
    differ = [
        d
        for d in range(len(x.shape))
        if (a.params["before"][d], x.shape[d]) != (b.params["before"][d], y.shape[d])
    ]
    if len(differ) != 1:
        return None
    d = differ[0]
    if a.params["before"][d] > b.params["before"][d]:
        (x, y), (a, b) = (y, x), (b, a)
    if a.params["before"][d] + x.shape[d] != b.params["before"][d]:
        return None
    parts: list[Value] = []
    for v in (x, y):
        joined = r.maker(v, "concatenate")
        parts += joined.inputs if joined and joined.params["axis"] == d else [v]
    both = r.add("concatenate", *parts, axis=d)
    before = tuple(a.params["before"])
    after = tuple(
        b.params["after"][i] if i == d else a.params["after"][i] for i in range(len(before))
    )
    if not any(before) and not any(after):
        return both
    return r.add("pad", both, before=before, after=after, value=0.0)


def _matmul(r: Rewriter, node: Node, inputs: Inputs) -> Value | None:
    """A product of widened bytes is one of bytes, their sums int32: four at an instruction. The
    scale of a column of a quantised weight multiplies the column's sums."""
    if node.outputs[0].dtype.is_float:
        return _scaled_after(r, node, inputs)
    if node.outputs[0].dtype is not int32:
        return None
    a, b = (_bytes_of(r, v) for v in inputs)
    if a is None or b is None or (a, b) == inputs:
        return None
    return r.add("matmul", a, b, dtype=int32)


def _scaled_after(r: Rewriter, node: Node, inputs: Inputs) -> Value | None:
    """x (cast(w) * s) = (x cast(w)) * s, for bytes w and a number of s for each column."""
    x, b = inputs
    turned = r.maker(b, "permute")
    if len(b.shape) != 2 or turned is not None and tuple(turned.params["axes"]) != (1, 0):
        return None
    product = r.maker(turned.inputs[0] if turned else b, "mul")
    if product is None:
        return None
    summed = 1 if turned else 0  # the axis of the weight along which the sums run
    for w, s in (product.inputs, product.inputs[::-1]):
        made, shape = r.maker(w, "cast"), (1,) * (2 - len(s.shape)) + s.shape
        if made is None or made.inputs[0].dtype not in (int8, uint8):
            continue
        if w.shape != product.outputs[0].shape or len(shape) > 2 or shape[summed] != 1:
            continue
        if turned:
            w = _swapped(r, w)
        scale = r.add("reshape", s, shape=(shape[1 - summed],))
        return r.add("mul", r.add("matmul", x, w, **node.params), scale)
    return None


def _grouped_matmul(r: Rewriter, node: Node, inputs: Inputs) -> Value | None:
    """Of many rows a product of float32 that unpacks the weight while it reads it: each number is
    then used often, and whole numbers below 128 are exact in float32."""
    x, w, s = inputs
    k, n, rows = x.shape[-1], w.shape[0], prod(x.shape[:-1])
    if not k:
        return r.add("full", shape=node.outputs[0].shape, value=0, dtype=float32)
    if rows <= MOST_ROWS:
        return None
    bits, group, groups = node.params["bits"], node.params["group"], s.shape[1]
    w = r.add("reshape", w, shape=(n, groups, 1, group * bits // 8))
    if bits == 4:
        half = r.add("iota", shape=(2, 1), axis=0, dtype=uint8)
        w = r.add("shift_right", w, r.add("mul", half, r.scalar(4, w)))
        w = r.add("cast", r.add("bitwise_and", w, r.scalar(15, w)), dtype=float32)
        w = r.add("sub", w, r.scalar(8.0, w))
    else:
        w = r.add("cast", w, dtype=float32)
    scale = r.add("reshape", r.add("cast", s, dtype=float32), shape=(n, groups, 1, 1))
    w = r.add("reshape", r.add("mul", w, scale), shape=(n, groups * group))
    x = r.add("cast", x, dtype=float32)
    if k < groups * group:
        lead = (0,) * (len(x.shape) - 1)
        x = r.add("pad", x, before=(*lead, 0), after=(*lead, groups * group - k), value=0.0)
    return r.add("matmul", x, r.add("permute", w, axes=(1, 0)))


def _bytes_of(r: Rewriter, v: Value) -> Value | None:
    """The bytes that v is a cast of; movement is done to them. None: it is no cast of bytes."""
    made = r.made.get(v)
    if v.dtype in (int8, uint8):
        return v
    if made is None or not made.inputs:
        return None
    if made.primitive.name == "cast":
        return made.inputs[0] if made.inputs[0].dtype in (int8, uint8) else None
    if made.primitive.op_class is not OpClass.MOVEMENT or len(made.inputs) != 1:
        return None
    first = _bytes_of(r, made.inputs[0])
    params = made.params
    if "value" in params:  # of a padding
        return None
    return None if first is None else r.add(made.primitive.name, first, **params)


def _pow(r: Rewriter, node: Node, inputs: Inputs) -> Value | None:
    x, e = inputs
    if not x.dtype.is_float or e.shape != ():
        return None
    number = r.number(e)
    if number == 2:
        return r.add("mul", x, x)
    if number == 1:
        return x
    return None  # not pow(x, 0.5) = sqrt(x): pow(-inf, 0.5) is inf, sqrt(-inf) is NaN


def _absorb(r: Rewriter, node: Node, inputs: Inputs) -> Value | None:
    """A product with a number that is finite is NaN only where its other factor is."""
    p, g = inputs
    product = r.maker(p, "mul")
    if product is None or g not in product.inputs:
        return None
    other = product.inputs[0] if g is product.inputs[1] else product.inputs[1]
    number = r.number(other)
    return p if number is not None and np.isfinite(number) else None


def _convolution(r: Rewriter, node: Node, inputs: Inputs) -> Value | None:
    """A convolution of widened bytes is one of bytes; of floats there are rules of their own."""
    if node.outputs[0].dtype.is_float:
        return CONVOLUTION_RULES["convolution"](r, node, inputs)
    x, w = (_bytes_of(r, v) for v in inputs)
    if node.outputs[0].dtype is not int32 or x is None or w is None or (x, w) == inputs:
        return None
    return r.add("convolution", x, w, **{**node.params, "dtype": int32})


RULES: dict[str, Rule] = {
    **{name: _elementwise() for name, row in TABLE.items() if row.elementwise},
    **{name: _reduction for name, row in TABLE.items() if row.combines},
    "add": _elementwise(_add), "pow": _elementwise(_pow), "absorb": _absorb, "cast": _cast,
    "reshape": _reshape, "permute": _permute, "broadcast_to": _broadcast,
    "slice": _slice, "pad": _pad, "matmul": _matmul,
    "grouped_matmul": _grouped_matmul,
    **INDEX_RULES,
    **CONVOLUTION_RULES, "convolution": _convolution,
}  # fmt: skip

# the second time, when all checks of indices have been asked for
RULES_OF_PARTS = {name: rule for name, rule in RULES.items() if name not in INDEX_RULES}


def simplify(captured: Captured) -> Simplified:
    """The program after all rules.

    Args:
        captured: as recorded; it stays as it is.
    """
    r = Rewriter(folded(captured.graph), RULES)
    graph = r.run()
    checks = tuple({(c.index, c.size, c.least): c for c in r.checks}.values())
    graph = remove_unused(graph, [c.index for c in checks])
    parted, now = by_parts(graph, RULES_OF_PARTS, frozenset(c.index for c in checks))
    if parted is not graph:
        checks = tuple(replace(c, index=now[c.index]) for c in checks)
        graph = remove_unused(parted, [c.index for c in checks])
    return Simplified(captured, graph, checks)


def remove_unused(graph: Graph, also: Sequence[Value] = ()) -> Graph:
    """The graph without nodes nobody reads, such constants, and such parts of bodies."""
    live = {*graph.outputs, *also}
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if any(v in live for v in node.outputs):
            if node.bodies:
                node = _trimmed(node, live) if node.is_loop else _trimmed_branch(node, live)
            kept.append(node)
            live.update(node.inputs)
    constants = {v: a for v, a in graph.constants.items() if v in live}
    return replace(graph, nodes=kept[::-1], constants=constants)


def _trimmed(node: Node, live: set[Value]) -> Node:
    """A loop without what nobody reads: stacks, and carried values that serve nothing else."""
    body, n = node.body, node.params["carries"]
    stacks = [i for i, v in enumerate(node.outputs) if i >= n and v in live]
    carried = {i for i in range(n) if node.outputs[i] in live}
    while True:
        results = [*sorted(carried), *stacks]
        read = body.reads([body.results[i] for i in results])
        grown = carried | {i for i in range(n) if i in read}
        if grown == carried:
            break
        carried = grown
    inputs = [i for i in range(len(body.inputs)) if i in read or i in carried]
    if (len(inputs), len(results)) == (len(body.inputs), len(node.outputs)):
        return node
    rows = range(n, n + node.params["stacked"])
    params = {
        **node.params, "body": body.part(inputs, [body.results[i] for i in results]),
        "carries": len(carried), "stacked": sum(i in rows for i in inputs),
    }  # fmt: skip
    given = tuple(node.inputs[i] for i in inputs)
    outputs = tuple(node.outputs[i] for i in results)
    return Node(node.primitive, given, params, outputs, node.where, node.replay)


def _trimmed_branch(node: Node, live: set[Value]) -> Node:
    """A branch without what nobody reads: results, and operands that served only these."""
    true, false = node.bodies
    n = node.params["results"]
    common = [i for i in range(n) if node.outputs[i] in live]
    others = range(len(true.results), len(node.outputs))
    kept = [
        [*common, *(i for i in range(n, len(true.results)) if node.outputs[i] in live)],
        [*common, *(n + i for i, at in enumerate(others) if node.outputs[at] in live)],
    ]
    wanted = [[body.results[i] for i in own] for body, own in zip((true, false), kept, strict=True)]
    read = true.reads(wanted[0]) | false.reads(wanted[1])
    inputs = [i for i in range(len(true.inputs)) if i in read]
    params = {
        "true": true.part(inputs, wanted[0]), "false": false.part(inputs, wanted[1]),
        "results": len(common),
    }  # fmt: skip
    given = (node.inputs[0], *(node.inputs[1 + i] for i in inputs))
    outputs = tuple(v for v in node.outputs if v in live)
    return Node(node.primitive, given, params, outputs, node.where, node.replay)


def check_simplified(simplified: Simplified) -> None:
    """See `graph.verify`; arguments, states and results keep their places.

    Raises:
        CompileError: they do not.
    """
    graph, before = verify(simplified.graph, "simplify"), simplified.captured.graph
    same = (graph.arguments, graph.states) == (before.arguments, before.states)
    if not same or len(graph.results) != len(before.results):
        raise CompileError.own_fault(
            "the compiler pass 'simplify' made an invalid program: what it is given has changed",
            got=f"{len(graph.arguments)} arguments, {len(graph.results)} results",
            rule="arguments, states and results keep their places",
        )
