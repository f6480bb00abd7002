"""A program that runs: machine code, memory, and the table that the thread team works through.

Knows addresses, offsets and status words; never Tensors, or what a pass does. A Program is code and
constants; a Runner is one arena with its table, for one caller at a time, so that two Python
threads can run one program at once. The program of a graph is found in memory, found on disk, or
made by the passes. Its key is everything the code depends on: the graph's text, its constants'
bytes, the target, and the compiler with its versions. Where the user's lines are is not part of it:
a program found again takes them from the new recording.
"""

from __future__ import annotations

import copy
import hashlib
import mmap
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from threading import get_ident
from time import CLOCK_MONOTONIC, clock_gettime_ns
from typing import Any, NamedTuple, cast

import numpy as np

from tinytorch.base.dtypes import DType
from tinytorch.base.errors import IndexRangeError, OutOfMemoryError
from tinytorch.base.locks import ForkSafeLock
from tinytorch.codegen import cache, engine
from tinytorch.codegen.kernel import Operand
from tinytorch.codegen.target import Target
from tinytorch.codegen.team import Gate, StageTable, Team, aligned_bytes
from tinytorch.compiler.graph.graph import Graph
from tinytorch.compiler.pipeline import compile_graph
from tinytorch.compiler.plan.arena import ALIGNMENT
from tinytorch.compiler.plan.launch import (
    Launched,
    LaunchPlan,
    LaunchTask,
    host_from_json,
    host_functions,
)
from tinytorch.compiler.plan.stages import STATUS_BYTES, HostCall
from tinytorch.compiler.record.recording import RECORDING_LOCK
from tinytorch.compiler.run.lengths import Staging
from tinytorch.compiler.run.results import ResultMemory
from tinytorch.primitives.host import HostFunction
from tinytorch.primitives.primitive import OpClass

STATUS_WORDS = STATUS_BYTES // 8  # number of the failed check, the bad index
_LARGE_PAGE = 2 << 20  # bytes, on x86-64 and most aarch64 systems
_FEW = 32  # pointers to one array that are written one by one
_SHORT_SECONDS = 20e-6  # waking sleeping workers costs as much: see codegen/team.py


class Program:
    """Code and constants.

    Args:
        plan: what to run.
        objects: object code that defines the plan's symbols.
        graph: the captured graph: constants, and the user's lines for errors.
        target: what the code was written for.
    """

    def __init__(self, plan: LaunchPlan, objects: Sequence[bytes], graph: Graph, target: Target):
        self.plan, self.graph, self.target, self.objects = plan, graph, target, tuple(objects)
        self.library = engine.load(objects, (t.symbol for t in plan.written if t.host is None))
        self.idle: dict[int, list[Runner]] = {}  # runners nobody uses, by number of threads
        self.functions = host_functions(graph)
        self.constants = [_aligned_copy(a) for a in plan.constant_arrays(graph)]

    def for_graph(self, graph: Graph) -> Program:
        """The same program for an equal graph recorded from other lines; runners are shared."""
        if graph is self.graph:
            return self
        other = copy.copy(self)
        other.graph, other.functions = graph, host_functions(graph)
        return other

    def runner(self, threads: int) -> Runner:
        """Memory and table to run it, for `threads` threads."""
        return Runner(self, threads)

    def where(self, task: LaunchTask) -> str:
        """The user's line of a task."""
        return self.graph.nodes[task.node].where if task.node >= 0 else "an unknown line"

    @property
    def same(self) -> list[int]:
        """For each result the first result that is the same value."""
        return self.plan.same

    @property
    def host_calls(self) -> list[str]:
        """The primitives that NumPy runs."""
        return [t.symbol for t in self.plan.written if t.host is not None]


class Runner:
    """One arena and its tables, for one caller at a time.

    Args:
        program: what to run.
        threads: how many threads take part.
        timed: note what each thread does when (`spans`); functions of the user are not called.
    """

    def __init__(self, program: Program, threads: int, timed: bool = False):
        self.program, self.threads, self.timed = program, threads, timed
        self.owner: object = None  # for whom the states were bound last: Binding.moved
        self.staging: dict[int, Staging] = {}  # arguments whose lengths differ from call to call
        self.arena = _pages(program.plan.arena)
        self.derivation = self._make_segments(program.plan.derivation)
        self.segments = self._make_segments(program.plan.launched)
        self._hosts = [segment for segment in self.segments if isinstance(segment, _Host)]
        self._running: list[_Native | _Host] = []  # what the run consists of
        self.derived_of: object = (
            None  # the numbers of frozen states from which it holds what follows
        )
        self.failed = False  # whether a user's function raised: before any state was written
        self.begun = False  # who runs it sets this; from then on `complete` does what is not done
        # pointers, position among them, offset, which array
        self._places: dict[str, list[tuple[memoryview, int, int, int]]] = {
            kind: [] for kind in ("argument", "state", "result")
        }
        # of loops: pointers, positions among them, offsets, which array
        self._walks: dict[str, list[tuple[np.ndarray, np.ndarray, np.ndarray, int]]] = {
            kind: [] for kind in self._places
        }
        # addresses last written into the tables
        self._arguments: Sequence[int] = ()
        self._results: Sequence[int] = ()
        self.results = [ResultMemory(v.shape, v.dtype) for v in program.graph.results]
        for segment in (*self.derivation, *self.segments):
            self._place(segment)

    def _make_segments(self, launched: list[Launched]) -> list[_Native | _Host]:
        """Runs of native tasks, with the host calls between them."""
        segments: list[_Native | _Host] = []
        run: list[int] = []
        for i, one in enumerate(launched):
            if one.task.host is None:
                run.append(i)
                continue
            segments.extend([_Native(self, launched, run)] if run else [])
            segments.append(_Host(self, launched, i))
            run = []
        segments.extend([_Native(self, launched, run)] if run else [])
        return segments

    def _place(self, segment: _Native | _Host) -> None:
        """Write the addresses that never change; note where the others go."""
        plan, pointers = self.program.plan, segment.pointers
        memory = (m for i in segment.tasks for m in segment.launched[i].touched)
        walks: dict[tuple[str, int], list[tuple[int, int]]] = {}
        for position, (number, offset, _) in enumerate(memory):
            kind, _, place = plan.storages[number]
            if kind == "temporary":
                pointers[position] = address_of(self.arena) + place + offset
            elif kind == "constant":
                pointers[position] = address_of(self.program.constants[place]) + offset
            elif kind == "status":
                pointers[position] = segment.status
            else:
                walks.setdefault((kind, place), []).append((position, offset))
        for (kind, place), found in walks.items():
            if len(found) < _FEW:
                self._places[kind] += [(pointers, at, offset, place) for at, offset in found]
            else:
                positions, offsets = np.array(found, np.uint64).T
                self._walks[kind].append((np.asarray(pointers), positions, offsets, place))

    def _point(self, kind: str, addresses: Sequence[int]) -> None:
        """Write the addresses of arguments, states or results into the tables."""
        for pointers, position, offset, i in self._places[kind]:
            pointers[position] = addresses[i] + offset
        for pointers, positions, offsets, i in self._walks[kind]:
            pointers[positions] = offsets + np.uint64(addresses[i])

    def bind_states(self, addresses: Sequence[int]) -> None:
        """Say where the states are."""
        self._point("state", addresses)

    def run(self, arguments: Sequence[int], results: Sequence[int], frozen: object = None) -> None:
        """Run it once.

        Args:
            arguments: address of each of the graph's arguments.
            results: address of memory for each of the graph's results.
            frozen: stands for the numbers of the frozen states: while it is equal, what follows
                from them alone is not computed again. None: it is.

        Raises:
            IndexRangeError: an index was outside its axis. No state was written.
        """
        if arguments != self._arguments:
            self._point("argument", arguments)
            self._arguments = arguments
        if results != self._results:
            self._point("result", results)
            self._results = results
        self._running = self.segments
        if self.derivation and (frozen is None or self.derived_of != frozen):
            self._running, self.derived_of = [*self.derivation, *self.segments], None
        for segment in self._running:
            segment.done[0] = 0
        if self._hosts:
            for host in self._hosts:  # what a run that failed has computed is not this one's
                host.out = None
        self.failed, self.begun = False, True
        for segment in self._running:
            segment.run()
        self.derived_of = frozen

    def complete(self) -> None:
        """Do what is left of a run in which a signal handler raised an exception."""
        for segment in self._running:
            if not segment.done[0]:
                segment.run()

    def spans(self) -> list[Span]:
        """What each thread did since `forget_spans`, in the order of the tasks, if it is timed."""
        return [span for segment in self.segments for span in segment.spans()]

    def forget_spans(self) -> None:
        """Begin anew: what a thread that comes too late does not write is then seen as missing."""
        for segment in self.segments:
            segment.forget_spans()


class Span(NamedTuple):
    """One thread at one task.

    Args:
        task: its place among those that the plan launches.
        worker: which thread; 0 is the caller's.
        begin, end: nanoseconds of CLOCK_MONOTONIC: it came to the task, its last tile was done.
        tiles: how many tiles it did.
    """

    task: int
    worker: int
    begin: int
    end: int
    tiles: int


_TEAM = Team()


class _Native:
    """Consecutive kernels: one table for the team."""

    def __init__(self, runner: Runner, launched: list[Launched], tasks: list[int]):
        program = runner.program
        self.runner, self.tasks, self.threads = runner, tasks, runner.threads
        self.launched, plan = launched, program.plan
        own = [launched[i] for i in tasks]
        seconds = sum(_guess_seconds(one.task) for one in own)
        self.table = StageTable(
            [self._stage(one) for one in own],
            plan.scratch,
            tiles_config=plan.tiles,
            wake=seconds > _SHORT_SECONDS,
        )
        self.pointers = self.table.pointers.data
        self.status = address_of(self.table.status)
        self.done = self.table.done  # native code writes 1 there, in the step that ends the work
        self.stamps = self.table.record_times(self.threads) if runner.timed else None

    def _stage(self, one: Launched) -> tuple[int, int, list[int]] | Gate:
        if one.skips:
            ((_, holds),) = one.flags
            return Gate(one.skips, holds)
        task = one.task
        return self.runner.program.library[task.symbol], task.tiles, [0] * len(one.memory)

    def run(self) -> None:
        """Let the team work through the table."""
        if _TEAM.run(self.table, self.threads):
            self._refuse()

    def _refuse(self) -> None:
        """Raise the error that the first failing check has left in the status words."""
        words = array_at(self.status, (STATUS_WORDS,), np.dtype(np.int64)).tolist()
        program = self.runner.program
        raise index_error(program, [self.launched[i].task for i in self.tasks], words)

    def spans(self) -> list[Span]:
        """Of each task, of the threads that did a tile of it, the first to come first."""
        out: list[Span] = []
        now = 0
        if self.stamps is not None:
            for place, task in enumerate(self.tasks):
                rows = enumerate(self.stamps[:, place].tolist())
                spans = [Span(task, w, *stamps) for w, stamps in rows]
                # a task without tiles is nobody's, and still begins and ends somewhere
                did = [s for s in spans if s.tiles] or [s for s in spans[:1] if s.begin]
                if now and not any(s.begin for s in spans):  # left out behind a gate
                    did = [Span(task, 0, now, now, 0)]
                out += sorted(did, key=lambda s: s.begin)
                now = max(s.end for s in did) if did else now
        return out

    def forget_spans(self) -> None:
        """See Runner."""
        if self.stamps is not None:
            self.stamps[...] = 0


def _guess_seconds(task: LaunchTask) -> float:
    """A low guess, at 50 GFLOP/s and 20 GB/s: only used to tell microseconds from milliseconds."""
    return max(task.flops / 50e9, task.bytes / 20e9)


def index_error(program: Program, tasks: list[LaunchTask], words: list[int]) -> IndexRangeError:
    """The error for the status words that a failing check has left.

    Word 0 is the number of the check ("number" in its details), word 1 the bad index.
    """
    number, index, *_ = words
    failed = [t for t in tasks if t.check and t.details.get("number", number) == number]
    details = failed[0].details if failed else {}
    size = details.get("size", 0)
    line = program.where(failed[0]) if failed else "an unknown line"
    return IndexRangeError(
        "an index is outside its axis",
        got=f"index {index} into an axis of size {size}, at {line}",
        rule=f"{details.get('least', -size)} <= index < {size}",
        fix="check the labels or token numbers that are given to the compiled function",
    )


class _Host:
    """One primitive done by NumPy, or a user's function, on the program's memory."""

    status = 0

    def __init__(self, runner: Runner, launched: list[Launched], task: int):
        self.runner, self.launched, self.tasks = runner, launched, [task]
        self._made: tuple[Program, HostCall] | None = None
        one = launched[task]
        self._pointers = np.zeros(max(1, len(one.touched)), np.uint64)
        first = len(one.memory)
        self._flags = [(first + i, holds) for i, (_, holds) in enumerate(one.flags)]
        self.pointers = self._pointers.data
        self._span: list[Span] = []
        self.done = bytearray(1)
        self.out: tuple[np.ndarray, ...] | None = None  # computed, perhaps not all written yet

    @property
    def call(self) -> HostCall:
        """What is called, with the functions of the recording that runs."""
        program = self.runner.program
        if self._made is None or self._made[0] is not program:
            saved = self.launched[self.tasks[0]].task.host or {}
            self._made = program, host_from_json(saved, program.functions)
        return self._made[1]

    def _evaluated(self, call: HostCall, arrays: list[np.ndarray]) -> tuple[np.ndarray, ...]:
        """What the row's definition gives; in a user's code the thread may record programs."""
        dtypes = tuple(operand.dtype for _, operand in call.inputs)
        inputs = tuple(arrays[: len(dtypes)])
        if self.runner.timed and isinstance(call.params.get("function"), HostFunction):
            # the arguments are made up: a function of the user, which may do anything, is left out
            return tuple(np.zeros(s, o.dtype.storage) for s, o in call.outputs)
        if call.primitive.op_class is not OpClass.OPAQUE:
            out: Any = call.primitive.evaluate(inputs, dtypes, call.params)
        else:
            out = self._asked_user(call, inputs, dtypes)
        return cast(tuple[np.ndarray, ...], out if isinstance(out, tuple) else (out,))

    def _asked_user(
        self, call: HostCall, inputs: tuple[np.ndarray, ...], dtypes: tuple[DType, ...]
    ) -> Any:
        """What a user's code gives; this thread and others may record programs meanwhile."""
        me, lock = get_ident(), RECORDING_LOCK
        try:
            try:  # Note [how it is shared] in base/locks.py
                lock.resting.append(me)
                out = call.primitive.evaluate(inputs, dtypes, call.params)
            finally:
                lock.resting.remove(me)
        except BaseException:
            self.runner.failed = True
            raise
        if lock.owner is not None and me in lock.sharing:
            lock.give_way(me)
        return out

    def run(self) -> None:
        """Compute it: arrays are views of the program's memory.

        It may be interrupted and begun again: outputs may lie where inputs were, so they are
        computed once and written as often as it takes.
        """
        start = clock() if self.runner.timed else 0
        for slot, holds in self._flags:
            if bool(array_at(self.pointers[slot], (1,), np.dtype(np.uint8))[0]) is not holds:
                self.done[0], self._span = 1, [Span(self.tasks[0], 0, start, start, 0)]
                return
        call = self.call
        arrays = [self._array(i, *spec) for i, spec in enumerate((*call.inputs, *call.outputs))]
        if self.out is None:
            self.out = self._evaluated(call, arrays)
        for array, made in zip(arrays[len(call.inputs) :], self.out, strict=True):
            array[...] = made
        self.done[0], self.out = 1, None
        if self.runner.timed:
            self._span = [Span(self.tasks[0], 0, start, clock(), 1)]

    def _array(self, i: int, shape: tuple[int, ...], operand: Operand) -> np.ndarray:
        size = operand.dtype.itemsize
        address = self.pointers[i] + operand.offset * size
        return array_at(address, shape, operand.dtype.storage, [s * size for s in operand.strides])

    def spans(self) -> list[Span]:
        """Of the calling thread."""
        return self._span

    def forget_spans(self) -> None:
        """See Runner."""
        self._span = []


def clock() -> int:
    """Nanoseconds of the clock that the thread team reads."""
    return clock_gettime_ns(CLOCK_MONOTONIC)


class _Memory:
    """Memory at an address, as NumPy's array interface describes it."""

    def __init__(
        self, address: int, shape: tuple[int, ...], dtype: np.dtype, strides: Sequence[int] | None
    ):
        self.__array_interface__: dict[str, Any] = {
            "version": 3,
            "data": (address, False),
            "shape": shape,
            "typestr": dtype.str,
            "strides": None if strides is None else tuple(strides),
        }


def array_at(
    address: int, shape: tuple[int, ...], dtype: np.dtype, strides: Sequence[int] | None = None
) -> np.ndarray:
    """An array over memory that somebody else keeps alive; strides in bytes, default dense."""
    if 0 in shape:
        return np.empty(shape, dtype)
    return np.asarray(_Memory(int(address), shape, dtype, strides))


def _pages(nbytes: int) -> np.ndarray:
    """Zeroed memory for an arena: of this process alone, in large pages where the system has them.

    A GPT's arena of 700 MB would otherwise take 170 000 page faults in its first step, and miss in
    the table of pages in every one.
    """
    if nbytes < _LARGE_PAGE or not hasattr(mmap, "MAP_PRIVATE"):
        return aligned_bytes(nbytes, ALIGNMENT)
    # not shared: a forked child must not write into its parent's arena
    try:
        pages = mmap.mmap(-1, nbytes + _LARGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, OverflowError):
        raise OutOfMemoryError.of(nbytes) from None
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a system without large pages
            pages.madvise(mmap.MADV_HUGEPAGE)
    raw = np.frombuffer(pages, np.uint8)
    start = -address_of(raw) % _LARGE_PAGE
    return raw[start : start + nbytes]


def _aligned_copy(array: np.ndarray) -> np.ndarray:
    out = aligned_bytes(array.nbytes, ALIGNMENT)
    out[...] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return out


def address_of(array: np.ndarray) -> int:
    """Where the memory of an array begins."""
    return array.__array_interface__["data"][0]


# from a captured graph to its program

KEPT = 64  # programs kept in memory; one is its code and its constants, without an arena
_programs: OrderedDict[str, Program] = OrderedDict()
_lock = ForkSafeLock()


def program_for(graph: Graph, target: Target) -> Program:
    """The program of a captured graph.

    Cost: microseconds if this process has it; reading one file if the cache has it; otherwise the
    passes and LLVM, about 1 s for 200 different kernels.
    """
    key = key_of(graph, target)
    with _lock.lock:
        program = _programs.get(key)
        if program is not None:
            _programs.move_to_end(key)
            return program.for_graph(graph)
        program = _from_disk(key, graph, target) or _from_passes(key, graph, target)
        _programs[key] = program
        while len(_programs) > KEPT:
            _programs.popitem(last=False)
        return program


def forget_programs() -> None:
    """Drop the programs kept in memory; those in use go on."""
    with _lock.lock:
        _programs.clear()


def key_of(graph: Graph, target: Target) -> str:
    """What two graphs have in common if one program serves both."""
    constants = hashlib.sha256()
    for array in graph.constants.values():
        constants.update(np.ascontiguousarray(array).tobytes())
    return cache.program_key(target.key, str(graph), constants.hexdigest())


def _from_disk(key: str, graph: Graph, target: Target) -> Program | None:
    folder = cache.open_cache()
    saved = folder.get(key) if folder is not None else None
    if saved is None:
        return None
    objects, fields = saved
    try:
        plan = LaunchPlan.from_json(fields)
        plan.check(graph)
        return Program(plan, objects, graph, target)
    except Exception:  # whatever another writer put there: compiling again replaces it
        return None


def _from_passes(key: str, graph: Graph, target: Target) -> Program:
    plan, kernels = compile_graph(graph, target)
    objects = [engine.compile_text(text, target) for text in engine.module_texts(kernels)]
    engine.release_memory()
    folder = cache.open_cache()
    if folder is not None:
        folder.put(key, objects, plan.to_json())
    return Program(plan, objects, graph, target)
