"""What the passes of the plan hand on, each frozen once made: groups, memory, an order, tasks.

Knows graphs, shapes, memory and kernels as such; never addresses, threads or Tensors. A stage holds
the one before it, so that a pass takes one and gives one; `str(stage)` prints what it adds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from tinytorch.base.errors import CompileError
from tinytorch.codegen.kernel import Kernel, Operand
from tinytorch.compiler.graph.graph import Captured, Graph, Node, Value
from tinytorch.compiler.graph.rewriter import IndexCheck, Simplified
from tinytorch.compiler.plan.access import is_simple
from tinytorch.compiler.plan.trips import Choice, Way
from tinytorch.primitives.host import HostFunction
from tinytorch.primitives.primitive import Primitive

Kind = Literal["argument", "state", "constant", "result", "temporary", "status"]
GIVEN = ("argument", "state", "constant")  # hold a value before the first task runs
STATUS_BYTES = 64  # one cache line: word 0 is the abort flag the thread team looks at


@dataclass(eq=False)
class Storage:
    """One piece of memory of the program; two never share memory but in the arena.

    Args:
        kind: where its memory comes from: an argument's, a state's or a constant's array, fresh
            memory for a result, the arena for a temporary, the program's status words.
        nbytes: its size.
        value: what it holds, if it is one value of the graph.
    """

    kind: Kind
    nbytes: int
    value: Value | None = None

    def __repr__(self) -> str:
        held = f" {self.value.name}" if self.value is not None and self.value.name else ""
        return f"<{self.kind}{held} {self.nbytes} bytes>"


@dataclass(frozen=True)
class HostCall:
    """A primitive that no kernel does: NumPy runs it between two native segments.

    Args:
        primitive: the row.
        params: its static parameters.
        inputs, outputs: shape and layout of each array; the task names their Storages in this
            order, inputs first.
    """

    primitive: Primitive
    params: dict[str, Any]
    inputs: tuple[tuple[tuple[int, ...], Operand], ...]
    outputs: tuple[tuple[tuple[int, ...], Operand], ...]
    flops: int = 0
    bytes: int = 0

    @property
    def name(self) -> str:
        """Who does what, as in the table `explain()` prints."""
        function = self.params.get("function")
        if isinstance(function, HostFunction):
            return f"python.{function.name}"
        return f"numpy.{self.primitive.name}"

    label = name

    @property
    def arguments(self) -> tuple[str, ...]:
        """A name for each array."""
        return (
            *(f"in{i}" for i in range(len(self.inputs))),
            *(f"out{i}" for i in range(len(self.outputs))),
        )


@dataclass(frozen=True, eq=False)
class BodyCall:
    """The tasks of a body, done in each trip of a loop, or in one case: in place of a kernel.

    Args:
        tasks: of the body, in order; their Storages are those of one trip.
        ways: where each of these lies in the memory of the task around.
        trips: how many, at least 1.
        memory: how many Storages the task around is given.
        when: in which case they are done; None: in each.
    """

    tasks: tuple[Task, ...]
    ways: Mapping[Storage, Way]
    trips: int
    memory: int
    when: Choice | None = None
    unit = "fp32"

    @property
    def name(self) -> str:
        """What has the body."""
        return "loop" if self.when is None else "case"

    label = name

    @property
    def flops(self) -> int:
        """Arithmetic operations of all trips."""
        return self.trips * sum(t.kernel.flops for t in self.tasks)

    @property
    def bytes(self) -> int:
        """Memory traffic of all trips."""
        return self.trips * sum(t.kernel.bytes for t in self.tasks)

    @property
    def arguments(self) -> tuple[str, ...]:
        """A name for each Storage."""
        return tuple(f"m{i}" for i in range(self.memory))


@dataclass(frozen=True, eq=False)
class Task:
    """One kernel and the memory it is given.

    Args:
        kernel: the code.
        arguments: a Storage for each of the kernel's buffers, in the kernel's order.
        reads: Storages it reads.
        writes: Storages it writes (a Storage may be in both).
        label: the operations it does, for `explain()`; the kernel's own label where empty.
        where: the user's line, for errors.
        check: it only looks at indices and reports the first bad one in the status words; such
            tasks come before every task that writes a state, so that a bad index changes nothing.
        details: named numbers an error message shows, for example {"axis": 0, "size": 50257}.
        begins: how many bytes into its Storage each buffer begins; empty: all at the beginning. So
            kernels that differ in where they begin are one kernel.
        looks_up: it reads or writes at places that indices say: not before these are checked.
    """

    kernel: Kernel | HostCall | BodyCall
    arguments: tuple[Storage, ...]
    reads: frozenset[Storage]
    writes: frozenset[Storage]
    label: str = ""
    where: str = ""
    check: bool = False
    details: dict[str, int] = field(default_factory=dict[str, int])
    begins: tuple[int, ...] = ()
    looks_up: bool = False

    @property
    def shown(self) -> str:
        """The label for a table."""
        return self.label or self.kernel.label or self.kernel.name


@dataclass(frozen=True, eq=False)
class TaskList:
    """A program as kernels.

    Args:
        tasks: in an order in which they may run one after the other.
        storages: every Storage a task names.
        arguments, states, constants, results: the Storage of each such value of the graph. A value
            that no task needs may be missing from the first three. A result's Storage is its own:
            two different results, or a result and an argument, are never one.
        graph: the program it came from; `graph.updates` is done by the tasks (in place, or by a
            copy).
        captured: that program as it was recorded. The passes keep arguments, states and results in
            their places in the lists, so places are what the two have in common.
        made: the constants that are not the graph's but of bodies in it, with their arrays.
        derived: so many of the first tasks are done only when the frozen states are new; what they
            write for the others stays where it is.
    """

    tasks: Sequence[Task]
    storages: Sequence[Storage]
    arguments: Mapping[Value, Storage]
    states: Mapping[Value, Storage]
    constants: Mapping[Value, Storage]
    results: Mapping[Value, Storage]
    graph: Graph
    captured: Graph
    made: Mapping[Value, np.ndarray] = field(default_factory=dict[Value, np.ndarray])
    derived: int = 0

    @property
    def kernels(self) -> list[Kernel]:
        """The kernels of all tasks; those of a body once, others as often as they run."""
        return kernels_of(self.tasks)

    def __str__(self) -> str:
        self.graph.name_values()
        return "\n".join(
            f"{i}: {t.shown} ({t.kernel.name}){', derived' if i < self.derived else ''}\n"
            f"    reads {', '.join(sorted(map(repr, t.reads)))}\n"
            f"    writes {', '.join(sorted(map(repr, t.writes)))}" + _trips(t)
            for i, t in enumerate(self.tasks)
        )


def kernels_of(tasks: Sequence[Task]) -> list[Kernel]:
    """The kernels of tasks, those of a body once."""
    found: list[Kernel] = []
    for task in tasks:
        if isinstance(task.kernel, BodyCall):
            found += kernels_of(task.kernel.tasks)
        elif isinstance(task.kernel, Kernel):
            found.append(task.kernel)
    return found


def checks_in(tasks: Sequence[Task]) -> int:
    """How many checks of indices there are, those of a body once."""
    return sum(
        checks_in(t.kernel.tasks) if isinstance(t.kernel, BodyCall) else t.check for t in tasks
    )


def _trips(task: Task) -> str:
    if not isinstance(task.kernel, BodyCall):
        return ""
    when = task.kernel.when
    said = f"{task.kernel.trips} trips of" if when is None else f"if the predicate is {when.holds}"
    lines = [f"\n    {said}"]
    lines += [f"\n        {t.shown} ({t.kernel.name})" for t in task.kernel.tasks]
    return "".join(lines)


# what all stages know


@dataclass(frozen=True, eq=False)
class Stage:
    """What a pass of the plan gives.

    Args:
        program: simplified, its reductions split.
    """

    program: Simplified

    @property
    def captured(self) -> Captured:
        """The program as it was recorded, and its machine."""
        return self.program.captured

    @property
    def graph(self) -> Graph:
        """The operations."""
        return self.program.graph

    @property
    def checks(self) -> tuple[IndexCheck, ...]:
        """Of indices, which must pass before anything is written."""
        return self.program.checks


# choose layouts

Axes = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class LaidOut(Stage):
    """In which order the axes of each value would lie in memory.

    Args:
        orders: the axes of each value, outermost first.
    """

    orders: Mapping[Value, Axes]

    def __str__(self) -> str:
        self.graph.name_values()
        other = {v: o for v, o in self.orders.items() if o != tuple(range(len(o)))}
        lines = [f"{v!r} lies as axes {list(o)}" for v, o in other.items()]
        return "\n".join(lines or ["every value lies in the order its axes are written"])


# fuse


@dataclass(frozen=True, eq=False)
class Group:
    """Nodes that become one kernel.

    Args:
        number: its place among the groups as they were begun.
        domain: the logical sizes it runs over.
        axes: the reduced axes of the domain; None where it has no reduction.
        call: the node that a library call does, if it has one.
        outer: the reduced axes are not the innermost in memory.
        nodes: in program order.
    """

    number: int
    domain: tuple[int, ...]
    axes: frozenset[int] | None
    call: Node | None
    outer: bool
    nodes: tuple[Node, ...]

    @property
    def called(self) -> Node:
        """The node that a library call does.

        Raises:
            CompileError: the group has none.
        """
        if self.call is None:
            raise CompileError.own_fault(
                "a group without a library call was asked for it",
                got=self.label,
                rule="loops are lowered as loops",
            )
        return self.call

    @property
    def makes(self) -> frozenset[Value]:
        """All that its nodes compute."""
        return frozenset(v for n in self.nodes for v in n.outputs)

    @property
    def label(self) -> str:
        """The operations in it."""
        return "+".join(dict.fromkeys(n.primitive.name for n in self.nodes))


@dataclass(frozen=True, eq=False)
class Paths:
    """What a value is read from, through movement and nodes that are computed where they are read.

    Args:
        producer: the node that makes each value.
        inlined: arithmetic computed inside the groups that read it.
    """

    producer: Mapping[Value, Node]
    inlined: frozenset[Node]
    _bases: dict[Value, tuple[Value, bool]] = field(
        init=False, repr=False, default_factory=dict[Value, tuple[Value, bool]]
    )

    def base(self, value: Value) -> tuple[Value, bool]:
        """(the value that the movement before `value` begins at, whether all of it is simple)."""
        moves: list[Node] = []
        while value not in self._bases:
            node = self.producer.get(value)
            if node is None or not node.is_movement:
                break
            moves.append(node)
            value = node.inputs[0]
        base, simple = self._bases.get(value, (value, True))
        for node in reversed(moves):
            simple = simple and is_simple(node)
            self._bases[node.outputs[0]] = base, simple
        return base, simple

    def sources(self, node: Node) -> list[tuple[Value, bool]]:
        """(base value, simple path) of all a node reads, looking through inlined nodes."""
        out: list[tuple[Value, bool]] = []
        stack, seen = [(v, True) for v in node.inputs], set[tuple[Value, bool]]()
        data = node.inputs[0] if node.is_lookup else None
        while stack:
            value, simple = asked = stack.pop()
            if asked in seen:  # or ways that part and meet again would double each time
                continue
            seen.add(asked)
            base, direct = self.base(value)
            simple = simple and direct and value is not data
            made = self.producer.get(base)
            if made is not None and made in self.inlined:
                stack.extend((v, simple and not made.is_lookup) for v in made.inputs)
            elif made is None or not made.is_source:
                out.append((base, simple))
        return out


@dataclass(frozen=True, eq=False)
class Fused(Stage):
    """The groups of a program.

    Args:
        laid_out: the stage before.
        groups: in the order they were begun.
        paths: from what each value is read.
        wanted: values that must be in memory: outputs, and indices to be checked.
        of: the group of each node that has one. Nodes without are movement, sources, and
            arithmetic computed inside the groups that read it.
        frozen: what is computed of frozen states alone (graph/frozen.py).
    """

    laid_out: LaidOut
    groups: tuple[Group, ...]
    paths: Paths
    wanted: frozenset[Value]
    of: Mapping[Node, Group]
    frozen: frozenset[Node] = frozenset()

    @property
    def producer(self) -> Mapping[Value, Node]:
        """The node that makes each value."""
        return self.paths.producer

    def __str__(self) -> str:
        self.graph.name_values()
        lines = [
            f"group {g.number}: {g.label}; over {g.domain}"
            + (f", reduced over axes {sorted(g.axes)}" if g.axes else "")
            + f"\n    computes {', '.join(v.name for n in g.nodes for v in n.outputs)}"
            for g in self.groups
        ]
        return "\n".join(lines or ["no groups"])


# materialize


@dataclass(frozen=True, eq=False)
class Materialized(Stage):
    """Which values get memory; the others are computed where they are read.

    Args:
        fused: the stage before.
        values: those with memory, what the program is given among them.
        loads: of each group the values with memory that it reads, in program order.
        places: of all values of the program: what is given, then what nodes make, in their order.
    """

    fused: Fused
    values: frozenset[Value]
    loads: Mapping[Group, tuple[Value, ...]]
    places: Mapping[Value, int]

    def stored_by(self, group: Group) -> list[Value]:
        """The values with memory that a group makes."""
        return [v for n in group.nodes for v in n.outputs if v in self.values]

    def __str__(self) -> str:
        self.graph.name_values()
        lines = [
            f"group {g.number} reads {', '.join(v.name for v in self.loads[g]) or 'nothing'},"
            f" stores {', '.join(v.name for v in self.stored_by(g)) or 'nothing'}"
            for g in self.fused.groups
        ]
        return "\n".join(lines or ["what the program is given"])


# assign buffers


@dataclass(frozen=True)
class Placement:
    """Where a value lies: strides in elements over a piece of memory."""

    storage: Storage
    strides: tuple[int, ...]
    offset: int = 0


@dataclass(frozen=True, eq=False)
class Copy:
    """A value written densely to a Storage of its own."""

    value: Value
    to: Storage


Item = Group | Copy | IndexCheck


@dataclass(frozen=True, eq=False)
class Buffers(Stage):
    """The memory of every stored value.

    Args:
        materialized: the stage before.
        of: where each stored value lies.
        storages: all pieces of memory so far; kernels may ask for more.
        results: the memory of each result.
        copies: what must be written on the way beside what groups write.
        last: new states that are copied when all is done: (value, memory of the state, where it is
            kept meanwhile: None if it lies somewhere anyway).
        in_place: the (old, new) states each group writes where the old ones lie.
        parts: (concatenation, number) of the operands that are written where they belong.
    """

    materialized: Materialized
    of: Mapping[Value, Placement]
    storages: tuple[Storage, ...]
    results: Mapping[Value, Storage]
    copies: tuple[Copy, ...]
    last: tuple[tuple[Value, Storage, Storage | None], ...]
    in_place: Mapping[Group, tuple[tuple[Value, Value], ...]]
    parts: frozenset[tuple[Node, int]]

    @property
    def fused(self) -> Fused:
        """The groups."""
        return self.materialized.fused

    def holds(self, v: Value, storage: Storage) -> bool:
        """Whether the value lies in that Storage."""
        return v in self.of and self.of[v].storage is storage

    def __str__(self) -> str:
        self.graph.name_values()
        lines = [
            f"{v.name or 'value'} in {p.storage!r}, strides {p.strides}"
            + (f", offset {p.offset}" if p.offset else "")
            for v, p in self.of.items()
        ]
        lines += [f"copy {c.value.name} to {c.to!r}" for c in self.copies]
        lines += [f"at the end {v.name} to {to!r}" for v, to, _ in self.last]
        return "\n".join(lines)


# order tasks


@dataclass(frozen=True, eq=False)
class Ordered(Stage):
    """What is done, in order.

    Args:
        buffers: the stage before.
        items: groups, copies and checks of indices.
        loads: of each item the stored values it reads.
        maker: the item that writes each stored value.
    """

    buffers: Buffers
    items: tuple[Item, ...]
    loads: Mapping[Item, tuple[Value, ...]]
    maker: Mapping[Value, Item]

    def __str__(self) -> str:
        self.graph.name_values()
        return "\n".join(f"{i}: {_said(item)}" for i, item in enumerate(self.items))


def _said(item: Item) -> str:
    if isinstance(item, Group):
        return f"group {item.number}, {item.label}"
    if isinstance(item, Copy):
        return f"copy {item.value.name} to {item.to!r}"
    return f"check of indices {item.index.name} below {item.size}"
