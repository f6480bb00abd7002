"""The call of a branch: a task for each of its cases, of which one is done.

Knows the tasks of a body (bodies.py). Both tasks write the same results; the runtime skips what
belongs to the one that is not taken. What only one of them gives lies in memory that the other does
not touch. A state that is overwritten in place is a state of each case: where a case leaves it as
it is, nothing is done.
"""

from __future__ import annotations

from collections.abc import Sequence

from tinytorch.compiler.calls.bodies import BodyTasks, lowered
from tinytorch.compiler.graph.graph import Value
from tinytorch.compiler.plan.lowering import Lowering
from tinytorch.compiler.plan.stages import Group
from tinytorch.compiler.plan.trips import Choice, Walk, Way
from tinytorch.primitives.body import Body


def cond(lowering: Lowering, group: Group) -> bool:
    """A branch on a predicate."""
    node = group.called
    true, false = node.bodies
    results, own = node.params["results"], len(true.results)
    common = node.outputs[:results]
    _add_case(lowering, group, true, True, common + node.outputs[results:own])
    _add_case(lowering, group, false, False, common + node.outputs[own:])
    return True


def _add_case(
    lowering: Lowering, group: Group, body: Body, holds: bool, outputs: Sequence[Value]
) -> None:
    predicate, *operands = group.called.inputs
    in_place = lowering.buffers.in_place.get(group, ())
    updates = [(operands.index(old), outputs.index(new)) for old, new in in_place]
    case = _CaseTasks(lowering, group, lowered(lowering, group, body, updates))
    states, news = [old for old, _ in in_place], [new for _, new in in_place]
    case.take(case.graph.arguments, [v for v in operands if v not in states])
    case.place_given()
    case.place_states(states)
    case.place_results([v for v in outputs if v not in news])
    case.place_own()
    case.copy_inside()
    if case.tasks or states and holds:  # a state that both leave as it is counts as written
        flag = case.dense(predicate)[0]
        case.reads.add(flag)
        case.append(1, Choice(case.place(flag), 0, holds), f"{group.label}, if {holds}")


class _CaseTasks(BodyTasks):
    """A case while its task is made."""

    def place_states(self, states: Sequence[Value]) -> None:
        """What it overwrites where it lies."""
        for v, outside in zip(self.graph.states, states, strict=True):
            storage = self.lowering.place(outside).storage
            way = Way(Walk(self.place(storage)))
            self.reads.add(storage)
            self.writes.add(storage)
            if v in self.program.states:
                self.ways[self.program.states[v]] = way

    def place_results(self, outputs: Sequence[Value]) -> None:
        """What it gives lies where the results of the branch do."""
        first: dict[Value, Value] = {}
        for v, out in zip(self.graph.results, outputs, strict=True):
            if v in first:
                self.after.append((first[v], 0, out))
                continue
            first[v] = out
            place = self.lowering.place(out)
            self.writes.add(place.storage)
            walk = Walk(self.place(place.storage), place.offset * out.dtype.itemsize)
            self.ways[self.program.results[v]] = Way(walk)

    def copy_inside(self) -> None:
        """A result that is given twice is copied where the case is done, and only there."""
        tasks = self.lowering.tasks
        begun = len(tasks)
        self.copy_after()
        copies, tasks[begun:] = tasks[begun:], []
        for task in copies:
            for s in task.arguments:
                self.ways[s] = Way(Walk(self.place(s)))
            self.writes |= task.writes
        self.tasks += copies
