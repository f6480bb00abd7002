"""The memory plan: no two living temporaries share memory, and little is wasted."""

import random
from dataclasses import replace

import pytest

from tinytorch.base.errors import CompileError
from tinytorch.codegen.kernel import Kernel
from tinytorch.compiler.graph.graph import Graph
from tinytorch.compiler.plan.arena import (
    ALIGNMENT,
    _placed,
    check_arena,
    lifetimes_of,
    plan_arena,
    report,
)
from tinytorch.compiler.plan.stages import Storage, Task, TaskList


def tasks_of(*tasks: tuple[list[Storage], list[Storage]]) -> TaskList:
    made = []
    for reads, writes in tasks:
        arguments = (*reads, *writes)
        kernel = Kernel(
            "k", "", frozenset(), tuple(f"b{i}" for i in range(len(arguments))), tiles=1
        )
        made.append(Task(kernel, arguments, frozenset(reads), frozenset(writes)))
    storages = list(dict.fromkeys(s for t in made for s in t.arguments))
    return TaskList(made, storages, {}, {}, {}, {}, Graph(), Graph())


def temporaries(*sizes: int) -> list[Storage]:
    return [Storage("temporary", n) for n in sizes]


def test_a_chain_needs_two_places():
    """Closed form: in a chain of equal temporaries two are alive at once."""
    chain = temporaries(*[1024] * 10)
    program = tasks_of(
        ([], [chain[0]]), *(([a], [b]) for a, b in zip(chain, chain[1:], strict=False))
    )
    plan = plan_arena(program)
    assert plan.arena == plan.peak == 2048
    assert plan.total == 10 * 1024


def test_only_temporaries_are_placed():
    """Invariant: arguments, states and results have memory of their own."""
    x, state, out = Storage("argument", 64), Storage("state", 64), Storage("result", 64)
    (t,) = temporaries(100)
    plan = plan_arena(tasks_of(([x], [t]), ([t, state], [out, state])))
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
    program = tasks_of(*tasks)
    plan = plan_arena(program)
    for task in range(len(tasks)):
        owner: dict[int, Storage] = {}
        for s, (first, last) in plan.lifetimes.items():
            if first <= task <= last:
                for line in range(plan.offsets[s], plan.offsets[s] + s.nbytes, ALIGNMENT):
                    assert owner.setdefault(line, s) is s
    assert plan.peak <= plan.arena <= 1.5 * plan.peak


def test_the_better_of_two_orders_is_the_plan():
    """Invariant: never more than the order by size needs, never less than is alive at once; of
    forty programs some take less by the second order."""
    rng = random.Random(5)
    better = 0
    for _ in range(40):
        made = temporaries(*(64 * rng.randint(1, 9) for _ in range(12)))
        tasks = [([], [made[0]])]
        for i in range(1, 12):
            tasks.append((rng.sample(made[max(0, i - 5) : i], k=min(i, 2)), [made[i]]))
        plan = plan_arena(tasks_of(*tasks))
        check_arena(plan)
        by_size = sorted(plan.lifetimes, key=lambda s: (-s.nbytes, *plan.lifetimes[s]))
        alone, _ = _placed(by_size, plan.lifetimes)
        assert plan.peak <= plan.arena <= alone
        better += plan.arena < alone
    assert better


def test_overlap_is_found():
    """A plan damaged by hand is refused: the verifier does not trust the planner."""
    a, b, c = temporaries(128, 128, 64)
    program = tasks_of(([], [a]), ([a], [b]), ([b], [c]))
    plan = plan_arena(program)
    damaged = replace(plan, offsets={**plan.offsets, b: plan.offsets[a]})
    with pytest.raises(CompileError, match="two temporaries overlap"):
        check_arena(damaged)
    forgotten = replace(plan, lifetimes={**plan.lifetimes, b: (1, 1)})  # it is read by task 2
    with pytest.raises(CompileError, match="outside its lifetime"):
        check_arena(forgotten)


def test_lifetimes_are_first_and_last_touch():
    """Closed form on a program of three tasks."""
    a, b, c = temporaries(64, 64, 64)
    program = tasks_of(([], [a]), ([a], [b]), ([a, b], [c]))
    assert lifetimes_of(program) == {a: (0, 2), b: (1, 2), c: (2, 2)}


def test_report_names_what_is_alive_at_the_busiest_task():
    """The report's numbers are the plan's."""
    a, b = temporaries(1 << 20, 2048)
    program = tasks_of(([], [a]), ([a], [b]))
    text = report(plan_arena(program))
    assert "1.0 MiB" in text and "busiest task: 1" in text


def test_a_gap_of_exactly_its_size_is_used():
    """Closed form: 128 bytes between two others, free from the second task on."""
    whole, early, late, then = temporaries(256, 128, 128, 128)
    program = tasks_of(
        ([], [whole, early, late]), ([whole, late], [then]), ([whole, late, then], [])
    )
    plan = plan_arena(program)
    assert [plan.offsets[s] for s in (whole, early, late, then)] == [0, 256, 384, 256]
    assert (plan.arena, plan.peak, plan.total, plan.busiest) == (512, 512, 640, 0)


def test_temporaries_of_nothing_and_programs_without_any():
    """Closed form: at least one line each; an empty arena."""
    (empty,) = temporaries(0)
    plan = plan_arena(tasks_of(([], [empty])))
    assert (plan.arena, plan.total, plan.peak) == (ALIGNMENT, ALIGNMENT, ALIGNMENT)
    plan = plan_arena(tasks_of(([Storage("argument", 8)], [Storage("result", 8)])))
    assert (plan.arena, plan.total, plan.peak, plan.busiest) == (0, 0, 0, 0)
    assert "busiest task: 0" in report(plan) and "busiest" not in report(plan_arena(tasks_of()))


def test_the_busiest_task_is_the_first_of_equals():
    """Closed form: 64, 192, 192 and 64 bytes are alive."""
    a, b, c = temporaries(64, 128, 128)
    plan = plan_arena(tasks_of(([], [a]), ([a], [b]), ([b], []), ([a], [c]), ([c], [])))
    assert (plan.peak, plan.busiest) == (192, 1)


def test_places_that_are_wrong():
    """Closed form: half a line, a byte past the end, and a byte over another; ends may touch."""
    a, b = temporaries(100, 64)
    plan = plan_arena(tasks_of(([], [a, b])))
    assert plan.offsets == {a: 0, b: 128}
    check_arena(plan)
    check_arena(replace(plan, offsets={a: 64, b: 0}))
    for offsets, arena in (({a: 0, b: 160}, 999), ({a: 0, b: 128}, 191), ({a: 32, b: 192}, 999)):
        with pytest.raises(CompileError, match="not aligned or outside"):
            check_arena(replace(plan, offsets=offsets, arena=arena))
    for offsets in ({a: 0, b: 64}, {a: 64, b: 64}):
        with pytest.raises(CompileError, match="two temporaries overlap"):
            check_arena(replace(plan, offsets=offsets, arena=999))
    wide, narrow = temporaries(128, 64)
    plan = plan_arena(tasks_of(([], [wide, narrow])))
    check_arena(replace(plan, offsets={wide: 64, narrow: 0}))
    for at in (64, 128):
        with pytest.raises(CompileError, match="two temporaries overlap"):
            check_arena(replace(plan, offsets={wide: 64, narrow: at}))


def test_the_report_to_the_letter():
    """Golden: bytes by kind, then what is alive at the busiest task, the largest first."""
    x, state, out = Storage("argument", 64), Storage("state", 2048), Storage("result", 100)
    a, b = temporaries(64, 3 << 20)
    text = report(plan_arena(tasks_of(([x, state], [a]), ([a], [b]), ([b], [out]))))
    assert text.splitlines() == [
        "arguments          64 B",
        "states          2.0 KiB",
        "constants           0 B",
        "results           100 B",
        "temporaries     3.0 MiB  one arena; at once 3.0 MiB, without reuse 3.0 MiB",
        "busiest task: 1 k",
        "     3.0 MiB  tasks 1-2  at          0  scratch of a kernel",
        "        64 B  tasks 0-1  at    3145728  scratch of a kernel",
    ]
    plan = plan_arena(tasks_of(([], temporaries(*range(64, 84)))))
    assert report(plan).count("scratch of a kernel") == 12
    assert report(plan, 3).count("scratch of a kernel") == 3
