"""The memory plan: where in one arena each temporary lies, the dead making room for the living.

Knows Storages and the order of tasks, never addresses. A temporary lives from the first task that
writes it to the last that touches it; two that live at the same time never overlap. Placing them
best is hard in general (dynamic storage allocation is NP-complete: Garey & Johnson 1979, problem
SR2); greedy by size is the strategy that came closest to the lower bound over real networks in
Pisarchyk & Lee 2020, https://arxiv.org/abs/2001.03288, section 5.
"""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass

from tinytorch.base.errors import CompileError
from tinytorch.compiler.plan.tasks import Schedule, Storage

ALIGNMENT = 64  # bytes: a cache line, and an AVX-512 vector


@dataclass(frozen=True)
class MemoryPlan:
    """Where the temporaries lie.

    Args:
        offsets: byte offset in the arena of each temporary.
        lifetimes: (first task, last task) of each temporary, both included.
        arena: bytes of the arena.
        total: bytes of all temporaries together: what a plan without reuse would need.
        peak: bytes alive at the busiest task: no plan can need less.
        busiest: index of that task.
    """

    offsets: dict[Storage, int]
    lifetimes: dict[Storage, tuple[int, int]]
    arena: int
    total: int
    peak: int
    busiest: int


def plan_memory(schedule: Schedule) -> MemoryPlan:
    """Give every temporary, largest first, the lowest place that is free in its time.

    Cost: n log n + the pairs that are alive together, for n temporaries (2 000: 0.2 s).

    Raises:
        CompileError: a temporary is read but never written (from `lifetimes_of`).
    """
    lifetimes = lifetimes_of(schedule)
    groups = _groups(schedule, lifetimes)
    placed: list[tuple[int, int, int, int]] = []  # offset, end, first, last
    offsets: dict[Storage, int] = {}
    order = sorted(groups, key=lambda g: (-g.nbytes, g.first, g.last))
    for group in order:
        size = _aligned(group.nbytes)
        at = 0
        for offset, end, first, last in placed:  # in order of offset
            if first > group.last or last < group.first or end <= at:
                continue
            if offset - at >= size:
                break
            at = end
        insort(placed, (at, at + size, group.first, group.last))
        offsets.update(dict.fromkeys(group.members, at))
    arena = max((end for _, end, _, _ in placed), default=0)
    peak, busiest = _peak(groups, len(schedule.tasks))
    total = sum(_aligned(s.nbytes) for s in lifetimes)
    plan = MemoryPlan(offsets, lifetimes, arena, total, peak, busiest)
    return verify_plan(plan, schedule)


def lifetimes_of(schedule: Schedule) -> dict[Storage, tuple[int, int]]:
    """The (first, last) task that touches each temporary, in order of first use."""
    lifetimes: dict[Storage, tuple[int, int]] = {}
    for i, task in enumerate(schedule.tasks):
        for s in dict.fromkeys((*task.arguments, *task.reads, *task.writes)):
            if s.kind == "temporary":
                lifetimes[s] = (lifetimes.get(s, (i, i))[0], i)
    return lifetimes


def verify_plan(plan: MemoryPlan, schedule: Schedule) -> MemoryPlan:
    """Check that no two temporaries that live together share a byte, aliases excepted.

    How long each lives is counted anew.
    An alias may begin in the very task in which the one below it is read for the last time, not
    before.
    """

    def refuse(problem: str, got: object) -> None:
        raise CompileError.own_fault(
            f"the memory plan is wrong: {problem}",
            got=got,
            rule="memory is shared only by temporaries that are never alive at the same time",
        )

    if plan.lifetimes != lifetimes_of(schedule):
        refuse("a temporary is touched outside its lifetime", len(plan.lifetimes))
    for alias, of in schedule.alias.items():
        if alias in plan.lifetimes and of in plan.lifetimes:
            if plan.lifetimes[of][1] > plan.lifetimes[alias][0]:
                refuse("an alias is written while the memory below it is still needed", alias)
    order = sorted(plan.lifetimes, key=lambda s: plan.lifetimes[s][0])
    alive: list[Storage] = []
    for s in order:
        first = plan.lifetimes[s][0]
        low, high = plan.offsets[s], plan.offsets[s] + s.nbytes
        if low % ALIGNMENT or high > plan.arena:
            refuse("a temporary is not aligned or outside the arena", s)
        alive = [t for t in alive if plan.lifetimes[t][1] >= first]
        for t in alive:
            if low < plan.offsets[t] + t.nbytes and plan.offsets[t] < high:
                if t not in _below(schedule, s) and s not in _below(schedule, t):
                    refuse("two temporaries overlap", f"{s!r} at {low}, {t!r} at {plan.offsets[t]}")
        alive.append(s)
    return plan


def report(plan: MemoryPlan, schedule: Schedule, rows: int = 12) -> str:
    """The plan as text: totals, then what is alive at the busiest task, largest first."""
    by_kind = {kind: 0 for kind in ("argument", "state", "constant", "result")}
    for s in schedule.storages:
        if s.kind in by_kind:
            by_kind[s.kind] += s.nbytes
    lines = [f"{kind + 's':<12} {size_text(n):>10}" for kind, n in by_kind.items()]
    lines.append(
        f"{'temporaries':<12} {size_text(plan.arena):>10}  one arena; "
        f"at once {size_text(plan.peak)}, without reuse {size_text(plan.total)}"
    )
    if schedule.tasks:
        lines.append(f"busiest task: {plan.busiest} {schedule.tasks[plan.busiest].shown}")
    at_peak = [s for s, (a, b) in plan.lifetimes.items() if a <= plan.busiest <= b]
    for s in sorted(at_peak, key=lambda s: -s.nbytes)[:rows]:
        held = repr(s.value) if s.value is not None else "scratch of a kernel"
        first, last = plan.lifetimes[s]
        lines.append(
            f"  {size_text(s.nbytes):>10}  tasks {first}-{last}  at {plan.offsets[s]:>10}  {held}"
        )
    return "\n".join(lines)


def size_text(n: int) -> str:
    """A number of bytes for people.

    >>> size_text(500), size_text(2048), size_text(3 << 20)
    ('500 B', '2.0 KiB', '3.0 MiB')
    """
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if n >= size:
            return f"{n / size:.1f} {unit}"
    return f"{n} B"


@dataclass(frozen=True)
class _Group:
    """Temporaries that share one place: a temporary and what is aliased to it."""

    members: tuple[Storage, ...]
    nbytes: int
    first: int
    last: int


def _groups(schedule: Schedule, lifetimes: dict[Storage, tuple[int, int]]) -> list[_Group]:
    members: dict[Storage, list[Storage]] = {}
    for s in lifetimes:
        members.setdefault(_below(schedule, s)[-1], []).append(s)
    return [
        _Group(
            tuple(of),
            max(s.nbytes for s in of),
            min(lifetimes[s][0] for s in of),
            max(lifetimes[s][1] for s in of),
        )
        for of in members.values()
    ]


def _below(schedule: Schedule, s: Storage) -> list[Storage]:
    """The temporary itself and those its memory was taken from, one after the other."""
    chain = [s]
    while (below := schedule.alias.get(chain[-1])) is not None:
        chain.append(below)
    return chain


def _aligned(nbytes: int) -> int:
    return -(-max(nbytes, 1) // ALIGNMENT) * ALIGNMENT


def _peak(groups: list[_Group], tasks: int) -> tuple[int, int]:
    change = [0] * (tasks + 1)
    for g in groups:
        change[g.first] += _aligned(g.nbytes)
        change[g.last + 1] -= _aligned(g.nbytes)
    best, busiest, now = 0, 0, 0
    for i in range(tasks):
        now += change[i]
        if now > best:
            best, busiest = now, i
    return best, busiest
