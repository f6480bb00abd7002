"""Which values are computed again where they are needed late, in place of being kept till then.

Knows the order of a program, shapes and costs, never kernels. What a contraction reads in the
forward pass (the GELU or the norm before a linear layer) is read by another in the backward pass,
and would lie in memory from the one to the other. Where a few elementwise operations give it back
from values that lie there anyway, they are repeated. That happens before fusion, so the repeated
operations are fused with what reads them, as all others; materialize.py then decides the same
question for what crosses between kernels.

    "none"          nothing, and what `tt.checkpoint` was asked to forget is kept as well
    "cheap"         as far as it costs less than 1/40 of the program's time, by the estimate below
    "elementwise"   all that elementwise operations give back; every contraction is done once

The same operations run on the same numbers, so results are the same to the last bit.

Source: Chen et al. 2016, "Training deep nets with sublinear memory cost",
https://arxiv.org/abs/1604.06174, section 3; the policies are those that `jax.checkpoint` calls
everything_saveable and dots_saveable, with the price of each value in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from math import inf

from tinytorch.base.errors import CompileError
from tinytorch.compiler.graph.graph import Graph, Node, Value, applied, verify
from tinytorch.compiler.graph.rewriter import Simplified
from tinytorch.compiler.plan.access import is_arithmetic

LEAST_BYTES = 1 << 18  # of a value: what is smaller lies in a cache, and is not what fills memory
MOST_OPERATIONS, MOST_EXPENSIVE = 16, 2  # to give a value back
PRICE = 0.025  # of the program's time, for "cheap"
ROW_FRACTION = 16  # a leaf with 16 times fewer elements is kept for nothing
# What the development machine does in a second (two cores): the price is a ratio of the two.
FLOPS, FLOPS_BF16, BYTES = 450e9, 900e9, 40e9
EXPENSIVE_SECONDS = 0.15e-9  # a function of analysis, for each element


def recompute(program: Simplified) -> Simplified:
    """The program with some of its elementwise operations repeated, before they are needed late.

    Cost: linear in the nodes and what they read.
    """
    graph = program.graph
    if graph.recompute == "none":
        return program
    found = _ReplayChoice(graph).found()
    return replace(program, graph=_repeated(graph, found)) if found else program


def check_recompute(program: Simplified) -> None:
    """See `graph.verify`; with "none" nothing is computed again.

    Raises:
        CompileError: it is.
    """
    graph = verify(program.graph, "recompute")
    if graph.recompute == "none" and any(n.replay for n in graph.nodes):
        raise CompileError.own_fault(
            "the compiler pass 'recompute' made an invalid program: something is computed again",
            got=f"recompute={graph.recompute!r}",
            rule="every operation is done once",
        )


@dataclass(frozen=True, eq=False)
class _Replay:
    """A value that is computed again.

    Args:
        value: as it was first computed.
        chain: the nodes that give it from what is there, in their order.
        leaves: what the chain reads.
        at: the place of the first node that reads it anew.
        seconds: what that costs.
    """

    value: Value
    chain: tuple[Node, ...]
    leaves: frozenset[Value]
    at: int
    seconds: float


class _ReplayChoice:
    """The values to compute again; `readers`: places of the nodes that read each value."""

    def __init__(self, graph: Graph):
        self.graph, self.producer = graph, graph.producers()
        self.place = {n: i for i, n in enumerate(graph.nodes)}
        self.calls = [_is_call(n) for n in graph.nodes]
        self.before = list(accumulate(self.calls, initial=0))  # calls before each place
        self.outputs = {*graph.outputs}
        self.readers: dict[Value, list[int]] = {}
        for i, node in enumerate(graph.nodes):
            for v in node.inputs:
                self._read(v, i)

    def _read(self, v: Value, place: int) -> None:
        """Note that a value is read, and what it is a view of."""
        self.readers.setdefault(v, []).append(place)

    def found(self) -> list[_Replay]:
        """All of them, or for "cheap" those with the most bytes for their price, to the limit."""
        found = [a for n in self.graph.nodes if (a := self._again(n)) is not None]
        found.sort(key=lambda a: a.seconds / a.value.spec.nbytes)
        left = inf
        if self.graph.recompute == "cheap":
            left = PRICE * sum(map(_seconds, self.graph.nodes))
        chosen: list[_Replay] = []
        kept, dropped = set[Value](), set[Value]()
        for again in found:
            if again.value in kept or not dropped.isdisjoint(again.leaves):
                continue  # one of the two must be there
            left -= again.seconds
            if left < 0:
                break
            chosen.append(again)
            kept.update(again.leaves)
            dropped.add(again.value)
        return chosen

    def _uses(self, v: Value) -> list[int]:
        """Where a value or a view of it is read by what is no view."""
        found, stack = list[int](), [v]
        while stack:
            v = stack.pop()
            if v in self.outputs:
                found.append(len(self.graph.nodes))
            for i in self.readers.get(v, ()):
                if self.graph.nodes[i].is_movement:
                    stack.extend(self.graph.nodes[i].outputs)
                else:
                    found.append(i)
        return sorted(found)

    def _again(self, node: Node) -> _Replay | None:
        """How what a node makes is given back, if it is read early and late, and cheap."""
        value = node.outputs[0]
        if value.spec.nbytes < LEAST_BYTES or not _is_plain(node) or value in self.outputs:
            return None
        uses = self._uses(value)
        late = self._late(uses)
        if not late or not any(self.calls[i] for i in uses):
            return None
        return self._priced(value, self._chain(value, late), late)

    def _late(self, uses: Sequence[int]) -> int:
        """The first use behind the widest gap, if at least two calls lie in it; else 0."""
        widest, late = 1, 0
        for a, b in zip(uses, uses[1:], strict=False):
            gap = self.before[b] - self.before[a + 1]
            if gap > widest:
                widest, late = gap, b
        return late

    def _chain(self, value: Value, late: int) -> list[Node] | None:
        """The nodes that give a value back from what is read at `late` or after it, or is given."""
        chain: dict[Node, None] = {}
        stack = [value]
        while stack:
            v = stack.pop()
            node = self.producer.get(v)
            if node is None or node in chain or (v is not value and self._is_there(v, value, late)):
                continue
            if not (_is_plain(node) or node.is_movement or node.is_source):
                return None
            chain[node] = None
            stack.extend(node.inputs)
        return sorted(chain, key=self.place.__getitem__)

    def _is_there(self, v: Value, value: Value, late: int) -> bool:
        """Whether a value lies in memory at `late`, or costs little to keep till then."""
        node = self.producer[v]
        if node.is_movement or node.is_source:
            return False
        if v.spec.size * ROW_FRACTION <= value.spec.size:
            return True
        return any(i >= late for i in self._uses(v))

    def _priced(self, value: Value, chain: list[Node] | None, late: int) -> _Replay | None:
        done = [n for n in chain or () if not (n.is_movement or n.is_source)]
        expensive = sum(n.primitive.expensive for n in done)
        if not done or len(done) > MOST_OPERATIONS or expensive > MOST_EXPENSIVE:
            return None
        own = {v for n in chain or () for v in n.outputs}
        leaves = frozenset(v for n in chain or () for v in n.inputs if v not in own)
        given = sum(v.spec.nbytes for v in leaves if v not in self.producer)  # read for this alone
        seconds = (
            value.spec.nbytes + given
        ) / BYTES + expensive * value.spec.size * EXPENSIVE_SECONDS
        return _Replay(value, tuple(chain or ()), leaves, late, seconds)


def _is_plain(node: Node) -> bool:
    """Elementwise arithmetic: an element costs a few instructions and no other element."""
    return is_arithmetic(node) and not node.is_lookup and len(node.outputs) == 1


def _is_call(node: Node) -> bool:
    """Whether a kernel of its own does it, which reads and writes whole arrays."""
    return not (is_arithmetic(node) or node.is_movement or node.is_source or node.is_reduction)


def _seconds(node: Node) -> float:
    """About what a contraction takes; 0 for all else."""
    if not _is_call(node):
        return 0.0
    flops = node.primitive.flops([v.spec for v in node.inputs], [v.spec for v in node.outputs],
                                 **node.params)  # fmt: skip
    half = any(v.dtype.itemsize == 2 for v in node.inputs)
    return flops / (FLOPS_BF16 if half else FLOPS)


def _repeated(graph: Graph, found: Sequence[_Replay]) -> Graph:
    """The graph with each chain repeated where its value is first read late."""
    first = max((n.replay for n in graph.nodes), default=0) + 1
    starting: dict[int, list[tuple[int, _Replay]]] = {}
    for number, again in enumerate(found, first):
        starting.setdefault(again.at, []).append((number, again))
    repeated = _ReplayedGraph(graph)
    for i, node in enumerate(graph.nodes):
        for number, again in starting.get(i, ()):
            repeated.repeat(again, number)
        repeated.append(node)
    return replace(graph, nodes=repeated.nodes)


class _ReplayedGraph:
    """The new list of nodes while it is made."""

    def __init__(self, graph: Graph):
        self.nodes: list[Node] = []
        self._producer = graph.producers()
        self._late: dict[Value, Value] = {}  # what stands for a value from now on

    def repeat(self, again: _Replay, number: int) -> None:
        """Append a chain; from now on its value is read there."""
        made: dict[Value, Value] = {}
        for n in again.chain:
            inputs = tuple(made.get(v) or self._now(v) for v in n.inputs)
            new = applied(n.primitive, inputs, n.params, n.where, number)
            self.nodes.append(new)
            made[n.outputs[0]] = new.outputs[0]
        self._late[again.value] = made[again.value]

    def append(self, node: Node) -> None:
        """Append a node of the program, which reads what stands for its operands now."""
        inputs = tuple(map(self._now, node.inputs)) if self._late else node.inputs
        self.nodes.append(node if inputs == node.inputs else replace(node, inputs=inputs))

    def _now(self, v: Value) -> Value:
        """What stands for a value, a view of one included."""
        if v in self._late:
            return self._late[v]
        node = self._producer.get(v)
        if node is None or not node.is_movement:
            return v
        base = self._now(node.inputs[0])
        if base is node.inputs[0]:
            return v
        self.nodes.append(applied(node.primitive, (base,), node.params, node.where))
        self._late[v] = self.nodes[-1].outputs[0]
        return self._late[v]
