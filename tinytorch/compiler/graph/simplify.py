"""Simplifies a captured program: equal computations once, nothing unused, cheaper equals in place.

Every rule is a row of a table. Rules keep values the same up to rounding, NaN and infinities
included. The sign of a zero is kept but in two places: numbers picked by a sum with zeros
(take_along), and padded numbers that are added, give 0.0 for -0.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tinytorch.base.errors import CompileError
from tinytorch.compiler.graph.convolution_rules import CONVOLUTION_RULES
from tinytorch.compiler.graph.graph import Captured, Graph, Node, Value, verify
from tinytorch.compiler.graph.index_rules import INDEX_RULES
from tinytorch.compiler.graph.rewriter import Inputs, Rewriter, Rule, Simplified
from tinytorch.primitives.primitive import TABLE, OpClass


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
        and node.inputs[0] not in r.old.outputs
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


def _cast(r: Rewriter, node: Node, inputs: Inputs) -> Value | None:
    """A narrowing cast goes in front of movement: there it is fused into what makes the numbers,
    and views of one array share it."""
    (x,), dtype = inputs, node.params["dtype"]
    if x.dtype is dtype:
        return x
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
    axes = [a % len(x.shape) for a in node.params["axes"]]
    if node.outputs and x.dtype is not node.outputs[0].dtype:
        return None
    combines = node.primitive.combines
    if x.spec.size == 0 and combines and np.isfinite(combines[1]):
        out = node.primitive.infer(x.spec, **node.params)
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


RULES: dict[str, Rule] = {
    **{name: _elementwise() for name, row in TABLE.items() if row.elementwise},
    **{name: _reduction for name, row in TABLE.items() if row.combines},
    "add": _elementwise(_add), "pow": _elementwise(_pow), "absorb": _absorb, "cast": _cast,
    "reshape": _reshape, "permute": _permute, "broadcast_to": _broadcast,
    "slice": _slice, "pad": _pad,
    **INDEX_RULES,
    **CONVOLUTION_RULES,
}  # fmt: skip


def simplify(captured: Captured) -> Simplified:
    """The program after all rules.

    Args:
        captured: as recorded; it stays as it is.
    """
    r = Rewriter(captured.graph, RULES)
    graph = r.run()
    checks = tuple({(c.index, c.size): c for c in r.checks}.values())
    return Simplified(captured, remove_unused(graph, [c.index for c in checks]), checks)


def remove_unused(graph: Graph, also: Sequence[Value] = ()) -> Graph:
    """The graph without nodes nobody reads, and without such constants."""
    live = {*graph.outputs, *also}
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if any(v in live for v in node.outputs):
            kept.append(node)
            live.update(node.inputs)
    constants = {v: a for v, a in graph.constants.items() if v in live}
    return replace(graph, nodes=kept[::-1], constants=constants)


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
