"""In which order the groups of a program are carried out.

Knows who reads and writes what, never how. Every item comes after those whose results it reads, and
the one that overwrites a state after all that read the old one and after every check of indices,
so that a bad index leaves all states as they were. Items are taken in program order,
each after what it needs, so that results are used soon after they are made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tinytorch.base.errors import CompileError
from tinytorch.compiler.graph.graph import Value
from tinytorch.compiler.graph.rewrite import IndexCheck
from tinytorch.compiler.plan.buffers import Copy
from tinytorch.compiler.plan.fuse import Group

Item = Group | Copy | IndexCheck


class NotInPlace(Exception):
    """A state cannot be updated in place after all."""

    def __init__(self, state: Value):
        self.state = state


class Ordering:
    """The order of a program's items.

    Args:
        items: in program order.
        loads: the stored values an item reads, in a fixed order.
        maker: the item that writes each stored value.
        direct: the (old, new) states each group updates in place.
    """

    def __init__(
        self,
        items: Sequence[Item],
        loads: Callable[[Item], Sequence[Value]],
        maker: dict[Value, Item],
        direct: dict[Group, list[tuple[Value, Value]]],
    ):
        self.items, self.maker, self.direct = items, maker, direct
        self.loads = {id(i): loads(i) for i in items}
        self.checks = [i for i in items if isinstance(i, IndexCheck)]
        self.readers: dict[Value, list[Item]] = {}
        for i in items:
            for v in self.loads[id(i)]:
                self.readers.setdefault(v, []).append(i)

    def _needs(self, item: Item) -> list[tuple[Item, Value | None]]:
        """What must come before, each with the state that is the reason, if one is."""
        first: list[tuple[Item, Value | None]] = [
            (self.maker[v], None) for v in self.loads[id(item)] if v in self.maker
        ]
        for old, _ in self.direct.get(item, []) if isinstance(item, Group) else []:
            first += [(r, old) for r in self.readers.get(old, []) if r is not item]
            first += [(check, old) for check in self.checks]
        return first

    def run(self) -> list[Item]:
        """All items in order.

        Raises:
            NotInPlace: a state cannot be overwritten before all its readers have run.
        """
        order: list[Item] = []
        begun: dict[int, bool] = {}  # False: what it needs is being placed; True: placed
        for root in self.items:
            if id(root) in begun:
                continue
            begun[id(root)] = False
            stack = [(root, self._needs(root))]
            while stack:
                item, waiting = stack[-1]
                if not waiting:
                    stack.pop()
                    begun[id(item)] = True
                    order.append(item)
                    continue
                following, because = waiting.pop(0)
                if begun.get(id(following)) is False:
                    raise self._circle(stack, following, because)
                if id(following) not in begun:
                    begun[id(following)] = False
                    stack.append((following, self._needs(following)))
        return order

    def _circle(self, stack, following: Item, because: Value | None) -> Exception:
        """A circle closed: some state on it is not updated in place."""
        if because is not None:
            return NotInPlace(because)
        for item, _ in reversed(stack):
            if isinstance(item, Group) and item in self.direct:
                return NotInPlace(self.direct[item][0][0])
            if item is following:
                break
        names = [i.label for i, _ in stack if isinstance(i, Group)]
        return CompileError.own_fault(
            "the compiler made groups that wait for each other",
            got=names,
            rule="every group can be done after those whose results it reads",
        )
