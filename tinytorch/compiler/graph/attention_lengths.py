"""Attention of queries and keys whose number is known only when the program runs.

Knows the definition of attention (primitives/contraction.py) and masks. Where each query sees the
keys up to its own place, those that are not valid are hidden from all that are, and the kernel is
used as it is. Elsewhere the scores are written out, (T, S) numbers, with -inf for such keys.
"""

from __future__ import annotations

import math

from tinytorch.base.dtypes import DType, int64
from tinytorch.compiler.graph.axes import Axes, Axis, common_axis, plain_axis
from tinytorch.compiler.graph.graph import Node, Value
from tinytorch.compiler.graph.lengths import LengthRewriter

Values = tuple[Value, ...]
_T = 2  # the axis of queries, and of keys


def _fit(b: LengthRewriter, inputs: Values) -> tuple[Axis, Axis, Axis, Axis]:
    """Batch, heads, queries, keys."""
    q, k = (b.axes_of(v) for v in inputs[:2])
    lead = [common_axis([q[d], k[d]]) for d in (0, 1)]
    if q[3].is_ragged or any(len(a.parts) > 1 and a.is_ragged for a in (q[_T], k[_T])):
        b.refuse("queries and keys each have an axis of their own, and heads a fixed size")
    if lead[0] is None or lead[1] is None:
        b.refuse("queries and keys have the same batch and heads")
        return q[0], q[1], q[2], k[2]
    return lead[0], lead[1], q[_T], k[_T]


def _is_hidden(node: Node, queries: Axis, keys: Axis) -> bool:
    """Whether no valid query sees a key that is not, as the places lie in memory."""
    if not keys.is_ragged and not (node.params["causal"] and queries.is_ragged):
        return True
    offset = keys.length - queries.length
    return node.params["causal"] and isinstance(offset, int) and (
        offset == keys.size - queries.size
    )  # fmt: skip


def attention(b: LengthRewriter, node: Node, inputs: Values) -> Values:
    """(out, lse) of attention."""
    batch, heads, queries, keys = _fit(b, inputs)
    lead = (batch, heads, queries)
    of_out = [(*lead, plain_axis(inputs[0].shape[3])), lead]
    if _is_hidden(node, queries, keys):
        return b.again(inputs, of_out)
    out, lse = (v.dtype for v in node.outputs)
    q, k, v = (_to(b, x, lse) for x in inputs)
    scores = _scores(b, node, q, k, queries, keys)
    largest = b.add("max", scores, axes=(3,), keepdims=True)
    none = b.add("equal", largest, b.scalar(-math.inf, lse))
    shift = b.add("where", none, b.scalar(0, lse), largest)
    powers = b.add("exp", b.add("sub", scores, shift))
    mass = b.add("sum", powers, axes=(3,), keepdims=True)
    safe = b.add("where", none, b.scalar(1, lse), mass)
    weights = b.add("div", powers, safe)
    made = _to(b, b.add("matmul", weights, b.masked(v, [_T], 0)), out)
    total = b.add("add", shift, b.add("log", safe))
    total = b.add("where", none, b.scalar(-math.inf, lse), total)
    total = b.add("reshape", total, shape=total.shape[:3])
    return b.note(made, of_out[0]), b.note(total, of_out[1])


def attention_gradient(b: LengthRewriter, node: Node, inputs: Values) -> Values:
    """(g_q, g_k, g_v) of attention: queries that are not valid add nothing to any key."""
    g, q, k, v, out, lse = inputs
    _, _, queries, keys = _fit(b, (q, k))
    axes = [b.axes_of(x) for x in (q, k, v)]
    g, q, out, lse = (b.masked(x, [_T], 0, _with(b, x, queries)) for x in (g, q, out, lse))
    if _is_hidden(node, queries, keys):
        return b.again((g, q, k, v, out, lse), axes)
    wide = lse.dtype
    kinds = [x.dtype for x in node.outputs]
    g, q, out = (_to(b, x, wide) for x in (g, q, out))
    k, v = (_to(b, b.masked(x, [_T], 0), wide) for x in (k, v))
    minus = b.scalar(-math.inf, wide)
    none = b.add("equal", lse, minus)
    column = b.add("where", none, b.scalar(0, wide), lse)
    column = b.add("reshape", column, shape=(*lse.shape, 1))
    p = b.add("exp", b.add("sub", _scores(b, node, q, k, queries, keys), column))
    if queries.is_ragged:
        p = b.masked(p, [_T], 0, (*axes[0][:3], plain_axis(keys.size)))
    delta = b.add("sum", b.add("mul", g, out), axes=(3,), keepdims=True)
    slope = b.add("sub", b.add("matmul", g, _turned(b, v)), delta)
    g_scores = b.add("mul", b.add("mul", p, slope), b.scalar(node.params["scale"], wide))
    made = (
        b.add("matmul", g_scores, k),
        b.add("matmul", _turned(b, g_scores), q),
        b.add("matmul", _turned(b, p), g),
    )
    each = zip(made, kinds, axes, strict=True)
    return tuple(b.note(_to(b, x, kind), of) for x, kind, of in each)


def put_tokens(b: LengthRewriter, node: Node, inputs: Values) -> Values:
    """Of the new tokens of each row no more are written than are valid."""
    x, new, starts, counts, table = inputs
    if b.axes_of(new)[_T].is_ragged:
        counts = b.add("minimum", counts, b.scalar(b.axes_of(new)[_T].length, int64))
    return b.again((x, new, starts, counts, table), [b.axes_of(x)])


def cached_attention(b: LengthRewriter, node: Node, inputs: Values) -> Values:
    """A query reads what is in the cache before it: those that are not valid reach no other."""
    return b.again(inputs, [b.axes_of(inputs[0])])


def _with(b: LengthRewriter, x: Value, queries: Axis) -> Axes:
    own = b.axes_of(x)
    return (*own[:_T], queries, *own[_T + 1 :])


def _scores(b: LengthRewriter, node: Node, q: Value, k: Value, queries: Axis, keys: Axis) -> Value:
    """scale * q k^T, -inf where a query does not see a key, or the key is not valid."""
    dtype = q.dtype
    scores = b.add("mul", b.add("matmul", q, _turned(b, k)), b.scalar(node.params["scale"], dtype))
    columns = (1, 1, 1, keys.size)
    seen: Value | None = None
    if keys.is_ragged:
        valid = (*(plain_axis(1),) * 3, keys)
        seen = b.mask(valid, [3])
    if node.params["causal"]:
        rows = b.places((1, 1, queries.size, 1), 2, int64)
        last = b.add("add", rows, b.scalar(keys.length - queries.length, int64))
        before = b.add("less_equal", b.places(columns, 3, int64), last)
        seen = before if seen is None else b.add("logical_and", seen, before)
    if seen is None:
        return scores
    return b.add("where", seen, scores, b.scalar(-math.inf, dtype))


def _turned(b: LengthRewriter, x: Value) -> Value:
    return b.add("permute", x, axes=(0, 1, 3, 2))


def _to(b: LengthRewriter, x: Value, dtype: DType) -> Value:
    if x.dtype is dtype:
        return x
    return b.note(b.add("cast", x, dtype=dtype), b.axes_of(x))
