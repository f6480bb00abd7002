"""Which values get memory, and which are computed again where they are read.

Knows groups, never kernels. A value that crosses from one group to another is stored, unless a few
operations give it back from values that are stored anyway: reading and writing an array costs more
than a handful of instructions on each element (x-hat of a layer norm, the cdf inside GELU).
"""

from __future__ import annotations

from math import prod
from typing import NoReturn

from tinytorch.base.errors import CompileError
from tinytorch.compiler.graph.graph import Node, Value
from tinytorch.compiler.operations import has_epilogue, operation_of
from tinytorch.compiler.plan.access import is_arithmetic, is_simple
from tinytorch.compiler.plan.stages import Fused, Group, Materialized

# Limits for computing again. One costly function is about 15 instructions on a vector, 5 ns for 64
# bytes; writing and reading 64 bytes beyond the caches takes 2 x 1.5 ns on each core, and space.
MOST_COSTLY, MOST_OPERATIONS, MOST_LEAVES = 2, 16, 2
ROW_FRACTION = 16  # a value with 16 times fewer elements than its group's domain is stored for free


def materialize(fused: Fused) -> Materialized:
    """The values that get memory, and what each group reads of them."""
    values = frozenset(_Choice(fused).values)
    graph = fused.graph
    made = (v for n in graph.nodes for v in n.outputs)
    given = (*graph.arguments, *graph.states, *graph.constants)
    places = {v: i for i, v in enumerate((*given, *made))}
    loads = {
        g: tuple(sorted(_loads(fused, values, g), key=places.__getitem__)) for g in fused.groups
    }
    return Materialized(fused.program, fused, values, loads, places)


def _loads(fused: Fused, values: frozenset[Value], group: Group) -> set[Value]:
    """The stored values a group reads, through movement and values computed again."""
    own, found, seen = group.makes, set[Value](), set[Value]()
    stack = [v for n in group.nodes for v in n.inputs]
    while stack:
        v = stack.pop()
        if v in seen:
            continue
        seen.add(v)
        if v in values and v not in own:
            found.add(v)
        elif v not in own and (node := fused.producer.get(v)) is not None:
            stack.extend(node.inputs)
    return found


def check_materialized(materialized: Materialized) -> None:
    """What crosses from one group to another, and what is wanted, can be had.

    Raises:
        CompileError: an output or a checked index has no memory below its movement; a library call
            reads, or makes without an epilogue, a value without memory; a group would have to
            compute what only a library call computes.
    """
    fused, values = materialized.fused, materialized.values

    def held(v: Value) -> bool:
        base, _ = fused.paths.base(v)
        made = fused.producer.get(base)
        return v in values or base in values or (made is not None and made.is_source)

    for group in fused.groups:
        call, own = group.call, group.makes
        for v in () if call is None else operation_of(call).reads(fused.producer, call):
            if not held(v):
                _refuse("a library call reads a value without memory", v)
        stack, seen = [v for n in group.nodes for v in n.inputs], set[Value]()
        while stack:
            v = stack.pop()
            if v in seen or v in values or v in own:
                continue
            seen.add(v)
            node = fused.producer.get(v)
            other = None if node is None else fused.of.get(node)
            if node is None or (other is not None and other.call is node):
                _refuse("a group needs what lies in no memory", v)
            stack.extend(node.inputs)
    for v in fused.wanted:
        if not held(v):
            _refuse("a value wanted in memory has none", v)


def _refuse(problem: str, got: object) -> NoReturn:
    raise CompileError.own_fault(
        f"the compiler pass 'materialize' made an invalid program: {problem}",
        got=got,
        rule="what crosses from group to group lies in memory, or is computed again from what does",
    )


class _Choice:
    """The stored values while they are chosen; `hard`: those that cannot be computed again."""

    def __init__(self, fused: Fused):
        self.fused, self.paths, self.producer = fused, fused.paths, fused.producer
        self.graph = graph = fused.graph
        self.hard: set[Value] = set()
        self.values: set[Value] = {*graph.arguments, *graph.states, *graph.constants}
        self._store_reshaped_counts()
        for v in (*graph.outputs, *(c.index for c in fused.checks)):
            self._require(v)
        self._find_crossing()
        self._drop()

    def made_by(self, group: Group) -> list[Value]:
        """The stored values a group writes."""
        return [v for n in group.nodes for v in n.outputs if v in self.values]

    def _store_reshaped_counts(self) -> None:
        """An iota behind a reshape is no longer one number plus strides times indices."""
        for node in self.graph.nodes:
            if node.primitive.may_copy and not is_simple(node):
                base, _ = self.paths.base(node.outputs[0])
                made = self.producer.get(base)
                if made is not None and made.is_position:
                    self.hard.add(base)
                    self.values.add(base)

    def _require(self, v: Value) -> None:
        base, _ = self.paths.base(v)
        made = self.producer.get(base)
        if made is not None and made.is_source and base not in self.values:
            base = v  # a view of a constant array: it is filled in where it is needed
        self.hard.add(base)
        self.values.add(base)

    def _find_crossing(self) -> None:
        for group in self.fused.groups:
            for node in group.nodes:
                if node is group.call:
                    for v in operation_of(node).reads(self.producer, node):
                        self._require(v)
                    self.values.update(node.outputs if len(node.outputs) > 1 else ())
                    if not has_epilogue(node):
                        self.values.update(node.outputs)
                        self.hard.update(node.outputs)
                    continue
                if node.is_lookup:
                    self._require(node.inputs[0])
                self._cross(group, node)

    def _cross(self, group: Group, node: Node) -> None:
        for base, simple in self.paths.sources(node):
            made = self.producer.get(base)
            if made is None:
                continue
            if not simple:
                self._require(base)
            elif self.fused.of[made] is not group:
                self.values.add(base)

    def _add_roots(self) -> None:
        """Store one value in place of others that follow from it cheaply and take more bytes.

        Of a GELU written as products and erf the backward pass wants the cdf, the pdf and x / 2: x
        alone gives them all. Of the row `gelu` it wants the slope, float32: x may be bfloat16.
        """
        for group in self.fused.groups:
            made = self.made_by(group)
            soft = [v for v in made if self._may_drop(v)]
            if not soft:
                continue
            best, most = None, 0
            bytes_dropped = {v: self._bytes_if_cheap(v) for v in soft}
            without = sum(bytes_dropped.values())
            readers: dict[Value, list[Value]] = {}
            for v in soft:
                for x in self._near(v):
                    readers.setdefault(x, []).append(v)
            for node in group.nodes:
                root = node.outputs[0]
                if not self._may_drop(root, stored=False) or root in self.values:
                    continue
                self.values.add(root)  # which helps those that are near alone
                near = readers.get(root, ())
                more = sum(self._bytes_if_cheap(v) - bytes_dropped[v] for v in near)
                self.values.discard(root)
                gain = without + more - root.spec.nbytes
                if gain > 0 and gain >= most:
                    best, most = root, gain
            if best is not None:
                self.values.add(best)

    def _bytes_if_cheap(self, v: Value) -> int:
        """The bytes of a value that can be computed again cheaply; 0 of another."""
        return v.spec.nbytes if self._rows_if_cheap(v) is not None else 0

    def _near(self, value: Value) -> set[Value]:
        """What lies so few operations below a value that computing it again may meet it."""
        found, level = set[Value](), [value]
        for _ in range(MOST_OPERATIONS):
            nodes = [self.producer[v] for v in level if v in self.producer]
            below = {self.paths.base(x)[0] for n in nodes for x in n.inputs} - found
            found |= below
            level = [v for v in below if v not in self.values]
        return found

    def _may_drop(self, v: Value, stored: bool = True) -> bool:
        node = self.producer.get(v)
        if node is None or not is_arithmetic(node) or node.is_lookup or node in self.fused.frozen:
            return False
        return (v in self.values or not stored) and v not in self.hard and prod(v.shape) > 1

    def _drop(self) -> None:
        self._add_roots()
        for node in self.graph.nodes:
            v = node.outputs[0]
            if self._may_drop(v):
                rows = self._rows_if_cheap(v)
                if rows is not None:
                    self.values.discard(v)
                    self.values |= rows

    def _rows_if_cheap(self, value: Value) -> set[Value] | None:
        """The row values to store so that `value` can be computed again cheaply, or None."""
        group = self.fused.of.get(self.producer[value])
        if group is None:
            return None
        operations = costly = 0
        leaves: set[Value] = set()
        rows: set[Value] = set()
        stack, seen = [value], set[Value]()
        while stack:
            v = stack.pop()
            if v in seen:
                continue
            seen.add(v)
            if v is not value and v in self.values:
                leaves.add(v)
                continue
            node = self.producer[v]
            if node.is_source:
                continue
            if node.is_movement:
                if not is_simple(node):
                    return None
                stack.append(node.inputs[0])
                continue
            if v is not value and prod(v.shape) * ROW_FRACTION <= prod(group.domain):
                if self.fused.of.get(node) is None:
                    return None
                rows.add(v)
                continue
            if not is_arithmetic(node) or node.is_lookup:
                return None
            operations += 1
            costly += node.primitive.expensive
            if operations > MOST_OPERATIONS or costly > MOST_COSTLY:
                return None
            stack.extend(node.inputs)
        full = [v for v in leaves if prod(v.shape) * ROW_FRACTION > prod(value.shape)]
        read = sum(v.dtype.itemsize for v in full)
        cheap = len(full) <= MOST_LEAVES and read <= 2 * value.dtype.itemsize
        return rows if cheap else None
