"""Where the elements of a value are found: strides over memory, and coordinates over loops.

Knows shapes, strides and movement, never kernels. For each primitive of movement a row says where
an element of the result lies in the operand, in three forms: as coordinates over loops, as strides
over memory, and as the order of axes that leaves the numbers where they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tinytorch.compiler.graph.graph import Node, Value
from tinytorch.compiler.loops import elementwise


@dataclass(frozen=True)
class Access:
    """Element i lies at offset + sum(strides * i) of `base`, a stored value."""

    base: Value
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0


@dataclass(frozen=True)
class Coordinate:
    """A position along one axis: offset + sum(strides * loop indices)."""

    strides: tuple[int, ...]
    offset: int = 0

    def times(self, factor: int, shift: int = 0) -> Coordinate:
        """factor * self + shift."""
        return Coordinate(tuple(factor * s for s in self.strides), factor * self.offset + shift)


def unit(rank: int, dim: int) -> Coordinate:
    """The loop index `dim` itself."""
    return Coordinate(tuple(int(d == dim) for d in range(rank)))


def nowhere(rank: int) -> Coordinate:
    """The constant 0."""
    return Coordinate((0,) * rank)


def plain(value: Value) -> tuple[int, ...]:
    """The order of the axes as they are written."""
    return tuple(range(len(value.shape)))


def identity(shape: Sequence[int]) -> tuple[Coordinate, ...]:
    """Each axis is the loop of the same number; an axis of size 1 stays at 0."""
    rank = len(shape)
    return tuple(unit(rank, d) if n != 1 else nowhere(rank) for d, n in enumerate(shape))


def row_coordinates(
    shape: Sequence[int], domain: Sequence[int], axes: frozenset[int]
) -> tuple[Coordinate, ...]:
    """For each axis of an array with one element a row, the loop of the domain it runs along."""
    rank = len(domain)
    loops = iter(d for d, n in enumerate(domain) if d not in axes and n != 1)
    return tuple(unit(rank, next(loops)) if n != 1 else nowhere(rank) for n in shape)


def dense_strides(shape: tuple[int, ...], order: tuple[int, ...]) -> tuple[int, ...]:
    """Element strides of a dense array whose axes lie in `order`, outermost first.

    >>> dense_strides((2, 3, 4, 5), (0, 2, 3, 1))
    (60, 1, 15, 3)
    """
    strides, total = [0] * len(shape), 1
    for axis in reversed(order):
        strides[axis] = total
        total *= shape[axis]
    return tuple(strides)


def at(access: Access, coordinates: Sequence[Coordinate], rank: int) -> tuple[tuple[int, ...], int]:
    """(strides over the loops, offset) of the element at the coordinates."""
    strides, offset = [0] * rank, access.offset
    for stride, c in zip(access.strides, coordinates, strict=True):
        offset += stride * c.offset
        for d in range(rank):
            strides[d] += stride * c.strides[d]
    return tuple(strides), offset


def bounds(strides: Sequence[int], sizes: Sequence[int], offset: int = 0) -> tuple[int, int]:
    """The lowest and the highest place that indices below `sizes` (at least 1) reach.

    >>> bounds((-4, 1), (2, 4), 4)
    (0, 7)
    """
    low = high = offset
    for s, n in zip(strides, sizes, strict=True):
        if s < 0:
            low += s * (n - 1)
        else:
            high += s * (n - 1)
    return low, high


def nested(strides: Sequence[int], sizes: Sequence[int]) -> bool:
    """Whether each axis steps over all that the shorter steps reach: no two indices meet.

    >>> nested((4, 1), (2, 4)), nested((3, 1), (2, 4)), nested((0, 1), (2, 4))
    (True, False, False)
    """
    reach = 0
    for s, n in sorted((abs(s), n) for s, n in zip(strides, sizes, strict=True) if n > 1):
        if s <= reach:
            return False
        reach += s * (n - 1)
    return True


def broadcast(
    coordinates: Sequence[Coordinate], shape: Sequence[int], to: Sequence[int]
) -> tuple[Coordinate, ...]:
    """Coordinates in an operand of `shape` from those in the result of shape `to` (NumPy)."""
    rank = len(coordinates[0].strides) if coordinates else 0
    lead = len(to) - len(shape)
    return tuple(
        coordinates[lead + i] if n == to[lead + i] else nowhere(rank) for i, n in enumerate(shape)
    )


def reshape_strides(
    shape: Sequence[int], strides: Sequence[int], new: Sequence[int]
) -> tuple[int, ...] | None:
    """Strides that show the same elements under another shape, None where only a copy can.

    >>> reshape_strides((2, 3, 4), (12, 4, 1), (6, 4)), reshape_strides((2, 3), (1, 2), (6,))
    ((4, 1), None)
    """
    if 0 in shape:
        return (0,) * len(new)
    old = [(n, s) for n, s in zip(shape, strides, strict=True) if n != 1]
    out, i = [0] * len(new), 0
    d = 0
    while d < len(new):
        if new[d] == 1:
            d += 1
            continue
        low, j, have, want = d, i, old[i][0], new[d]
        while have != want:  # take axes on both sides until the products agree
            if have < want:
                j += 1
                have *= old[j][0]
            else:
                d += 1
                want *= new[d]
        for a in range(i, j):
            if old[a][1] != old[a + 1][1] * old[a + 1][0]:
                return None
        step = old[j][1]
        for k in range(d, low - 1, -1):
            out[k] = step if new[k] != 1 else 0
            step *= new[k]
        i, d = j + 1, d + 1
    return tuple(out)


# Movement: the primitives that give the same numbers at other places.

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
    axes: Axes = node.params["axes"]
    strides = tuple(x.strides[a] for a in axes)
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
    return Access(x.base, shape, strides, offset)


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
    given: Axes = node.params["axes"]
    axes = {a % len(x.shape) for a in given}
    offset = x.offset + sum(x.strides[a] * (x.shape[a] - 1) for a in axes if x.shape[a])
    strides = tuple(-s if d in axes else s for d, s in enumerate(x.strides))
    return Access(x.base, node.outputs[0].shape, strides, offset)


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


# what the passes ask of a node


def is_arithmetic(node: Node) -> bool:
    """It computes each element from those at the same place (or looks up a row by an index)."""
    return elementwise.has_instructions(node.primitive.name) or node.is_lookup


def is_simple(node: Node) -> bool:
    """A movement that leaves each element at the place of the same name: broadcasting..."""
    return movement_of(node).is_simple(node)
