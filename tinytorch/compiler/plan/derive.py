"""Which tasks need not be done at each call: those that read frozen states and constants alone.

Knows tasks and the memory they read and write, never graphs. Weights of inference are packed,
transposed, cast, transformed (Winograd) and joined with the numbers of batch norms by tasks like
all others. These come first, and what they leave for the other tasks keeps its place in the arena
from call to call: as long as the frozen states have the same numbers the program begins behind
them. So each way to prepare a weight is derived once without a word of its own.
"""

from __future__ import annotations

from dataclasses import replace

from tinytorch.base.errors import CompileError
from tinytorch.codegen.kernel import Kernel
from tinytorch.compiler.plan.lower import check_tasks
from tinytorch.compiler.plan.stages import Storage, Task, TaskList


def derive(program: TaskList) -> TaskList:
    """The program with the tasks that are derived in front, if states of it are frozen."""
    if not program.graph.frozen:
        return program
    chosen = _derived(program)
    tasks = [t for t in program.tasks if t in chosen]
    rest = [t for t in program.tasks if t not in chosen]
    return replace(program, tasks=[*tasks, *rest], derived=len(tasks))


def _given(program: TaskList) -> set[Storage]:
    """What holds the same numbers at each call."""
    states = {program.states[v] for v in program.graph.frozen if v in program.states}
    return states | set(program.constants.values())


def _derived(program: TaskList) -> set[Task]:
    """The tasks that read what is given or what such tasks alone write, and write nothing else.

    What looks at indices is among them only if no check that must run at each call reads what
    follows from frozen states: it could be the check of that task.
    """
    chosen = _following(program, lookups=True)
    follows = _given(program)
    for task in program.tasks:
        if task.reads & follows:
            follows |= {s for s in task.writes if s.kind != "status"}
    if any(t.check and t not in chosen and t.reads & follows for t in program.tasks):
        return _following(program, lookups=False)
    return chosen


def _following(program: TaskList, lookups: bool) -> set[Task]:
    """See `_derived`; with or without those that look at indices."""
    given = _given(program)
    writers: dict[Storage, list[Task]] = {}
    for task in program.tasks:
        for s in task.writes:
            writers.setdefault(s, []).append(task)
    for s in [s for s in writers if s.kind == "status"]:  # each check writes there what it finds
        del writers[s]
    chosen = {t for t in program.tasks if _may_be_derived(t) and (lookups or not t.looks_up)}
    left = list(chosen)
    readers: dict[Storage, list[Task]] = {}
    for task in program.tasks:
        for s in (*task.reads, *task.writes):
            readers.setdefault(s, []).append(task)
    while left:  # until none is taken out: a task falls with who writes what it touches
        task = left.pop()
        if task not in chosen:
            continue
        known = all(s in given or _all_in(writers.get(s, ()), chosen) for s in task.reads)
        written = [s for s in task.writes if s in writers]
        if known and all(_all_in(writers[s], chosen) for s in written):
            continue
        chosen.discard(task)
        left += [t for s in written for t in readers[s] if t in chosen]
    return chosen


def _all_in(tasks: list[Task] | tuple[()], chosen: set[Task]) -> bool:
    return bool(tasks) and all(t in chosen for t in tasks)


def _may_be_derived(task: Task) -> bool:
    """Whether it is plain code that writes temporaries, or a check."""
    kept = ("temporary", "status")
    return isinstance(task.kernel, Kernel) and all(s.kind in kept for s in task.writes)


def check_derived(program: TaskList) -> None:
    """What is derived follows from what stays, and nothing else writes it.

    Raises:
        CompileError: it does not, or something does; or tasks are no longer in an order.
    """

    def refuse(problem: str, got: object) -> None:
        raise CompileError.own_fault(
            f"the compiler pass 'derive' made an invalid program: {problem}",
            got=got,
            rule="derived tasks read frozen states, constants, each other, and write temporaries",
        )

    first, rest = program.tasks[: program.derived], program.tasks[program.derived :]
    known = _given(program)
    for task in first:
        if not _may_be_derived(task):
            refuse("a task is derived that must run at each call", task.shown)
        for s in task.reads - known:
            refuse("a derived task reads what is not there", f"{s!r} in {task.shown}")
        known |= task.writes
    kept = {s for task in first for s in task.writes if s.kind != "status"}
    for task in rest:
        for s in task.writes & kept:
            refuse("another task writes what is derived", f"{s!r} in {task.shown}")
    check_tasks(program)
