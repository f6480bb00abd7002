"""The primitives that give the same numbers at other places: how each is seen through.

Knows shapes and strides, never kernels. A row of the table says where an element of the result lies
in the operand, in three forms: as coordinates over loops, as strides over memory, and as the order
of axes that leaves the numbers where they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tinytorch.compiler.graph.graph import Node
from tinytorch.compiler.plan.access import (
    Access,
    Coordinate,
    broadcast,
    dense_strides,
    nowhere,
    reshape_strides,
)

Axes = tuple[int, ...]


def _never(node: Node) -> bool:
    return False


def _as_it_lies(node: Node, order: Axes) -> Axes:
    return order


def _unknown(node: Node, strides: Axes) -> Axes | None:
    return None


@dataclass(frozen=True)
class Movement:
    """How one movement primitive is seen through.

    Args:
        coordinates: (node, those in the result, number of loops) -> those in the operand; None
            where they are no strides over the loops: the operand must lie in memory.
        access: (node, that of the operand) -> that of the result; None where only a copy has one.
        order: (node, order of the operand's axes) -> that of the result's, seen where it lies.
        before: (node, strides of the result) -> those of the operand that give them; None: unknown.
        is_simple: (node) -> whether each element stays at the place of the same name.
    """

    coordinates: Callable[[Node, Sequence[Coordinate], int], tuple[Coordinate, ...] | None]
    access: Callable[[Node, Access], Access | None]
    order: Callable[[Node, Axes], Axes] = _as_it_lies
    before: Callable[[Node, Axes], Axes | None] = _unknown
    is_simple: Callable[[Node], bool] = _never


# permute


def _permute_coordinates(
    node: Node, coordinates: Sequence[Coordinate], rank: int
) -> tuple[Coordinate, ...]:
    back = {a: i for i, a in enumerate(node.params["axes"])}
    return tuple(coordinates[back[a]] for a in range(len(node.inputs[0].shape)))


def _permute_access(node: Node, x: Access) -> Access:
    strides = tuple(x.strides[a] for a in node.params["axes"])
    return replace(x, shape=node.outputs[0].shape, strides=strides)


def _permute_order(node: Node, order: Axes) -> Axes:
    back = {a: i for i, a in enumerate(node.params["axes"])}
    return tuple(back[a] for a in order)


def _permute_before(node: Node, strides: Axes) -> Axes:
    back = [0] * len(strides)
    for i, a in enumerate(node.params["axes"]):
        back[a] = strides[i]
    return tuple(back)


# broadcast_to


def _broadcast_coordinates(
    node: Node, coordinates: Sequence[Coordinate], rank: int
) -> tuple[Coordinate, ...]:
    return broadcast(coordinates, node.inputs[0].shape, node.outputs[0].shape)


def _broadcast_access(node: Node, x: Access) -> Access:
    shape = node.outputs[0].shape
    lead = len(shape) - len(x.shape)
    own = zip(x.strides, x.shape, shape[lead:], strict=True)
    strides = (*(0,) * lead, *(s if n == m else 0 for s, n, m in own))
    return replace(x, shape=shape, strides=strides)


def _broadcast_order(node: Node, order: Axes) -> Axes:
    rank = len(node.outputs[0].shape)
    return order if len(order) == rank else tuple(range(rank))


def _always(node: Node) -> bool:
    return True


# slice


def _slice_coordinates(
    node: Node, coordinates: Sequence[Coordinate], rank: int
) -> tuple[Coordinate, ...]:
    start, step = node.params["start"], node.params["step"]
    return tuple(c.times(s, a) for c, a, s in zip(coordinates, start, step, strict=True))


def _slice_access(node: Node, x: Access) -> Access:
    shape, offset = node.outputs[0].shape, x.offset
    if all(shape):
        offset += sum(s * a for s, a in zip(x.strides, node.params["start"], strict=True))
    strides = tuple(s * step for s, step in zip(x.strides, node.params["step"], strict=True))
    return Access(x.home, shape, strides, offset)


# flip


def _flip_coordinates(
    node: Node, coordinates: Sequence[Coordinate], rank: int
) -> tuple[Coordinate, ...]:
    shape = node.inputs[0].shape
    axes = {a % len(shape) for a in node.params["axes"]}
    return tuple(
        c.times(-1, n - 1) if d in axes else c
        for d, (c, n) in enumerate(zip(coordinates, shape, strict=True))
    )


def _flip_access(node: Node, x: Access) -> Access:
    axes = {a % len(x.shape) for a in node.params["axes"]}
    offset = x.offset + sum(x.strides[a] * (x.shape[a] - 1) for a in axes if x.shape[a])
    strides = tuple(-s if d in axes else s for d, s in enumerate(x.strides))
    return Access(x.home, node.outputs[0].shape, strides, offset)


# reshape


def _reshape_coordinates(
    node: Node, coordinates: Sequence[Coordinate], rank: int
) -> tuple[Coordinate, ...] | None:
    if not _drops_only_ones(node):
        return None
    real = iter(c for c, n in zip(coordinates, node.outputs[0].shape, strict=True) if n != 1)
    return tuple(next(real) if n != 1 else nowhere(rank) for n in node.inputs[0].shape)


def _reshape_access(node: Node, x: Access) -> Access | None:
    shape = node.outputs[0].shape
    strides = reshape_strides(x.shape, x.strides, shape)
    return None if strides is None else replace(x, shape=shape, strides=strides)


def _reshape_order(node: Node, order: Axes) -> Axes:
    """As it is written where x lies so, or where only a copy, which is plain, shows it."""
    x, shape = node.inputs[0].shape, node.outputs[0].shape
    plain = tuple(range(len(shape)))
    if order == tuple(range(len(x))):
        return plain
    strides = reshape_strides(x, dense_strides(x, order), shape)
    if strides is None:
        return plain
    ones = [d for d, n in enumerate(shape) if n == 1]
    rest = sorted((d for d, n in enumerate(shape) if n != 1), key=lambda d: -strides[d])
    return plain if rest == sorted(rest) else (*ones, *rest)


def _reshape_before(node: Node, strides: Axes) -> Axes | None:
    return reshape_strides(node.outputs[0].shape, strides, node.inputs[0].shape)


def _drops_only_ones(node: Node) -> bool:
    """Whether a reshape only adds or removes axes of size 1."""
    before, after = node.inputs[0].shape, node.outputs[0].shape
    return [n for n in before if n != 1] == [n for n in after if n != 1]


MOVEMENTS = {
    "permute": Movement(_permute_coordinates, _permute_access, _permute_order, _permute_before),
    "broadcast_to": Movement(
        _broadcast_coordinates, _broadcast_access, _broadcast_order, is_simple=_always
    ),
    "slice": Movement(_slice_coordinates, _slice_access),
    "flip": Movement(_flip_coordinates, _flip_access),
    "reshape": Movement(
        _reshape_coordinates, _reshape_access, _reshape_order, _reshape_before, _drops_only_ones
    ),
}


def movement_of(node: Node) -> Movement:
    """The row of a node of movement."""
    return MOVEMENTS[node.primitive.name]


def move_coordinates(
    node: Node, coordinates: Sequence[Coordinate], rank: int
) -> tuple[Coordinate, ...] | None:
    """Coordinates in a movement node's input from those in its output; None: a real reshape."""
    return movement_of(node).coordinates(node, coordinates, rank)


def move_access(node: Node, access: Access) -> Access | None:
    """The access of a movement node's output from that of its input; None if a copy is needed."""
    return movement_of(node).access(node, access)
