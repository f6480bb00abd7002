"""What kernels are told of the plan, and how they become tasks.

Knows stages, loops and tasks; never which primitive is lowered. A value with memory is found
through any chain of movement and becomes a load; one without becomes the operation that makes it,
and so on down to values with memory. Kernels are given with the buffers they read and write, and
become tasks in that order.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence, Set
from dataclasses import replace
from math import prod

import numpy as np

from tinytorch.base.dtypes import DType, bfloat16, from_bfloat16, int64
from tinytorch.base.errors import CompileError
from tinytorch.codegen.kernel import Kernel, Lowered, NeededRows, Operand, RaggedRows
from tinytorch.compiler.graph.graph import Node, Value
from tinytorch.compiler.loops.epilogue import FusedEpilogue
from tinytorch.compiler.loops.expression import (
    Constant,
    Expression,
    InRegisters,
    Iota,
    Load,
    Op,
    Reduce,
    Store,
    topological,
)
from tinytorch.compiler.loops.lower_nest import lower_nest
from tinytorch.compiler.loops.nest import Nest, from_first, verify_nest
from tinytorch.compiler.loops.prologue import FusedPrologue
from tinytorch.compiler.plan.access import (
    Access,
    Coordinate,
    at,
    bounds,
    broadcast,
    dense_strides,
    identity,
    move_access,
    move_coordinates,
    plain,
    row_coordinates,
)
from tinytorch.compiler.plan.needs import Needs
from tinytorch.compiler.plan.prologue import PrologueOperand
from tinytorch.compiler.plan.stages import (
    STATUS_BYTES,
    Buffers,
    Copy,
    Group,
    Item,
    Kind,
    Materialized,
    Placement,
    Storage,
    Task,
)
from tinytorch.primitives.primitive import OpClass

NONE: frozenset[Value] = frozenset()
AT_INDICES = (OpClass.LOOKUP, OpClass.GATHER, OpClass.SCATTER, OpClass.UPDATE)
Names = dict[str, Storage]  # of the buffers of a kernel
# The making of an expression: it asks for values at coordinates, and is sent their expressions.
Steps = Generator[tuple[Value, tuple[Coordinate, ...]], Expression, Expression]


def _own_fault(problem: str, got: object) -> CompileError:
    return CompileError.own_fault(
        f"the compiler asks a kernel for what it cannot compute: {problem}",
        got=got,
        rule="what is read at another place, or reshaped, lies in memory",
    )


class ExpressionBuilder:
    """Builds the expressions of one kernel over loops of the given sizes.

    Args:
        sizes: the loops.
        producer: the node that makes each value.
        access: gives the Access of a value whose memory holds it, None for one to be computed.
        name: gives the buffer name of a stored value.
        axes: the loops that reductions run over.
        given: values that are in registers already.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        producer: Mapping[Value, Node],
        access: Callable[[Value], Access | None],
        name: Callable[[Value], str],
        number: Callable[[Value], float | None],
        axes: frozenset[int] = frozenset(),
        given: Mapping[Value, Expression] | None = None,
    ):
        self.rank, self.sizes = len(sizes), tuple(sizes)
        self.producer, self.access, self.name, self.number = producer, access, name, number
        self.axes, self.given = axes, given or {}
        self._memo: dict[tuple[Value, tuple[Coordinate, ...]], Expression] = {}

    def value(self, v: Value, coordinates: tuple[Coordinate, ...]) -> Expression:
        """The expression of v at the coordinates.

        What is begun and waits for operands is a stack here, not Python's: chains may be long.
        """
        begun = [((v, coordinates), self._build(v, coordinates))]
        answer: Expression | None = self._memo.get(begun[0][0])
        if answer is not None:
            return answer
        while begun:
            at, steps = begun[-1]
            try:
                asked = next(steps) if answer is None else steps.send(answer)
            except StopIteration as done:
                answer = self._memo[at] = done.value
                begun.pop()
                continue
            answer = self._memo.get(asked)
            if answer is None:
                begun.append((asked, self._build(*asked)))
        return self._memo[v, coordinates]

    def _build(self, v: Value, coordinates: tuple[Coordinate, ...]) -> Steps:
        if v in self.given:
            return self.given[v]
        number = self.number(v)
        if number is not None:
            return Constant(v.dtype, number)
        access = self.access(v)
        if access is not None:
            strides, offset = at(access, coordinates, self.rank)
            return Load(v.dtype, self.name(access.base), strides, offset)
        node = self.producer[v]
        if node.is_movement:
            moved = move_coordinates(node, coordinates, self.rank)
            if moved is None:
                raise _own_fault("a reshape of a value that is not stored", v)
            return (yield node.inputs[0], moved)
        if node.is_position:
            c = coordinates[int(node.params["axis"])]
            return Iota(v.dtype, c.strides, c.offset)
        if node.is_reduction:
            return (yield from self._reduce(node, coordinates))
        if node.is_lookup:
            return (yield from self._lookup(node, coordinates))
        operands: list[Expression] = []
        for x in node.inputs:
            operands.append((yield x, broadcast(coordinates, x.shape, v.shape) if x.shape else ()))
        return Op(v.dtype, node.primitive.name, tuple(operands))

    def _reduce(self, node: Node, coordinates: tuple[Coordinate, ...]) -> Steps:
        x, v = node.inputs[0], node.outputs[0]
        axes = node.reduced_axes
        rest = iter(coordinates)
        kept = node.params.get("keepdims")
        inner: list[Coordinate] = []
        for d, n in enumerate(x.shape):
            if d in axes:
                if kept:
                    next(rest)
                inner.append(Coordinate(tuple(int(i == d and n != 1) for i in range(self.rank))))
            else:
                inner.append(next(rest))
                if any(inner[-1].strides[a] for a in axes):
                    raise _own_fault("a row's reduction is read in another row", v)
        if axes != self.axes:
            raise _own_fault("a reduction over other axes than its group", node.primitive.name)
        over = frozenset(d for d in axes if x.shape[d] != 1)
        operand = yield x, tuple(inner)
        if not over:
            return operand if x.dtype is v.dtype else Op(v.dtype, "cast", (operand,))
        return Reduce(v.dtype, node.primitive.name, operand, over)

    def _lookup(self, node: Node, coordinates: tuple[Coordinate, ...]) -> Steps:
        x, index = node.inputs
        axis, rank = int(node.params["axis"]), len(index.shape)
        access = self.access(x)
        if access is None:
            raise _own_fault("a table that is not stored", x)
        place = yield index, coordinates[axis : axis + rank]
        rest = (*coordinates[:axis], Coordinate((0,) * self.rank), *coordinates[axis + rank :])
        strides, offset = at(access, rest, self.rank)
        if place.dtype is not int64:
            place = Op(int64, "cast", (place,))
        lookup = ((place, access.strides[axis], x.shape[axis]),)
        return Load(x.dtype, self.name(access.base), strides, offset, lookup)


class PlanReader:
    """Reads a plan.

    Args:
        materialized: which values have memory.
        of: where each of them lies.
    """

    def __init__(self, materialized: Materialized, of: Mapping[Value, Placement]):
        self.materialized, self.graph = materialized, materialized.graph
        self.producer, self.paths = materialized.fused.producer, materialized.fused.paths
        self.of = dict(of)
        self._accesses: dict[Value, Access] = {}

    def access(self, v: Value, own: frozenset[Value] = NONE) -> Access | None:
        """Where v lies in memory; None if it is computed (or made by the kernel itself: `own`)."""
        moves: list[Node] = []  # from v down to what has memory
        while v in own or (v not in self._accesses and v not in self.of):
            node = self.producer.get(v)
            if v in own or node is None or not node.is_movement:
                return None
            moves.append(node)
            v = node.inputs[0]
        if v not in self._accesses:
            self._found(v, Access(v, v.shape, self.of[v].strides, self.of[v].offset))
        for node in reversed(moves):
            below, v = v, node.outputs[0]
            found = move_access(node, self._accesses[below])
            if found is None:
                found = move_access(node, self.copied(below, self._accesses[below]))
            self._found(v, found)
        return self._accesses[v]

    def _found(self, v: Value, access: Access | None) -> None:
        """Remember where a value lies."""
        if access is None:
            raise CompileError.own_fault(
                "a dense array cannot be viewed",
                got=repr(v),
                rule="its own order of axes can be reshaped",
            )
        self.check_access(access, v)
        self._accesses[v] = access

    def check_access(self, access: Access, v: Value) -> None:
        """A place for a check of what was found."""

    def copied(self, v: Value, access: Access) -> Access:
        """Where a dense copy of v lies, a view that cannot be reshaped where it is."""
        copy = Value(v.spec)
        strides = dense_strides(v.shape, plain(v))
        self.of[copy] = Placement(self.temporary(v.spec.nbytes, copy), strides)
        return Access(copy, v.shape, strides)

    def temporary(self, nbytes: int, value: Value | None = None) -> Storage:
        """New memory of the program."""
        return Storage("temporary", nbytes, value)

    def number(self, v: Value) -> float | None:
        """The number a value holds everywhere, if it is one number fixed now."""
        v, _ = self.paths.base(v)
        node = self.producer.get(v)
        array = self.graph.constants.get(v)
        if array is not None and array.size == 1:
            wide = from_bfloat16(np.atleast_1d(array)) if v.dtype is bfloat16 else array
            return wide.item()
        return node.constant if node is not None else None

    def stays(self, v: Value) -> bool:
        """Whether a value has the same numbers in many runs.

        It follows from frozen states, or every trip of the loop reads it alike.
        """
        base, _ = self.paths.base(v)
        given, made = (*self.graph.frozen, *self.graph.fixed), self.producer.get(base)
        return base in given or made is not None and made in self.materialized.fused.frozen

    # expressions

    def arithmetic(
        self,
        sizes: Sequence[int],
        own: frozenset[Value] = NONE,
        axes: frozenset[int] = frozenset(),
        given: Mapping[Value, Expression] | None = None,
        prefix: str = "x",
    ) -> tuple[ExpressionBuilder, Names]:
        """A builder of expressions over loops of these sizes, and the buffers it names.

        Args:
            own: values that the kernel makes: not read from memory.
            axes: the loops that reductions run over.
            given: values that are in registers already.
            prefix: of the buffers' names.
        """
        names: Names = {}
        by_storage: dict[Storage, str] = {}

        def name(v: Value) -> str:
            s = self.of[v].storage
            if s not in by_storage:
                by_storage[s] = f"{prefix}{len(by_storage)}"
                names[by_storage[s]] = s
            return by_storage[s]

        def access(v: Value) -> Access | None:
            return self.access(v, own)

        return ExpressionBuilder(
            sizes, self.producer, access, name, self.number, axes, given
        ), names

    def stores_of(
        self, group: Group, given: InRegisters | None = None
    ) -> tuple[list[Store], Names]:
        """What a group's kernel stores, and its buffers.

        Args:
            given: the result of its library call in registers, if it has one.
        """
        if group.call is not None and given is None:
            given = InRegisters(group.call.outputs[0].dtype, len(group.domain))
        registers = None if given is None else {group.called.outputs[0]: given}
        axes = group.axes or frozenset()
        build, names = self.arithmetic(group.domain, group.makes, axes, registers)
        stored = self.materialized.stored_by(group)
        return [self.store_of(build, v, store_coordinates(group, v)) for v in stored], names

    def store_of(
        self, build: ExpressionBuilder, v: Value, coordinates: Sequence[Coordinate]
    ) -> Store:
        """The store of a value into its place."""
        place = self.of[v]
        strides = [0] * build.rank
        for s, c in zip(place.strides, coordinates, strict=True):
            for d in range(build.rank):
                strides[d] += s * c.strides[d]
        value = build.value(v, tuple(coordinates))
        return Store(build.name(v), v.dtype, tuple(strides), value, place.offset)


def store_coordinates(group: Group, v: Value) -> tuple[Coordinate, ...]:
    """For each axis of v the loop of the group it runs along."""
    if v.shape == group.domain:
        return identity(v.shape)
    return row_coordinates(v.shape, group.domain, group.axes or frozenset())


def read_elsewhere(
    stores: Sequence[Store], names: Names, overwritten: Set[Storage]
) -> set[Storage]:
    """Of the memory that is overwritten, what is read at another element than is stored there."""
    over = [s for s in stores if names[s.argument] in overwritten]
    if not over:
        return set()
    loads = [e for e in topological(s.value for s in stores) if isinstance(e, Load)]
    return {
        names[s.argument]
        for s in over
        for e in loads
        if e.argument == s.argument and not e.is_at(s)
    }


class Lowering(PlanReader):
    """The tasks of a program while they are made.

    Args:
        buffers: the memory that is given out so far; kernels ask for more.
    """

    def __init__(self, buffers: Buffers):
        super().__init__(buffers.materialized, buffers.of)
        self.buffers, self.target = buffers, buffers.captured.target
        self.storages = list(buffers.storages)
        self.tasks: list[Task] = []
        self._noted = 0
        self._checked = {c.index for c in self.materialized.checks}
        self.asked: set[Value] = set()  # whose layout the kernel being lowered was told
        self.status: Storage | None = None
        self.constants: dict[Value, tuple[Storage, np.ndarray]] = {}  # of loops
        self.needs = Needs(buffers.program)

    # memory

    def status_words(self) -> Storage:
        """Where a check of indices says what it found."""
        if self.status is None:
            self.status = self.storage("status", STATUS_BYTES)
        return self.status

    def storage(self, kind: Kind, nbytes: int, value: Value | None = None) -> Storage:
        """A new Storage of the program."""
        s = Storage(kind, nbytes, value)
        self.storages.append(s)
        return s

    def temporary(self, nbytes: int, value: Value | None = None) -> Storage:
        """New memory in the arena."""
        return self.storage("temporary", nbytes, value)

    def access(self, v: Value, own: frozenset[Value] = NONE) -> Access | None:
        """See PlanReader; the asker honours the layout it is told."""
        self.asked.add(v)
        return super().access(v, own)

    def located(self, v: Value) -> Access:
        """The access of a value that has one.

        Raises:
            CompileError: it has not: it lies in no memory.
        """
        access = self.access(v)
        if access is None:
            raise CompileError.own_fault(
                "a kernel of its own reads a value that is not stored",
                got=repr(v),
                rule="what crosses from group to group lies in memory",
            )
        return access

    def check_access(self, access: Access, v: Value) -> None:
        """See `verify_access`."""
        verify_access(access, v, self.of[access.base])

    def copied(self, v: Value, access: Access) -> Access:
        """A dense copy of a view that cannot be reshaped where it lies."""
        copy = super().copied(v, access)
        build, names = self.arithmetic(v.shape)
        value = Load(v.dtype, build.name(access.base), access.strides, access.offset)
        self.store_dense(value, v, self.of[copy.base].storage, names)
        return copy

    def place(self, v: Value) -> Placement:
        """Where a stored value lies, whose layout the asker honours."""
        self.asked.add(v)
        return self.of[v]

    def storage_of(self, v: Value) -> Storage:
        """The Storage in which a value lies; the asker is not told in which layout."""
        asked, self.asked = self.asked, set()
        access = self.located(v)
        self.asked = asked
        return self.of[access.base].storage

    def operand(self, v: Value) -> Operand:
        """Where a value that a library call reads or writes lies."""
        access = self.located(v)
        return Operand(v.dtype, access.strides, access.offset)

    def begun_operand(self, v: Value) -> tuple[Operand, int]:
        """The same from the value's first element on, and the bytes at which that lies."""
        o = self.operand(v)
        return replace(o, offset=0), o.offset * v.dtype.itemsize

    # what is needed

    def needed(self, group: Group) -> list[tuple[int, RaggedRows]]:
        """The axes of a group's domain of which not every place is needed (needs.py)."""
        return self.needs.of_group(group, self.materialized.stored_by(group))

    def lengths(self, group: Group) -> Names:
        """The buffers that hold the lengths of these axes, and those at which its sums end."""
        rows = [rows for _, rows in self.needed(group)]
        if group.call is not None:
            rows += self.needs.summed(group.call)
        return {r.argument: self.of[self.needs.lengths[r.argument]].storage for r in rows}

    def needed_rows(self, group: Group, axes: Sequence[int]) -> NeededRows:
        """Which rows of a library call are needed, whose row number runs over some axes."""
        every, found = prod(group.domain[e] for e in axes), list[RaggedRows]()
        for d, rows in self.needed(group):
            if d in axes:
                inside = prod(group.domain[e] for e in axes if e > d)
                found.append(replace(rows, inner=rows.inner * inside, rows=every))
        return tuple(found)

    # tasks

    def note_lookups(self, item: Item) -> None:
        """Say of the tasks of an item, those since it was last asked, whether they use indices."""
        begin, self._noted = self._noted, len(self.tasks)
        if isinstance(item, Group) and any(
            n.primitive.op_class in AT_INDICES or not self._checked.isdisjoint(n.inputs)
            for n in item.nodes
        ):
            self.tasks[begin:] = [replace(t, looks_up=True) for t in self.tasks[begin:]]

    def add(
        self, lowered: Lowered, buffers: Mapping[str, Storage], label: str, where: str,
        writes: Set[str], begins: Mapping[str, int] | None = None,
    ) -> None:  # fmt: skip
        """Append the tasks of a lowered operation.

        Args:
            buffers: the memory of each buffer the kernels name, but for their own temporaries.
            label: the operations, for `explain()`.
            where: the user's line.
            writes: names of the buffers that are written.
            begins: bytes at which buffers begin in their memory; default 0.
        """
        given, at = dict(buffers), begins or {}
        for name, size in lowered.temporaries.items():
            given[name] = self.temporary(size)
        begun: set[str] = set()
        for step in lowered.steps:
            if not step.kernel.tiles:
                continue
            named = set(step.arguments)
            temporary = {n for n in named if n in lowered.temporaries}
            written = {given[n] for n in (named & writes) | temporary - step.reads}
            read = {given[n] for n in (named - writes - (temporary - begun))}
            begun |= temporary
            arguments = tuple(given[n] for n in step.arguments)
            # of nothing, nothing is read
            reads = frozenset(s for s in read if s.nbytes)
            first = tuple(at.get(n, 0) for n in step.arguments)
            self.tasks.append(
                Task(
                    step.kernel, arguments, reads, frozenset(written), label, where,
                    begins=first if any(first) else (),
                )
            )  # fmt: skip

    def add_nest(
        self, nest: Nest, buffers: Mapping[str, Storage], label: str, where: str, writes: Set[str]
    ) -> None:
        """Append the tasks of a loop nest, checked; arguments as those of `add`."""
        verify_nest(nest, {name: s.nbytes for name, s in buffers.items()})
        stores, begins = from_first(nest.stores)
        lowered = lower_nest(self.target, replace(nest, stores=stores))
        self.add(lowered, buffers, label, where, writes, begins)

    def run_kernel(self, group: Group, kernel: Kernel, values: Mapping[str, Value]) -> bool:
        """Append the task of one kernel whose buffers hold these values; gives True.

        It writes those that the library call makes.
        """
        node = group.called
        buffers = {n: self.storage_of(v) for n, v in values.items()} | self.lengths(group)
        writes = {n for n, v in values.items() if v in node.outputs}
        lowered = Lowered.of(kernel)
        self.add(lowered, buffers, group.label, node.where, writes)
        return True

    def call(
        self, group: Group, lowered: Lowered, buffers: Mapping[str, Storage],
        epilogue: FusedEpilogue, begins: Mapping[str, int] | None = None,
    ) -> None:  # fmt: skip
        """Append the tasks of a library call whose epilogue stores its results.

        Args:
            begins: bytes at which its own buffers begin; the epilogue knows its own.
        """
        writes = {s.argument for s in epilogue.stores}
        begin = {**epilogue.begins, **(begins or {})}
        self.add(lowered, buffers, group.label, group.called.where, writes, begin)

    def fused_epilogue(
        self, group: Group, rows: tuple[int, ...], column: int, batch: tuple[int, ...] = ()
    ) -> tuple[FusedEpilogue, Names]:
        """The group's arithmetic on the result of its library call, and its buffers.

        Args:
            rows, column, batch: which axes of the result the kernel's indices are; see
                FusedEpilogue.
        """
        out = group.called.outputs[0]
        given = InRegisters(out.dtype, len(out.shape))
        stores, names = self.group_stores(group, given)
        nest = Nest(out.shape, frozenset(), tuple(stores), group.label)
        verify_nest(nest, {name: s.nbytes for name, s in names.items()})
        begun, begins = from_first(nest.stores)
        return FusedEpilogue(
            begun, given, out.shape, rows, column, self.target, batch, begins=begins
        ), names

    def fused_prologue(self, computed: PrologueOperand) -> tuple[FusedPrologue, Names]:
        """A matrix that is computed while it is read, and its buffers."""
        v = computed.value
        build, names = self.arithmetic(v.shape, prefix="w")
        value = build.value(v, identity(v.shape))
        read = sum(leaf.spec.nbytes for leaf in computed.leaves)
        p = FusedPrologue(value, v.shape, computed.rows, computed.columns, self.target, read)
        return p, names

    def group_stores(
        self, group: Group, given: InRegisters | None = None
    ) -> tuple[list[Store], Names]:
        """See `PlanReader.stores_of`; a state is read where it is overwritten, and nowhere else.

        Raises:
            CompileError: it is read elsewhere.
        """
        self.asked.update(self.materialized.stored_by(group))
        stores, names = self.stores_of(group, given)
        olds = {self.of[old].storage for old, _ in self.buffers.in_place.get(group, ())}
        if read_elsewhere(stores, names, olds):
            raise CompileError.own_fault(
                "a kernel would overwrite a state that it reads at another place",
                got=group.label,
                rule="such a state is copied when all is done",
            )
        return stores, names

    # copies

    def put(self, group: Group, x: Value, starts: Sequence[int]) -> None:
        """Copy x into the output at the given starts; if it lies there already, nothing is done."""
        node, out = group.called, group.called.outputs[0]
        self.access(x)
        place = self.place(out)
        if not prod(x.shape) or (self.of.get(x) == place and not any(starts)):
            return
        build, names = self.arithmetic(x.shape)
        offset = place.offset + sum(s * a for s, a in zip(place.strides, starts, strict=True))
        strides = tuple(s if n != 1 else 0 for s, n in zip(place.strides, x.shape, strict=True))
        store = Store("to", out.dtype, strides, build.value(x, identity(x.shape)), offset)
        nest = Nest(tuple(x.shape), frozenset(), (store,), node.primitive.name)
        self.add_nest(nest, {**names, "to": place.storage}, group.label, node.where, {"to"})

    def put_number(self, group: Group, out: Value, number: float) -> None:
        """Write one number everywhere into a value that the library call makes."""
        place = self.place(out)
        if not prod(out.shape):
            return
        strides = tuple(s if n != 1 else 0 for s, n in zip(place.strides, out.shape, strict=True))
        value = Constant(out.dtype, number)
        store = Store("to", out.dtype, strides, value, place.offset)
        nest = Nest(tuple(out.shape), frozenset(), (store,), "fill")
        self.add_nest(nest, {"to": place.storage}, group.label, group.called.where, {"to"})

    def fill(self, copy: Copy) -> None:
        """Write a value densely to a Storage of its own."""
        v = copy.value
        own = frozenset([v]) if v in self.of and self.of[v].storage is copy.to else NONE
        build, names = self.arithmetic(v.shape, own)
        self.store_dense(build.value(v, identity(v.shape)), v, copy.to, names)

    def copy_kept(self, v: Value, kept: Storage, to: Storage) -> None:
        """Copy a value that was kept densely."""
        strides = dense_strides(v.shape, plain(v))
        self.store_dense(Load(v.dtype, "x0", strides), v, to, {"x0": kept})

    def store_dense(self, value: Expression, v: Value, to: Storage, names: Names) -> None:
        """Store an expression over the axes of v in the order they are written."""
        store = Store("to", v.dtype, dense_strides(v.shape, plain(v)), value)
        label = "fill" if isinstance(value, Constant) else "copy"
        nest = Nest(tuple(v.shape), frozenset(), (store,), label)
        self.add_nest(nest, {**names, "to": to}, label, "", {"to"})


def dense_operand(dtype: DType, shape: tuple[int, ...]) -> Operand:
    """An array without gaps in the order its axes are written."""
    return Operand(dtype, dense_strides(shape, tuple(range(len(shape)))))


def verify_access(access: Access, v: Value, place: Placement) -> None:
    """What a kernel reads of a stored value through movement lies within that value.

    Raises:
        CompileError: an element of v would be read beside the value it is a view of.
    """
    if not prod(v.shape):
        return
    low, high = bounds(access.strides, v.shape, access.offset)
    first, last = bounds(place.strides, access.base.shape, place.offset)
    if low < first or high > last:
        raise CompileError.own_fault(
            "the compiler pass 'lower' made an invalid program: a view reaches outside what it is a"
            " view of",
            got=f"{v!r} at {low} to {high} of {access.base!r} at {first} to {last}",
            rule="movement shows elements of its array",
        )


def verify_layouts(group: Group, asked: set[Value], of: Mapping[Value, Placement]) -> None:
    """A kernel of its own that was not told how a value lies finds it dense, from the beginning.

    Raises:
        CompileError: it was given memory in another layout than it reads or writes.
    """
    for v in (*group.called.inputs, *group.called.outputs):
        place = of.get(v)
        if v in asked or place is None or not prod(v.shape):
            continue
        if place.offset or place.strides != dense_strides(v.shape, plain(v)):
            raise CompileError.own_fault(
                "the compiler pass 'lower' made an invalid program: a kernel does not know the"
                " layout of its arrays",
                got=f"{v!r} at {place.offset}, strides {place.strides}, in {group.label}",
                rule="strides and offset are asked for, or the array is dense",
            )
