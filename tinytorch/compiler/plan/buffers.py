"""Which memory each stored value has, and which states are overwritten where they lie.

Knows stored values, layouts and Storages, never kernels. A result lies in fresh memory, a new state
where the old one lay if that can be, a part of a concatenation inside the whole; everything else in
a temporary of its own. A group may write the new state where the old one lies if it reads the old
one at no other place than it writes, and if all others that read it can be done before.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import NoReturn

from tinytorch.base.errors import CompileError
from tinytorch.compiler.graph.graph import Node, Value
from tinytorch.compiler.operations import has_epilogue, operation_of
from tinytorch.compiler.plan.access import (
    bounds,
    dense_strides,
    is_arithmetic,
    movement_of,
    nested,
    plain,
)
from tinytorch.compiler.plan.lowering import PlanReader, read_elsewhere
from tinytorch.compiler.plan.order import Circle, Dependences, item_loads
from tinytorch.compiler.plan.stages import (
    Axes,
    Buffers,
    Copy,
    Group,
    Item,
    Kind,
    Materialized,
    Placement,
    Storage,
)

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
    if call.is_update:
        x, *others = call.inputs
        return x is state and all(base(v)[0] is not state for v in others)
    if call.is_branch:  # a state of its bodies, too, which are programs of their own
        shown = [v for v in call.inputs if base(v)[0] is state]
        return shown == [state] and not call.may_fail_inside
    return has_epilogue(call) and all(base(v)[0] is not state for v in call.inputs)


def _read_elsewhere(materialized: Materialized) -> set[Value]:
    """States that a group's arithmetic reads at another element than it overwrites."""
    candidates, of = _candidates(materialized, set()), dict[Value, Placement]()
    found: set[Value] = set()
    for group, pairs in candidates.items():
        if group.call is not None and (group.call.is_update or group.call.is_branch):
            continue
        pairs = [pair for pair in pairs if not _stays_in_place(materialized, group, pair[0])]
        if not pairs:
            continue
        of = of or _places(materialized, candidates)
        stores, names = PlanReader(materialized, of).stores_of(group)
        states = {of[state].storage: state for state, _ in pairs}
        found.update(states[s] for s in read_elsewhere(stores, names, states.keys()))
    return found


def _stays_in_place(materialized: Materialized, group: Group, state: Value) -> bool:
    """Whether elementwise rows alone, of one shape, lie between a state and what a group stores.

    So it is for nearly all states, and what they are read by need not be built twice.
    """
    fused, own = materialized.fused, group.makes
    stack = [(v, v.shape != state.shape) for v in materialized.stored_by(group)]
    seen: set[tuple[Value, bool]] = set()
    while stack:
        v, moved = stack.pop()
        if v is state and moved:
            return False
        node = fused.producer.get(v)
        stored = v in materialized.values and v not in own
        if node is None or stored or (v, moved) in seen or node is group.call:
            continue
        seen.add((v, moved))
        still = is_arithmetic(node) and not node.is_lookup
        stack.extend((x, moved or not still or x.shape != v.shape) for x in node.inputs)
    return True


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
    items: list[Item] = [*fused.checks, *fused.groups]
    maker: dict[Value, Item] = {v: g for g in fused.groups for v in materialized.stored_by(g)}
    loads = {i: item_loads(materialized, i) for i in items}
    order = Dependences(items, loads, maker, updates).order()
    return order.state if isinstance(order, Circle) else None


# where each value lies


def assign_buffers(materialized: Materialized) -> Buffers:
    """A place in memory for every stored value."""
    a = _Assignment(materialized, updates_in_place(materialized))
    a.run()
    return Buffers(
        materialized.program, materialized, a.of, tuple(a.storages), a.results, tuple(a.copies),
        tuple(a.last), a.in_place, frozenset(a.parts),
    )  # fmt: skip


class _Assignment:
    """The memory while it is given out; fields as in Buffers."""

    def __init__(
        self,
        materialized: Materialized,
        in_place: dict[Group, tuple[tuple[Value, Value], ...]],
    ):
        self.materialized, self.in_place = materialized, in_place
        self.fused, self.values = materialized.fused, materialized.values
        self.graph, self.producer = materialized.graph, self.fused.producer
        self.orders, self.users = self.fused.laid_out.orders, self.graph.users()
        self.outputs = frozenset(self.graph.outputs)
        self.of: dict[Value, Placement] = {}
        self.storages: list[Storage] = []
        self.results: dict[Value, Storage] = {}
        self.copies: list[Copy] = []
        self.last: list[tuple[Value, Storage, Storage | None]] = []
        self.parts: set[tuple[Node, int]] = set()

    def storage(self, kind: Kind, nbytes: int, value: Value | None = None) -> Storage:
        """A new Storage of the program."""
        s = Storage(kind, nbytes, value)
        self.storages.append(s)
        return s

    def run(self) -> None:
        """Give every stored value its place."""
        graph = self.graph
        given: tuple[tuple[Kind, Iterable[Value]], ...] = (
            ("argument", graph.arguments), ("state", graph.states), ("constant", graph.constants),
        )  # fmt: skip
        for kind, values in given:
            for v in values:
                self._place(v, self.storage(kind, v.spec.nbytes, v), plain(v))
        self._place_updates()
        made = {v for g in self.fused.groups for v in self.materialized.stored_by(g)}
        for v in graph.results:
            if v in self.results:
                continue
            self.results[v] = self.storage("result", v.spec.nbytes, v)
            if v in made and v not in self.of and self.orders[v] == plain(v):
                self._place(v, self.results[v], plain(v))
            else:
                self.copies.append(Copy(v, self.results[v]))
        self._place_parts(made)
        for v in sorted(self.values, key=self.materialized.places.__getitem__):
            if v in self.of:
                continue
            s = self.storage("temporary", v.spec.nbytes, v)
            if v in made:
                self._place(v, s, self.orders[v])
            else:  # an array of one number, wanted in memory
                self._place(v, s, plain(v))
                self.copies.append(Copy(v, s))

    def _place(self, v: Value, storage: Storage, order: Axes) -> None:
        self.of[v] = Placement(storage, dense_strides(v.shape, order))

    def _place_updates(self) -> None:
        states = set(self.graph.states)
        direct = {pair for pairs in self.in_place.values() for pair in pairs}
        for state, new in self.graph.updates:
            place = self.of[state]
            if new is state:
                continue
            if (state, new) in direct:
                self.of[new] = place
            elif self.fused.paths.base(new)[0] in states:  # may itself be overwritten: kept first
                kept = self.storage("temporary", new.spec.nbytes, None)
                self.copies.append(Copy(new, kept))
                self.last.append((new, place.storage, kept))
            else:
                self.last.append((new, place.storage, None))

    def _place_parts(self, made: set[Value]) -> None:
        """Parts of a concatenation that nobody else reads are written where they belong at once."""
        for node in self.graph.nodes:
            out = node.outputs[0]
            if not operation_of(node).joins or out not in self.values:
                continue
            if out not in self.of:
                s = self.storage("temporary", out.spec.nbytes, out)
                self.of[out] = Placement(s, dense_strides(out.shape, self.orders[out]))
            place, first = self.of[out], 0
            axis = int(node.params["axis"]) % len(out.shape)
            for i, part in enumerate(node.inputs):
                offset = place.offset + first * place.strides[axis]
                first += part.shape[axis]
                base = self._only_read_by(part, node)
                if base is None or base not in made or base in self.of:
                    continue
                if operation_of(self.producer[base]).writes_dense:
                    continue
                strides = self._strides_before(part, base, place.strides)
                if strides is not None:
                    self.of[base] = Placement(place.storage, strides, offset)
                    self.parts.add((node, i))

    def _only_read_by(self, v: Value, node: Node) -> Value | None:
        """The stored value below a chain of movement that serves `node` alone."""
        users = self.users
        while True:
            if len(users.get(v, [])) != 1 or v in self.outputs:
                return None
            if v in self.values:
                return v
            made = self.producer.get(v)
            if made is None or not made.is_movement:
                return None
            v = made.inputs[0]

    def _strides_before(
        self, v: Value, base: Value, strides: tuple[int, ...]
    ) -> tuple[int, ...] | None:
        """The strides of `base` with which v, made from it by movement, has the given ones."""
        while v is not base:
            made = self.producer[v]
            found = movement_of(made).before(made, strides)
            if found is None:
                return None
            strides, v = found, made.inputs[0]
        return strides


def check_buffers(buffers: Buffers) -> None:
    """Each stored value lies inside its memory, each element at a place of its own.

    Raises:
        CompileError: a stored value has no place; a value reaches outside its Storage, or two of
            its elements share a place; two values overlap in one Storage, unless one is the other's
            new state in the same layout.
    """
    held: dict[Storage, list[tuple[Value, Placement]]] = {}
    for v in buffers.materialized.values - buffers.of.keys():
        _refuse("a stored value has no memory", v)
    for v, place in buffers.of.items():
        if not prod(v.shape):
            continue
        low, high = bounds(place.strides, v.shape, place.offset)
        if low < 0 or (high + 1) * v.dtype.itemsize > place.storage.nbytes:
            _refuse("a value lies outside its memory", f"{v!r} in {place.storage!r}")
        if not nested(place.strides, v.shape):
            _refuse("elements of a value share a place", f"{v!r} {place.strides}")
        held.setdefault(place.storage, []).append((v, place))
    for storage, values in held.items():
        if len(values) > 1:
            _check_shared(storage, values)


def _check_shared(storage: Storage, values: list[tuple[Value, Placement]]) -> None:
    """Values in one Storage: new states lie as the old ones, parts of a whole beside each other."""
    whole = [(v, p) for v, p in values if v.spec.nbytes == storage.nbytes]
    if any(p.strides != whole[0][1].strides for v, p in whole if v.shape == whole[0][0].shape):
        _refuse("a new state does not lie as the old one", f"{storage!r}")
    parts = [(v, p) for v, p in values if v.spec.nbytes < storage.nbytes]
    if sum(v.spec.nbytes for v, _ in parts) > storage.nbytes:
        _refuse("parts of a whole overlap", f"{storage!r}")
    if len({(p.offset, p.strides) for _, p in parts}) != len(parts):
        _refuse("two parts of a whole lie at one place", f"{storage!r}")


def _refuse(problem: str, got: object) -> NoReturn:
    raise CompileError.own_fault(
        f"the compiler pass 'assign buffers' made an invalid program: {problem}",
        got=got,
        rule="values inside their memory, apart from each other",
    )
