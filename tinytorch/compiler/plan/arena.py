"""The arena: one piece of memory in which each temporary has a place while it is needed.

Knows Storages and the order of tasks, never addresses. A temporary lives from the first task that
writes it to the last that touches it, one that is kept from call to call always; two that live at
the same time never overlap. Placing them
best is hard in general (dynamic storage allocation is NP-complete: Garey & Johnson 1979, problem
SR2); greedy by size is the strategy that came closest to the lower bound over real networks in
Pisarchyk & Lee 2020, https://arxiv.org/abs/2001.03288, section 5.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

import numpy as np

from tinytorch.base.amounts import size_text
from tinytorch.base.errors import CompileError
from tinytorch.compiler.plan.stages import Storage, TaskList

ALIGNMENT = 64  # bytes: a cache line, and an AVX-512 vector


@dataclass(frozen=True)
class Arena:
    """Where the temporaries lie.

    Args:
        program: whose temporaries they are.
        offsets: byte offset in the arena of each temporary.
        lifetimes: (first task, last task) of each temporary, both included.
        arena: bytes of the arena.
        total: bytes of all temporaries together: what a plan without reuse would need.
        peak: bytes alive at the busiest task: no plan can need less.
        busiest: index of that task.
    """

    program: TaskList
    offsets: dict[Storage, int]
    lifetimes: dict[Storage, tuple[int, int]]
    arena: int
    total: int
    peak: int
    busiest: int

    def __str__(self) -> str:
        return report(self)


def plan_arena(program: TaskList) -> Arena:
    """Give every temporary the lowest place that is free in its time.

    They are taken largest first; where that needs more than is alive at once, also those of the
    busiest task before all others, the longest there first, and the smaller arena is the plan. (A
    GPT step in bf16: 230 and 222.5 MiB, where 221.7 are alive at once.)

    Cost: of n temporaries each is held against all placed before it, in arrays (3 000: 0.06 s for
    each of the two).

    Raises:
        CompileError: a temporary is read but never written (from `lifetimes_of`).
    """
    lifetimes = lifetimes_of(program)
    peak, busiest = _peak(lifetimes, len(program.tasks))

    def at_the_peak(s: Storage) -> tuple[int, ...]:
        first, last = lifetimes[s]
        return int(not first <= busiest <= last), first - last, -s.nbytes, first

    by_size = sorted(lifetimes, key=lambda s: (-s.nbytes, *lifetimes[s]))
    arena, offsets = _placed(by_size, lifetimes)
    if arena > peak:
        other = _placed(sorted(lifetimes, key=at_the_peak), lifetimes)
        arena, offsets = min((arena, offsets), other, key=lambda plan: plan[0])
    total = sum(_aligned(s.nbytes) for s in lifetimes)
    return Arena(program, offsets, lifetimes, arena, total, peak, busiest)


def _placed(
    order: Sequence[Storage], lifetimes: Mapping[Storage, tuple[int, int]]
) -> tuple[int, dict[Storage, int]]:
    """(bytes needed, offset of each) where temporaries get their places in this order."""
    placed, offsets = _Placed(len(order)), dict[Storage, int]()
    for s in order:
        offsets[s] = placed.place(_aligned(s.nbytes), *lifetimes[s])
    return max((at + _aligned(s.nbytes) for s, at in offsets.items()), default=0), offsets


class _Placed:
    """Temporaries that have a place, in order of offset: rows of offset, end, first and last task.

    In arrays, as each new one is held against all of them.
    """

    def __init__(self, most: int):
        self.rows, self.count = np.zeros((4, most), np.int64), 0

    def place(self, size: int, first: int, last: int) -> int:
        """The lowest offset at which `size` bytes are free from task `first` to task `last`."""
        offset, end, begun, done = self.rows[:, : self.count]
        meets = ((begun <= last) & (done >= first)).nonzero()[0]
        below = np.maximum.accumulate(end[meets])  # all of these end there or before
        free_from = np.concatenate(([0], below))
        fits = (offset[meets] - free_from[:-1] >= size).nonzero()[0]
        at = int(free_from[fits[0] if fits.size else -1])
        i = int(offset.searchsorted(at))
        self.rows[:, i + 1 : self.count + 1] = self.rows[:, i : self.count]
        self.rows[:, i] = at, at + size, first, last
        self.count += 1
        return at


def lifetimes_of(program: TaskList) -> dict[Storage, tuple[int, int]]:
    """The (first, last) task that touches each temporary, in order of first use."""
    lifetimes: dict[Storage, tuple[int, int]] = {}
    for i, task in enumerate(program.tasks):
        for s in dict.fromkeys((*task.arguments, *task.reads, *task.writes)):
            if s.kind == "temporary":
                lifetimes[s] = (lifetimes.get(s, (i, i))[0], i)
    for s in kept_storages(program):
        lifetimes[s] = (0, len(program.tasks) - 1)
    return lifetimes


def kept_storages(program: TaskList) -> set[Storage]:
    """What derived tasks leave for the others: it must still be there at the next call."""
    made = {s for t in program.tasks[: program.derived] for s in t.writes}
    return {s for t in program.tasks[program.derived :] for s in t.reads if s in made}


def check_arena(plan: Arena) -> None:
    """Check that no two temporaries that are needed together share a byte.

    Raises:
        CompileError: they do; or one is not aligned, outside the arena, or touched by a task
            outside its lifetime, which is counted anew.
    """

    def refuse(problem: str, got: object) -> None:
        raise CompileError.own_fault(
            f"the memory plan is wrong: {problem}",
            got=got,
            rule="memory is shared only by temporaries that are never alive at the same time",
        )

    if plan.lifetimes != lifetimes_of(plan.program):
        refuse("a temporary is touched outside its lifetime", len(plan.lifetimes))
    alive: list[tuple[int, int, int]] = []  # offset, number, end: apart, so neighbours tell
    ending: list[tuple[int, int, int, int]] = []  # last task, and the same
    for number, s in enumerate(sorted(plan.lifetimes, key=lambda s: plan.lifetimes[s][0])):
        first, last = plan.lifetimes[s]
        low, high = plan.offsets[s], plan.offsets[s] + s.nbytes
        if low % ALIGNMENT or high > plan.arena:
            refuse("a temporary is not aligned or outside the arena", s)
        while ending and ending[0][0] < first:
            gone = heappop(ending)[1:]
            del alive[bisect_left(alive, gone)]
        i = bisect_left(alive, (low, number, high))
        beside = alive[max(0, i - 1) : i + 1]
        if any(low < end and offset < high for offset, _, end in beside):
            refuse("two temporaries overlap", f"{s!r} at {low} to {high}, others at {beside}")
        alive.insert(i, (low, number, high))
        heappush(ending, (last, low, number, high))


def report(plan: Arena, rows: int = 12) -> str:
    """The plan as text: totals, then what is alive at the busiest task, largest first."""
    program = plan.program
    by_kind = {kind: 0 for kind in ("argument", "state", "constant", "result")}
    for s in program.storages:
        if s.kind in by_kind:
            by_kind[s.kind] += s.nbytes
    lines = [f"{kind + 's':<12} {size_text(n):>10}" for kind, n in by_kind.items()]
    lines.append(
        f"{'temporaries':<12} {size_text(plan.arena):>10}  one arena; "
        f"at once {size_text(plan.peak)}, without reuse {size_text(plan.total)}"
    )
    if program.tasks:
        lines.append(f"busiest task: {plan.busiest} {program.tasks[plan.busiest].shown}")
    at_peak = [s for s, (a, b) in plan.lifetimes.items() if a <= plan.busiest <= b]
    for s in sorted(at_peak, key=lambda s: -s.nbytes)[:rows]:
        held = repr(s.value) if s.value is not None else "scratch of a kernel"
        first, last = plan.lifetimes[s]
        lines.append(
            f"  {size_text(s.nbytes):>10}  tasks {first}-{last}  at {plan.offsets[s]:>10}  {held}"
        )
    return "\n".join(lines)


def _aligned(nbytes: int) -> int:
    return -(-max(nbytes, 1) // ALIGNMENT) * ALIGNMENT


def _peak(lifetimes: Mapping[Storage, tuple[int, int]], tasks: int) -> tuple[int, int]:
    """(bytes alive at the busiest task, that task)."""
    change = [0] * (tasks + 1)
    for s, (first, last) in lifetimes.items():
        change[first] += _aligned(s.nbytes)
        change[last + 1] -= _aligned(s.nbytes)
    best, busiest, now = 0, 0, 0
    for i in range(tasks):
        now += change[i]
        if now > best:
            best, busiest = now, i
    return best, busiest
