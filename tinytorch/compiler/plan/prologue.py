"""Which operand of a product is computed while it is read: weights of few bits, times their scales.

Knows graphs and shapes, never kernels. A quantised weight is written in operations: its bytes cast
to float32, times a scale for each column or each group of rows; or two numbers of four bits to a
byte, taken apart by a shift and a mask. The product reads the bytes: of a weight that is read once,
they are what takes time. What is computed on the way is what the operations say, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from tinytorch.base.dtypes import float32
from tinytorch.compiler.graph.graph import Node, Value
from tinytorch.compiler.plan.access import (
    Coordinate,
    identity,
    is_arithmetic,
    is_simple,
    move_coordinates,
    unit,
)

Producers = Mapping[Value, Node]
Axes = tuple[int, ...]

MOST_OPERATIONS = 12  # on each number, once for each time the product reads it
WHOLE = 16  # numbers that are read at a time must not leave the innermost axis: lanes of AVX-512


@dataclass(frozen=True, eq=False)
class PrologueOperand:
    """A matrix (rows, columns) that is computed while it is read.

    Args:
        value: elementwise arithmetic; its elements are the matrix's, in the same order.
        rows, columns: which axes of it the matrix's indices run over, outermost first.
        leaves: what is read in memory.
    """

    value: Value
    rows: Axes
    columns: Axes
    leaves: tuple[Value, ...]


def computed_weight(producer: Producers, node: Node) -> PrologueOperand | None:
    """The second operand of a product, if it is computed from less than half its bytes.

    Args:
        producer: the node that makes each value.
        node: a product of matrices.
    """
    x, w = node.inputs
    if x.dtype is not float32 or len(w.shape) != 2 or not prod(w.shape):
        return None
    found = _arithmetic_of(producer, w)
    if found is None:
        return None
    value, rows, columns = found
    leaves = _leaves(producer, value)
    if leaves is None or 2 * sum(v.spec.nbytes for v in leaves) > w.spec.nbytes:
        return None
    for axes in (rows, columns):
        live = [n for a in axes if (n := value.shape[a]) != 1]
        if len(live) > 1 and (axes is columns or live[-1] % WHOLE):
            return None
    return PrologueOperand(value, rows, columns, leaves)


def read_by_product(producer: Producers, node: Node) -> tuple[Value, ...]:
    """What must lie in memory for a product."""
    found = computed_weight(producer, node)
    return node.inputs if found is None else (node.inputs[0], *found.leaves)


def _arithmetic_of(producer: Producers, w: Value) -> tuple[Value, Axes, Axes] | None:
    """The arithmetic whose elements a matrix shows, and the axes of its rows and columns."""
    units = (unit(2, 0), unit(2, 1))
    v, coordinates = w, units
    while (node := producer.get(v)) is not None and node.is_movement:
        moved = move_coordinates(node, coordinates, 2)
        v = node.inputs[0]
        if moved is None:
            return _behind_reshape(producer, node, coordinates)
        coordinates = moved
    if v.shape != tuple(w.shape[units.index(c)] if c in units else 0 for c in coordinates):
        return None
    axes = ((0,), (1,)) if coordinates == units else ((1,), (0,))
    return (v, *axes) if node is not None and is_arithmetic(node) else None


def _behind_reshape(
    producer: Producers, node: Node, coordinates: tuple[Coordinate, ...]
) -> tuple[Value, Axes, Axes] | None:
    """The same of a reshape that joins axes to a matrix."""
    v, shape = node.inputs[0], node.outputs[0].shape
    turned = coordinates == (unit(2, 1), unit(2, 0))
    made = producer.get(v)
    if made is None or not is_arithmetic(made) or not (turned or coordinates == identity(shape)):
        return None
    for cut in range(1, len(v.shape)):
        if (prod(v.shape[:cut]), prod(v.shape[cut:])) == shape:
            first, second = tuple(range(cut)), tuple(range(cut, len(v.shape)))
            return (v, second, first) if turned else (v, first, second)
    return None


def _leaves(producer: Producers, value: Value) -> tuple[Value, ...] | None:
    """What arithmetic reads; None if it is too much of it, or looks up rows."""
    leaves: dict[Value, None] = {}
    seen, stack = {value}, [value]
    operations = 0
    while stack:
        node = producer[stack.pop()]
        operations += 1
        if node.is_lookup or operations > MOST_OPERATIONS:
            return None
        for v in node.inputs:
            below, simple = v, True
            while (made := producer.get(below)) is not None and made.is_movement:
                simple, below = simple and is_simple(made), made.inputs[0]
            if below in seen or made is not None and made.is_source:
                continue
            seen.add(below)
            if made is not None and simple and is_arithmetic(made):
                stack.append(below)
            else:
                leaves[v] = None
    return tuple(leaves)
