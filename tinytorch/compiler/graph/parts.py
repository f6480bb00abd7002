"""Arithmetic on parts that lie side by side is done on each part, by the kernel that makes it.

The gradient of slices is a sum of their cotangents, each padded to the whole; a concatenation is
parts already. Done to the whole, each part is written, read and written again, and zeros between
are multiplied. Done to each part, what the arithmetic gives is written where it belongs at once.

    mul(add(pad(x, after=n), pad(y, before=n)), w)
    concatenate(mul(x, slice(w, stop=n)), mul(y, slice(w, start=n)))

Knows elementwise rows, padding and concatenation; never kernels, or which model asks. Parts are cut
where one begins or ends, all along one axis. Each is padded with 0 or joined, read by elementwise
rows alone, and what these compute together is one value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from tinytorch.compiler.graph.graph import Graph, Node, Value
from tinytorch.compiler.graph.rewriter import Rewriter, Rule
from tinytorch.primitives.primitive import OpClass

# Parts at most: each is the arithmetic once more, in code. And rows of it at most.
MOST_PARTS, MOST_ROWS = 8, 64
# Numbers of a part that lie side by side, at least: a vector's, or a kernel goes number by number.
LEAST_RUN = 16
# What makes a value that is cut where it lies: arithmetic and products would have handed it on in
# registers to what reads the whole.
_IN_REGISTERS = {
    OpClass.ELEMENTWISE, OpClass.REDUCTION, OpClass.CONTRACTION, OpClass.WINDOW, OpClass.LOOKUP,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class _PartGroup:
    """Rows that are done part by part.

    Args:
        end: the last of them; nobody reads what the others give.
        rows: all of them.
        seeds: paddings and concatenations that they read.
        axis: along which parts lie side by side.
        cuts: where parts begin, and where the last one ends.
    """

    end: Node
    rows: frozenset[Node]
    seeds: frozenset[Node]
    axis: int
    cuts: tuple[int, ...]


def by_parts(
    graph: Graph, rules: Mapping[str, Rule], kept: frozenset[Value]
) -> tuple[Graph, Mapping[Value, Value]]:
    """The graph with arithmetic done to parts, and what stands for each of its values.

    Args:
        rules: of the operations that are added.
        kept: values that are read, though no node does.
    """
    found = _PartGroups(graph, kept).regions()
    if not found:
        return graph, {}
    r = _PartRewriter(graph, rules, found)
    return r.run(), r.values


class _PartGroups:
    """The regions of a graph."""

    def __init__(self, graph: Graph, kept: frozenset[Value]):
        self.graph, self.users, self.makers = graph, graph.users(), graph.producers()
        self.kept = {*graph.outputs, *kept}
        self.apart = {new for _, new in graph.updates} | {*kept}  # written where states lie

    def regions(self) -> dict[Node, _PartGroup]:
        """By their ends; none shares a row with another."""
        found: dict[Node, _PartGroup] = {}
        done: set[Node] = set()
        for seed in self.graph.nodes:
            if _axis_of(seed) is None or seed.outputs[0] in self.kept or seed.replay:
                continue
            end = self._end(seed)
            if end is None or end in done:
                continue
            done.add(end)
            region = self._region(end)
            if region is not None:
                found[end] = region
        return found

    def _fits(self, node: Node, shape: tuple[int, ...]) -> bool:
        """Whether a node is a row that can be done part by part."""
        return node.primitive.elementwise and node.outputs[0].shape == shape and not node.replay

    def _goes_on(self, node: Node) -> bool:
        """Whether all that read a value are rows of its shape."""
        v = node.outputs[0]
        users = self.users.get(v, [])
        return v not in self.kept and bool(users) and all(self._fits(n, v.shape) for n in users)

    def _end(self, seed: Node) -> Node | None:
        """The one row behind which others than such rows read; None: there are more, or none."""
        if not self._goes_on(seed):
            return None
        ends, seen, stack = set[Node](), {seed}, [seed]
        while stack and len(ends) < 2 and len(seen) <= MOST_ROWS:
            for node in self.users[stack.pop().outputs[0]]:
                if node in seen:
                    continue
                seen.add(node)
                if self._goes_on(node):
                    stack.append(node)
                else:
                    ends.add(node)
        if stack or len(ends) != 1:
            return None
        (end,) = ends
        return None if end.outputs[0] in self.apart else end

    def _region(self, end: Node) -> _PartGroup | None:
        """The rows and seeds whose numbers reach nothing but this row; None: it does not pay."""
        shape = end.outputs[0].shape
        rows, seeds, whole = {end}, set[Node](), set[Value]()
        waiting = list(end.inputs)
        while waiting and len(rows) <= MOST_ROWS:
            v = waiting.pop()
            made = self.makers.get(v)
            if v.shape != shape or made in rows or made in seeds:
                continue
            inside = v not in self.kept and all(n in rows for n in self.users[v])
            if made is not None and inside and _axis_of(made) is not None and not made.replay:
                seeds.add(made)
            elif made is not None and inside and self._fits(made, shape):
                rows.add(made)
                waiting += made.inputs
            else:
                whole.add(v)
        # a value is looked at again when the last of the rows that read it is known
        whole = {v for v in whole if self.makers.get(v) not in rows | seeds}
        axes = {_axis_of(n) for n in seeds}
        if waiting or len(axes) != 1 or not all(self._lies_apart(v) for v in whole):
            return None
        (axis,) = axes
        assert axis is not None  # noqa: S101 - for the type checker
        spans = [span for n in seeds for span in _spans(n, axis)]
        cuts = sorted({0, shape[axis], *(at for first, last, _ in spans for at in (first, last))})
        pairs = list(zip(cuts, cuts[1:], strict=False))
        full = all(any(a <= x and y <= b for a, b, v in spans if v is not None) for x, y in pairs)
        run = min((y - x for x, y in pairs), default=0) * prod(shape[axis + 1 :])
        if not full or not 1 < len(pairs) <= MOST_PARTS or run < LEAST_RUN:
            return None
        return _PartGroup(end, frozenset(rows), frozenset(seeds), axis, tuple(cuts))

    def _lies_apart(self, v: Value) -> bool:
        """Whether a value is memory of its own anyway, so that a part of it is read as well."""
        made = self.makers.get(v)
        while made is not None and made.is_movement:
            v = made.inputs[0]
            made = self.makers.get(v)
        return made is None or made.primitive.op_class not in _IN_REGISTERS


def _axis_of(node: Node) -> int | None:
    """The axis along which a padding with 0, or a concatenation, has its operands."""
    out = node.outputs[0]
    if node.primitive.name == "concatenate":
        return int(node.params["axis"]) % len(out.shape)
    if node.primitive.name != "pad" or node.params.get("value", 0.0) != 0.0:
        return None
    axes = [d for d, n in enumerate(node.inputs[0].shape) if n != out.shape[d]]
    return axes[0] if len(axes) == 1 else None


def _spans(node: Node, axis: int) -> list[tuple[int, int, Value | None]]:
    """(where it begins, where it ends, the operand; None: zeros) of each part."""
    if node.primitive.name == "pad":
        (x,), before, size = node.inputs, node.params["before"][axis], node.outputs[0].shape[axis]
        last = before + x.shape[axis]
        return [(0, before, None), (before, last, x), (last, size, None)]
    found: list[tuple[int, int, Value | None]] = []
    first = 0
    for x in node.inputs:
        found.append((first, first + x.shape[axis], x))
        first += x.shape[axis]
    return found


class _PartRewriter(Rewriter):
    """The graph anew: of a region's rows only the parts of its end are written."""

    def __init__(self, graph: Graph, rules: Mapping[str, Rule], regions: dict[Node, _PartGroup]):
        inside = {n: region.end for region in regions.values() for n in region.rows}
        inside |= {n: region.end for region in regions.values() for n in region.seeds}
        super().__init__(graph, rules)
        self.regions, self.inside = regions, inside
        self.makers = graph.producers()

    def rewritten(self, node: Node) -> tuple[Value, ...] | None:
        """What stands for a node's values, if it is in a region."""
        if node not in self.inside:
            return None
        if node not in self.regions:
            return node.outputs  # nobody reads it
        region, parts = self.regions[node], list[Value]()
        for first, last in zip(region.cuts, region.cuts[1:], strict=False):
            parts.append(self._whole_part(region, node.outputs[0], first, last))
        self.where, self.replay = node.where, node.replay
        return (self.add("concatenate", *parts, axis=region.axis),)

    def _whole_part(self, region: _PartGroup, v: Value, first: int, last: int) -> Value:
        part = self._part(region, v, first, last, {})
        shape = tuple(last - first if d == region.axis else n for d, n in enumerate(v.shape))
        part = self._zero(v) if part is None else part
        return part if part.shape == shape else self.add("broadcast_to", part, shape=shape)

    def _zero(self, v: Value) -> Value:
        return self.add("full", shape=(), value=0, dtype=v.dtype)

    def _part(
        self, region: _PartGroup, v: Value, first: int, last: int, known: dict[Value, Value | None]
    ) -> Value | None:
        """Part of a value; None: the zeros of a padding."""
        if v in known:
            return known[v]
        made, axis = self.makers.get(v), region.axis
        if made is not None and made in region.rows:
            known[v] = self._row(region, made, first, last, known)
        elif made is not None and made in region.seeds:
            spans = _spans(made, axis)
            ((at, x),) = ((a, x) for a, b, x in spans if a <= first and last <= b)
            known[v] = None if x is None else self._cut(x, axis, first - at, last - at)
        else:
            own = axis - len(region.end.outputs[0].shape) + len(v.shape)
            same = own < 0 or v.shape[own] == 1  # for all parts
            known[v] = self.values[v] if same else self._cut(v, own, first, last)
        return known[v]

    def _cut(self, x: Value, axis: int, first: int, last: int) -> Value:
        start = tuple(first if d == axis else 0 for d in range(len(x.shape)))
        stop = tuple(last if d == axis else n for d, n in enumerate(x.shape))
        step = (1,) * len(x.shape)
        return self.add("slice", self.values[x], start=start, stop=stop, step=step)

    def _row(
        self,
        region: _PartGroup,
        node: Node,
        first: int,
        last: int,
        known: dict[Value, Value | None],
    ) -> Value | None:
        """Part of what a row gives. A sum with the zeros of a padding is the other operand, and a
        product with them is zeros where NaN is absorbed."""

        def of(v: Value) -> Value | None:
            return self._part(region, v, first, last, known)

        name = node.primitive.name
        if name == "absorb":
            p, g = node.inputs
            product = self.makers.get(p)
            product = product if product is not None and product.primitive.name == "mul" else None
            if product is not None and g in product.inputs and of(g) is None:
                return None
        parts = [of(v) for v in node.inputs]
        if name == "add" and None in parts:
            x = parts[0] if parts[1] is None else parts[1]
            return x
        self.where, self.replay = node.where, node.replay
        filled = [
            self._zero(v) if x is None else x for v, x in zip(node.inputs, parts, strict=True)
        ]
        return self.add(name, *filled, **node.params)
