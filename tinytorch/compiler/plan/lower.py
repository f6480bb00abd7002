"""From an order of groups to kernels: each group becomes the tasks of its loops or library call.

Knows groups and the table of library calls, never addresses. New states that no group writes in
place are copied at the end.
"""

from __future__ import annotations

from math import prod

from tinytorch.base.errors import CompileError
from tinytorch.codegen.kernel import Operand
from tinytorch.compiler.graph.graph import Node, Value
from tinytorch.compiler.graph.rewriter import IndexCheck
from tinytorch.compiler.loops.nest import Needed, Nest
from tinytorch.compiler.operations import operation_of
from tinytorch.compiler.plan.access import reshape_strides
from tinytorch.compiler.plan.lowering import Lowering, verify_layouts
from tinytorch.compiler.plan.stages import (
    GIVEN,
    BodyCall,
    Copy,
    Group,
    HostCall,
    Item,
    Ordered,
    Storage,
    Task,
    TaskList,
    checks_in,
)
from tinytorch.kernels.gather_scatter import index_check


def lower(ordered: Ordered) -> TaskList:
    """The kernels of a program, in order."""
    buffers = ordered.buffers
    lowering = Lowering(buffers)
    for item in ordered.items:
        _lower(lowering, item)
        lowering.note_lookups(item)
    for new, storage, kept in buffers.last:
        if kept is None:
            lowering.fill(Copy(new, storage))
        else:
            lowering.copy_kept(new, kept, storage)
    graph, tasks = buffers.graph, lowering.tasks
    used = {s for t in tasks for s in t.arguments} | set(buffers.results.values())

    def held(values: list[Value]) -> dict[Value, Storage]:
        return {v: buffers.of[v].storage for v in values if buffers.of[v].storage in used}

    constants = held(list(graph.constants))
    constants.update({v: s for v, (s, _) in lowering.constants.items()})
    return TaskList(
        tasks, [s for s in lowering.storages if s in used], held(graph.arguments),
        held(graph.states), constants, buffers.results, graph, buffers.captured.graph,
        {v: array for v, (_, array) in lowering.constants.items()},
    )  # fmt: skip


def _lower(lowering: Lowering, item: Item) -> None:
    if isinstance(item, IndexCheck):
        _lower_check(lowering, item)
    elif isinstance(item, Copy):
        lowering.fill(item)
    elif item.call is None:
        _lower_loops(lowering, item)
    else:
        lowering.asked = set()
        call = operation_of(item.called).call
        if call is None or not call(lowering, item):
            _host_call(lowering, item.called)
        verify_layouts(item, lowering.asked, lowering.of)


def _lower_loops(lowering: Lowering, group: Group) -> None:
    domain, axes = group.domain, group.axes or frozenset()
    stores, names = lowering.group_stores(group)
    if not stores:
        return
    over = frozenset(d for d in axes if domain[d] != 1)
    if not any(s.value.reductions for s in stores):  # loops that nothing depends on
        domain = tuple(1 if d in over else n for d, n in enumerate(domain))
        over = frozenset[int]()
    guards = tuple(
        Needed(rows, tuple(int(i == d) for i in range(len(domain))))
        for d, rows in lowering.needed(group)
        if domain[d] != 1
    )
    nest = Nest(domain, over, tuple(stores), group.label, guards)
    names = {**names, **lowering.lengths(group)}
    writes = {s.argument for s in stores}
    lowering.add_nest(nest, names, group.label, group.nodes[0].where, writes)


def _lower_check(lowering: Lowering, check: IndexCheck) -> None:
    """A task that stops the program if an index lies outside its axis."""
    v = check.index
    access = lowering.located(v)
    flat = reshape_strides(access.shape, access.strides, (prod(v.shape),))
    if flat not in ((1,), (0,)) or (flat == (0,) and prod(v.shape) > 1):
        access = lowering.copied(v, access)
    if not prod(v.shape):
        return
    status = lowering.status_words()
    number = 1 + lowering.buffers.captured.checks + checks_in(lowering.tasks)
    operand = Operand(v.dtype, (1,), access.offset)
    kernel = index_check(prod(v.shape), operand, check.size, number, check.least)
    index = lowering.of[access.base].storage
    details = {"size": check.size, "number": number}
    if check.least is not None:
        details["least"] = check.least
    lowering.tasks.append(
        Task(
            kernel, (index, status), frozenset([index]), frozenset([status]), f"check {check.name}",
            check.where, check=True, details=details,
        )
    )  # fmt: skip


def _host_call(lowering: Lowering, node: Node) -> None:
    """NumPy's definition of the node, between two native segments; `explain()` counts these."""
    ins = [(v, lowering.operand(v)) for v in node.inputs]
    outs = [(v, lowering.operand(v)) for v in node.outputs]
    call = HostCall(
        node.primitive,
        dict(node.params),
        tuple((v.shape, o) for v, o in ins),
        tuple((v.shape, o) for v, o in outs),
        node.primitive.flops(
            [v.spec for v in node.inputs], [v.spec for v in node.outputs], **node.params
        ),
        sum(v.spec.nbytes for v in (*node.inputs, *node.outputs)),
    )
    given = [lowering.storage_of(v) for v, _ in ins]
    writes = [lowering.storage_of(v) for v, _ in outs]
    reads = frozenset(s for s in given if s.nbytes)  # of nothing, nothing is read
    lowering.tasks.append(
        Task(call, (*given, *writes), reads, frozenset(writes), call.name, node.where)
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
        begun = zip(task.begins, task.arguments, strict=bool(task.begins))
        if any(not 0 <= start <= s.nbytes for start, s in begun):
            refuse("a kernel begins outside its memory", f"{task.shown}: {task.begins}")
        if not {*task.arguments, *task.reads, *task.writes} <= listed:
            refuse("a task names a Storage that is not listed", task.shown)
        if isinstance(task.kernel, BodyCall):
            _check_body(task, task.kernel)
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


def _check_body(task: Task, body: BodyCall) -> None:
    """What a body touches lies, in every trip, in memory that the task around is given.

    Raises:
        CompileError: it does not; or a trip writes what the task only reads.
    """
    for inner in body.tasks:
        for s in inner.arguments:
            for trip in {0, 1, 2, body.trips - 2, body.trips - 1} & set(range(body.trips)):
                walk = body.ways[s].of(trip, body.trips)
                memory, first = task.arguments[walk.argument], walk.at(trip)
                outside = first < 0 or first + s.nbytes > memory.nbytes
                if outside or (s in inner.writes and memory not in task.writes):
                    raise CompileError.own_fault(
                        "the compiler pass 'lower' made an invalid program: a trip or case"
                        " touches memory that is not its own",
                        got=f"{s!r} at byte {first} of {memory!r} in trip {trip}, {inner.shown}",
                        rule="rows of what is stacked, and memory of the loop or case",
                    )
