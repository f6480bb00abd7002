"""Which operations are done together: groups of nodes that become one kernel.

Knows graphs and shapes, never memory or instructions. Nodes are taken in program order; each joins
the group of what it reads if both run over the same points and the groups still have an order.

    kernel group    a matrix product and the arithmetic on its result (its epilogue)
    row group       arithmetic over one domain, with reductions over its innermost axes in between
    column group    reductions over outer axes; the arithmetic below them is computed on the way
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import NoReturn

from tinytorch.base.errors import CompileError
from tinytorch.compiler.graph.frozen import frozen_nodes
from tinytorch.compiler.graph.graph import Node, Value
from tinytorch.compiler.operations import has_epilogue
from tinytorch.compiler.plan.access import (
    broadcast,
    identity,
    is_arithmetic,
    is_simple,
    move_coordinates,
    row_coordinates,
)
from tinytorch.compiler.plan.stages import Fused, Group, LaidOut, Paths

# Nodes of one kernel at most, and of what one reduction computes on the way. More would save a
# store and a load in some hundred instructions, and LLVM takes longer for each line of a long
# function than of a short one.
MOST_NODES = 256


def fuse(laid_out: LaidOut) -> Fused:
    """The groups of a program."""
    wanted = frozenset((*laid_out.graph.outputs, *(c.index for c in laid_out.checks)))
    fusion = _Fusion(laid_out, wanted)
    groups: dict[int, Group] = {}
    for g in fusion.groups:
        if g.nodes:
            groups[g.number] = Group(g.number, g.domain, g.axes, g.call, g.outer, tuple(g.nodes))
    of = {node: groups[g.number] for node, g in fusion.of.items()}
    made, paths, frozen = tuple(groups.values()), fusion.paths, fusion.frozen
    return Fused(laid_out.program, laid_out, made, paths, wanted, of, frozen)


@dataclass(eq=False)
class _Draft:
    """A group while nodes join it; fields as in Group."""

    number: int
    domain: tuple[int, ...]
    axes: frozenset[int] | None = None
    call: Node | None = None
    outer: bool = False
    nodes: list[Node] = field(default_factory=list[Node])
    replay: int = 0
    after: int = 0  # the newest group of a replay that it needs, or is

    @property
    def kept(self) -> tuple[int, ...]:
        """Sizes that remain after the reduction, those of size 1 left out."""
        axes = self.axes or frozenset()
        return tuple(n for d, n in enumerate(self.domain) if d not in axes and n != 1)


class _Fusion:
    """The groups while they are made."""

    def __init__(self, laid_out: LaidOut, wanted: frozenset[Value]):
        self.graph, self.orders, self.wanted = laid_out.graph, laid_out.orders, wanted
        self.producer = self.graph.producers()
        self.users = self.graph.users()
        self.frozen = frozen_nodes(self.graph)  # a kernel has such nodes alone, or none
        self._place_of = {n: i for i, n in enumerate(self.graph.nodes)}
        self.of: dict[Node, _Draft] = {}
        self.groups: list[_Draft] = []
        self._replayed: dict[Value, list[_Draft]] = {}  # the groups of replays that read a value
        self.order = _Order()
        self._apart: dict[int, int] = {}  # group -> bit set of those it reads at other places
        self.paths = Paths(self.producer, frozenset(self._find_inlined()))
        for node in self.graph.nodes:
            apart = node.is_movement or node.is_source
            if not apart and node not in self.paths.inlined:
                self._place(node)

    def is_outer(self, node: Node) -> bool:
        """Whether a reduction runs over axes that are not the innermost ones in memory."""
        source = node.inputs[0]
        axes = node.reduced_axes
        order = [a for a in self.orders[source] if source.shape[a] != 1]
        inner = [a for a in order if a in axes]
        return order[len(order) - len(inner) :] != inner

    def _find_inlined(self) -> set[Node]:
        """Arithmetic that only column reductions read: computed there, never stored."""
        inlined: dict[Node, frozenset[Node]] = {}  # with the reductions that compute it
        costs = dict[Node, int]()  # nodes that a reduction computes
        for node in reversed(self.graph.nodes):
            if not is_arithmetic(node) or node.is_lookup or node in self.frozen:
                continue
            if node.outputs[0] in self.wanted:
                continue
            if prod(node.outputs[0].shape) == 1:
                continue
            readers = self._readers(node.outputs[0])
            if readers and all(
                simple and ((r.is_reduction and self.is_outer(r)) or r in inlined)
                for r, simple in readers
            ):
                above = frozenset[Node]().union(*(inlined.get(r, (r,)) for r, _ in readers))
                if all(costs.get(r, 0) < MOST_NODES for r in above):
                    inlined[node] = above
                    costs.update({r: costs.get(r, 0) + 1 for r in above})
        return set(inlined)

    def _readers(self, value: Value) -> list[tuple[Node, bool]]:
        """The nodes that read a value, through movement; with whether the way is simple."""
        out, stack = list[tuple[Node, bool]](), [(value, True)]
        while stack:
            v, simple = stack.pop()
            for node in self.users.get(v, []):
                if node.is_movement:
                    if node.outputs[0] in self.wanted:
                        out.append((node, False))
                    stack.append((node.outputs[0], simple and is_simple(node)))
                else:
                    out.append((node, simple))
        return out

    # placing

    def _place(self, node: Node) -> None:
        sources = self.paths.sources(node)
        sources = [(base, simple and self._in_line(node, base)) for base, simple in sources]
        needed, apart = list[Node](), list[Node]()
        for base, simple in sources:
            made = self.producer.get(base)
            if made is not None:
                needed.append(made)
                if not simple:
                    apart.append(made)
        group = self._join(node, sources) if self._may_join(node) else None
        if group is None:
            group = self._begin(node)
        group.nodes.append(node)
        if node.is_reduction:
            group.axes = node.reduced_axes
        self.of[node] = group
        group.after = max(group.after, self._after(sources))
        for made in apart:
            self._apart[group.number] |= 1 << self.of[made].number
        self.order.need(group.number, {self.of[made].number for made in needed})
        self._take_in(node, group, sources)

    def _take_in(self, node: Node, group: _Draft, sources: list[tuple[Value, bool]]) -> None:
        """Arithmetic of a replay is done by a kernel that reads the same value as late anyway.

        Of GELU's backward pass the kernel has the cdf in registers, and h * cdf is one product.
        """
        for base, simple in sources:
            if base not in self.producer:  # a state: to read it late would put off its update
                continue
            if node.replay and simple:
                self._replayed.setdefault(base, []).append(group)
                continue
            for other in self._replayed.get(base, ()) if simple else ():
                before = self.order.is_before(group.number, other.number)
                if other is not group and other.nodes and other.replay and not before:
                    self._merge(group, other, replay=True)

    def _after(self, sources: list[tuple[Value, bool]]) -> int:
        """The newest group of a replay that one of these values waits for."""
        made = (self.producer.get(base) for base, _ in sources)
        return max((self.of[n].after for n in made if n is not None), default=0)

    def _in_line(self, node: Node, base: Value) -> bool:
        """Whether a node reads a result for each row in the row it belongs to.

        x / x.sum(1) of a square x does not: it reads the sum of row j at (i, j).
        """
        made = self.producer.get(base)
        group = self.of.get(made) if made is not None else None
        if not self._may_join(node):
            return False  # a library call reads whole arrays
        if group is None or group.axes is None or self.is_full(group, base):
            return True
        if node.is_lookup:
            return False
        shape = node.inputs[0].shape if node.is_reduction else node.outputs[0].shape
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
                if not n.is_movement:
                    break
                found, v = move_coordinates(n, found, rank), n.inputs[0]
            if v is base and found != own:
                return False
        return True

    @staticmethod
    def _may_join(node: Node) -> bool:
        return is_arithmetic(node) or node.is_reduction

    def _begin(self, node: Node) -> _Draft:
        if node.is_reduction:
            domain, axes = node.inputs[0].shape, node.reduced_axes
            group = _Draft(len(self.groups), domain, axes, outer=self.is_outer(node))
        elif is_arithmetic(node):
            group = _Draft(len(self.groups), node.outputs[0].shape)
        else:
            group = _Draft(len(self.groups), node.outputs[0].shape, call=node)
        group.replay, group.after = node.replay, group.number if node.replay else 0
        self.groups.append(group)
        self.order.begin()
        self._apart[group.number] = 0
        return group

    def _join(self, node: Node, sources: list[tuple[Value, bool]]) -> _Draft | None:
        """The group the node goes into, after merging those of its sources that can be merged."""
        simple, barred = dict[int, _Draft](), set[int]()
        for base, direct in sources:
            made = self.producer.get(base)
            if made is None:
                continue
            group = self.of[made]
            if direct:
                simple[group.number] = group
            else:
                barred.add(group.number)
        # what came before a replay does not wait for it: it would be kept after all
        after = self._after(sources)
        candidates = [
            g
            for n, g in simple.items()
            if n not in barred
            and (g.replay == node.replay if node.replay else n >= after)
            and self._fits(node, g, sources)
        ]
        candidates.sort(key=lambda g: (g.call is None, g.axes is None, -g.number))
        for chosen in candidates:
            others = (set(simple) | barred) - {chosen.number}
            if any(self.order.is_before(chosen.number, o) for o in others):
                continue  # what it needs comes after the group: joining would close a circle
            for other in candidates:
                if other is chosen or not other.nodes:
                    continue
                rest = others - {other.number}  # none of it may come after the joint group
                if not any(self.order.is_before(other.number, o) for o in rest):
                    self._merge(chosen, other)
            return chosen
        if node.is_reduction and self.is_outer(node):
            return self._sibling(node, sources)
        return None

    def _fits(self, node: Node, group: _Draft, sources: list[tuple[Value, bool]]) -> bool:
        """Whether the node runs over the group's points or rows, reading them where they are."""
        if group.call is not None and not has_epilogue(group.call):
            return False
        if len(group.nodes) >= MOST_NODES or self._mixes(group, node):
            return False
        if node.is_reduction:
            if group.call is not None or group.outer or self.is_outer(node):
                return False
            axes = node.reduced_axes
            if node.inputs[0].shape != group.domain or prod(group.domain) == 1:
                return False
            return group.axes is None or group.axes == axes
        shape = node.outputs[0].shape
        if shape == group.domain and not group.outer:
            return True
        if group.axes is None or group.call is not None:
            return False
        if not self._is_per_row(group, shape):
            return False
        for base, _ in sources:  # a value per row must not read one per point
            made = self.producer.get(base)
            if made is not None and self.of[made] is group and self.is_full(group, base):
                return False
        return True

    def _mixes(self, group: _Draft, node: Node) -> bool:
        """Whether one of them is computed of frozen states alone, the other at each call."""
        return (group.nodes[0] in self.frozen) != (node in self.frozen)

    @staticmethod
    def _is_per_row(group: _Draft, shape: tuple[int, ...]) -> bool:
        """Whether arrays of this shape have one element for each result of its reductions."""
        return group.axes is not None and tuple(n for n in shape if n != 1) == group.kept

    def is_full(self, group: _Draft, value: Value) -> bool:
        """Whether a value of the group has an element at each point, not one a row."""
        if group.axes is None:
            return True
        made = self.producer[value]
        if made.is_reduction:
            return False
        return value.shape == group.domain and self._rowless(group)

    @staticmethod
    def _rowless(group: _Draft) -> bool:
        return prod(group.domain) != prod(group.kept)

    def _sibling(self, node: Node, sources: list[tuple[Value, bool]]) -> _Draft | None:
        """A column group over the same domain with an input in common: one pass serves both."""
        mine = {base for base, _ in sources}
        axes = node.reduced_axes
        for group in reversed(self.groups[-16:]):
            if not (group.outer and group.domain == node.inputs[0].shape and group.axes == axes):
                continue
            if group.replay != node.replay or self._mixes(group, node):
                continue
            firsts = [n for n in group.nodes if n.is_reduction]
            shared = mine & {b for n in firsts for b, _ in self.paths.sources(n)}
            made = [self.producer[b] for b in mine if b in self.producer]
            after = {self.of[n].number for n in made}
            if shared and not any(
                n == group.number or self.order.is_before(group.number, n) for n in after
            ):
                return group
        return None

    def _merge(self, into: _Draft, other: _Draft, replay: bool = False) -> None:
        """Put `other` into `into` if they run over the same points with nothing between them."""
        if other.call is not None or other.outer or (other.replay != into.replay and not replay):
            return
        if self._mixes(into, other.nodes[0]):
            return
        per_row = other.axes is None and self._is_per_row(into, other.domain)
        if not per_row and (into.outer or other.domain != into.domain):
            return
        if other.axes is not None and (
            into.call is not None or into.axes not in (None, other.axes)
        ):
            return
        a, b = into.number, other.number
        if self._apart[a] >> b & 1 or self._apart[b] >> a & 1:
            return
        if self.order.between(a, b) or self.order.between(b, a):
            return
        if len(into.nodes) + len(other.nodes) > MOST_NODES:
            return
        into.nodes = sorted((*into.nodes, *other.nodes), key=self._place_of.__getitem__)
        into.axes = into.axes if into.axes is not None else other.axes
        for node in other.nodes:
            self.of[node] = into
        other.nodes = []
        into.after = max(into.after, min(other.after, a) if replay else other.after)
        for reader in self.order.readers[b]:
            if self._apart[reader] >> b & 1:
                self._apart[reader] |= 1 << a
        self._apart[a] |= self._apart[b]
        self.order.merge(a, b)


class _Order:
    """Which groups come before which, by number, while groups begin, need others and merge.

    All that come before a group are one bit set, so that a question is one shift; a change goes on
    to those that come after, as far as it is news to them.
    """

    def __init__(self):
        self.before: list[int] = []  # bit sets
        self.needs: list[set[int]] = []  # the groups each reads
        self.readers: list[set[int]] = []  # and those that read it

    def begin(self) -> None:
        """A new group, which needs nothing yet."""
        self.before.append(0)
        self.needs.append(set())
        self.readers.append(set())

    def is_before(self, first: int, last: int) -> bool:
        """Whether a group must be done before another."""
        return bool(self.before[last] >> first & 1)

    def between(self, first: int, last: int) -> bool:
        """Whether a third group comes after `first` and before `last`: then `last` reads one."""
        if not self.is_before(first, last):
            return False
        return any(self.is_before(first, n) for n in self.needs[last])

    def need(self, group: int, needed: set[int]) -> None:
        """A group reads others."""
        needed = needed - {group}
        self.needs[group] |= needed
        all_before = 0
        for n in needed:
            self.readers[n].add(group)
            all_before |= self.before[n] | 1 << n
        self._come_before(all_before, [group])

    def merge(self, into: int, other: int) -> None:
        """`other` becomes a part of `into`; none may lie between them."""
        self.before[into] = (self.before[into] | self.before[other]) & ~(1 << into | 1 << other)
        for links, back in ((self.needs, self.readers), (self.readers, self.needs)):
            for n in links[other]:
                back[n].discard(other)
                back[n].add(into)
            links[into] = (links[into] | links[other]) - {into, other}
            links[other] = set()
            for n in (into, other):
                back[n].discard(n)
        self._come_before(self.before[into] | 1 << into, [*self.readers[into]])

    def _come_before(self, groups: int, stack: list[int]) -> None:
        """Groups, a bit set, come before those on the stack and all that come after these."""
        while stack:
            n = stack.pop()
            if groups & ~self.before[n]:
                self.before[n] |= groups
                stack.extend(self.readers[n])


def check_groups(fused: Fused) -> None:
    """Each operation is done once, and there is an order in which groups can be done.

    Raises:
        CompileError: a node is in no group or in two; groups wait for each other; a value that is
            wanted in memory is computed only where it is read; a group's reductions run over
            different axes.
    """
    holder: dict[Node, Group] = {}
    for group in fused.groups:
        for node in group.nodes:
            if node in holder:
                _refuse("an operation is in two groups", node.primitive.name)
            holder[node] = group
            if node.is_reduction and node.reduced_axes != group.axes:
                _refuse("a group reduces over different axes", group.label)
    inlined = fused.paths.inlined
    for node in fused.graph.nodes:
        apart = node.is_movement or node.is_source
        if not apart and (node in inlined) == (node in holder):
            _refuse("an operation is done nowhere or twice", node.primitive.name)
        if node in inlined and not fused.wanted.isdisjoint(node.outputs):
            _refuse("a value wanted in memory is not stored", node.outputs[0])
    circle = _circle({g: _needs(fused, g, holder) for g in fused.groups})
    if circle:
        _refuse("groups wait for each other", [g.label for g in circle])


def _refuse(problem: str, got: object) -> NoReturn:
    raise CompileError.own_fault(
        f"the compiler pass 'fuse' made an invalid program: {problem}",
        got=got,
        rule="every node in one group, groups in an order, one set of reduced axes",
    )


def _needs(fused: Fused, group: Group, holder: Mapping[Node, Group]) -> list[Group]:
    """The other groups whose results a group reads, through movement and inlined arithmetic."""
    found: dict[Group, None] = {}
    stack = [v for n in group.nodes for v in n.inputs]
    seen: set[Value] = set()
    while stack:
        v = stack.pop()
        if v in seen or (made := fused.producer.get(v)) is None:
            continue
        seen.add(v)
        other = holder.get(made)
        if other is None:
            stack.extend(made.inputs)
        elif other is not group:
            found[other] = None
    return list(found)


def _circle(needs: Mapping[Group, list[Group]]) -> list[Group]:
    """Groups that wait for each other in a circle; empty if there is none."""
    done: dict[Group, bool] = {}  # False: being looked at
    for root in needs:
        if root in done:
            continue
        done[root] = False
        stack = [(root, iter(needs[root]))]
        while stack:
            group, rest = stack[-1]
            following = next(rest, None)
            if following is None:
                done[group] = True
                stack.pop()
            elif done.get(following) is False:
                path = [g for g, _ in stack]
                return path[path.index(following) :]
            elif following not in done:
                done[following] = False
                stack.append((following, iter(needs[following])))
    return []
