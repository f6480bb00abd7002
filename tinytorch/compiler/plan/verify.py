"""What every pass must leave true, checked between the passes of each program that is compiled.

Knows what the passes hand on, never how they came to it: every check works its answer out anew from
the graph. What can be proved wrong is refused before a kernel of it runs. The captured and the
simplified graph are checked by `graph.verify`, loops by `nest.verify_nest`, tasks by
`verify_schedule`, the arena by `verify_plan`; here stand the groups, the memory of values, and the
order. All of it runs whenever a program is compiled.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import NoReturn

from tinytorch.base.errors import CompileError
from tinytorch.compiler.graph.graph import Value
from tinytorch.compiler.graph.rewrite import IndexCheck
from tinytorch.compiler.plan import kinds
from tinytorch.compiler.plan.access import Access, bounds, nested
from tinytorch.compiler.plan.buffers import Home, Homes
from tinytorch.compiler.plan.fuse import Fusion, Group
from tinytorch.compiler.plan.layout import dense_strides, plain
from tinytorch.compiler.plan.order import Item, Ordering
from tinytorch.compiler.plan.tasks import Storage


def _refuse(after: str, problem: str, got: object, rule: str) -> NoReturn:
    raise CompileError.own_fault(
        f"the compiler pass {after!r} made an invalid program: {problem}", got=got, rule=rule
    )


# groups


def verify_groups(fusion: Fusion) -> Fusion:
    """Each operation is done once, and there is an order in which groups can be done.

    Raises:
        CompileError: a node is in no group or in two; groups wait for each other; a value that is
            wanted in memory is computed only where it is read; a group's reductions run over
            different axes.
    """
    after, rule = "fuse", "every node in one group, groups in an order, one set of reduced axes"
    holder = {}
    for group in fusion.groups:
        for node in group.nodes:
            if node in holder:
                _refuse(after, "an operation is in two groups", node.primitive.name, rule)
            holder[node] = group
            if kinds.is_reduction(node) and kinds.reduced_axes(node) != group.axes:
                _refuse(after, "a group reduces over different axes", group.label, rule)
    for node in fusion.graph.nodes:
        apart = kinds.is_movement(node) or kinds.is_source(node)
        if not apart and (node in fusion.inlined) == (node in holder):
            _refuse(after, "an operation is done nowhere or twice", node.primitive.name, rule)
        if node in fusion.inlined and not fusion.wanted.isdisjoint(node.outputs):
            _refuse(after, "a value wanted in memory is not stored", node.outputs[0], rule)
    needs = {g: _needs(fusion, g, holder) for g in fusion.groups}
    circle = _circle(needs)
    if circle:
        _refuse(after, "groups wait for each other", [g.label for g in circle], rule)
    return fusion


def _needs(fusion: Fusion, group: Group, holder: Mapping) -> list[Group]:
    """The other groups whose results a group reads, through movement and inlined arithmetic."""
    found: dict[Group, None] = {}
    stack = [v for n in group.nodes for v in n.inputs]
    seen = set()
    while stack:
        v = stack.pop()
        if v in seen or (made := fusion.producer.get(v)) is None:
            continue
        seen.add(v)
        other = holder.get(made)
        if other is None:
            stack.extend(made.inputs)
        elif other is not group:
            found[other] = None
    return list(found)


def _circle(needs: Mapping[Group, list[Group]]) -> list[Group]:
    """Groups that wait for each other in a circle; empty if there is none."""
    done: dict[Group, bool] = {}  # False: being looked at
    for root in needs:
        if root in done:
            continue
        done[root] = False
        stack = [(root, iter(needs[root]))]
        while stack:
            group, rest = stack[-1]
            following = next(rest, None)
            if following is None:
                done[group] = True
                stack.pop()
            elif done.get(following) is False:
                path = [g for g, _ in stack]
                return path[path.index(following) :]
            elif following not in done:
                done[following] = False
                stack.append((following, iter(needs[following])))
    return []


# memory of values


def verify_homes(homes: Homes) -> Homes:
    """Each stored value lies inside its memory, each element at a place of its own.

    Raises:
        CompileError: a value reaches outside its Storage, or two of its elements share a place; two
            values overlap in one Storage, unless one is the other's new state in the same layout.
    """
    after, rule = "homes", "values inside their memory, apart from each other"
    held: dict[Storage, list[tuple[Value, Home]]] = {}
    for v, home in homes.of.items():
        if not prod(v.shape):
            continue
        low, high = bounds(home.strides, v.shape, home.offset)
        if low < 0 or (high + 1) * v.dtype.itemsize > home.storage.nbytes:
            _refuse(after, "a value lies outside its memory", f"{v!r} in {home.storage!r}", rule)
        if not nested(home.strides, v.shape):
            _refuse(after, "elements of a value share a place", f"{v!r} {home.strides}", rule)
        held.setdefault(home.storage, []).append((v, home))
    for storage, values in held.items():
        if len(values) > 1:
            _verify_shared(storage, values, after, rule)
    return homes


def verify_access(access: Access, v: Value, home: Home) -> None:
    """What a kernel reads of a stored value through movement lies within that value.

    Raises:
        CompileError: an element of v would be read beside the value it is a view of.
    """
    if not prod(v.shape):
        return
    low, high = bounds(access.strides, v.shape, access.offset)
    first, last = bounds(home.strides, access.home.shape, home.offset)
    if low < first or high > last:
        _refuse(
            "access", "a view reaches outside what it is a view of",
            f"{v!r} at {low} to {high} of {access.home!r} at {first} to {last}",
            "movement shows elements of its array",
        )  # fmt: skip


def verify_layouts(group: Group, asked: set[Value], homes: Mapping[Value, Home]) -> None:
    """A kernel of its own that was not told how a value lies finds it dense, from the beginning.

    Raises:
        CompileError: it was given memory in another layout than it reads or writes.
    """
    for v in (*group.own.inputs, *group.own.outputs):
        home = homes.get(v)
        if v in asked or home is None or not prod(v.shape):
            continue
        if home.offset or home.strides != dense_strides(v.shape, plain(v)):
            _refuse(
                "lower", "a kernel does not know the layout of its arrays",
                f"{v!r} at {home.offset}, strides {home.strides}, in {group.label}",
                "strides and offset are asked for, or the array is dense",
            )  # fmt: skip


def _verify_shared(storage: Storage, values: list[tuple[Value, Home]], after, rule) -> None:
    """Values in one Storage: new states lie as the old ones, parts of a whole beside each other."""
    whole = [(v, h) for v, h in values if v.spec.nbytes == storage.nbytes]
    if any(h.strides != whole[0][1].strides for v, h in whole if v.shape == whole[0][0].shape):
        _refuse(after, "a new state does not lie as the old one", f"{storage!r}", rule)
    parts = [(v, h) for v, h in values if v.spec.nbytes < storage.nbytes]
    if sum(v.spec.nbytes for v, _ in parts) > storage.nbytes:
        _refuse(after, "parts of a whole overlap", f"{storage!r}", rule)
    places = {(h.offset, h.strides) for _, h in parts}
    if len(places) != len(parts):
        _refuse(after, "two parts of a whole lie at one place", f"{storage!r}", rule)


# order


def verify_order(order: list[Item], of: Ordering) -> list[Item]:
    """What is read has been made and is still there.

    Args:
        order: the items, as they will run.
        of: what they read and write.

    Raises:
        CompileError: an item reads a value before it is made, or a state after it was overwritten;
            or a state is overwritten before an index check.
    """
    after, rule = "order", "made, then read, then overwritten; indices checked before states change"
    done: set[int] = set()
    gone: set[Value] = set()
    checks = sum(isinstance(item, IndexCheck) for item in order)
    for item in order:
        checks -= isinstance(item, IndexCheck)
        for v in of.loads[id(item)]:
            if v in of.maker and id(of.maker[v]) not in done:
                _refuse(after, "a value is read before it is made", v, rule)
            if v in gone:
                _refuse(after, "a state is read after it was overwritten", v, rule)
        done.add(id(item))
        olds = of.direct.get(item, ()) if isinstance(item, Group) else ()
        if olds and checks:
            _refuse(after, "a state is overwritten before an index check", olds[0][0], rule)
        gone.update(old for old, _ in olds)
    if sorted(done) != sorted(map(id, of.items)) or len(done) != len(order):
        _refuse(after, "an item is done twice or never", len(order), rule)
    return order
