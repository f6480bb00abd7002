"""Where the elements of a value are found: strides over a buffer, through any chain of movement.

Knows shapes, strides and movement primitives, never kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tinytorch.compiler.graph.graph import Node, Value


@dataclass(frozen=True)
class Access:
    """Element i of `home` (a stored value) lies at offset + sum(strides * i)."""

    home: Value
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


def identity(shape: Sequence[int]) -> tuple[Coordinate, ...]:
    """Each axis is the loop of the same number; an axis of size 1 stays at 0."""
    rank = len(shape)
    return tuple(unit(rank, d) if n != 1 else nowhere(rank) for d, n in enumerate(shape))


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


def move_coordinates(
    node: Node, coordinates: Sequence[Coordinate], rank: int
) -> tuple[Coordinate, ...] | None:
    """Coordinates in a movement node's input from those in its output; None: a real reshape."""
    x, out, name, p = node.inputs[0], node.outputs[0], node.primitive.name, node.params
    if name == "permute":
        back = {a: i for i, a in enumerate(p["axes"])}
        return tuple(coordinates[back[a]] for a in range(len(x.shape)))
    if name == "broadcast_to":
        return broadcast(coordinates, x.shape, out.shape)
    if name == "slice":
        return tuple(
            c.times(step, start)
            for c, start, step in zip(coordinates, p["start"], p["step"], strict=True)
        )
    if name == "flip":
        axes = {a % len(x.shape) for a in p["axes"]}
        return tuple(
            c.times(-1, n - 1) if d in axes else c
            for d, (c, n) in enumerate(zip(coordinates, x.shape, strict=True))
        )
    if name == "reshape" and [n for n in x.shape if n != 1] == [n for n in out.shape if n != 1]:
        real = iter(c for c, n in zip(coordinates, out.shape, strict=True) if n != 1)
        return tuple(next(real) if n != 1 else nowhere(rank) for n in x.shape)
    return None


def move_access(node: Node, access: Access) -> Access | None:
    """The access of a movement node's output from that of its input; None if a copy is needed."""
    out, name, p = node.outputs[0], node.primitive.name, node.params
    if name == "reshape":
        strides = reshape_strides(access.shape, access.strides, out.shape)
        return None if strides is None else Access(access.home, out.shape, strides, access.offset)
    if name == "permute":
        return Access(
            access.home, out.shape, tuple(access.strides[a] for a in p["axes"]), access.offset
        )
    if name == "broadcast_to":
        lead = len(out.shape) - len(access.shape)
        spread = (
            s if n == m else 0
            for s, n, m in zip(access.strides, access.shape, out.shape[lead:], strict=True)
        )
        return Access(access.home, out.shape, (*(0,) * lead, *spread), access.offset)
    if name == "slice":
        offset = access.offset
        if all(out.shape):
            offset += sum(s * a for s, a in zip(access.strides, p["start"], strict=True))
        strides = tuple(s * step for s, step in zip(access.strides, p["step"], strict=True))
        return Access(access.home, out.shape, strides, offset)
    axes = {a % len(access.shape) for a in p["axes"]}  # flip
    offset = access.offset + sum(
        access.strides[a] * (access.shape[a] - 1) for a in axes if access.shape[a]
    )
    strides = tuple(-s if d in axes else s for d, s in enumerate(access.strides))
    return Access(access.home, out.shape, strides, offset)


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


def source(value: Value, producer: dict[Value, Node], stored) -> Value:
    """The stored value that the movement in front of `value` begins at."""
    while value not in stored:
        value = producer[value].inputs[0]
    return value
