"""The memory plan: no two living temporaries share memory, and little is wasted."""

import random

import pytest

from tinytorch.base.errors import CompileError
from tinytorch.codegen.kernel import Kernel
from tinytorch.compiler.graph.graph import Graph
from tinytorch.compiler.plan.arena import (
    ALIGNMENT,
    MemoryPlan,
    lifetimes_of,
    plan_memory,
    report,
    verify_plan,
)
from tinytorch.compiler.plan.tasks import Schedule, Storage, Task


def schedule_of(*tasks: tuple[list[Storage], list[Storage]], alias=None) -> Schedule:
    made = []
    for reads, writes in tasks:
        arguments = (*reads, *writes)
        kernel = Kernel(
            "k", "", frozenset(), tuple(f"b{i}" for i in range(len(arguments))), tiles=1
        )
        made.append(Task(kernel, arguments, frozenset(reads), frozenset(writes)))
    storages = list(dict.fromkeys(s for t in made for s in t.arguments))
    return Schedule(made, storages, {}, {}, {}, {}, Graph(), alias or {})


def temporaries(*sizes: int) -> list[Storage]:
    return [Storage("temporary", n) for n in sizes]


def test_a_chain_needs_two_places():
    """Closed form: in a chain of equal temporaries two are alive at once."""
    chain = temporaries(*[1024] * 10)
    schedule = schedule_of(
        ([], [chain[0]]), *(([a], [b]) for a, b in zip(chain, chain[1:], strict=False))
    )
    plan = plan_memory(schedule)
    assert plan.arena == plan.peak == 2048
    assert plan.total == 10 * 1024


def test_an_alias_takes_the_place_of_what_it_replaces():
    """Closed form: a chain done in place needs one place."""
    chain = temporaries(*[1024] * 10)
    pairs = list(zip(chain, chain[1:], strict=False))
    schedule = schedule_of(
        ([], [chain[0]]), *(([a], [b]) for a, b in pairs), alias={b: a for a, b in pairs}
    )
    plan = plan_memory(schedule)
    assert plan.arena == 1024
    assert set(plan.offsets.values()) == {0}


def test_an_alias_over_living_memory_is_refused():
    """Invariant: what lies under an alias must be dead when the alias is written."""
    a, b, c = temporaries(64, 64, 64)
    schedule = schedule_of(([], [a]), ([a], [b]), ([a, b], [c]), alias={b: a})
    with pytest.raises(CompileError, match="still needed"):
        plan_memory(schedule)


def test_two_aliases_of_one_memory_are_refused():
    """Invariant: two outputs of one task cannot both take the memory of its input."""
    a, b, c, d = temporaries(64, 64, 64, 64)
    schedule = schedule_of(([], [a]), ([a], [b, c]), ([b, c], [d]), alias={b: a, c: a})
    with pytest.raises(CompileError, match="overlap"):
        plan_memory(schedule)


def test_only_temporaries_are_placed():
    """Invariant: arguments, states and results have memory of their own."""
    x, state, out = Storage("argument", 64), Storage("state", 64), Storage("result", 64)
    (t,) = temporaries(100)
    plan = plan_memory(schedule_of(([x], [t]), ([t, state], [out, state])))
    assert list(plan.offsets) == [t]
    assert plan.arena == 128  # 100 bytes in whole lines of 64


@pytest.mark.parametrize("seed", range(20))
def test_random_programs_never_overlap_and_stay_near_the_bound(seed):
    """Invariant by an independent check, byte by byte; and arena <= 1.5 x the lower bound.

    The paper in the module's docstring saw at most 1.16 x over real networks; random programs are
    harder, so the limit is a guard against a broken strategy, not a claim.
    """
    rng = random.Random(seed)
    tasks, made = [], []
    for _ in range(60):
        reads = rng.sample(made[-8:], k=min(len(made), rng.randint(0, 3)))
        writes = temporaries(
            *(rng.choice((1, 64, 100, 4096, 65536)) for _ in range(rng.randint(1, 2)))
        )
        tasks.append((reads, writes))
        made.extend(writes)
    schedule = schedule_of(*tasks)
    plan = plan_memory(schedule)
    for task in range(len(tasks)):
        owner: dict[int, Storage] = {}
        for s, (first, last) in plan.lifetimes.items():
            if first <= task <= last:
                for line in range(plan.offsets[s], plan.offsets[s] + s.nbytes, ALIGNMENT):
                    assert owner.setdefault(line, s) is s
    assert plan.peak <= plan.arena <= 1.5 * plan.peak


def test_overlap_is_found():
    """A plan damaged by hand is refused: the verifier does not trust the planner."""
    a, b, c = temporaries(128, 128, 64)
    schedule = schedule_of(([], [a]), ([a], [b]), ([b], [c]))
    plan = plan_memory(schedule)
    damaged = MemoryPlan(
        {**plan.offsets, b: plan.offsets[a]}, plan.lifetimes, plan.arena, plan.total, plan.peak, 0
    )
    with pytest.raises(CompileError, match="two temporaries overlap"):
        verify_plan(damaged, schedule)
    short = {**plan.lifetimes, b: (1, 1)}  # it is read by task 2
    forgotten = MemoryPlan(plan.offsets, short, plan.arena, plan.total, plan.peak, 0)
    with pytest.raises(CompileError, match="outside its lifetime"):
        verify_plan(forgotten, schedule)


def test_lifetimes_are_first_and_last_touch():
    """Closed form on a program of three tasks."""
    a, b, c = temporaries(64, 64, 64)
    schedule = schedule_of(([], [a]), ([a], [b]), ([a, b], [c]))
    assert lifetimes_of(schedule) == {a: (0, 2), b: (1, 2), c: (2, 2)}


def test_report_names_what_is_alive_at_the_busiest_task():
    """The report's numbers are the plan's."""
    a, b = temporaries(1 << 20, 2048)
    schedule = schedule_of(([], [a]), ([a], [b]))
    text = report(plan_memory(schedule), schedule)
    assert "1.0 MiB" in text and "busiest task: 1" in text
