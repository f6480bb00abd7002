"""Builds a simplified graph node by node, by a table of rewrite rules.

A rule is given the rewriter, a node and its already simplified inputs, and answers with another
value, or None to leave the node. Knows graphs and what a rule is, never a rule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinytorch.compiler.graph.graph import Captured, Graph, Node, Value, applied, evaluated
from tinytorch.primitives.primitive import TABLE, OpClass, Spec

Inputs = tuple[Value, ...]
Rule = Callable[["Rewriter", Node, Inputs], Value | None]
SMALL = 16  # constants up to this many elements are computed while compiling


@dataclass(frozen=True, eq=False)
class IndexCheck:
    """Indices that must lie in an axis before anything is written.

    Args:
        index: the integers.
        size: of the axis they look into.
        name: the primitive that uses them.
        where: the user's line.
        least: the smallest that is good; None: -size, negative ones count from the end.
    """

    index: Value
    size: int
    name: str
    where: str
    least: int | None = None


@dataclass(frozen=True, eq=False)
class Simplified:
    """A program after the rules.

    Args:
        captured: as it was recorded.
        graph: the operations that are left.
        checks: of indices, which must pass before anything is written.
    """

    captured: Captured
    graph: Graph
    checks: tuple[IndexCheck, ...] = ()

    def __str__(self) -> str:
        text = str(self.graph)
        return text + "".join(f"\n# check: {c.index.name} within {c.size}" for c in self.checks)


class Rewriter:
    """Builds the new graph node by node; equal nodes give the same values."""

    def __init__(self, graph: Graph, rules: Mapping[str, Rule]):
        self.old, self.rules = graph, rules
        self.new = Graph(
            list(graph.arguments), list(graph.states), dict(graph.constants),
            recompute=graph.recompute, frozen=list(graph.frozen), fixed=list(graph.fixed),
        )  # fmt: skip
        self.values: dict[Value, Value] = {
            v: v for v in (*graph.arguments, *graph.states, *graph.constants)
        }
        self.made: dict[Value, Node] = {}
        self.checks: list[IndexCheck] = []
        self.users, self.outputs = graph.users(), frozenset(graph.outputs)
        self.frozen = frozenset(graph.frozen)
        self._seen: dict[tuple[str, Inputs, str, int], Inputs] = {}
        self._constants: dict[tuple[Spec, bytes], Value] = {}
        self.where, self.replay = "", 0  # of the node that is being rewritten
        for v, array in graph.constants.items():
            if array.size <= SMALL:
                self._constants.setdefault((v.spec, array.tobytes()), v)

    def run(self) -> Graph:
        """The whole program."""
        for node in self.old.nodes:
            self.where, self.replay = node.where, node.replay
            known = self.rewritten(node)
            if known is not None:
                self.values.update(zip(node.outputs, known, strict=True))
                continue
            inputs = tuple(self._unique(self.values[v]) for v in node.inputs)
            rule = self.rules.get(node.primitive.name)
            out = rule(self, node, inputs) if rule else None
            outs = self.again(node, inputs) if out is None else (out,)
            if len(outs) == 1 and inputs and not outs[0].spec.size:  # nothing is computed
                outs = (self.add("full", shape=outs[0].shape, value=0, dtype=outs[0].dtype),)
            self.values.update(zip(node.outputs, outs, strict=True))
        self.new.results = [self.values[v] for v in self.old.results]
        self.new.updates = [(s, self.values[v]) for s, v in self.old.updates]
        return self.new

    def rewritten(self, node: Node) -> Inputs | None:
        """What stands for a node's values whatever the rules say; None: they do."""
        return None

    def _unique(self, v: Value) -> Value:
        array = self.new.constants.get(v)
        if array is None or array.size > SMALL:
            return v
        return self._constants.setdefault((v.spec, array.tobytes()), v)

    def again(self, node: Node, inputs: Inputs) -> Inputs:
        """The operation of a node on other inputs, by no rule; once, or now if they are known."""
        return self._add(node.primitive.name, inputs, node.params)

    def add(self, name: str, *inputs: Value, **params: Any) -> Value:
        """Apply a primitive with one output, by the rules that hold for it."""
        rule, out = self.rules.get(name), None
        if rule is not None:
            node = applied(TABLE[name], inputs, params, self.where, self.replay)
            out = rule(self, node, inputs)
        return self._add(name, inputs, params)[0] if out is None else out

    def _add(self, name: str, inputs: Inputs, params: dict[str, Any]) -> Inputs:
        free = TABLE[name].op_class in (OpClass.MOVEMENT, OpClass.SOURCE)  # no memory of its own
        replay = 0 if free or self.new.recompute == "none" else self.replay
        key = (name, inputs, repr(sorted(params.items())), replay)  # as text 0.0 and -0.0 differ
        if key not in self._seen:
            known = self.new.constants
            outs = self.new.add(TABLE[name], inputs, params, self.where, replay)
            if inputs and known.keys() >= {*inputs} and all(o.spec.size <= SMALL for o in outs):
                self.new.nodes.pop()
                done = evaluated(TABLE[name], inputs, params, known)
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

    def scalar(self, number: float | int | bool, like: Value) -> Value:
        """A 0-d constant of the dtype of `like` (not bfloat16)."""
        return self.constant(np.array(number, like.dtype.storage), Spec((), like.dtype))

    def number(self, v: Value) -> float | None:
        """The number a value holds everywhere, if that is known."""
        while True:
            array = self.new.constants.get(v)
            if array is not None and array.size == 1 and v.dtype.name != "bfloat16":
                return array.item()
            node = self.made.get(v)
            if node is None or node.primitive.op_class is not OpClass.MOVEMENT:
                return node.constant if node is not None else None
            v = node.inputs[0]

    def maker(self, v: Value, name: str) -> Node | None:
        """The node that made v, if it is of that primitive."""
        node = self.made.get(v)
        return node if node is not None and node.primitive.name == name else None
