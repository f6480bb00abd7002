"""Which part of an axis is valid, in a program whose memory is planned for the greatest lengths.

Knows bounds and lengths (base/lengths.py), never primitives. An axis of length T <= 1024 has 1024
places, of which the first T are valid. Axes that `reshape` has joined keep their parts: of (B, T)
as one axis of B * 1024 places, the first T of every 1024 are.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinytorch.base.lengths import Dim, Length, bound_of, is_symbolic, value_at

Shape = tuple[Any, ...]  # sizes, lengths among them


@dataclass(frozen=True)
class Part:
    """One factor of an axis.

    Args:
        bound: places.
        length: how many of them are valid, the first ones: a number, or a Length.
    """

    bound: int
    length: Any

    @property
    def is_ragged(self) -> bool:
        """Whether the number of valid places is known only when the program runs."""
        return is_symbolic(self.length)


@dataclass(frozen=True)
class Axis:
    """An axis of a value.

    Args:
        parts: factors, outermost first; a place is valid if it is in each of them.
        is_free: the value is the same all along it: any place may stand for any other.
    """

    parts: tuple[Part, ...]
    is_free: bool = False

    @property
    def size(self) -> int:
        """Places."""
        return math.prod(part.bound for part in self.parts)

    @property
    def length(self) -> Any:
        """Valid places."""
        return _product(part.length for part in self.parts)

    @property
    def is_ragged(self) -> bool:
        """Whether the number of valid places is known only when the program runs."""
        return any(part.is_ragged for part in self.parts)

    @property
    def is_prefix(self) -> bool:
        """Whether the valid places are the first ones."""
        return not any(part.is_ragged for part in self.parts[1:])

    def __str__(self) -> str:
        if len(self.parts) == 1:
            return f"{self.length!r} of {self.size}"
        return " x ".join(f"{p.length!r} of {p.bound}" for p in self.parts)


Axes = tuple[Axis, ...]


def plain_axis(n: Any, is_free: bool = False) -> Axis:
    """The axis of a size: all places, or the first ones."""
    return Axis((Part(bound_of(n), n),), is_free)


def plain_axes(shape: Iterable[Any], is_free: bool = False) -> Axes:
    """The axes of a shape."""
    return tuple([plain_axis(n, is_free) for n in shape])


def are_ragged(axes: Iterable[Axis]) -> bool:
    """Whether one of them is."""
    return any(axis.is_ragged for axis in axes)


def common_axis(axes: Sequence[Axis]) -> Axis | None:
    """The axis on which values meet that have one length there; None if it is laid out otherwise.

    Args:
        axes: of one length; none of size 1 beside others.
    """
    fixed = [axis for axis in axes if not axis.is_free]
    if not are_ragged(axes):
        return plain_axis(axes[0].size, is_free=not fixed)
    if not fixed:
        return axes[0]
    return fixed[0] if all(axis.parts == fixed[0].parts for axis in fixed) else None


def _product(sizes: Iterable[Any]) -> Any:
    out: Any = 1
    for n in sizes:
        out = out * n
    return out


def exactly(n: Any, by: Any) -> Any:
    """n / by, if no length leaves a rest, else None."""
    if isinstance(n, Length):
        return n.exactly(by)
    if isinstance(by, Length) or not by or n % by:
        return None
    return n // by


def regrouped(axes: Axes, shape: Shape) -> Axes | None:
    """The axes of a value that is reshaped; None if valid places would not stay together.

    Args:
        axes: those it has.
        shape: those it is to have; lengths among them.
    """
    left = [(part, axis.is_free) for axis in axes for part in axis.parts if part.length != 1]
    out: list[Axis] = []
    for n in shape:
        parts: list[Part] = []
        free: list[bool] = []
        missing = n
        while not (isinstance(missing, int) and missing == 1):
            if not left:
                return None
            part, is_free = left.pop(0)
            rest = exactly(missing, part.length)
            if rest is None:  # the first part of what it is a product of
                rest, more = 1, exactly(part.length, missing)
                if more is None or part.is_ragged and not is_free:
                    return None
                size = bound_of(missing)
                left.insert(0, (Part(part.bound // size, more), is_free))
                part = Part(size, missing)
            parts.append(part)
            free.append(is_free)
            missing = rest
        out.append(_joined(parts, all(free)))
    return tuple(out) if not left else None


def taken_apart(axes: Axes, sizes: tuple[int, ...]) -> Axes | None:
    """The same places under axes of other sizes; None if a ragged part would be cut."""
    left = [part for axis in axes for part in axis.parts if part.bound != 1]
    out: list[Axis] = []
    for n in sizes:
        parts: list[Part] = []
        while n != 1:
            if not left:
                return None
            part = left.pop(0)
            size = math.gcd(n, part.bound)
            if size != part.bound:
                if part.is_ragged or size == 1:
                    return None
                left.insert(0, Part(part.bound // size, part.bound // size))
                part = Part(size, size)
            parts.append(part)
            n //= size
        out.append(_joined(parts, False))
    return tuple(a if a.is_ragged else plain_axis(a.size) for a in out)


def valid_part(array: np.ndarray, axes: Axes, lengths: Mapping[Dim, int]) -> np.ndarray:
    """The valid places of an array of all places: a view, if they lie side by side."""
    shape = tuple(value_at(axis.length, lengths) for axis in axes)
    sizes = [part.bound for axis in axes for part in axis.parts]
    return array.reshape(sizes)[_kept(axes, lengths)].reshape(shape)


def in_place(array: np.ndarray, axes: Axes, lengths: Mapping[Dim, int]) -> np.ndarray:
    """An array of all places, whose valid ones hold another array, and the others 0."""
    parts = [part for axis in axes for part in axis.parts]
    out = np.zeros([part.bound for part in parts], array.dtype)
    out[_kept(axes, lengths)] = array.reshape([value_at(p.length, lengths) for p in parts])
    return out.reshape([axis.size for axis in axes])


def _kept(axes: Axes, lengths: Mapping[Dim, int]) -> tuple[slice, ...]:
    return tuple(slice(value_at(p.length, lengths)) for axis in axes for p in axis.parts)


def _joined(parts: list[Part], is_free: bool) -> Axis:
    """An axis of these parts; those side by side of which all places are valid become one."""
    out: list[Part] = []
    for part in parts:
        if out and not part.is_ragged and not out[-1].is_ragged:
            size = out.pop().bound * part.bound
            part = Part(size, size)
        out.append(part)
    return Axis(tuple(out or [Part(1, 1)]), is_free)
