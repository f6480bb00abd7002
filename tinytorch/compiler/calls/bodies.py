"""The call of a body: its tasks, and where what they touch lies.

Knows the lowering, tasks and their memory; never which primitives a body is made of, or how often
it runs (loops.py, branches.py). A body is lowered once, as a program of its own. Its temporaries
share one place in the memory of the program around; what it is given and gives lies there anyway.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import prod

from tinytorch.base.errors import CompileError
from tinytorch.compiler.graph.bodies import graph_of_body
from tinytorch.compiler.graph.graph import Value
from tinytorch.compiler.loops.expression import Load
from tinytorch.compiler.plan.access import dense_strides, plain
from tinytorch.compiler.plan.arena import plan_arena
from tinytorch.compiler.plan.lowering import Lowering
from tinytorch.compiler.plan.stages import (
    BodyCall,
    Group,
    Storage,
    Task,
    TaskList,
    checks_in,
)
from tinytorch.compiler.plan.trips import Choice, Walk, Way
from tinytorch.primitives.body import Body


def lowered(
    lowering: Lowering, group: Group, body: Body, updates: Sequence[tuple[int, int]] = (),
    fixed: Iterable[int] = (),
) -> TaskList:  # fmt: skip
    """The tasks of a body.

    Args:
        updates: (argument, result) by number: what is a state of the body, and its new value.
        fixed: the numbers of arguments that are the same in many runs.
    """
    captured = lowering.buffers.captured
    if captured.lower is None:
        raise CompileError.own_fault(
            "a body cannot be lowered",
            got=group.label,
            rule="a program that comes through the pipeline, which lowers bodies too",
        )
    graph = graph_of_body(body, group.called.where)
    graph.fixed = [graph.arguments[i] for i in fixed]
    graph.updates = [(graph.arguments[i], graph.results[j]) for i, j in updates]
    graph.states = [old for old, _ in graph.updates]
    graph.arguments = [v for v in graph.arguments if v not in graph.states]
    news = [j for _, j in updates]
    graph.results = [v for j, v in enumerate(graph.results) if j not in news]
    return captured.lower(graph, captured.checks + checks_in(lowering.tasks))


class BodyTasks:
    """A body while the task that has it is made.

    Args:
        lowering: of the program around.
        group: the loop or branch.
        program: the tasks of the body.

    Attributes:
        tasks: those that it runs.
        memory: what its task is given.
        given: Storages of the program around in place of the body's own.
        fixed: Storages of the body that the program around fills before.
        ways: where each Storage of the body lies in `memory`.
        reads, writes: the memory that it reads and writes.
        after: copies that follow: (from a value, how many elements in, to a value).
    """

    def __init__(self, lowering: Lowering, group: Group, program: TaskList):
        self.lowering, self.group, self.program = lowering, group, program
        self.node, self.graph, self.tasks = group.called, program.graph, list(program.tasks)
        self.memory: list[Storage] = []
        self.given: dict[Storage, Storage] = {}
        self.fixed: set[Storage] = set()
        self.ways: dict[Storage, Way] = {}
        self.reads: set[Storage] = set()
        self.writes: set[Storage] = set()
        self.after: list[tuple[Value, int, Value]] = []

    def place(self, storage: Storage) -> int:
        """The place of a Storage among the memory of the loop."""
        if storage not in self.memory:
            self.memory.append(storage)
        return self.memory.index(storage)

    # --- what it is given ---

    def take(self, arguments: Iterable[Value], values: Iterable[Value]) -> None:
        """Arguments of the body are values of the program around, and its constants are, too."""
        held = self.program.arguments
        for v, outside in zip(arguments, values, strict=True):
            if v in held:
                self.given[held[v]] = self.dense(outside)[0]
        self.given.update(self._constants())

    def _constants(self) -> dict[Storage, Storage]:
        """The constants of a body, which are the program's from now on."""
        for v, storage in self.program.constants.items():
            array = self.program.made.get(v)
            array = self.program.graph.constants[v] if array is None else array
            self.lowering.constants[v] = storage, array
            self.lowering.storages.append(storage)
        return {s: s for s in self.program.constants.values()}

    def dense(self, v: Value, free: int = 0) -> tuple[Storage, int, int]:
        """(memory, byte offset, bytes between rows) of a value, made dense if it is not.

        Args:
            free: how many of the first axes may have any stride: 1 for a stack, whose rows are
                dense.
        """
        access = self.lowering.located(v)
        inner = v.shape[free:]
        wanted = dense_strides(inner, tuple(range(len(inner))))
        pairs = zip(access.strides[free:], wanted, inner, strict=True)
        lies = all(s == w or n == 1 for s, w, n in pairs) or not prod(v.shape)
        if not lies or (not free and access.offset):
            access = self.lowering.copied(v, access)
        size = v.dtype.itemsize
        step = access.strides[0] * size if free else 0
        return self.lowering.of[access.base].storage, access.offset * size, step

    # --- where things lie ---

    def place_given(self) -> None:
        """What it reads of the code around, in every trip at the same place."""
        for s, outside in (*self.given.items(), *((s, s) for s in self.fixed)):
            self.ways[s] = Way(Walk(self.place(outside)))
            self.reads.add(outside)

    def place_own(self) -> None:
        """Memory of one run: its temporaries share one place, in all trips the same."""
        rest = [
            replace(
                t, arguments=tuple(s for s in t.arguments if s not in self.fixed),
                reads=t.reads - self.fixed, writes=t.writes - self.fixed,
            )
            for t in self.tasks
        ]  # fmt: skip
        arena = plan_arena(replace(self.program, tasks=rest))
        if arena.arena:
            own = self.lowering.temporary(arena.arena)
            self.writes.add(own)
            for s, offset in arena.offsets.items():
                self.ways[s] = Way(Walk(self.place(own), offset))
        for s in {s for t in self.tasks for s in t.arguments if s.kind == "status"}:
            status = self.lowering.status_words()
            self.ways[s] = Way(Walk(self.place(status)))
            self.writes.add(status)

    def append(self, trips: int, when: Choice | None, label: str) -> None:
        """Append the task."""
        call = BodyCall(tuple(self.tasks), self.ways, trips, len(self.memory), when)
        reads = frozenset(s for s in self.reads if s.nbytes)
        self.lowering.tasks.append(
            Task(
                call, tuple(self.memory), reads, frozenset(self.writes), label,
                self.node.where, check=bool(checks_in(self.tasks)),
            )
        )  # fmt: skip

    def copy_after(self) -> None:
        """Append the copies that follow, of what is read."""
        graph = self.lowering.graph
        used = {v for n in graph.nodes for v in n.inputs} | set(graph.outputs)
        for source, offset, to in self.after:
            if to in used:
                self._copy(source, offset, to)

    def _copy(self, source: Value, offset: int, to: Value) -> None:
        """A row of a stack, or all of it, as another result."""
        place, at = self.lowering.place(to), self.lowering.place(source)
        strides = dense_strides(to.shape, plain(to))
        value = Load(to.dtype, "x0", strides, at.offset + offset)
        self.lowering.store_dense(value, to, place.storage, {"x0": at.storage})
