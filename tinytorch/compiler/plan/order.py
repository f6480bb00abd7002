"""In which order the groups, copies and checks of a program are carried out.

Knows who reads and writes what, never how. An item comes after those whose results it reads, and
the one that overwrites a state after all that read the old one and after everything that may end
the run, checks of indices and a user's code: an error leaves all states as they were. Items are
taken in program order, each after what it needs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from tinytorch.base.errors import CompileError
from tinytorch.compiler.graph.graph import Value
from tinytorch.compiler.graph.rewriter import IndexCheck
from tinytorch.compiler.plan.stages import Buffers, Copy, Group, Item, Materialized, Ordered
from tinytorch.primitives.primitive import OpClass

Loads = Mapping[Item, Sequence[Value]]
Updates = Mapping[Group, Sequence[tuple[Value, Value]]]


def item_loads(materialized: Materialized, item: Item, held: bool = False) -> tuple[Value, ...]:
    """The stored values an item reads, in program order.

    Args:
        held: whether the value of a copy lies where it is copied to: then it is made anew.
    """
    if isinstance(item, Group):
        return materialized.loads[item]
    producer = materialized.fused.producer
    found, own = set[Value](), item.value if isinstance(item, Copy) and held else None
    stack = [item.value if isinstance(item, Copy) else item.index]
    while stack:
        v = stack.pop()
        if v in materialized.values and v is not own:
            found.add(v)
        elif (node := producer.get(v)) is not None:
            stack.extend(node.inputs)
    return tuple(sorted(found, key=materialized.places.__getitem__))


@dataclass(frozen=True, eq=False)
class Circle:
    """Items that wait for each other.

    Args:
        state: one that is overwritten in the circle, if one is.
        groups: the groups of the circle, by their operations.
    """

    state: Value | None
    groups: Sequence[str]


def may_fail(item: Item) -> bool:
    """Whether it may end the run: a check of indices, or the code of a user."""
    if isinstance(item, IndexCheck):
        return True
    if isinstance(item, Copy) or item.call is None:
        return False
    return item.call.primitive.op_class is OpClass.OPAQUE or item.call.may_fail_inside


class Dependences:
    """What each item waits for.

    Args:
        items: in program order.
        loads: the stored values each reads.
        maker: the item that writes each stored value.
        in_place: the (old, new) states each group writes where the old ones lie.
    """

    def __init__(
        self, items: Sequence[Item], loads: Loads, maker: Mapping[Value, Item], in_place: Updates
    ):
        self.items, self.loads, self.maker, self.in_place = items, loads, maker, in_place
        # What may end the run: bad indices, and the code of a user.
        self.checks = [i for i in items if may_fail(i)]
        self.readers: dict[Value, list[Item]] = {}
        for i in items:
            for v in loads[i]:
                self.readers.setdefault(v, []).append(i)

    def _needs(self, item: Item) -> list[tuple[Item, Value | None]]:
        """What must come before, each with the state that is the reason, if one is."""
        first: list[tuple[Item, Value | None]] = [
            (self.maker[v], None) for v in self.loads[item] if v in self.maker
        ]
        for old, _ in self.in_place.get(item, ()) if isinstance(item, Group) else ():
            first += [(r, old) for r in self.readers.get(old, []) if r is not item]
            first += [(check, old) for check in self.checks if check is not item]
        return first

    def order(self) -> list[Item] | Circle:
        """All items in program order, each after what it needs, or the circle that forbids it.

        So results are used soon after they are made.
        """
        order: list[Item] = []
        begun: dict[Item, bool] = {}  # False: what it needs is being placed; True: placed
        for root in self.items:
            if root in begun:
                continue
            begun[root] = False
            stack = [(root, self._needs(root))]
            while stack:
                item, waiting = stack[-1]
                if not waiting:
                    stack.pop()
                    begun[item] = True
                    order.append(item)
                    continue
                following, because = waiting.pop(0)
                if begun.get(following) is False:
                    return self._circle([i for i, _ in stack], following, because)
                if following not in begun:
                    begun[following] = False
                    stack.append((following, self._needs(following)))
        return order

    def _circle(self, stack: list[Item], following: Item, because: Value | None) -> Circle:
        """A circle closed: some state on it is not updated in place."""
        labels = [i.label for i in stack if isinstance(i, Group)]
        for item in reversed(stack):
            if because is None and isinstance(item, Group) and item in self.in_place:
                because = self.in_place[item][0][0]
            if item is following:
                break
        return Circle(because, labels)


def order_tasks(buffers: Buffers) -> Ordered:
    """The order of a program's items.

    Raises:
        CompileError: groups wait for each other.
    """
    materialized = buffers.materialized
    fused = materialized.fused
    maker: dict[Value, Item] = {v: g for g in fused.groups for v in materialized.stored_by(g)}
    maker.update({c.value: c for c in buffers.copies if buffers.holds(c.value, c.to)})
    items: list[Item] = [*fused.checks, *fused.groups, *buffers.copies]
    loads = {
        i: item_loads(materialized, i, isinstance(i, Copy) and buffers.holds(i.value, i.to))
        for i in items
    }
    order = Dependences(items, loads, maker, buffers.in_place).order()
    if isinstance(order, Circle):
        raise CompileError.own_fault(
            "the compiler made groups that wait for each other",
            got=order.groups,
            rule="every group can be done after those whose results it reads",
        )
    return Ordered(buffers.program, buffers, tuple(order), loads, maker)


def check_order(ordered: Ordered) -> None:
    """What is read has been made and is still there.

    Raises:
        CompileError: an item reads a value before it is made, or a state after it was overwritten;
            or a state is overwritten before what may end the run; or an item is done twice or
            never.
    """
    buffers = ordered.buffers
    fused = buffers.fused
    done: set[Item] = set()
    gone: set[Value] = set()
    checks = sum(map(may_fail, ordered.items))
    for item in ordered.items:
        checks -= may_fail(item)
        for v in ordered.loads[item]:
            if v in ordered.maker and ordered.maker[v] not in done:
                _refuse("a value is read before it is made", v)
            if v in gone:
                _refuse("a state is read after it was overwritten", v)
        done.add(item)
        olds = buffers.in_place.get(item, ()) if isinstance(item, Group) else ()
        if olds and checks:
            _refuse("a state is overwritten before what may end the run", olds[0][0])
        gone.update(old for old, _ in olds)
    everything = {*fused.checks, *fused.groups, *buffers.copies}
    if done != everything or len(ordered.items) != len(done):
        _refuse("an item is done twice or never", len(ordered.items))


def _refuse(problem: str, got: object) -> NoReturn:
    raise CompileError.own_fault(
        f"the compiler pass 'order tasks' made an invalid program: {problem}",
        got=got,
        rule="made, then read, then overwritten; indices checked before states change",
    )
