"""Which states are overwritten by the kernel that makes their new value, and which are copied.

Knows groups and where they read, never memory beyond the layout of states. A group may write the
new state where the old one lies if it reads the old one at no other place than it writes, and if
all others that read it can be done before. Decided here, before anything is lowered.
"""

from __future__ import annotations

from tinytorch.compiler.graph.graph import Value
from tinytorch.compiler.loops.expression import Load, topological
from tinytorch.compiler.operations import has_epilogue
from tinytorch.compiler.plan import op_class
from tinytorch.compiler.plan.access import dense_strides, plain
from tinytorch.compiler.plan.dependences import Circle, Dependences, item_loads
from tinytorch.compiler.plan.reader import PlanReader
from tinytorch.compiler.plan.stages import Group, Item, Materialized, Placement
from tinytorch.compiler.plan.tasks import Storage

Updates = dict[Group, tuple[tuple[Value, Value], ...]]


def updates_in_place(materialized: Materialized) -> Updates:
    """The (old, new) states that each group writes where the old ones lie."""
    copied = _read_elsewhere(materialized)
    while True:
        updates = _candidates(materialized, copied)
        circle = _waiting(materialized, updates)
        if circle is None:
            return updates
        copied.add(circle)


def _candidates(materialized: Materialized, copied: set[Value]) -> Updates:
    """New states made by a group that can write in place, as far as the group alone tells."""
    fused, graph = materialized.fused, materialized.graph
    taken, found = {*graph.arguments, *graph.states, *graph.constants}, Updates()
    for state, new in graph.updates:
        if new is state or state in copied or new in taken or new not in materialized.values:
            continue
        node = fused.producer.get(new)
        group = fused.of.get(node) if node is not None else None
        if group is not None and _may_overwrite(materialized, group, state):
            found[group] = (*found.get(group, ()), (state, new))
            taken.add(new)
    return found


def _may_overwrite(materialized: Materialized, group: Group, state: Value) -> bool:
    """Whether a library call, if the group has one, leaves the state alone but where it writes."""
    call, base = group.call, materialized.fused.paths.base
    if call is None:
        return True
    if op_class.is_update(call):
        x, *others = call.inputs
        return x is state and all(base(v)[0] is not state for v in others)
    return has_epilogue(call) and all(base(v)[0] is not state for v in call.inputs)


def _read_elsewhere(materialized: Materialized) -> set[Value]:
    """States that a group's arithmetic reads at another element than it overwrites."""
    candidates = _candidates(materialized, set())
    of = _places(materialized, candidates)
    found: set[Value] = set()
    for group, pairs in candidates.items():
        if group.call is not None and op_class.is_update(group.call):
            continue
        reader = PlanReader(materialized, of)
        stores, names = reader.stores_of(group)
        loads = [e for e in topological(s.value for s in stores) if isinstance(e, Load)]
        for state, _ in pairs:
            for s in stores:
                same = [e for e in loads if e.argument == s.argument]
                if names[s.argument] is of[state].storage and not all(e.is_at(s) for e in same):
                    found.add(state)
    return found


def _places(materialized: Materialized, candidates: Updates) -> dict[Value, Placement]:
    """Every stored value in memory of its own, the new states of candidates where the old lie."""
    graph, of = materialized.graph, dict[Value, Placement]()
    for v in materialized.values:
        of[v] = Placement(Storage("temporary", v.spec.nbytes), dense_strides(v.shape, plain(v)))
    for state in graph.states:
        of[state] = Placement(Storage("state", state.spec.nbytes), of[state].strides)
    of.update({new: of[old] for pairs in candidates.values() for old, new in pairs})
    return of


def _waiting(materialized: Materialized, updates: Updates) -> Value | None:
    """A state whose overwriting some reader of its old numbers waits for; None if there is none."""
    fused = materialized.fused
    items: list[Item] = [*fused.laid_out.program.checks, *fused.groups]
    maker: dict[Value, Item] = {v: g for g in fused.groups for v in materialized.stored_by(g)}
    loads = {i: item_loads(materialized, i) for i in items}
    order = Dependences(items, loads, maker, updates).order()
    return order.state if isinstance(order, Circle) else None
