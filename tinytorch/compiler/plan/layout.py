"""In which order the axes of each value lie in memory.

Knows shapes and primitives, never strides of other floors. Rows of images (N, C, H, W) are stored
channels-last: a convolution reads all channels of a pixel from one place, and a sum over the batch
keeps channels in the lanes of a vector.
"""

from __future__ import annotations

from tinytorch.compiler.graph.graph import Graph, Node, Value
from tinytorch.compiler.loops.reduction import accumulator
from tinytorch.compiler.plan import kinds
from tinytorch.compiler.plan.access import reshape_strides
from tinytorch.primitives.primitive import TABLE, Primitive

CHANNELS_LAST = (0, 2, 3, 1)
# Position of the outputs that are images.
_IMAGES = {
    "convolution": (0,), "convolution_input_gradient": (0,),
    "max_pool2d": (0, 1), "max_pool2d_gradient": (0,), "max_pool2d_take": (0,),
}  # fmt: skip
# Attention reads and writes heads side by side: (B, A, T, D) lies as (B, T, A, D), which is the
# (B, T, C) that the projections around it see.
HEADS_INSIDE = (0, 2, 1, 3)
_HEADS = {"attention": (0,), "attention_gradient": (0, 1, 2)}


def dense_strides(shape: tuple[int, ...], order: tuple[int, ...]) -> tuple[int, ...]:
    """Element strides of a dense array whose axes lie in `order`, outermost first.

    >>> dense_strides((2, 3, 4, 5), CHANNELS_LAST)
    (60, 1, 15, 3)
    """
    strides, total = [0] * len(shape), 1
    for axis in reversed(order):
        strides[axis] = total
        total *= shape[axis]
    return tuple(strides)


def plain(value: Value) -> tuple[int, ...]:
    """The order of the axes as they are written."""
    return tuple(range(len(value.shape)))


def choose_orders(graph: Graph) -> dict[Value, tuple[int, ...]]:
    """An order for every value. Movement keeps its input's, arithmetic its largest input's."""
    orders = {v: plain(v) for v in (*graph.arguments, *graph.states, *graph.constants)}
    for node in graph.nodes:
        for i, v in enumerate(node.outputs):
            orders[v] = _order(node, i, v, orders)
    return orders


def _order(node: Node, i: int, v: Value, orders: dict[Value, tuple[int, ...]]) -> tuple[int, ...]:
    name = node.primitive.name
    if i in _IMAGES.get(name, ()):
        return CHANNELS_LAST
    if i in _HEADS.get(name, ()):
        return HEADS_INSIDE
    if kinds.is_arithmetic(node) and not kinds.is_lookup(node) or name == "broadcast_to":
        special = [
            orders[x] for x in node.inputs if len(x.shape) == len(v.shape) and orders[x] != plain(x)
        ]
        full = [
            o
            for o, x in zip((orders[x] for x in node.inputs), node.inputs, strict=True)
            if x.shape == v.shape
        ]
        if special and not (full and all(o == plain(v) for o in full) and special[0] not in full):
            return special[0]
    if kinds.is_reduction(node) and len(v.shape) == len(node.inputs[0].shape):
        return orders[node.inputs[0]]
    if name in ("slice", "flip", "pad"):
        return orders[node.inputs[0]]
    if name == "permute":
        axes = node.params["axes"]
        back = {a: i for i, a in enumerate(axes)}
        return tuple(back[a] for a in orders[node.inputs[0]])
    if name == "reshape":
        return _order_seen(node.inputs[0], v, orders[node.inputs[0]])
    return plain(v)


def _order_seen(x: Value, v: Value, order: tuple[int, ...]) -> tuple[int, ...]:
    """The order of the axes of v, another shape of x, if it is seen where x lies."""
    if order == plain(x):
        return plain(v)
    strides = reshape_strides(x.shape, dense_strides(x.shape, order), v.shape)
    if strides is None:  # a copy, which is plain
        return plain(v)
    ones = [d for d, n in enumerate(v.shape) if n == 1]
    rest = sorted((d for d, n in enumerate(v.shape) if n != 1), key=lambda d: -strides[d])
    return plain(v) if rest == sorted(rest) else (*ones, *rest)


def split_reductions(graph: Graph) -> Graph:
    """Reductions over the innermost axis and others not beside it become two steps."""
    orders = choose_orders(graph)
    nodes: list[Node] = []
    for node in graph.nodes:
        if not kinds.is_reduction(node):
            nodes.append(node)
            continue
        x, out = node.inputs[0], node.outputs[0]
        axes = kinds.reduced_axes(node)
        order = [a for a in orders[x] if x.shape[a] != 1]
        inner = _suffix(order, axes)
        if not inner or inner == axes.intersection(order):
            nodes.append(node)
            continue
        first, wide = {"axes": tuple(sorted(inner)), "keepdims": True}, accumulator(x.dtype)
        if wide is x.dtype:
            half = _append(nodes, node, node.primitive, x, first)
            nodes.append(Node(node.primitive, (half,), node.params, (out,), node.where))
            continue
        half = _append(nodes, node, TABLE["cast"], x, {"dtype": wide})  # rounded once, at the end
        half = _append(nodes, node, node.primitive, half, first)
        half = _append(nodes, node, node.primitive, half, node.params)
        nodes.append(Node(TABLE["cast"], (half,), {"dtype": x.dtype}, (out,), node.where))
    graph.nodes = nodes
    return graph


def _append(nodes: list[Node], of: Node, primitive: Primitive, x: Value, params: dict) -> Value:
    """A node that stands for a step of the node `of`; its output."""
    out = Value(primitive.infer(x.spec, **params))
    nodes.append(Node(primitive, (x,), params, (out,), of.where))
    return out


def _suffix(order: list[int], axes: frozenset[int]) -> frozenset[int]:
    """The reduced axes at the end of the order."""
    found = []
    for a in reversed(order):
        if a not in axes:
            break
        found.append(a)
    return frozenset(found)
