"""The call of a loop: the tasks of one trip, and where what they touch lies in each trip.

Knows the lowering, tasks and their memory; never which primitives a body is made of. A body is
lowered once, as a program of its own. What a trip reads of a stack is a row of it; what it writes
of one is a row; what it hands on lies in one of two places by turns, or in the row of a stack that
holds it anyway, where the next trip reads it: nothing is copied. What every trip would compute
alike, from what does not change (a weight in the order that its product reads), is computed once,
before the loop.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

from tinytorch.base.errors import CompileError
from tinytorch.compiler.graph.graph import Value, graph_of_body
from tinytorch.compiler.loops.expression import Load
from tinytorch.compiler.plan.access import dense_strides, identity, plain
from tinytorch.compiler.plan.arena import ALIGNMENT, plan_arena
from tinytorch.compiler.plan.lowering import Lowering
from tinytorch.compiler.plan.stages import (
    Group,
    LoopCall,
    Storage,
    Task,
    TaskList,
    Walk,
    Way,
    checks_in,
)


def scan(lowering: Lowering, group: Group) -> bool:
    """A loop with carried state."""
    captured, node = lowering.buffers.captured, group.called
    if not node.params["length"]:
        return _no_trips(lowering, group)
    if captured.lower is None:
        raise CompileError.own_fault(
            "a loop cannot be lowered",
            got=group.label,
            rule="a program that comes through the pipeline, which lowers bodies too",
        )
    body = graph_of_body(node.body, node.where)
    program = captured.lower(body, captured.checks + checks_in(lowering.tasks))
    loop = _LoopTasks(lowering, group, program)
    loop.hoist()
    loop.place_given()
    loop.place_results()
    loop.place_own()
    loop.finish()
    return True


def _no_trips(lowering: Lowering, group: Group) -> bool:
    """The carried values as they came; of stacks there is nothing."""
    node = group.called
    for v, out in zip(node.inputs[: node.params["carries"]], node.outputs, strict=False):
        build, names = lowering.arithmetic(v.shape)
        value, place = build.value(v, identity(v.shape)), lowering.place(out)
        lowering.store_dense(value, out, place.storage, names)
    return True


class _LoopTasks:
    """A loop while its task is made.

    Args:
        lowering: of the program around.
        group: the loop.
        program: the tasks of one trip.

    Attributes:
        memory: what the loop's task is given.
        ways: where each Storage of a trip lies in it.
        reads, writes: the memory that the loop reads and writes.
        after: copies that follow: (from a value, how many elements in, to a value).
    """

    def __init__(self, lowering: Lowering, group: Group, program: TaskList):
        self.lowering, self.group, self.program = lowering, group, program
        self.node, self.graph, self.tasks = group.called, program.graph, list(program.tasks)
        params = self.node.params
        self.carries, self.stacked = params["carries"], params["stacked"]
        self.trips, self.reverse = params["length"], params["reverse"]
        self.memory: list[Storage] = []
        self.ways: dict[Storage, Way] = {}
        self.reads: set[Storage] = set()
        self.writes: set[Storage] = set()
        self.after: list[tuple[Value, int, Value]] = []

    def place(self, storage: Storage) -> int:
        """The place of a Storage among the memory of the loop."""
        if storage not in self.memory:
            self.memory.append(storage)
        return self.memory.index(storage)

    def rows(self, argument: int, offset: int, step: int) -> Walk:
        """A walk along the rows of a stack, from its end if the loop begins there."""
        if self.reverse:
            offset, step = offset + (self.trips - 1) * step, -step
        return Walk(argument, offset, step, self.trips)

    # --- what does not change ---

    def hoist(self) -> None:
        """Do once, before the loop, what reads nothing that changes from trip to trip."""
        body = self.graph.arguments[self.carries + self.stacked :]
        fixed = {self.program.arguments[v] for v in body if v in self.program.arguments}
        fixed |= set(self.program.constants.values())
        writers: dict[Storage, int] = {}
        for task in self.tasks:
            for s in task.writes:
                writers[s] = writers.get(s, 0) + 1
        once: list[Task] = []
        for task in self.tasks:
            own = all(s.kind == "temporary" and writers[s] == 1 for s in task.writes)
            if own and not task.check and task.reads | set(task.arguments) <= fixed | task.writes:
                once.append(task)
                fixed |= task.writes
        self.tasks = [t for t in self.tasks if t not in once]
        self.fixed = {s for t in once for s in t.writes}
        stands = {self.program.arguments[v]: v for v in body if v in self.program.arguments}
        outside = dict(zip(body, self.node.inputs[self.carries + self.stacked :], strict=True))
        given = {s: self.dense(outside[v])[0] for s, v in stands.items()}
        self.given = {**given, **self.constants()}
        self.lowering.storages.extend(sorted(self.fixed, key=lambda s: s.nbytes))
        for task in once:
            moved = [
                tuple(self.given.get(s, s) for s in part)
                for part in (task.arguments, task.reads, task.writes)
            ]
            self.lowering.tasks.append(
                replace(
                    task, arguments=moved[0], reads=frozenset(moved[1]), writes=frozenset(moved[2])
                )
            )

    def constants(self) -> dict[Storage, Storage]:
        """The constants of a trip, which are the program's from now on."""
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
        """What a trip reads of the code around."""
        held, arguments = self.program.arguments, self.graph.arguments
        for s, outside in self.given.items():
            self.ways[s] = Way(Walk(self.place(outside)))
            self.reads.add(outside)
        for s in self.fixed:
            self.ways[s] = Way(Walk(self.place(s)))
            self.reads.add(s)
        for i in range(self.carries, self.carries + self.stacked):
            if arguments[i] in held:
                storage, offset, step = self.dense(self.node.inputs[i], free=1)
                self.ways[held[arguments[i]]] = Way(self.rows(self.place(storage), offset, step))
                self.reads.add(storage)

    def place_results(self) -> None:
        """What a trip hands on and what is stacked."""
        results = self.graph.results
        for v in dict.fromkeys(results):
            places = [i for i, r in enumerate(results) if r is v]
            carried = [i for i in places if i < self.carries]
            stacks = [i for i in places if i >= self.carries]
            if stacks:
                self._into_rows(v, carried, stacks)
            else:
                self._by_turns(v, carried)

    def _into_rows(self, v: Value, carried: list[int], stacks: list[int]) -> None:
        out, *others = (self.node.outputs[i] for i in stacks)
        walk = self._out_rows(out)
        self.ways[self.program.results[v]] = Way(walk)
        self._carry(carried, replace(walk, offset=walk.offset - walk.step))
        self.after += [(out, 0, other) for other in others]
        last = 0 if self.reverse else (self.trips - 1) * prod(v.shape)
        self.after += [(out, last, self.node.outputs[i]) for i in carried]

    def _out_rows(self, out: Value) -> Walk:
        place, size = self.lowering.place(out), out.dtype.itemsize
        self.writes.add(place.storage)
        step = prod(out.shape[1:]) * size
        return self.rows(self.place(place.storage), place.offset * size, step)

    def _by_turns(self, v: Value, carried: list[int]) -> None:
        out, *others = (self.node.outputs[i] for i in carried)
        place, size = self.lowering.place(out), v.spec.nbytes
        self.writes.add(place.storage)
        last = Walk(self.place(place.storage), place.offset * out.dtype.itemsize)
        room = -(-max(size, 1) // ALIGNMENT) * ALIGNMENT
        each = last
        if self.trips > 1:
            turns = self.lowering.temporary(2 * room)
            self.writes.add(turns)
            each = Walk(self.place(turns), 0, room, 2)
            self._carry(carried, Walk(each.argument, room, -room, 2))
        else:
            self._carry(carried, last)
        self.ways[self.program.results[v]] = Way(each, last=last)
        self.after += [(out, 0, other) for other in others]

    def _carry(self, carried: list[int], each: Walk) -> None:
        """A trip reads what the trip before handed on; the first one what the loop is given."""
        for i in carried:
            v = self.graph.arguments[i]
            if v in self.program.arguments:
                storage, offset, _ = self.dense(self.node.inputs[i])
                first = Walk(self.place(storage), offset)
                self.reads.add(storage)
                only = first if self.trips == 1 else None
                self.ways[self.program.arguments[v]] = Way(each, first, only)

    def place_own(self) -> None:
        """Memory of one trip: its temporaries share one place, in all trips the same."""
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

    def finish(self) -> None:
        """Append the task, and the copies that follow it."""
        lowering, group = self.lowering, self.group
        loop = LoopCall(tuple(self.tasks), self.ways, self.trips, len(self.memory))
        reads = frozenset(s for s in self.reads if s.nbytes)
        lowering.tasks.append(
            Task(
                loop, tuple(self.memory), reads, frozenset(self.writes), group.label,
                self.node.where, check=bool(checks_in(self.tasks)),
            )
        )  # fmt: skip
        used = {v for n in lowering.graph.nodes for v in n.inputs} | set(lowering.graph.outputs)
        for source, offset, to in self.after:
            if to in used:
                self._copy(source, offset, to)

    def _copy(self, source: Value, offset: int, to: Value) -> None:
        """A row of a stack, or all of it, as another result."""
        place, at = self.lowering.place(to), self.lowering.place(source)
        strides = dense_strides(to.shape, plain(to))
        value = Load(to.dtype, "x0", strides, at.offset + offset)
        self.lowering.store_dense(value, to, place.storage, {"x0": at.storage})
