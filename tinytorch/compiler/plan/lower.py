"""From a captured graph to kernels in order: the last pass.

Knows every pass and the schedule, never addresses. Each stored value has a home, a Storage with
strides; each group becomes the tasks of its kernels. New states are written in place where every
reader of the old one can run before; else they are copied at the end.
"""

from __future__ import annotations

import numpy as np

from tinytorch.base.dtypes import bfloat16, from_bfloat16
from tinytorch.base.errors import CompileError
from tinytorch.codegen.kernel import Lowered, Operand
from tinytorch.codegen.target import Target
from tinytorch.compiler.calls.library_calls import lower_check, lower_host
from tinytorch.compiler.graph.graph import Graph, Value, verify
from tinytorch.compiler.graph.rewrite import IndexCheck, Simplified, simplify
from tinytorch.compiler.loops.build_expressions import Arithmetic
from tinytorch.compiler.loops.expression import Constant, Load, Store, topological
from tinytorch.compiler.loops.lower_nest import lower_nest
from tinytorch.compiler.loops.nest import Nest, verify_nest
from tinytorch.compiler.plan import kinds
from tinytorch.compiler.plan.access import Access, Coordinate, identity, move_access, unit
from tinytorch.compiler.plan.buffers import Copy, Home, Homes
from tinytorch.compiler.plan.fuse import Fusion, Group
from tinytorch.compiler.plan.layout import choose_orders, dense_strides, plain, split_reductions
from tinytorch.compiler.plan.materialize import Stored
from tinytorch.compiler.plan.order import Item, NotInPlace, Ordering
from tinytorch.compiler.plan.tasks import STATUS_BYTES, Schedule, Storage, Task, verify_schedule
from tinytorch.compiler.plan.verify import (
    verify_access,
    verify_groups,
    verify_homes,
    verify_layouts,
    verify_order,
)


def schedule(graph: Graph, target: Target) -> Schedule:
    """The kernels of a captured program.

    Args:
        graph: as captured.
        target: the machine to write code for.

    Returns:
        A verified Schedule.
    """
    verify(graph, "capture")
    simplified = simplify(graph)
    verify(simplified.graph, "simplify")
    verify(split_reductions(simplified.graph), "split_reductions")
    copied: set[Value] = set()
    while True:
        try:
            return verify_schedule(Lowering(simplified, target, copied).run())
        except NotInPlace as problem:
            copied.add(problem.state)


class Lowering:
    """One attempt; `copied` names the states that are not updated in place."""

    def __init__(self, simplified: Simplified, target: Target, copied: set[Value]):
        self.graph, self.checks, self.target = simplified.graph, simplified.checks, target
        self.orders = choose_orders(self.graph)
        checked = [c.index for c in self.checks]
        self.fusion = verify_groups(Fusion(self.graph, self.orders, checked))
        self.stored = Stored(self.fusion, checked)
        self.producer = self.fusion.producer
        self.placing = verify_homes(Homes(self.fusion, self.stored, copied))
        self.homes, self.storage, self.placed = (
            self.placing.of,
            self.placing.storage,
            self.placing.placed,
        )
        self.tasks: list[Task] = []
        self._accesses: dict[Value, Access] = {}
        self.asked: set[Value] = set()  # whose strides the kernel being lowered was told
        self.status: Storage | None = None

    # order

    def run(self) -> Schedule:
        """All tasks."""
        if self.checks:
            self.status = self.storage("status", STATUS_BYTES)
        ordering = self.ordering()
        for item in verify_order(ordering.run(), ordering):
            self._lower(item)
        for new, storage, kept in self.placing.last:
            self._copy_home(new, storage, kept)
        graph = self.graph
        used = {s for t in self.tasks for s in t.arguments} | set(self.placing.results.values())
        return Schedule(
            self.tasks,
            [s for s in self.placing.storages if s in used],
            self._used(graph.arguments, used),
            self._used(graph.states, used),
            self._used(list(graph.constants), used),
            dict(self.placing.results),
            graph,
        )  # fmt: skip

    def _used(self, values: list[Value], used: set[Storage]) -> dict[Value, Storage]:
        stored = {v: self.homes[v].storage for v in values}
        return {v: s for v, s in stored.items() if s in used}

    def ordering(self) -> Ordering:
        """What each group, copy and check reads and writes."""
        maker: dict[Value, Item] = {}
        for group in self.fusion.groups:
            maker.update(dict.fromkeys(self.stored.made_by(group), group))
        for c in self.placing.copies:
            if self.placing.holds(c.value, c.to):
                maker[c.value] = c
        items: list[Item] = [*self.checks, *self.fusion.groups, *self.placing.copies]
        made = (v for n in self.graph.nodes for v in n.outputs)
        place = {v: i for i, v in enumerate(made)}

        def loads(item: Item) -> list[Value]:
            return sorted(self._loads(item), key=lambda v: place.get(v, -1))

        return Ordering(items, loads, maker, self.placing.direct)

    def _loads(self, item: Item) -> set[Value]:
        if isinstance(item, Group):
            return self.stored.loads(item)
        found, stack = set(), [item.value if isinstance(item, Copy) else item.index]
        while stack:
            v = stack.pop()
            own = isinstance(item, Copy) and v is item.value and self.placing.holds(v, item.to)
            if v in self.stored.values and not own:
                found.add(v)
            elif (node := self.producer.get(v)) is not None:
                stack.extend(node.inputs)
        return found

    # accesses

    def access(self, v: Value, own: frozenset[Value] = frozenset()) -> Access | None:
        """Where v lies in memory; None if it is computed (or made by the kernel itself: `own`)."""
        self.asked.add(v)
        if v in own:
            return None
        if v in self._accesses:
            return self._accesses[v]
        if v in self.homes:
            found = Access(v, v.shape, self.homes[v].strides, self.homes[v].offset)
        else:
            node = self.producer.get(v)
            if node is None or not kinds.is_movement(node):
                return None
            below = self.access(node.inputs[0], own)
            if below is None:
                return None
            found = move_access(node, below)
            if found is None:
                found = move_access(node, self.copied(node.inputs[0], below))
        if found is None:
            raise CompileError.own_fault(
                "a dense array cannot be viewed",
                got=repr(v),
                rule="its own order of axes can be reshaped",
            )
        verify_access(found, v, self.homes[found.home])
        self._accesses[v] = found
        return found

    def copied(self, v: Value, access: Access) -> Access:
        """A dense copy of a view that cannot be reshaped where it lies."""
        copy = Value(v.spec)
        strides = dense_strides(v.shape, plain(v))
        self.homes[copy] = Home(self.storage("temporary", v.spec.nbytes, copy), strides)
        self._copy(access, v, self.homes[copy].storage)
        return Access(copy, v.shape, strides)

    def home(self, v: Value) -> Home:
        """The memory of a stored value, whose strides the asker honours."""
        self.asked.add(v)
        return self.homes[v]

    def storage_of(self, v: Value) -> Storage:
        """The Storage in which a value lies; the asker is not told in which layout."""
        asked, self.asked = self.asked, set()
        access = self.access(v)
        self.asked = asked
        if access is None:
            raise _not_stored(v)
        return self.homes[access.home].storage

    def operand(self, v: Value) -> Operand:
        """Where a value that a kernel of its own reads lies."""
        access = self.access(v)
        if access is None:
            raise _not_stored(v)
        return Operand(v.dtype, access.strides, access.offset)

    def number(self, v: Value) -> float | None:
        """The number a value holds everywhere, if it is one number fixed now."""
        while (node := self.producer.get(v)) is not None and kinds.is_movement(node):
            v = node.inputs[0]
        array = self.graph.constants.get(v)
        if array is not None and array.size == 1:
            wide = from_bfloat16(np.atleast_1d(array)) if v.dtype is bfloat16 else array
            return wide.item()
        return node.constant if node is not None else None

    # lowering

    def _lower(self, item: Item) -> None:
        if isinstance(item, IndexCheck):
            lower_check(self, item)
        elif isinstance(item, Copy):
            self._fill(item)
        elif item.host is None:
            self._lower_nest(item)
        else:
            self.asked = set()
            lower_host(self, item)
            verify_layouts(item, self.asked, self.homes)

    def arithmetic(
        self, sizes, own=frozenset(), axes=frozenset(), given=None
    ) -> tuple[Arithmetic, dict]:
        """A builder of expressions, and the buffer names it hands out (name -> Storage)."""
        names: dict[str, Storage] = {}
        by_storage: dict[Storage, str] = {}

        def name(home: Value) -> str:
            s = self.homes[home].storage
            if s not in by_storage:
                by_storage[s] = f"x{len(by_storage)}"
                names[by_storage[s]] = s
            return by_storage[s]

        build = Arithmetic(
            sizes, self.producer, lambda v: self.access(v, own), name, self.number, axes, given
        )
        return build, names

    def add(
        self,
        lowered: Lowered,
        buffers: dict[str, Storage],
        label: str,
        where: str,
        writes: set[str],
    ) -> None:
        """Append the tasks of a lowered operation; `writes` names the buffers it writes."""
        buffers = dict(buffers)
        for name, size in lowered.temporaries.items():
            buffers[name] = self.storage("temporary", size)
        begun: set[str] = set()
        for step in lowered.steps:
            if not step.kernel.tiles:
                continue
            named = set(step.arguments)
            temporary = {n for n in named if n in lowered.temporaries}
            written = {buffers[n] for n in (named & writes) | temporary}
            read = {buffers[n] for n in (named - writes - (temporary - begun))}
            read = {s for s in read if s.nbytes}  # of nothing, nothing is read
            begun |= temporary
            self.tasks.append(
                Task(
                    step.kernel,
                    tuple(buffers[n] for n in step.arguments),
                    frozenset(read),
                    frozenset(written),
                    label,
                    where,
                )
            )

    def add_nest(
        self, nest: Nest, buffers: dict[str, Storage], label: str, where: str, writes: set[str]
    ) -> None:
        """Append the tasks of a loop nest, checked; arguments as those of `add`."""
        verify_nest(nest, {name: s.nbytes for name, s in buffers.items()})
        self.add(lower_nest(self.target, nest), buffers, label, where, writes)

    def _lower_nest(self, group: Group) -> None:
        domain, axes = group.domain, group.axes or frozenset()
        own = frozenset(v for n in group.nodes for v in n.outputs)
        build, names = self.arithmetic(domain, own, axes)
        stores = []
        for v in self.stored.made_by(group):
            coordinates = self._store_coordinates(group, v)
            stores.append(self.store_of(build, v, coordinates))
        if not stores:
            return
        self.check_in_place(group, stores, names)
        over = frozenset(d for d in axes if domain[d] != 1)
        has = any(s.value.reductions for s in stores)
        nest = Nest(tuple(domain), over if has else frozenset(), tuple(stores), group.label)
        if not has and over:
            nest = _without(nest, over)
        writes = {s.argument for s in stores}
        self.add_nest(nest, names, group.label, group.nodes[0].where, writes)

    def _store_coordinates(self, group: Group, v: Value) -> tuple[Coordinate, ...]:
        """For each axis of v the loop it runs along."""
        rank = len(group.domain)
        if v.shape == group.domain:
            return identity(v.shape)
        axes = group.axes or frozenset()
        loops = iter(d for d, n in enumerate(group.domain) if d not in axes and n != 1)
        none = Coordinate((0,) * rank)
        return tuple(unit(rank, next(loops)) if n != 1 else none for n in v.shape)

    def store_of(self, build: Arithmetic, v: Value, coordinates) -> Store:
        """The store of a value into its home."""
        home = self.home(v)
        strides = [0] * build.rank
        for s, c in zip(home.strides, coordinates, strict=True):
            for d in range(build.rank):
                strides[d] += s * c.strides[d]
        value = build.value(v, coordinates)
        return Store(build.name(v), v.dtype, tuple(strides), value, home.offset)

    def check_in_place(self, group: Group, stores: list[Store], names: dict[str, Storage]) -> None:
        """A kernel that overwrites a state reads it at the very place it writes."""
        loads = [e for e in topological(s.value for s in stores) if isinstance(e, Load)]
        for state, _ in self.placing.direct.get(group, []):
            for s in stores:
                if names[s.argument] is not self.homes[state].storage:
                    continue
                same = [e for e in loads if e.argument == s.argument]
                if any(e.strides != s.strides or e.offset != s.offset or e.lookup for e in same):
                    raise NotInPlace(state)

    def _fill(self, copy: Copy) -> None:
        v = copy.value
        own = frozenset([v]) if self.placing.holds(v, copy.to) else frozenset()
        build, names = self.arithmetic(v.shape, own)
        value = build.value(v, identity(v.shape))
        self._store_dense(value, v, copy.to, names)

    def _copy(self, access: Access, v: Value, to: Storage) -> None:
        build, names = self.arithmetic(v.shape)
        value = Load(v.dtype, build.name(access.home), access.strides, access.offset)
        self._store_dense(value, v, to, names)

    def _copy_home(self, v: Value, to: Storage, kept: Storage | None) -> None:
        if kept is not None:
            strides = dense_strides(v.shape, plain(v))
            self._store_dense(Load(v.dtype, "x0", strides), v, to, {"x0": kept})
            return
        self._fill(Copy(v, to))

    def _store_dense(self, value, v: Value, to: Storage, names: dict[str, Storage]) -> None:
        strides = dense_strides(v.shape, plain(v))
        store = Store("to", v.dtype, strides, value)
        label = "fill" if isinstance(value, Constant) else "copy"
        nest = Nest(tuple(v.shape), frozenset(), (store,), label)
        self.add_nest(nest, {**names, "to": to}, label, "", {"to"})


def _not_stored(v: Value) -> CompileError:
    return CompileError.own_fault(
        "a kernel of its own reads a value that is not stored",
        got=repr(v),
        rule="what crosses from group to group lies in memory",
    )


def _without(nest: Nest, dims: frozenset[int]) -> Nest:
    """The nest without loops nothing depends on."""
    return Nest(
        tuple(1 if d in dims else n for d, n in enumerate(nest.sizes)),
        frozenset(),
        nest.stores,
        nest.label,
    )
