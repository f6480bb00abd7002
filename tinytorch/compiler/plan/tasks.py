"""What the passes hand to the runtime: kernels in order, and the memory they read and write.

Knows kernels, Storages and the values they hold; never addresses, threads or Tensors. A TaskList is
made by `compiler/plan/lower.py` and turned into a running program by `compiler/run/program.py`;
`check_tasks` stands between them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tinytorch.base.errors import CompileError
from tinytorch.codegen.kernel import Kernel, Operand
from tinytorch.compiler.graph.graph import Graph, Value
from tinytorch.primitives.primitive import Primitive

Kind = Literal["argument", "state", "constant", "result", "temporary", "status"]
KINDS = ("argument", "state", "constant", "result", "temporary", "status")
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
        """The primitive's name, as in the table `explain()` prints."""
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
    """

    kernel: Kernel | HostCall
    arguments: tuple[Storage, ...]
    reads: frozenset[Storage]
    writes: frozenset[Storage]
    label: str = ""
    where: str = ""
    check: bool = False
    details: dict[str, int] = field(default_factory=dict)

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
    """

    tasks: Sequence[Task]
    storages: Sequence[Storage]
    arguments: Mapping[Value, Storage]
    states: Mapping[Value, Storage]
    constants: Mapping[Value, Storage]
    results: Mapping[Value, Storage]
    graph: Graph
    captured: Graph

    @property
    def kernels(self) -> list[Kernel]:
        """The kernels of all tasks; equal ones as often as they run."""
        return [t.kernel for t in self.tasks if isinstance(t.kernel, Kernel)]

    def __str__(self) -> str:
        self.graph.name_values()
        return "\n".join(
            f"{i}: {t.shown} ({t.kernel.name})\n"
            f"    reads {', '.join(sorted(map(repr, t.reads)))}\n"
            f"    writes {', '.join(sorted(map(repr, t.writes)))}"
            for i, t in enumerate(self.tasks)
        )


def check_tasks(program: TaskList) -> None:
    """Check what the runtime relies on.

    Raises:
        CompileError: a task reads memory nobody has written, names an unlisted Storage, gives a
            kernel the wrong number of buffers, writes an argument or a constant, or a state is
            written before an index check; or a result or an updated state is never written.
    """

    def refuse(problem: str, got: object) -> None:
        raise CompileError.own_fault(
            f"the compiler pass 'lower' made an invalid program: {problem}",
            got=got,
            rule="memory is written before it is read, indices are checked before states change",
        )

    listed = set(program.storages)
    written = {s for s in program.storages if s.kind in (*GIVEN, "status")}
    touched: set[Storage] = set()
    for task in program.tasks:
        if len(task.arguments) != len(task.kernel.arguments):
            refuse(
                "a kernel is given the wrong number of buffers",
                f"{task.kernel.name}: {task.arguments}",
            )
        if not {*task.arguments, *task.reads, *task.writes} <= listed:
            refuse("a task names a Storage that is not listed", task.shown)
        for s in task.reads - written:
            refuse("a task reads memory that was never written", f"{s!r} in {task.shown}")
        for s in task.writes:
            if s.kind in ("argument", "constant"):
                refuse("a task writes an input or a constant", f"{s!r} in {task.shown}")
        if task.check and any(s.kind == "state" for s in touched):
            refuse("an index check comes after a state was written", task.shown)
        written |= task.writes
        touched |= task.writes
    for value, storage in program.results.items():
        if storage.kind != "result" or storage not in touched and value.spec.nbytes:
            refuse("a result is never written", value)
    for old, new in program.graph.updates:
        if new is old:
            continue
        storage = program.states.get(old)
        if old.spec.nbytes and (storage is None or storage not in touched):
            refuse("an updated state is never written", old)
