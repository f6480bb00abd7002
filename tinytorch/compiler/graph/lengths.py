"""From a program with lengths in its shapes to one for the greatest lengths, told those of a call.

Knows lengths, axes and masks, never what an operation is: what each of them does with a length is a
row of length_rules.py. The passes after it see a program of static shapes like any other. It has an
argument for each dim, how long it is in this call; where something is read along an axis of such a
length, what lies beyond is replaced by what changes nothing (0 in a sum, -inf in a maximum). Beyond
the valid places of a value may lie anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tinytorch.base.dtypes import DType, float64, int32, int64
from tinytorch.base.errors import CompileError, LengthError
from tinytorch.base.lengths import Dim, Length, LengthNumber, at_bound, holds_length, is_symbolic
from tinytorch.compiler.graph.axes import Axes, Axis, are_ragged, plain_axes
from tinytorch.compiler.graph.graph import Graph, Node, Value, applied
from tinytorch.primitives.body import Body
from tinytorch.primitives.primitive import TABLE, OpClass, Spec

Rule = Callable[["LengthRewriter", Node, tuple[Value, ...]], "tuple[Value, ...]"]


class LengthRewriter:
    """Builds the program for the greatest lengths, in the order of the one with lengths.

    Args:
        graph: with lengths in shapes and params. Its values are given static shapes.
        lengths: the argument that says how long each dim is (0-d int64).
        rules: (the rule of a node) by the name of its primitive or its op class.

    Attributes:
        axes: of each value that has a ragged axis; the others have plain ones.
        zero: values that are 0 wherever they are not valid.
    """

    def __init__(
        self, graph: Graph, lengths: Mapping[Dim, Value], rules: Mapping[str | OpClass, Rule]
    ):
        self.graph, self.lengths, self.rules = graph, lengths, rules
        self.axes: dict[Value, Axes] = {}
        self.zero: set[Value] = set()
        self.nodes: list[Node] = []
        self.now: dict[Value, Value] = {}
        self.node = graph.nodes[0] if graph.nodes else None
        self._known: dict[tuple[Any, ...], Value] = {}

    def run(self) -> None:
        """Rewrite the graph in its place."""
        graph = self.graph
        for v in graph.arguments:
            if holds_length(v.shape):
                self.axes[v] = plain_axes(v.shape)
                self.zero.add(v)
                v.spec = Spec(at_bound(v.shape), v.dtype)
        for node in graph.nodes:
            self.node = node
            inputs = tuple([self.now.get(v, v) for v in node.inputs])
            shapes = [v.shape for v in node.outputs]
            symbolic = any(map(holds_length, shapes)) or _say_lengths(node.params)
            if not symbolic and not any(v in self.axes for v in inputs):
                self.nodes.append(replace(node, inputs=inputs))
                continue
            outputs = self._rule(node)(self, node, inputs)
            self.now.update(zip(node.outputs, outputs, strict=True))
            self._check(node, outputs)
        graph.nodes = self.nodes
        graph.results = [self.now.get(v, v) for v in graph.results]
        graph.updates = [(old, self.now.get(v, v)) for old, v in graph.updates]
        graph.lengths = dict(self.lengths)
        ends = {*graph.arguments, *graph.outputs}
        graph.ragged = {v: axes for v, axes in self.axes.items() if v in ends}

    def _rule(self, node: Node) -> Rule:
        primitive = node.primitive
        rule = self.rules.get(primitive.name) or self.rules.get(primitive.op_class)
        return (
            self.refuse("it is not known what this operation does with one") if not rule else rule
        )

    def _check(self, node: Node, outputs: tuple[Value, ...]) -> None:
        """A rule gave what the shapes with lengths say."""
        for old, new in zip(node.outputs, outputs, strict=True):
            said = tuple([axis.length for axis in self.axes_of(new)])
            if said != tuple(old.shape) or new.shape != tuple(a.size for a in self.axes_of(new)):
                raise CompileError.own_fault(
                    f"a rule of lengths, that of {node.primitive.name}, made another shape",
                    got=f"{said} in {new!r}, for {old.shape}",
                    rule="its axes have the lengths that the shape rule gives",
                )

    # what rules ask

    def axes_of(self, v: Value) -> Axes:
        """The axes of a value of the new program."""
        found = self.axes.get(v)
        return plain_axes(v.shape) if found is None else found

    def add(self, name: str, *inputs: Value, **params: Any) -> Value:
        """Apply a primitive with one output to values of the new program."""
        where = self.node.where if self.node is not None else ""
        self.nodes.append(applied(TABLE[name], inputs, params, where))
        return self.nodes[-1].outputs[0]

    def again(
        self, inputs: tuple[Value, ...], axes: Sequence[Axes], **params: Any
    ) -> tuple[Value, ...]:
        """The node at hand on these operands; what its outputs' axes are is said.

        Args:
            params: those that are other than at_bound() of the node's.
        """
        node = self._now()
        fixed = {k: at_bound(p) for k, p in node.params.items()} | params
        if any(map(holds_length, fixed.values())):
            self.refuse("its settings are numbers: a number that depends on a length is none yet")
        self.nodes.append(applied(node.primitive, inputs, fixed, node.where, node.replay))
        outputs = self.nodes[-1].outputs
        for v, of in zip(outputs, axes, strict=True):
            self.note(v, of)
        return outputs

    def note(self, v: Value, axes: Axes) -> Value:
        """Say what the axes of a value are; gives the value."""
        if are_ragged(axes):
            self.axes[v] = tuple(axes)
        return v

    def refuse(self, why: str) -> Any:
        """Raise: the node at hand cannot be done for a length that is known when it runs."""
        node = self._now()
        shapes = ", ".join(str(tuple(v.shape)) for v in node.inputs)
        raise LengthError(
            f"{node.primitive.name} along an axis whose length is known only when the program runs",
            got=f"{shapes or tuple(node.outputs[0].shape)}, at {node.where or 'an unknown line'}",
            rule=why,
            fix="leave that axis out of dynamic_shapes: then each length is a program of its own",
        )

    def _now(self) -> Node:
        if self.node is None:
            raise CompileError.own_fault("no node", got="none", rule="rules are asked of nodes")
        return self.node

    # numbers that are known when it runs

    def scalar(self, number: Any, dtype: DType) -> Value:
        """A number, or a length, or what is computed of lengths, as a 0-d value."""
        key = ("scalar", repr(number), dtype)
        if key not in self._known:
            self._known[key] = self._scalar(number, dtype)
        return self._known[key]

    def _scalar(self, number: Any, dtype: DType) -> Value:
        if not is_symbolic(number):
            return self.add("full", shape=(), value=number, dtype=dtype)
        wide = int64 if isinstance(number, Length) else float64
        if dtype is not wide:
            return self.add("cast", self.scalar(number, wide), dtype=dtype)
        if isinstance(number, Length):
            return self._length(number)
        return self._computed(number)

    def _computed(self, number: LengthNumber) -> Value:
        """In float64, as Python would."""
        names = {"truediv": "div"}
        parts = [self.scalar(p, float64) for p in number.parts]
        return self.add(names.get(number.operation, number.operation), *parts)

    def _length(self, number: Length) -> Value:
        total: Value | None = None
        for factors, n in number.terms.items():
            term: Value | None = None
            for f in factors:
                if isinstance(f, Dim):
                    value = self.lengths[f]
                else:
                    below = self.scalar(f.length, int64)
                    value = self.add("floor_div", below, self.scalar(f.by, int64))
                term = value if term is None else self.add("mul", term, value)
            if term is None or n != 1:
                times = self.scalar(n, int64)
                term = times if term is None else self.add("mul", term, times)
            total = term if total is None else self.add("add", total, term)
        return self.scalar(0, int64) if total is None else total

    def places(self, shape: tuple[int, ...], axis: int, dtype: DType = int32) -> Value:
        """The index along an axis; size 1 on the others is enough."""
        key = ("places", shape, axis, dtype)
        if key not in self._known:
            self._known[key] = self.add("iota", shape=shape, axis=axis, dtype=dtype)
        return self._known[key]

    # masks

    def mask(self, axes: Axes, over: Sequence[int]) -> Value:
        """Which places are valid along some axes, as bools; size 1 on the other axes."""
        key = ("mask", len(axes), tuple((d, axes[d].parts) for d in over))
        if key not in self._known:
            each = [self._mask_along(axes[d], d, len(axes)) for d in over]
            mask = each[0]
            for other in each[1:]:
                mask = self.add("logical_and", mask, other)
            self._known[key] = mask
        return self._known[key]

    def _mask_along(self, axis: Axis, d: int, rank: int) -> Value:
        shape = tuple(axis.size if i == d else 1 for i in range(rank))
        if axis.is_prefix:
            return self._below(shape, d, axis.length)
        sizes = tuple(part.bound for part in axis.parts)
        mask: Value | None = None
        for i, part in enumerate(axis.parts):
            if part.is_ragged:
                line = tuple(n if j == i else 1 for j, n in enumerate(sizes))
                below = self._below(line, i, part.length)
                mask = below if mask is None else self.add("logical_and", mask, below)
        if mask is None:
            raise CompileError.own_fault("a mask of no length", got=axis, rule="a part is ragged")
        return self.add("reshape", self.add("broadcast_to", mask, shape=sizes), shape=shape)

    def _below(self, shape: tuple[int, ...], axis: int, length: Any) -> Value:
        return self.add("less", self.places(shape, axis), self.scalar(length, int32))

    def masked(self, v: Value, over: Sequence[int], number: Any, axes: Axes | None = None) -> Value:
        """v with a number in place of what is not valid along some axes.

        Args:
            axes: which places those are, where other operands say so; default its own.
        """
        axes = self.axes_of(v) if axes is None else axes
        over = [d for d in over if axes[d].is_ragged]
        if not over or (v in self.zero and number == 0):
            return v
        key = ("masked", v, tuple((d, axes[d].parts) for d in over), repr(number))
        if key not in self._known:
            out = self.add("where", self.mask(axes, over), v, self.scalar(number, v.dtype))
            self._known[key] = self.note(out, axes)
            if number == 0 and len(over) == sum(axis.is_ragged for axis in axes):
                self.zero.add(out)
        return self._known[key]

    def clipped(self, index: Value, size: int) -> Value:
        """Indices brought within an axis."""
        low, high = (self.scalar(n, index.dtype) for n in (0, max(size - 1, 0)))
        return self.add("minimum", self.add("maximum", index, low), high)

    def shifted(self, v: Value, axis: int, by: Any, places: int, step: int = 1) -> Value:
        """out[i] = v[by + step * i] along an axis, for so many places; beyond v its last element.

        Args:
            by: a number, a Length, or a 0-d int64 value.
        """
        start = by if isinstance(by, Value) else self.scalar(by, int64)
        index = self.places((places,), 0, int64)
        if step != 1:
            index = self.add("mul", index, self.scalar(step, int64))
        index = self.clipped(self.add("add", index, start), v.shape[axis])
        return self.add("take", v, index, axis=axis)


def _say_lengths(params: Mapping[str, Any]) -> bool:
    """Whether there is a length in the parameters of a row, or of rows in its bodies."""
    return any(
        any(_say_lengths(line.params) for line in p.lines)
        if isinstance(p, Body)
        else holds_length(p)
        for p in params.values()
    )
