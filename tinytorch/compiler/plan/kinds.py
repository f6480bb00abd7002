"""What the compiler makes of each primitive: arithmetic, movement, a kernel of its own...

Knows names of primitives, never their code. A test asserts that every row of the table
has one kind.
"""

from __future__ import annotations

from tinytorch.compiler.graph.graph import Node, Value
from tinytorch.compiler.loops import elementwise
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


def has_epilogue(node: Node) -> bool:
    """Its kernel hands each result, while in registers, to the arithmetic that follows.

    Not the gradient of filters: its kernel has output channels in its lanes, weights have them
    outermost in memory, and an update would read three arrays number by number.
    """
    return is_product(node) and node.primitive.name != "convolution_weight_gradient"


def is_product(node: Node) -> bool:
    """It is a matrix product or a convolution that has native kernels."""
    name, p = node.primitive.name, node.params
    if not node.inputs or not node.inputs[0].dtype.is_float:
        return False
    if name == "convolution_input_gradient":  # else the cotangent would begin outside the image
        reach = [d * (k - 1) for d, k in zip(p["dilation"], node.inputs[1].shape[2:], strict=True)]
        return all(r >= pad[0] for r, pad in zip(reach, p["padding"], strict=True))
    return name in ("matmul", "convolution", "convolution_weight_gradient")


def drops_only_ones(before: tuple[int, ...], after: tuple[int, ...]) -> bool:
    """Whether a reshape only adds or removes axes of size 1."""
    return [n for n in before if n != 1] == [n for n in after if n != 1]


def is_simple(node: Node) -> bool:
    """A movement that leaves each element at the place of the same name: broadcasting..."""
    name = node.primitive.name
    if name == "broadcast_to":
        return True
    return name == "reshape" and drops_only_ones(node.inputs[0].shape, node.outputs[0].shape)


def reduced_axes(node: Node) -> frozenset[int]:
    """The axes of the input a reduction runs over, as non-negative numbers."""
    rank = len(node.inputs[0].shape)
    axes = node.params.get("axes")
    return frozenset(range(rank) if axes is None else (a % rank for a in axes))


def producers(nodes: list[Node]) -> dict[Value, Node]:
    """The node that makes each value."""
    return {v: n for n in nodes for v in n.outputs}
