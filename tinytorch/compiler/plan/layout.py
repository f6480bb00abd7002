"""In which order the axes of each value lie in memory.

Knows shapes and primitives, never strides of other floors. Rows of images (N, C, H, W) are stored
channels-last: a convolution reads all channels of a pixel from one place, and a sum over the batch
keeps channels in the lanes of a vector.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tinytorch.base.errors import CompileError
from tinytorch.compiler.graph.graph import Graph, Node, Value, applied, verify
from tinytorch.compiler.graph.rewriter import Simplified
from tinytorch.compiler.loops.elementwise import accumulator
from tinytorch.compiler.operations import operation_of
from tinytorch.compiler.plan.access import is_arithmetic, movement_of, plain
from tinytorch.compiler.plan.stages import Axes, LaidOut
from tinytorch.primitives.primitive import TABLE, Primitive


def choose_layouts(program: Simplified) -> LaidOut:
    """An order of the axes for every value."""
    return LaidOut(program, choose_orders(program.graph))


def check_layouts(laid_out: LaidOut) -> None:
    """Each value has an order, which names each of its axes once.

    Raises:
        CompileError: one has not.
    """
    graph, orders = laid_out.graph, laid_out.orders
    given = (*graph.arguments, *graph.states, *graph.constants)
    for v in (*given, *(v for n in graph.nodes for v in n.outputs)):
        if sorted(orders.get(v, (-1,))) != list(plain(v)):
            raise CompileError.own_fault(
                "the compiler pass 'choose layouts' made an invalid program: an order of axes is"
                " missing or wrong",
                got=f"{v!r}: {orders.get(v)}",
                rule="each axis of each value once",
            )


def choose_orders(graph: Graph) -> dict[Value, tuple[int, ...]]:
    """An order for every value. Movement keeps its input's, arithmetic its largest input's."""
    orders = {v: plain(v) for v in (*graph.arguments, *graph.states, *graph.constants)}
    wanted = {*graph.outputs}  # in plain memory: what is joined there lies there at once
    for node in graph.nodes:
        for i, v in enumerate(node.outputs):
            joined = v in wanted and operation_of(node).joins
            orders[v] = plain(v) if joined else _order(node, i, v, orders)
    return orders


def _order(node: Node, i: int, v: Value, orders: Mapping[Value, Axes]) -> Axes:
    rule = operation_of(node).orders
    if i in rule:
        return rule[i]
    first = orders[node.inputs[0]] if node.inputs else plain(v)
    if node.is_movement:
        return movement_of(node).order(node, first)
    if node.is_reduction or operation_of(node).keeps_layout:
        return first if len(v.shape) == len(node.inputs[0].shape) else plain(v)
    if is_arithmetic(node) and not node.is_lookup:
        return _largest(node, v, orders)
    return plain(v)


def _largest(node: Node, v: Value, orders: Mapping[Value, Axes]) -> Axes:
    """The order of the operands of elementwise arithmetic that is not the plain one."""
    ranked = [x for x in node.inputs if len(x.shape) == len(v.shape) and orders[x] != plain(x)]
    full = [orders[x] for x in node.inputs if x.shape == v.shape]
    if not ranked:
        return plain(v)
    special = orders[ranked[0]]
    only_plain = full and all(o == plain(v) for o in full)
    return plain(v) if only_plain and special not in full else special


def split_reductions(program: Simplified) -> Simplified:
    """Reductions over the innermost axis and others not beside it become two steps."""
    graph = program.graph
    orders = choose_orders(graph)
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.is_reduction:
            _split(nodes, node, orders)
        else:
            nodes.append(node)
    return replace(program, graph=replace(graph, nodes=nodes))


def check_split(program: Simplified) -> None:
    """See `graph.verify`; every reduction runs over innermost axes or over none of them.

    Raises:
        CompileError: one is left that runs over both.
    """
    graph = verify(program.graph, "split reductions")
    orders = choose_orders(graph)
    for node in graph.nodes:
        if node.is_reduction and _mixed(node, orders):
            raise CompileError.own_fault(
                "the compiler pass 'split reductions' made an invalid program: a reduction runs"
                " over innermost axes and others",
                got=repr(node.outputs[0]),
                rule="a reduction runs over the innermost axes in memory, or over none of them",
            )


def _mixed(node: Node, orders: Mapping[Value, Axes]) -> frozenset[int]:
    """The innermost axes of a reduction that also runs over others; none: it is one step."""
    x, axes = node.inputs[0], node.reduced_axes
    order = [a for a in orders[x] if x.shape[a] != 1]
    inner = _suffix(order, axes)
    return frozenset() if inner == axes.intersection(order) else inner


def _split(nodes: list[Node], node: Node, orders: Mapping[Value, Axes]) -> None:
    """Append the reduction, in two steps where its axes are not beside each other."""
    inner = _mixed(node, orders)
    if not inner:
        nodes.append(node)
        return
    x, out = node.inputs[0], node.outputs[0]
    first, wide = {"axes": tuple(sorted(inner)), "keepdims": True}, accumulator(x.dtype)
    if wide is x.dtype:
        half = _append(nodes, node, node.primitive, x, first)
        nodes.append(Node(node.primitive, (half,), node.params, (out,), node.where, node.replay))
        return
    half = _append(nodes, node, TABLE["cast"], x, {"dtype": wide})  # rounded once, at the end
    half = _append(nodes, node, node.primitive, half, first)
    half = _append(nodes, node, node.primitive, half, node.params)
    nodes.append(Node(TABLE["cast"], (half,), {"dtype": x.dtype}, (out,), node.where, node.replay))


def _append(
    nodes: list[Node], of: Node, primitive: Primitive, x: Value, params: dict[str, Any]
) -> Value:
    """A node that stands for a step of the node `of`; its output."""
    nodes.append(applied(primitive, (x,), params, of.where, of.replay))
    return nodes[-1].outputs[0]


def _suffix(order: list[int], axes: frozenset[int]) -> frozenset[int]:
    """The reduced axes at the end of the order."""
    found: list[int] = []
    for a in reversed(order):
        if a not in axes:
            break
        found.append(a)
    return frozenset(found)
