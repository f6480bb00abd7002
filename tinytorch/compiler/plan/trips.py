"""Where a trip of a loop finds its memory, and when a case of a branch is done.

Knows places in the memory of the task around, by number; never what lies there.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Walk:
    """Where something lies in each trip of a loop: at offset + (trip % period) * step.

    Args:
        argument: in which memory of the loop's task, by its place there.
        offset, step: in bytes.
        period: after how many trips it lies where it lay.
    """

    argument: int
    offset: int = 0
    step: int = 0
    period: int = 1

    def at(self, trip: int) -> int:
        """The offset in one trip."""
        return self.offset + trip % self.period * self.step


@dataclass(frozen=True)
class Way:
    """Where something lies in the first, in each other, and in the last trip.

    Args:
        each: the walk.
        first, last: where the first and the last trip find it; None: as the others do. Of a single
            trip the last counts.
    """

    each: Walk
    first: Walk | None = None
    last: Walk | None = None

    def of(self, trip: int, trips: int) -> Walk:
        """The walk that says where it lies in a trip."""
        if self.last is not None and trip == trips - 1:
            return self.last
        return self.first if self.first is not None and trip == 0 else self.each


@dataclass(frozen=True)
class Choice:
    """When the tasks of a case are done.

    Args:
        argument: in which memory of the case's task the predicate lies, by its place there.
        offset: in bytes.
        holds: what the predicate must be.
    """

    argument: int
    offset: int
    holds: bool
