"""Simplifies a captured program: equal computations once, nothing unused, cheaper equals in place.

Every rule is a row of a table: it is given a node with its already simplified inputs and answers
with another value, or None to leave it. Knows primitives, never kernels. Rules keep values the same
up to rounding, NaN and infinities included. The sign of a zero is kept but in two places: numbers
picked by a sum with zeros (take_along), and padded numbers that are added, give 0.0 for -0.0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinytorch.compiler.graph.convolution_rules import CONVOLUTION_RULES
from tinytorch.compiler.graph.graph import Graph, Node, Value
from tinytorch.compiler.graph.index_rules import INDEX_RULES, IndexCheck
from tinytorch.primitives.primitive import TABLE, OpClass, Spec

SMALL = 16  # constants up to this many elements are computed while compiling


@dataclass(eq=False)
class Simplified:
    """A program after the rules, with the index checks it needs, and where each value went."""

    graph: Graph
    checks: list[IndexCheck] = field(default_factory=list)


class Rewriter:
    """Builds the new graph node by node; equal nodes give the same values."""

    def __init__(self, graph: Graph):
        self.old = graph
        self.new = Graph(list(graph.arguments), list(graph.states), dict(graph.constants))
        self.values: dict[Value, Value] = {
            v: v for v in (*graph.arguments, *graph.states, *graph.constants)
        }
        self.made: dict[Value, Node] = {}
        self.checks: list[IndexCheck] = []
        self.users = graph.users()
        self._seen: dict[tuple, tuple[Value, ...]] = {}
        self._constants: dict[tuple, Value] = {}
        self.where = ""
        for v, array in graph.constants.items():
            if array.size <= SMALL:
                self._constants.setdefault((v.spec, array.tobytes()), v)

    def run(self) -> Simplified:
        """The whole program."""
        for node in self.old.nodes:
            self.where = node.where
            inputs = tuple(self._unique(self.values[v]) for v in node.inputs)
            rule = RULES.get(node.primitive.name)
            out = rule(self, node, inputs) if rule else None
            outs = self.add_node(node, inputs) if out is None else (out,)
            if len(outs) == 1 and inputs and not outs[0].spec.size:  # nothing is computed
                outs = (self.add("full", shape=outs[0].shape, value=0, dtype=outs[0].dtype),)
            self.values.update(zip(node.outputs, outs, strict=True))
        self.new.results = [self.values[v] for v in self.old.results]
        self.new.updates = [(s, self.values[v]) for s, v in self.old.updates]
        self.checks = list({(c.index, c.size): c for c in self.checks}.values())
        remove_unused(self.new, [c.index for c in self.checks])
        return Simplified(self.new, self.checks)

    def _unique(self, v: Value) -> Value:
        array = self.new.constants.get(v)
        if array is None or array.size > SMALL:
            return v
        return self._constants.setdefault((v.spec, array.tobytes()), v)

    def add_node(self, node: Node, inputs: tuple[Value, ...]) -> tuple[Value, ...]:
        """The node as it is, unless it was made already or can be computed now."""
        return self._add(node.primitive.name, inputs, node.params)

    def add(self, name: str, *inputs: Value, **params: Any) -> Value:
        """Apply a primitive with one output, by the rules that hold for it."""
        rule, out = RULES.get(name), None
        if rule is not None:
            spec = TABLE[name].infer(*(v.spec for v in inputs), **params)
            node = Node(TABLE[name], inputs, params, (Value(spec),), self.where)
            out = rule(self, node, inputs)
        return self._add(name, inputs, params)[0] if out is None else out

    def _add(self, name: str, inputs: tuple[Value, ...], params: dict) -> tuple[Value, ...]:
        key = (name, inputs, repr(sorted(params.items())))  # as text 0.0 and -0.0 differ
        if key not in self._seen:
            arrays = [self.new.constants.get(v) for v in inputs]
            outs = self.new.add(TABLE[name], inputs, params, self.where)
            known = inputs and all(a is not None for a in arrays)
            if known and all(o.spec.size <= SMALL for o in outs):
                self.new.nodes.pop()
                done = TABLE[name].evaluate(tuple(arrays), tuple(v.dtype for v in inputs), params)
                done = done if isinstance(done, tuple) else (done,)
                outs = tuple(
                    self.constant(np.ascontiguousarray(a).reshape(o.shape), o.spec)
                    for a, o in zip(done, outs, strict=True)
                )
            else:
                self.made.update({o: self.new.nodes[-1] for o in outs})
            self._seen[key] = outs
        return self._seen[key]

    def constant(self, array: np.ndarray, spec: Spec) -> Value:
        """A value fixed now."""
        v = Value(spec)
        self.new.constants[v] = array
        return self._unique(v)

    def scalar(self, number, like: Value) -> Value:
        """A 0-d constant of the dtype of `like` (not bfloat16)."""
        return self.constant(np.array(number, like.dtype.storage), Spec((), like.dtype))

    def number(self, v: Value) -> float | None:
        """The number a value holds everywhere, if that is known."""
        array = self.new.constants.get(v)
        if array is not None and array.size == 1 and v.dtype.name != "bfloat16":
            return array.item()
        node = self.made.get(v)
        if node is not None and node.primitive.op_class is OpClass.MOVEMENT:
            return self.number(node.inputs[0])
        return node.constant if node is not None else None

    def maker(self, v: Value, name: str) -> Node | None:
        """The node that made v, if it is of that primitive."""
        node = self.made.get(v)
        return node if node is not None and node.primitive.name == name else None


def remove_unused(graph: Graph, also: Sequence[Value] = ()) -> None:
    """Drop nodes nobody reads, and constants."""
    live = {*graph.outputs, *also}
    kept = []
    for node in reversed(graph.nodes):
        if any(v in live for v in node.outputs):
            kept.append(node)
            live.update(node.inputs)
    graph.nodes = kept[::-1]
    graph.constants = {v: a for v, a in graph.constants.items() if v in live}


Rule = Callable[[Rewriter, Node, tuple[Value, ...]], Value | None]


def _reshape(r: Rewriter, node: Node, inputs) -> Value | None:
    (x,) = inputs
    shape = tuple(node.params["shape"])
    if x.shape == shape:
        return x
    before = r.maker(x, "reshape")
    return r.add("reshape", before.inputs[0], shape=shape) if before else None


def _permute(r: Rewriter, node: Node, inputs) -> Value | None:
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


def _broadcast(r: Rewriter, node: Node, inputs) -> Value | None:
    (x,) = inputs
    shape = tuple(node.params["shape"])
    if x.shape == shape:
        return x
    before = r.maker(x, "broadcast_to")
    return r.add("broadcast_to", before.inputs[0], shape=shape) if before else None


def _pad(r: Rewriter, node: Node, inputs) -> Value | None:
    return None if any(node.params["before"]) or any(node.params["after"]) else inputs[0]


def _cast(r: Rewriter, node: Node, inputs) -> Value | None:
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


def _slice(r: Rewriter, node: Node, inputs) -> Value | None:
    (x,) = inputs
    p = node.params
    whole = all(
        a == 0 and s == 1 and b >= n
        for a, b, s, n in zip(p["start"], p["stop"], p["step"], x.shape, strict=True)
    )
    return x if whole else None


def _reduction(r: Rewriter, node: Node, inputs) -> Value | None:
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


def _spread_dropped(r: Rewriter, node: Node, inputs) -> tuple[Value, ...]:
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

    def rule(r: Rewriter, node: Node, inputs) -> Value | None:
        for identity in (special, _neutral):
            found = identity(r, node, inputs) if identity else None
            if found is not None:
                return found
        plain = _spread_dropped(r, node, inputs)
        return r._add(node.primitive.name, plain, node.params)[0] if plain != inputs else None

    return rule


def _neutral(r: Rewriter, node: Node, inputs) -> Value | None:
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


def _negative_zero(x) -> bool:
    return x == 0 and bool(np.signbit(x))


def _add(r: Rewriter, node: Node, inputs) -> Value | None:
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


def _pow(r: Rewriter, node: Node, inputs) -> Value | None:
    x, e = inputs
    if not x.dtype.is_float or e.shape != ():
        return None
    number = r.number(e)
    if number == 2:
        return r.add("mul", x, x)
    if number == 1:
        return x
    return None  # not pow(x, 0.5) = sqrt(x): pow(-inf, 0.5) is inf, sqrt(-inf) is NaN


def _absorb(r: Rewriter, node: Node, inputs) -> Value | None:
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


def simplify(graph: Graph) -> Simplified:
    """The program after all rules."""
    return Rewriter(graph).run()
