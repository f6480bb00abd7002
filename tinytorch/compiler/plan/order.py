"""In which order the groups, copies and checks of a program are carried out.

Knows who reads and writes what, never how. Items are taken in program order, each after what it
needs (dependences.py).
"""

from __future__ import annotations

from typing import NoReturn

from tinytorch.base.errors import CompileError
from tinytorch.compiler.graph.graph import Value
from tinytorch.compiler.graph.rewriter import IndexCheck
from tinytorch.compiler.plan.dependences import Circle, Dependences, item_loads
from tinytorch.compiler.plan.stages import Buffers, Copy, Group, Item, Ordered


def order_tasks(buffers: Buffers) -> Ordered:
    """The order of a program's items.

    Raises:
        CompileError: groups wait for each other.
    """
    materialized = buffers.materialized
    fused = materialized.fused
    maker: dict[Value, Item] = {v: g for g in fused.groups for v in materialized.stored_by(g)}
    maker.update({c.value: c for c in buffers.copies if buffers.holds(c.value, c.to)})
    items: list[Item] = [*fused.laid_out.program.checks, *fused.groups, *buffers.copies]
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
    return Ordered(buffers, tuple(order), loads, maker)


def check_order(ordered: Ordered) -> None:
    """What is read has been made and is still there.

    Raises:
        CompileError: an item reads a value before it is made, or a state after it was overwritten;
            or a state is overwritten before an index check; or an item is done twice or never.
    """
    buffers = ordered.buffers
    fused = buffers.fused
    done: set[Item] = set()
    gone: set[Value] = set()
    checks = len(fused.laid_out.program.checks)
    for item in ordered.items:
        checks -= isinstance(item, IndexCheck)
        for v in ordered.loads[item]:
            if v in ordered.maker and ordered.maker[v] not in done:
                _refuse("a value is read before it is made", v)
            if v in gone:
                _refuse("a state is read after it was overwritten", v)
        done.add(item)
        olds = buffers.in_place.get(item, ()) if isinstance(item, Group) else ()
        if olds and checks:
            _refuse("a state is overwritten before an index check", olds[0][0])
        gone.update(old for old, _ in olds)
    everything = {*fused.laid_out.program.checks, *fused.groups, *buffers.copies}
    if done != everything or len(ordered.items) != len(done):
        _refuse("an item is done twice or never", len(ordered.items))


def _refuse(problem: str, got: object) -> NoReturn:
    raise CompileError.own_fault(
        f"the compiler pass 'order tasks' made an invalid program: {problem}",
        got=got,
        rule="made, then read, then overwritten; indices checked before states change",
    )
