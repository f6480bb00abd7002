"""Which values get memory, and which are computed again where they are read.

Knows groups, never kernels. A value that crosses from one group to another is stored, unless a few
operations give it back from values that are stored anyway: reading and writing an array costs more
than a handful of instructions on each element (x-hat of a layer norm, the cdf inside GELU).
"""

from __future__ import annotations

from math import prod

from tinytorch.compiler.graph.graph import Node, Value
from tinytorch.compiler.plan import kinds
from tinytorch.compiler.plan.fuse import Fusion, Group

# Limits for computing again. One costly function is about 15 instructions on a vector, 5 ns for 64
# bytes; writing and reading 64 bytes beyond the caches takes 2 x 1.5 ns on each core, and space.
MOST_COSTLY, MOST_OPERATIONS, MOST_LEAVES = 2, 16, 2
ROW_FRACTION = 16  # a value with 16 times fewer elements than its group's domain is stored for free


class Stored:
    """The stored values of a fused graph.

    `values` holds them; `loads(group)` those a group reads from memory.
    """

    def __init__(self, fusion: Fusion, also: list[Value]):
        self.fusion, self.producer = fusion, fusion.producer
        graph = fusion.graph
        self.given = {*graph.arguments, *graph.states, *graph.constants}
        self.hard: set[Value] = set()
        self.values: set[Value] = set(self.given)
        self._store_reshaped_counts()
        for v in (*graph.outputs, *also):
            self._require(v)
        self._find_crossing()
        self._drop()

    def _store_reshaped_counts(self) -> None:
        """An iota behind a reshape is no longer one number plus strides times indices."""
        for node in self.fusion.graph.nodes:
            if node.primitive.may_copy and not kinds.is_simple(node):
                base, _ = self.fusion.base(node.outputs[0])
                made = self.producer.get(base)
                if made is not None and kinds.is_position(made):
                    self.hard.add(base)
                    self.values.add(base)

    def _require(self, v: Value) -> None:
        base, _ = self.fusion.base(v)
        made = self.producer.get(base)
        if made is not None and kinds.is_source(made) and base not in self.values:
            base = v  # a view of a constant array: it is filled in where it is needed
        self.hard.add(base)
        self.values.add(base)

    def _find_crossing(self) -> None:
        for group in self.fusion.groups:
            for node in group.nodes:
                own_kernel = node is group.host
                if own_kernel:
                    for v in node.inputs:
                        self._require(v)
                    self.values.update(node.outputs if len(node.outputs) > 1 else ())
                    if not kinds.has_epilogue(node):
                        self.values.update(node.outputs)
                        self.hard.update(node.outputs)
                    continue
                if kinds.is_lookup(node):
                    self._require(node.inputs[0])
                self._cross(group, node)

    def _cross(self, group: Group, node: Node) -> None:
        for base, simple in self.fusion.sources_of(node):
            made = self.producer.get(base)
            if made is None:
                continue
            if not simple:
                self._require(base)
            elif self.fusion.of[made] is not group:
                self.values.add(base)

    def _add_roots(self) -> None:
        """Store one value in place of several, where the others follow from it cheaply.

        Of GELU's backward pass the cdf, the pdf and x / 2 are wanted: x alone gives them all.
        """
        for group in self.fusion.groups:
            made = self.made_by(group)
            soft = [v for v in made if self._may_drop(v)]
            if len(soft) < 2:
                continue
            best, most = None, 0
            for node in group.nodes:
                root = node.outputs[0]
                if not self._may_drop(root, stored=False) or root in self.values:
                    continue
                self.values.add(root)
                dropped = [v for v in soft if self._rows_if_cheap(v) is not None]
                self.values.discard(root)
                gain = sum(v.spec.nbytes for v in dropped) - root.spec.nbytes
                if gain > 0 and gain >= most:
                    best, most = root, gain
            if best is not None:
                self.values.add(best)

    def _may_drop(self, v: Value, stored: bool = True) -> bool:
        node = self.producer.get(v)
        if node is None or not kinds.is_arithmetic(node) or kinds.is_lookup(node):
            return False
        return (v in self.values or not stored) and v not in self.hard and prod(v.shape) > 1

    def _drop(self) -> None:
        self._add_roots()
        for node in self.fusion.graph.nodes:
            v = node.outputs[0]
            if self._may_drop(v):
                rows = self._rows_if_cheap(v)
                if rows is not None:
                    self.values.discard(v)
                    self.values |= rows

    def _rows_if_cheap(self, value: Value) -> set[Value] | None:
        """The row values to store so that `value` can be computed again cheaply, or None."""
        group = self.fusion.of.get(self.producer[value])
        if group is None:
            return None
        operations = costly = 0
        leaves: set[Value] = set()
        rows: set[Value] = set()
        stack, seen = [value], set()
        while stack:
            v = stack.pop()
            if v in seen:
                continue
            seen.add(v)
            if v is not value and v in self.values:
                leaves.add(v)
                continue
            node = self.producer[v]
            if kinds.is_source(node):
                continue
            if kinds.is_movement(node):
                if not kinds.is_simple(node):
                    return None
                stack.append(node.inputs[0])
                continue
            if v is not value and prod(v.shape) * ROW_FRACTION <= prod(group.domain):
                if self.fusion.of.get(node) is None:
                    return None
                rows.add(v)
                continue
            if not kinds.is_arithmetic(node) or kinds.is_lookup(node):
                return None
            operations += 1
            costly += node.primitive.expensive
            stack.extend(node.inputs)
        full = [v for v in leaves if prod(v.shape) * ROW_FRACTION > prod(value.shape)]
        cheap = operations <= MOST_OPERATIONS and costly <= MOST_COSTLY and len(full) <= MOST_LEAVES
        read = sum(v.dtype.itemsize for v in full)
        return rows if cheap and read <= 2 * value.dtype.itemsize else None

    def loads(self, group: Group) -> set[Value]:
        """The stored values a group reads, through movement and values computed again."""
        own = {v for n in group.nodes for v in n.outputs}
        found: set[Value] = set()
        stack = [v for n in group.nodes for v in n.inputs]
        seen: set[Value] = set()
        while stack:
            v = stack.pop()
            if v in seen:
                continue
            seen.add(v)
            if v in self.values and v not in own:
                found.add(v)
            elif v not in own and (node := self.producer.get(v)) is not None:
                stack.extend(node.inputs)
        return found

    def made_by(self, group: Group) -> list[Value]:
        """The stored values a group writes."""
        return [v for n in group.nodes for v in n.outputs if v in self.values]
