"""What the op class of a node's row means to the passes.

Knows classes of operations, never names of primitives.
"""

from __future__ import annotations

from collections.abc import Sequence

from tinytorch.compiler.graph.graph import Node, Value
from tinytorch.compiler.loops import elementwise
from tinytorch.compiler.plan.movement import movement_of
from tinytorch.primitives.primitive import OpClass


def is_movement(node: Node) -> bool:
    """It gives the same numbers at other places."""
    return node.primitive.op_class is OpClass.MOVEMENT


def is_source(node: Node) -> bool:
    """It reads nothing."""
    return node.primitive.op_class is OpClass.SOURCE


def is_position(node: Node) -> bool:
    """It reads nothing and counts along an axis."""
    return is_source(node) and node.constant is None


def is_reduction(node: Node) -> bool:
    """It is a sum, product, maximum, ... over axes."""
    return node.primitive.op_class is OpClass.REDUCTION


def is_arithmetic(node: Node) -> bool:
    """It computes each element from those at the same place (or looks up a row by an index)."""
    return elementwise.has_instructions(node.primitive.name) or is_lookup(node)


def is_lookup(node: Node) -> bool:
    """It reads whole rows at data-dependent places."""
    return node.primitive.op_class is OpClass.LOOKUP


def is_update(node: Node) -> bool:
    """It copies its first input and writes a part of it: of a state, only that part is written."""
    return node.primitive.op_class is OpClass.UPDATE


def is_simple(node: Node) -> bool:
    """A movement that leaves each element at the place of the same name: broadcasting..."""
    return movement_of(node).is_simple(node)


def reduced_axes(node: Node) -> frozenset[int]:
    """The axes of the input a reduction runs over, as non-negative numbers."""
    rank = len(node.inputs[0].shape)
    axes = node.params.get("axes")
    return frozenset(range(rank) if axes is None else (a % rank for a in axes))


def producers(nodes: Sequence[Node]) -> dict[Value, Node]:
    """The node that makes each value."""
    return {v: n for n in nodes for v in n.outputs}
