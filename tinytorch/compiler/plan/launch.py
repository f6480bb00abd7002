"""The launch plan: all a program needs besides its machine code, in a form that can be saved.

Knows the order of tasks, the storages by number and place, and what `explain()` prints; never
addresses. It is made once; a warm start reads it back from the cache instead of running the passes.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import accumulate, groupby
from typing import Any, cast

import numpy as np

from tinytorch.base.dtypes import DType, dtype_named
from tinytorch.codegen.kernel import Kernel, Operand
from tinytorch.compiler.graph.graph import Graph, Value
from tinytorch.compiler.plan.arena import Arena
from tinytorch.compiler.plan.stages import BodyCall, HostCall, Storage, Task
from tinytorch.compiler.plan.trips import Choice, Walk, Way
from tinytorch.primitives.body import Body
from tinytorch.primitives.host import HostFunction
from tinytorch.primitives.primitive import TABLE, Spec

FORMAT = 4  # raise when the meaning of a field changes: entries written before are then not found


@dataclass(frozen=True)
class LaunchTask:
    """One task: fields as in `tasks.Task`, storages by their number.

    Args:
        symbol: the kernel's name in the object code; for a host call "numpy.<primitive>".
        node: which node of the captured graph it came from, -1 if none: that says the user's line.
        host: a host call in saved form, else None.
        unit: which unit of the processor does the arithmetic; see `codegen.kernel.Kernel.unit`.
        body: what it consists of, if it is a loop, or a case of a branch.
        begins: bytes; empty: all 0.
    """

    symbol: str
    tiles: int
    arguments: list[int]
    label: str = ""
    node: int = -1
    check: bool = False
    details: dict[str, int] = field(default_factory=dict[str, int])
    flops: int = 0
    bytes: int = 0
    host: dict[str, Any] | None = None
    unit: str = "fp32"
    body: LaunchBody | None = None
    begins: list[int] = field(default_factory=list[int])


_GATE = LaunchTask("gate", 1, [])
Memory = tuple[int, int, int]  # number of a storage, byte offset in it, bytes


@dataclass(frozen=True)
class LaunchBody:
    """The trips of a loop, or a case: what is saved of it does not grow with their number.

    Args:
        trips: how many, at least 1.
        tasks: of one trip; their arguments are numbers of what a trip touches.
        sizes: bytes of each thing that a trip touches.
        ways: where each of them lies, in the storages that the task has as arguments.
        when: in which case they are run; None: in each.
    """

    trips: int
    tasks: list[LaunchTask]
    sizes: list[int]
    ways: list[Way]
    when: Choice | None = None

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> LaunchBody:
        """The body that was saved.

        Raises:
            ValueError, KeyError, TypeError: it is damaged.
        """
        ways = [
            Way(**{name: walk and Walk(**walk) for name, walk in way.items()})
            for way in fields["ways"]
        ]
        tasks = [_task_from_json(t) for t in fields["tasks"]]
        when = fields["when"] and Choice(**fields["when"])
        return cls(fields["trips"], tasks, fields["sizes"], ways, when)


@dataclass(frozen=True)
class Launched:
    """A task as it is run: one of a loop is run in each trip, on other memory.

    Args:
        task: the task.
        memory: for each argument (number of a storage, byte offset in it, bytes).
        flags: where predicates lie, and what each must be for it to be run.
        skips: of a gate, which is no task: how many that follow are not run unless the flag is so.
    """

    task: LaunchTask
    memory: list[Memory]
    flags: list[tuple[Memory, bool]] = field(default_factory=list[tuple[Memory, bool]])
    skips: int = 0

    @property
    def touched(self) -> list[Memory]:
        """The memory that it is given: that of its arguments, and its flags."""
        return [*self.memory, *(flag for flag, _ in self.flags)]


def _launched(tasks: Iterable[LaunchTask], memory: Sequence[Memory]) -> Iterator[Launched]:
    """Tasks as they are run, whose arguments are places in `memory`."""
    for task in tasks:
        given = [memory[i] for i in task.arguments]
        if task.begins:
            given = [
                (n, at + s, size - s) for (n, at, size), s in zip(given, task.begins, strict=True)
            ]
        body = task.body
        if body is None:
            yield Launched(task, given)
            continue
        for trip in range(body.trips):
            touched: list[Memory] = []
            for size, way in zip(body.sizes, body.ways, strict=True):
                walk = way.of(trip, body.trips)
                number, start, _ = given[walk.argument]
                touched.append((number, start + walk.at(trip), size))
            inner = _launched(body.tasks, touched)
            if body.when is None:
                yield from inner
            else:
                number, start, _ = given[body.when.argument]
                flag = (number, start + body.when.offset, 1), body.when.holds
                yield from _gated(inner, flag, replace(_GATE, label=task.label, node=task.node))


def _gated(
    tasks: Iterable[Launched], flag: tuple[Memory, bool], gate: LaunchTask
) -> Iterator[Launched]:
    """What is run where a flag is so: behind gates, which end at host calls; these ask themselves.

    A gate is for one table of the thread team, and so is what it skips.
    """
    for is_host, run in groupby(tasks, lambda one: one.task.host is not None):
        inside = list(run)
        if is_host:
            yield from (replace(one, flags=[flag, *one.flags]) for one in inside)
        else:
            yield Launched(gate, [], [flag], len(inside))
            yield from inside


def _written(tasks: Iterable[LaunchTask]) -> Iterator[LaunchTask]:
    """Tasks, those of a body once."""
    for task in tasks:
        yield from [task] if task.body is None else _written(task.body.tasks)


def _task_from_json(fields: dict[str, Any]) -> LaunchTask:
    body = fields.get("body")
    given: dict[str, Any] = {**fields, "body": body and LaunchBody.from_json(body)}
    return LaunchTask(**given)


@dataclass(frozen=True)
class LaunchPlan:
    """A whole program.

    Args:
        tasks: in order.
        storages: (kind, bytes, place): the place is an offset in the arena for a temporary, for the
            others the position among the graph's arguments, states, results or `constants`.
        arena: bytes of the arena.
        scratch: bytes each thread needs.
        tiles: whether a kernel uses the processor's matrix tiles (AMX).
        same: for each result the first result that is the same value: they share memory.
        constants: for each constant its number in the captured graph, or its bytes where a pass
            made it.
        memory: the text `memory()` prints.
        derived: so many of the first tasks run only when the frozen states are new (derive.py).
    """

    tasks: list[LaunchTask]
    storages: list[tuple[str, int, int]]
    arena: int
    scratch: int
    tiles: bool
    same: list[int]
    constants: list[int | str]
    memory: str
    derived: int = 0

    @cached_property
    def _launched(self) -> list[list[Launched]]:
        memory = [(i, 0, n) for i, (_, n, _) in enumerate(self.storages)]
        return [list(_launched([task], memory)) for task in self.tasks]

    @cached_property
    def launched(self) -> list[Launched]:
        """The tasks as they are run at each call, those of a loop trip after trip, cases behind
        gates."""
        return [one for each in self._launched[self.derived :] for one in each]

    @cached_property
    def derivation(self) -> list[Launched]:
        """The tasks that run when the frozen states are new, before the others."""
        return [one for each in self._launched[: self.derived] for one in each]

    @property
    def kept(self) -> int:
        """Bytes that derived tasks leave for the others, from call to call."""
        made = {n for one in self.derivation for n, _, _ in one.memory}
        read = {n for one in self.launched for n, _, _ in one.touched}
        return sum(self.storages[n][1] for n in made & read if self.storages[n][0] == "temporary")

    @property
    def starts(self) -> list[int]:
        """Where each task begins among `launched`, and behind the last one the end.

        One that is derived begins and ends before the first.
        """
        each = map(len, self._launched[self.derived :])
        return [*[0] * self.derived, *accumulate(each, initial=0)]

    @property
    def written(self) -> list[LaunchTask]:
        """The tasks that have code of their own, those of a body once."""
        return list(_written(self.tasks))

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON can say it."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> LaunchPlan:
        """The plan that `to_json` wrote.

        Raises:
            ValueError, KeyError, TypeError: it is damaged or of another format.
        """
        fields = dict(fields)
        if fields.pop("format") != FORMAT:
            raise ValueError("a launch plan of another format")
        if not all(type(fields[n]) is list for n in ("tasks", "storages", "same", "constants")):
            raise TypeError("what is a list is something else")
        if type(fields["derived"]) is not int:
            raise TypeError("a count that is no number")
        fields["tasks"] = [_task_from_json(t) for t in fields["tasks"]]
        fields["storages"] = [(kind, n, place) for kind, n, place in fields["storages"]]
        return cls(**fields)

    def check(self, graph: Graph) -> None:
        """See that a plan that was read is one for `graph`: every number in its range.

        Raises:
            ValueError, TypeError, IndexError, KeyError: it is not.
        """
        ends = {
            "argument": len(graph.arguments),
            "state": len(graph.states),
            "result": len(graph.results),
            "constant": len(self.constants),
            "temporary": self.arena,
            "status": 1,
        }
        for n in {n for task in self.tasks for n in task.arguments}:
            kind, nbytes, place = self.storages[n]
            end = place + (nbytes if kind == "temporary" else 1)
            if min(n, nbytes, place) < 0 or end > ends[kind]:
                raise ValueError(f"storage {n} is out of its range")
        for task in self.tasks:
            _check_task(task, [self.storages[n][1] for n in task.arguments])
        functions, written = host_functions(graph), self.written
        for task in written:
            if task.host is not None:
                host_from_json(task.host, functions)
        numbers = [self.arena, self.scratch, self.derived, *(t.tiles for t in written), *self.same]
        if not all(type(n) is int and n >= 0 for n in numbers):
            raise TypeError("a count that is no whole number >= 0")
        names: list[Any] = [text for t in written for text in (t.symbol, t.label, t.unit)]
        if not all(isinstance(text, str) for text in names):
            raise TypeError("a name that is no text")
        if self.derived > len(self.tasks):
            raise ValueError("more tasks are derived than there are")
        if len(self.same) != len(graph.results) or any(n > i for i, n in enumerate(self.same)):
            raise ValueError("results that are of another graph")

    def constant_arrays(self, graph: Graph) -> list[np.ndarray]:
        """The bytes of every constant; `graph` is the captured one."""
        given = list(graph.constants.values())
        return [
            np.ascontiguousarray(given[c])
            if isinstance(c, int)
            else np.frombuffer(base64.b64decode(c), np.uint8)
            for c in self.constants
        ]


@dataclass(frozen=True, eq=False)
class Launch:
    """The end of the pipeline: the plan, and the arena it was made from."""

    arena: Arena
    plan: LaunchPlan

    def __str__(self) -> str:
        plan = self.plan
        lines = [
            f"{t.symbol} in {t.tiles} tiles on storages {t.arguments}, line {t.node}"
            + (f", beginning at bytes {t.begins}" if t.begins else "")
            for t in plan.tasks
        ]
        kinds = [
            f"{i}: {kind}, {n} bytes, at {at}" for i, (kind, n, at) in enumerate(plan.storages)
        ]
        return "\n".join([*kinds, *lines, f"arena {plan.arena} bytes, scratch {plan.scratch}"])


def _check_task(task: LaunchTask, sizes: Sequence[int]) -> None:
    """See that a task, and what the trips of a body touch, begins in memory of these sizes.

    Raises:
        ValueError, TypeError, IndexError: it does not.
    """
    if len(task.begins) not in (0, len(sizes)):
        raise ValueError("a task that does not begin where its memory does")
    if not all(0 <= s <= size for s, size in zip(task.begins, sizes, strict=False)):
        raise ValueError("a task begins outside its memory")
    body = task.body
    if body is None:
        return
    if type(body.trips) is not int or body.trips < 1 or len(body.sizes) != len(body.ways):
        raise ValueError("a body that is none")
    for size, way in zip(body.sizes, body.ways, strict=True):
        for walk in (way.each, way.first or way.each, way.last or way.each):
            if walk.period < 1 or walk.argument < 0 or size < 0:
                raise ValueError("a way through memory that is none")
        for trip in {0, 1, 2, body.trips - 2, body.trips - 1} & set(range(body.trips)):
            walk = way.of(trip, body.trips)
            if walk.at(trip) < 0 or walk.at(trip) + size > sizes[walk.argument]:
                raise ValueError("a body touches memory that is not its own")
    when = body.when
    if when is not None and not 0 <= when.offset < sizes[when.argument]:
        raise ValueError("a case whose predicate is outside its memory")
    for inner in body.tasks:
        if any(not 0 <= n < len(body.sizes) for n in inner.arguments):
            raise IndexError("a task of a body names what is not there")
        _check_task(inner, [body.sizes[n] for n in inner.arguments])


def launch_plan(arena: Arena) -> Launch:
    """Number the storages and tasks of a program."""
    program = arena.program
    places = _Places(arena)
    number = {s: i for i, s in enumerate(program.storages)}
    lines: dict[str, int] = {}
    for i, node in enumerate(program.captured.nodes):
        lines.setdefault(node.where, i)
    functions = host_functions(program.captured)
    tasks = [_launch_task(t, number, lines, functions) for t in program.tasks]
    results = program.graph.results
    first = {v: i for i, v in reversed(list(enumerate(results)))}
    plan = LaunchPlan(
        tasks,
        storages=[(s.kind, s.nbytes, places.of(s)) for s in program.storages],
        arena=arena.arena,
        scratch=max((k.scratch for k in program.kernels), default=0),
        tiles=any("llvm.x86.tile" in d for k in program.kernels for d in k.declarations),
        same=[first[v] for v in results],
        constants=places.constants,
        memory=str(arena),
        derived=program.derived,
    )
    return Launch(arena, plan)


def _launch_task(
    t: Task, number: Mapping[Storage, int], lines: Mapping[str, int],
    functions: Sequence[HostFunction],
) -> LaunchTask:  # fmt: skip
    """A task with its storages by number.

    Args:
        lines: which node of the graph a user's line is.
        functions: those of the user that the program calls.
    """
    kernel, body = t.kernel, None
    if isinstance(kernel, BodyCall):
        ways = list(kernel.ways.items())
        place = {s: i for i, (s, _) in enumerate(ways)}
        inner = [_launch_task(u, place, lines, functions) for u in kernel.tasks]
        sizes, walks = [s.nbytes for s, _ in ways], [w for _, w in ways]
        body = LaunchBody(kernel.trips, inner, sizes, walks, kernel.when)
    host = _host_to_json(kernel, functions) if isinstance(kernel, HostCall) else None
    return LaunchTask(
        symbol=kernel.name,
        tiles=kernel.tiles if isinstance(kernel, Kernel) else 1,
        arguments=[number[s] for s in t.arguments],
        label=t.shown,
        node=lines.get(t.where, -1),
        check=t.check,
        details=dict(t.details),
        flops=kernel.flops,
        bytes=kernel.bytes,
        host=host,
        unit="numpy" if isinstance(kernel, HostCall) else kernel.unit,
        body=body,
        begins=list(t.begins),
    )


def check_launch(launch: Launch) -> None:
    """See `LaunchPlan.check`."""
    launch.plan.check(launch.arena.program.captured)


class _Places:
    """The place of each storage (see LaunchPlan.storages)."""

    def __init__(self, arena: Arena):
        program = arena.program
        graph, captured = program.graph, program.captured
        self.offsets = arena.offsets
        self.places: dict[Storage, int] = {}
        for values, held in (
            (graph.arguments, program.arguments),
            (graph.states, program.states),
            (graph.results, program.results),
        ):
            for i, v in enumerate(values):
                if v in held:
                    self.places.setdefault(held[v], i)
        self.constants: list[int | str] = []
        numbers = {v: i for i, v in enumerate(captured.constants)}
        for v, storage in program.constants.items():
            self.places[storage] = len(self.constants)
            self.constants.append(
                numbers[v]
                if _unchanged(v, captured, graph)
                else _saved(program.made[v] if v in program.made else graph.constants[v])
            )

    def of(self, s: Storage) -> int:
        if s.kind == "temporary":
            return self.offsets.get(s, 0)
        return self.places.get(s, 0)


def _unchanged(v: Value, captured: Graph, graph: Graph) -> bool:
    return v in captured.constants and captured.constants[v] is graph.constants[v]


def _saved(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def _host_to_json(call: HostCall, functions: Sequence[HostFunction]) -> dict[str, Any]:
    def arrays(of: Iterable[tuple[tuple[int, ...], Operand]]) -> list[list[Any]]:
        return [[list(shape), o.dtype.name, list(o.strides), o.offset] for shape, o in of]

    return {
        "primitive": call.primitive.name,
        "params": _to_json(call.params, functions),
        "inputs": arrays(call.inputs),
        "outputs": arrays(call.outputs),
    }


def host_functions(graph: Graph) -> list[HostFunction]:
    """The functions of the user that a captured graph calls, in its order."""
    found: list[HostFunction] = []
    stack = [p for node in graph.nodes for p in node.params.values()][::-1]
    while stack:
        p = stack.pop()
        if isinstance(p, HostFunction):
            found.append(p)
        elif isinstance(p, Body):
            stack += [q for line in p.lines for q in line.params.values()][::-1]
    return list(dict.fromkeys(found))


def host_from_json(saved: dict[str, Any], functions: Sequence[HostFunction] = ()) -> HostCall:
    """The host call that was saved in a LaunchTask; functions of the user are those given."""

    def arrays(of: Iterable[list[Any]]) -> tuple[tuple[tuple[int, ...], Operand], ...]:
        return tuple(
            (tuple(shape), Operand(dtype_named(dtype), tuple(strides), offset))
            for shape, dtype, strides, offset in of
        )

    return HostCall(
        TABLE[saved["primitive"]],
        _from_json(saved["params"], functions),
        arrays(saved["inputs"]),
        arrays(saved["outputs"]),
    )


def _to_json(x: Any, functions: Sequence[HostFunction] = ()) -> Any:
    if isinstance(x, HostFunction):
        return {"function": functions.index(x)}
    if isinstance(x, Spec):
        return {"spec": [list(x.shape), x.dtype.name]}
    if isinstance(x, DType):
        return {"dtype": x.name}
    if isinstance(x, tuple | list):
        return {"tuple": [_to_json(e, functions) for e in cast(Sequence[Any], x)]}
    if isinstance(x, dict):
        return {"dict": {k: _to_json(e, functions) for k, e in cast(dict[str, Any], x).items()}}
    return x


def _from_json(x: Any, functions: Sequence[HostFunction] = ()) -> Any:
    if not isinstance(x, dict):
        return x
    ((kind, inner),) = cast(dict[str, Any], x).items()
    if kind == "dtype":
        return dtype_named(inner)
    if kind == "function":
        return functions[cast(int, inner)]
    if kind == "spec":
        return Spec(tuple(inner[0]), dtype_named(inner[1]))
    if kind == "tuple":
        return tuple(_from_json(e, functions) for e in inner)
    return {k: _from_json(e, functions) for k, e in inner.items()}
