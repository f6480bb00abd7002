"""Which places a mask of a program with lengths (graph/lengths.py) lets through, and what is 0.

Knows graphs and axes, never kernels. A mask is made of places that are compared with a length; that
a value is 0 beyond is known of arguments, which are staged so, and of what a mask has made 0.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from tinytorch.base.lengths import Dim, Length, dims_of
from tinytorch.codegen.kernel import RaggedRows
from tinytorch.compiler.graph.axes import Axes, Axis, Part, plain_axes, plain_axis, taken_apart
from tinytorch.compiler.graph.graph import Node, Value
from tinytorch.compiler.graph.rewriter import Simplified

_SAME_NUMBER = frozenset(("cast", "reshape", "broadcast_to"))
_PRODUCT, _CHOICE = frozenset(("mul",)), frozenset(("where",))


class Masks:
    """The masks of a program.

    Args:
        program: its operations, its lengths, and which axes of its arguments are ragged.
    """

    def __init__(self, program: Simplified):
        captured = program.captured.graph
        self.dims = {v: dim for dim, v in captured.lengths.items()}
        self.producer, self.constants = program.graph.producers(), program.graph.constants
        self.arguments = {v: captured.ragged[v] for v in captured.arguments if v in captured.ragged}

    def mask_of(self, v: Value) -> Axes | None:
        """The axes whose valid places are those where v is true; None if it is no such mask."""
        node = self.producer.get(v)
        if node is None:
            return None
        reader = _MASKS.get(node.primitive.name)
        return reader(self, node) if reader is not None else None

    def length_of(self, v: Value) -> tuple[Dim, int] | None:
        """The dim of whose length a 0-d value is so many times as much."""
        times, node = 1, self.producer.get(v)
        while node is not None and v not in self.dims:
            each = [self.number(x) for x in node.inputs]
            if node.primitive.name in _PRODUCT and each[1] is not None:
                times *= int(each[1])
            elif node.primitive.name not in _SAME_NUMBER:
                return None
            v = node.inputs[0]
            node = self.producer.get(v)
        return (self.dims[v], times) if v in self.dims else None

    def number(self, v: Value) -> float | None:
        """The number that a value is everywhere."""
        node = self.producer.get(v)
        while node is not None and node.primitive.name in _SAME_NUMBER:
            v = node.inputs[0]
            node = self.producer.get(v)
        if node is None:
            array = self.constants.get(v)
            return array.item() if array is not None and array.size == 1 else None
        return node.constant

    def hidden(self, node: Node) -> Axes | None:
        """Of a node that puts 0 where a mask is not true: the axes of what it lets through."""
        if node.primitive.name not in _CHOICE or self.number(node.inputs[2]) != 0:
            return None
        mask, out = self.mask_of(node.inputs[0]), node.outputs[0]
        if mask is None or node.inputs[1].shape != out.shape:
            return None
        own = (*plain_axes(out.shape[: len(out.shape) - len(mask)]), *mask)
        return tuple(
            a if a.size == n else plain_axis(n) for a, n in zip(own, out.shape, strict=True)
        )

    def zero_beyond(self, v: Value) -> Axes | None:
        """The axes beyond whose valid places v is 0; None if that is not known of any."""
        if v in self.arguments:
            return self.arguments[v]
        node = self.producer.get(v)
        if node is None:
            return None
        found = self.hidden(node)
        if found is not None or len(node.inputs) != 1:
            return found
        below = self.zero_beyond(node.inputs[0])
        return None if below is None else moved(node, below)


def moved(node: Node, axes: Axes) -> Axes | None:
    """The axes of a result whose numbers are those of its operand, or 0 where they are."""
    if node.primitive.elementwise and node.primitive.exact:
        return axes
    rule = _MOVED.get(node.primitive.name)
    return None if rule is None else rule(node, axes)


def _permuted(node: Node, axes: Axes) -> Axes:
    order: tuple[int, ...] = node.params["axes"]
    return tuple([axes[a] for a in order])


def _reshaped(node: Node, axes: Axes) -> Axes | None:
    return taken_apart(axes, node.outputs[0].shape)


_MOVED: dict[str, Callable[[Node, Axes], Axes | None]] = {
    "permute": _permuted,
    "reshape": _reshaped,
}


def ragged_rows(axis: Axis) -> list[RaggedRows]:
    """The places of an axis that are valid, as kernels are told them; one for each length of a dim.

    >>> T = Dim("T", 8)
    >>> ragged_rows(Axis((Part(2, 2), Part(8, Length.of(T)))))
    [RaggedRows(argument='length.T', bound=8, inner=1, rows=16)]
    """
    out: list[RaggedRows] = []
    for i, part in enumerate(axis.parts):
        dims = dims_of(part.length)
        if len(dims) == 1 and part.length == Length.of(dims[0]):
            inner = prod(p.bound for p in axis.parts[i + 1 :])
            out.append(RaggedRows(argument_of(dims[0]), part.bound, inner, axis.size))
    return out


def argument_of(dim: Dim) -> str:
    """The name of the buffer that holds its length."""
    return f"length.{dim.name}"


def _below(masks: Masks, node: Node) -> Axes | None:
    places, length = node.inputs
    made, found = masks.producer.get(places), masks.length_of(length)
    if made is None or found is None or not made.is_position:
        return None
    dim, times = found
    d, shape = int(made.params["axis"]), node.outputs[0].shape
    if shape[d] != dim.max * times:
        return None
    each = (Part(times, times),) if times != 1 else ()
    axis = Axis((Part(dim.max, Length.of(dim)), *each))
    return tuple(axis if i == d else plain_axis(n) for i, n in enumerate(shape))


def _both(masks: Masks, node: Node) -> Axes | None:
    a, b = (masks.mask_of(v) for v in node.inputs)
    if a is None or b is None or len(a) != len(b):
        return None
    return tuple(y if x.size == 1 or not x.is_ragged else x for x, y in zip(a, b, strict=True))


def _spread(masks: Masks, node: Node) -> Axes | None:
    axes, shape = masks.mask_of(node.inputs[0]), node.outputs[0].shape
    if axes is None:
        return None
    own = (*plain_axes(shape[: len(shape) - len(axes)]), *axes)
    return tuple(a if a.size == n else plain_axis(n) for a, n in zip(own, shape, strict=True))


def _joined(masks: Masks, node: Node) -> Axes | None:
    """Axes of a mask that are joined: each has all its places."""
    (x,) = node.inputs
    axes = masks.mask_of(x)
    if axes is None or tuple(a.size for a in axes) != x.shape:
        return None
    return taken_apart(axes, node.outputs[0].shape)


_MASKS: dict[str, Callable[[Masks, Node], Axes | None]] = {
    "less": _below,
    "logical_and": _both,
    "broadcast_to": _spread,
    "reshape": _joined,
}
