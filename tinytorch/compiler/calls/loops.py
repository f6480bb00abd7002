"""The call of a loop: the tasks of one trip, and where what they touch lies in each trip.

Knows the tasks of a body (bodies.py). What a trip reads of a stack is a row of it; what it writes
of one is a row; what it hands on lies in one of two places by turns, or in the row of a stack that
holds it anyway, where the next trip reads it: nothing is copied. What every trip would compute
alike, from what does not change (a weight in the order that its product reads), is computed once,
before the loop.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

from tinytorch.compiler.calls.bodies import BodyTasks, lowered
from tinytorch.compiler.graph.graph import Value
from tinytorch.compiler.plan.access import identity
from tinytorch.compiler.plan.arena import ALIGNMENT
from tinytorch.compiler.plan.lowering import Lowering
from tinytorch.compiler.plan.stages import Group, Storage, Task, TaskList
from tinytorch.compiler.plan.trips import Walk, Way

# From so many trips on a weight is packed once, before the loop. Each trip's product would copy it
# in part after part otherwise (256 -> 1024, 32 rows: 91 us of work in place of 76), or read it in
# place, which is as fast but for the first trip.
MANY_TRIPS = 4


def scan(lowering: Lowering, group: Group) -> bool:
    """A loop with carried state."""
    node = group.called
    if not node.params["length"]:
        return _no_trips(lowering, group)
    first = node.params["carries"] + node.params["stacked"]
    alike = range(first, len(node.inputs)) if node.params["length"] >= MANY_TRIPS else ()
    program = lowered(lowering, group, node.body, fixed=alike)
    loop = _LoopTasks(lowering, group, program)
    loop.hoist()
    loop.place_given()
    loop.place_results()
    loop.place_own()
    loop.append(loop.trips, None, group.label)
    loop.copy_after()
    return True


def _no_trips(lowering: Lowering, group: Group) -> bool:
    """The carried values as they came; of stacks there is nothing."""
    node = group.called
    for v, out in zip(node.inputs[: node.params["carries"]], node.outputs, strict=False):
        build, names = lowering.arithmetic(v.shape)
        value, place = build.value(v, identity(v.shape)), lowering.place(out)
        lowering.store_dense(value, out, place.storage, names)
    return True


class _LoopTasks(BodyTasks):
    """A loop while its task is made."""

    def __init__(self, lowering: Lowering, group: Group, program: TaskList):
        super().__init__(lowering, group, program)
        params = self.node.params
        self.carries, self.stacked = params["carries"], params["stacked"]
        self.trips, self.reverse = params["length"], params["reverse"]

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
        self.take(body, self.node.inputs[self.carries + self.stacked :])
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

    # --- where things lie ---

    def place_given(self) -> None:
        """What a trip reads of the code around."""
        held, arguments = self.program.arguments, self.graph.arguments
        super().place_given()
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
