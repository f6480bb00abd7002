"""Which operations are done together: groups of nodes that become one kernel.

Knows graphs and shapes, never memory or instructions. Nodes are taken in program order; each joins
the group of what it reads if both run over the same points and the groups still have an order.

    kernel group    a matrix product and the arithmetic on its result (its epilogue)
    row group       arithmetic over one domain, with reductions over its innermost axes in between
    column group    reductions over outer axes; the arithmetic below them is computed on the way
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod

from tinytorch.base.errors import CompileError
from tinytorch.compiler.graph.graph import Graph, Node, Value
from tinytorch.compiler.plan import kinds
from tinytorch.compiler.plan.access import (
    Coordinate,
    broadcast,
    identity,
    move_coordinates,
    nowhere,
    unit,
)


@dataclass(eq=False)
class Group:
    """Nodes that become one kernel.

    Args:
        number: its place among the groups as they were begun.
        domain: the logical sizes it runs over.
        axes: the reduced axes of the domain; None while it has no reduction.
        host: the node with a kernel of its own, if it has one.
        columns: the reduced axes are not the innermost in memory.
        nodes: in program order.
    """

    number: int
    domain: tuple[int, ...]
    axes: frozenset[int] | None = None
    host: Node | None = None
    columns: bool = False
    nodes: list[Node] = field(default_factory=list)

    @property
    def kept(self) -> tuple[int, ...]:
        """Sizes that remain after the reduction, those of size 1 left out."""
        axes = self.axes or frozenset()
        return tuple(n for d, n in enumerate(self.domain) if d not in axes and n != 1)

    @property
    def own(self) -> Node:
        """The node with a kernel of its own.

        Raises:
            CompileError: the group has none.
        """
        if self.host is None:
            raise CompileError.own_fault(
                "a group without a kernel of its own was asked for it",
                got=self.label,
                rule="loops are lowered as loops",
            )
        return self.host

    @property
    def label(self) -> str:
        """The operations in it."""
        names = [n.primitive.name for n in self.nodes]
        return "+".join(dict.fromkeys(names))


class Fusion:
    """The groups of a graph.

    Args:
        graph: simplified.
        orders: for each value its axes from outermost to innermost in memory.
        also: values that are wanted in memory beside the graph's outputs: indices to be checked.

    `groups` holds the groups; `of` the group of each node that has one. Nodes without a group are
    movement, sources, and arithmetic computed inside the column groups that read it.
    """

    def __init__(
        self, graph: Graph, orders: dict[Value, tuple[int, ...]], also: Sequence[Value] = ()
    ):
        self.graph, self.orders, self.wanted = graph, orders, {*graph.outputs, *also}
        self.producer = kinds.producers(graph.nodes)
        self.users = graph.users()
        self._place_of = {n: i for i, n in enumerate(graph.nodes)}
        self.of: dict[Node, Group] = {}
        self.groups: list[Group] = []
        self._before: dict[int, int] = {}  # group number -> bit set of the groups it needs
        self._apart: dict[int, int] = {}  # and of those it reads at other places: never one kernel
        self.inlined = self._find_inlined()
        for node in graph.nodes:
            if kinds.is_movement(node) or kinds.is_source(node) or node in self.inlined:
                continue
            self._place(node)
        self.groups = [g for g in self.groups if g.nodes]

    # paths

    def base(self, value: Value) -> tuple[Value, bool]:
        """(the value that the movement before `value` begins at, whether all of it is simple)."""
        simple = True
        while (node := self.producer.get(value)) is not None and kinds.is_movement(node):
            simple = simple and kinds.is_simple(node)
            value = node.inputs[0]
        return value, simple

    def sources_of(self, node: Node) -> list[tuple[Value, bool]]:
        """(base value, simple path) of all a node reads, looking through inlined nodes."""
        out: list[tuple[Value, bool]] = []
        stack = [(v, True) for v in node.inputs]
        data = node.inputs[0] if kinds.is_lookup(node) else None
        while stack:
            value, simple = stack.pop()
            base, direct = self.base(value)
            simple = simple and direct and value is not data
            made = self.producer.get(base)
            if made is not None and made in self.inlined:
                stack.extend((v, simple and not kinds.is_lookup(made)) for v in made.inputs)
            elif made is None or not kinds.is_source(made):
                out.append((base, simple))
        return out

    def is_column(self, node: Node) -> bool:
        """Whether a reduction runs over axes that are not the innermost ones in memory."""
        source = node.inputs[0]
        axes = kinds.reduced_axes(node)
        order = [a for a in self.orders[source] if source.shape[a] != 1]
        inner = [a for a in order if a in axes]
        return order[len(order) - len(inner) :] != inner

    def _find_inlined(self) -> set[Node]:
        """Arithmetic that only column reductions read: computed there, never stored."""
        inlined: set[Node] = set()
        for node in reversed(self.graph.nodes):
            if not kinds.is_arithmetic(node) or kinds.is_lookup(node):
                continue
            if node.outputs[0] in self.wanted:
                continue
            if prod(node.outputs[0].shape) == 1:
                continue
            readers = self._readers(node.outputs[0])
            if readers and all(
                simple and ((kinds.is_reduction(r) and self.is_column(r)) or r in inlined)
                for r, simple in readers
            ):
                inlined.add(node)
        return inlined

    def _readers(self, value: Value) -> list[tuple[Node, bool]]:
        """The nodes that read a value, through movement; with whether the way is simple."""
        out, stack = [], [(value, True)]
        while stack:
            v, simple = stack.pop()
            for node in self.users.get(v, []):
                if kinds.is_movement(node):
                    if node.outputs[0] in self.wanted:
                        out.append((node, False))
                    stack.append((node.outputs[0], simple and kinds.is_simple(node)))
                else:
                    out.append((node, simple))
        return out

    # placing

    def _place(self, node: Node) -> None:
        sources = self.sources_of(node)
        sources = [(base, simple and self._in_line(node, base)) for base, simple in sources]
        needed = apart = 0
        for base, simple in sources:
            made = self.producer.get(base)
            if made is not None:
                needed |= self._with(self.of[made])
                apart |= 0 if simple else 1 << self.of[made].number
        group = self._join(node, sources) if self._may_join(node) else None
        if group is None:
            group = self._begin(node)
        group.nodes.append(node)
        if kinds.is_reduction(node):
            group.axes = kinds.reduced_axes(node)
        self.of[node] = group
        self._apart[group.number] |= apart
        self._need(group, needed)

    def _in_line(self, node: Node, base: Value) -> bool:
        """Whether a node reads a result for each row in the row it belongs to.

        x / x.sum(1) of a square x does not: it reads the sum of row j at (i, j).
        """
        made = self.producer.get(base)
        group = self.of.get(made) if made is not None else None
        if not self._may_join(node):
            return False  # a kernel of its own reads whole arrays
        if group is None or group.axes is None or self.is_full(group, base):
            return True
        if kinds.is_lookup(node):
            return False
        shape = node.inputs[0].shape if kinds.is_reduction(node) else node.outputs[0].shape
        own = row_coordinates(base.shape, group.domain, group.axes)
        if shape == group.domain:
            here = identity(shape)
        elif self._is_per_row(group, shape):
            here = row_coordinates(shape, group.domain, group.axes)
        else:
            return True
        rank = len(group.domain)
        for v in node.inputs:
            found = broadcast(here, v.shape, shape) if v.shape else ()
            while found is not None and v is not base and (n := self.producer.get(v)) is not None:
                if not kinds.is_movement(n):
                    break
                found, v = move_coordinates(n, found, rank), n.inputs[0]
            if v is base and found != own:
                return False
        return True

    @staticmethod
    def _may_join(node: Node) -> bool:
        return kinds.is_arithmetic(node) or kinds.is_reduction(node)

    def _begin(self, node: Node) -> Group:
        if kinds.is_reduction(node):
            domain, axes = node.inputs[0].shape, kinds.reduced_axes(node)
            group = Group(len(self.groups), domain, axes, columns=self.is_column(node))
        elif kinds.is_arithmetic(node):
            group = Group(len(self.groups), node.outputs[0].shape)
        else:
            group = Group(len(self.groups), node.outputs[0].shape, host=node)
        self.groups.append(group)
        self._before[group.number] = self._apart[group.number] = 0
        return group

    def _join(self, node: Node, sources: list[tuple[Value, bool]]) -> Group | None:
        """The group the node goes into, after merging those of its sources that can be merged."""
        simple, barred = {}, set()
        for base, direct in sources:
            made = self.producer.get(base)
            if made is None:
                continue
            group = self.of[made]
            if direct:
                simple[group.number] = group
            else:
                barred.add(group.number)
        candidates = [
            g for n, g in simple.items() if n not in barred and self._fits(node, g, sources)
        ]
        candidates.sort(key=lambda g: (g.host is None, g.axes is None, -g.number))
        for chosen in candidates:
            others = (set(simple) | barred) - {chosen.number}
            if any(self._before[o] >> chosen.number & 1 for o in others):
                continue  # what it needs comes after the group: joining would close a circle
            for other in candidates:
                if other is chosen or not other.nodes:
                    continue
                rest = others - {other.number}  # none of it may come after the joint group
                if not any(self._before[o] >> other.number & 1 for o in rest):
                    self._merge(chosen, other)
            return chosen
        if kinds.is_reduction(node) and self.is_column(node):
            return self._sibling(node, sources)
        return None

    def _fits(self, node: Node, group: Group, sources: list[tuple[Value, bool]]) -> bool:
        """Whether the node runs over the group's points or rows, reading them where they are."""
        if group.host is not None and not kinds.has_epilogue(group.host):
            return False
        if kinds.is_reduction(node):
            if group.host is not None or group.columns or self.is_column(node):
                return False
            axes = kinds.reduced_axes(node)
            if node.inputs[0].shape != group.domain or prod(group.domain) == 1:
                return False
            return group.axes is None or group.axes == axes
        shape = node.outputs[0].shape
        if shape == group.domain and not group.columns:
            return True
        if group.axes is None or group.host is not None:
            return False
        if not self._is_per_row(group, shape):
            return False
        for base, _ in sources:  # a value per row must not read one per point
            made = self.producer.get(base)
            if made is not None and self.of[made] is group and self.is_full(group, base):
                return False
        return True

    @staticmethod
    def _is_per_row(group: Group, shape: tuple[int, ...]) -> bool:
        """Whether arrays of this shape have one element for each result of its reductions."""
        return group.axes is not None and tuple(n for n in shape if n != 1) == group.kept

    def is_full(self, group: Group, value: Value) -> bool:
        """Whether a value of the group has an element at each point, not one a row."""
        if group.axes is None:
            return True
        made = self.producer[value]
        if kinds.is_reduction(made):
            return False
        return value.shape == group.domain and self._rowless(group)

    @staticmethod
    def _rowless(group: Group) -> bool:
        return prod(group.domain) != prod(group.kept)

    def _sibling(self, node: Node, sources: list[tuple[Value, bool]]) -> Group | None:
        """A column group over the same domain with an input in common: one pass serves both."""
        mine = {base for base, _ in sources}
        axes = kinds.reduced_axes(node)
        for group in reversed(self.groups[-16:]):
            if not (group.columns and group.domain == node.inputs[0].shape and group.axes == axes):
                continue
            firsts = [n for n in group.nodes if kinds.is_reduction(n)]
            shared = mine & {b for n in firsts for b, _ in self.sources_of(n)}
            needs = 0
            for base, _ in sources:
                made = self.producer.get(base)
                needs |= self._with(self.of[made]) if made is not None else 0
            if shared and not needs >> group.number & 1:
                return group
        return None

    # order

    def _with(self, group: Group) -> int:
        return self._before[group.number] | 1 << group.number

    def _need(self, group: Group, needed: int) -> None:
        """Record that a group needs others, for it and for all that need it."""
        needed &= ~(1 << group.number)
        if needed & ~self._before[group.number]:
            for other in self._before:
                if other == group.number or self._before[other] >> group.number & 1:
                    self._before[other] |= needed

    def _merge(self, into: Group, other: Group) -> bool:
        """Put `other` into `into` if they run over the same points with nothing between them."""
        if other.host is not None or other.columns:
            return False
        per_row = other.axes is None and self._is_per_row(into, other.domain)
        if not per_row and (into.columns or other.domain != into.domain):
            return False
        if other.axes is not None and (
            into.host is not None or into.axes not in (None, other.axes)
        ):
            return False
        a, b = into.number, other.number
        if self._apart[a] >> b & 1 or self._apart[b] >> a & 1:
            return False
        for number, needs in self._before.items():
            between = number not in (a, b)
            if between and (needs >> a & 1 and self._before[b] >> number & 1):
                return False
            if between and (needs >> b & 1 and self._before[a] >> number & 1):
                return False
        into.nodes = sorted((*into.nodes, *other.nodes), key=self._place_of.__getitem__)
        into.axes = into.axes if into.axes is not None else other.axes
        for node in other.nodes:
            self.of[node] = into
        other.nodes = []
        joint = (self._before[a] | self._before[b]) & ~(1 << a | 1 << b)
        for number, needs in self._before.items():
            if needs >> b & 1 or needs >> a & 1:
                self._before[number] = (needs | joint | 1 << a) & ~(1 << b)
        self._before[a], self._before[b] = joint, 0
        self._apart[a] |= self._apart[b]
        for number, apart in self._apart.items():
            if apart >> b & 1:
                self._apart[number] = apart | 1 << a
        return True


def row_coordinates(shape, domain, axes: frozenset[int]) -> tuple[Coordinate, ...]:
    """For each axis of an array with one element a row, the loop of the domain it runs along."""
    rank = len(domain)
    loops = iter(d for d, n in enumerate(domain) if d not in axes and n != 1)
    return tuple(unit(rank, next(loops)) if n != 1 else nowhere(rank) for n in shape)
