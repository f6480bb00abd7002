"""Where the elements of a value are found: strides over a buffer, and coordinates over loops.

Knows shapes and strides, never primitives or kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tinytorch.compiler.graph.graph import Value


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


def plain(value: Value) -> tuple[int, ...]:
    """The order of the axes as they are written."""
    return tuple(range(len(value.shape)))


def identity(shape: Sequence[int]) -> tuple[Coordinate, ...]:
    """Each axis is the loop of the same number; an axis of size 1 stays at 0."""
    rank = len(shape)
    return tuple(unit(rank, d) if n != 1 else nowhere(rank) for d, n in enumerate(shape))


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
