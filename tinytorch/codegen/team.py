"""The thread team: native workers that run a table of stages together with the calling thread.

Workers are native threads that never touch Python: the loop they run, which is the last part of
this file, is IR text. They are started when a run first asks for them, spin for about 50 us after a
run, then sleep; they end with the process, and a forked child starts its own. Knows threads, their
memory and their life; never kernels or arrays.

What is run is a StageTable: which kernels, how many tiles, which argument pointers. A stage is
given as (kernel address, tiles, initial argument addresses); stages run one after the other, the
tiles of one in any order on any thread. A Gate is a stage by which those behind it are left out.

    table = StageTable([(kernel, 8, [x, y]), ...], scratch_bytes=4096)
    table.pointers[table.slots(0, 1)] = address      # may be rewritten before each run
    status = Team().run(table, threads=2)            # 0, or what a kernel wrote to table.status

Note [crews]: a crew is one set of workers, and runs one table at a time. A second Python thread
that runs a program meanwhile gets a crew of its own; both make progress whatever the number of
cores, because nobody waits without end on the processor.

    >>> Team().run(StageTable([]), threads=2)
    0
"""

from __future__ import annotations

import atexit
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from tinytorch.base.errors import CompileError, OutOfMemoryError, SettingError
from tinytorch.base.locks import ForkSafeLock
from tinytorch.codegen import cache, engine
from tinytorch.codegen.target import Target

# --- the layout of the memory that Python and the native loop share ---

CACHE_LINE = 64  # bytes; x86-64 and most aarch64 cores

# one team: byte offsets
TEAM_TAG = 0  # number of the current run; -1 asks the workers to end
TEAM_TABLE = 64  # address of the table being run, 0 between runs
TEAM_IDLE_BELL = 128  # i32 futex word, then i32 count of sleepers: workers between runs
TEAM_STAGE_BELL = 192  # the same for those who wait for the end of a stage
TEAM_SPIN = 256  # how many pauses to spin
TEAM_SLOTS = 320  # a cache line for each worker: hazard, address of the team, worker's number

# one table: byte offsets of its head
TABLE_STAGES, TABLE_RECORDS, TABLE_COUNTERS, TABLE_THREADS = 0, 8, 16, 24
TABLE_SCRATCH, TABLE_SCRATCH_STRIDE, TABLE_TIMES, TABLE_TILE_CONFIG = 32, 40, 48, 56
TABLE_STATUS, TABLE_WAKE, TABLE_DONE, TABLE_TIMED_THREADS, TABLE_TEAM = 64, 128, 136, 144, 152
TABLE_GATES = 160
TABLE_BYTES = 192
# kernel address, tiles, address of the argument array, how many stages behind it are left out
RECORD_BYTES = 32
RECORD_SKIP = 24
# where the address of the flag is, what it must be, how many stages are left out, where to say it
GATE_BYTES = 32
# tiles taken from the front and from the back; in another cache line tiles done
COUNTER_BYTES = 128
TIME_BYTES = 24  # a stage on a thread: begin, end of its last tile, tiles

_MOST_TILES = 2**31  # tiles are counted in 32 bits beside the number of the run


def aligned_bytes(size: int, alignment: int = CACHE_LINE) -> np.ndarray:
    """Zeroed memory of `size` bytes that begins on a multiple of `alignment`.

    Raises: OutOfMemoryError if the system does not have it.
    """
    try:
        raw = np.zeros(size + alignment, np.uint8)
    except MemoryError:
        raise OutOfMemoryError.of(size) from None
    start = -raw.ctypes.data % alignment
    return raw[start : start + size]


@dataclass(frozen=True)
class Gate:
    """A stage that lets the ones behind it be left out. Its argument is the address of a flag.

    Args:
        stages: how many.
        holds: what the flag, a byte, must be for them to run: 0, or anything else.
    """

    stages: int
    holds: bool


Stage = tuple[int, int, Sequence[int]] | Gate


class StageTable:
    """Native memory that describes one program to the run loop.

    Args:
        stages: (kernel address, tiles >= 0, argument addresses), and Gates, in order.
        scratch_bytes: memory each thread needs for its own, 64-byte aligned, unspecified contents.
        tiles_config: configure the AMX tiles (all eight: 16 rows of 64 bytes) on every thread that
            takes part; kernels that need other shapes restore this one.
        wake: whether sleeping workers are woken for it. Waking costs the caller a few microseconds
            for a system call: say False for programs shorter than about 20 microseconds.

    Attributes:
        pointers: uint64, every stage's argument addresses (`slots`); may be written between runs.
        status: int64 of shape (1,); kernels write a number != 0 there to skip all that follows.
        done: int64 of shape (1,); 1 when a run has come to its end. Who wants to know writes 0.
        times: None, or what `record_times()` gives.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        scratch_bytes: int = 0,
        *,
        tiles_config: bool = False,
        wake: bool = True,
    ):
        self.scratch_bytes = _round_up(scratch_bytes)
        gates = {i: stage for i, stage in enumerate(stages) if isinstance(stage, Gate)}
        given = [(_native().gate, 1, (0,)) if isinstance(s, Gate) else s for s in stages]
        self._starts = np.cumsum([0, *(len(a) for _, _, a in given)]).tolist()
        self._stages = len(stages)
        n, arguments = len(stages), self._starts[-1]
        sizes = (
            TABLE_BYTES,
            _round_up(n * RECORD_BYTES),
            n * COUNTER_BYTES,
            _round_up(8 * arguments),
            CACHE_LINE,
            _round_up(len(gates) * GATE_BYTES),
        )
        memory = aligned_bytes(sum(sizes))
        self.address: int = memory.ctypes.data
        places = np.cumsum([0, *sizes]).tolist()
        parts = [memory[a:b] for a, b in zip(places, places[1:], strict=False)]
        self._head = parts[0].view(np.int64)
        records = parts[1].view(np.int64)
        self.pointers = parts[3].view(np.uint64)[:arguments]
        self.status = self._head[TABLE_STATUS // 8 :][:1]
        self.done = self._head[TABLE_DONE // 8 :][:1].data
        self.times: np.ndarray | None = None
        # set by the team: waits until no worker looks at this memory
        self.release: Callable[[int], None] | None = None
        # what a crew prepared it for last: its state of then, and how many threads were asked for
        self.prepared: tuple[object, int] = (None, 0)
        for i, (kernel, tiles, first) in enumerate(given):
            if not 0 <= tiles < _MOST_TILES or not kernel:
                raise CompileError.own_fault(
                    "a stage cannot be run",
                    got=f"stage {i}: kernel at {kernel:#x}, {tiles} tiles",
                    rule=f"a kernel address other than 0, and 0 <= tiles < {_MOST_TILES}",
                )
            record = records[i * RECORD_BYTES // 8 :]
            record[0], record[1] = kernel, tiles
            record[2] = self.address + places[3] + 8 * self._starts[i]
            self.pointers[self._starts[i] : self._starts[i + 1]] = first
        for k, (i, gate) in enumerate(gates.items()):
            at, record = k * GATE_BYTES, i * RECORD_BYTES
            parts[5][at : at + GATE_BYTES].view(np.int64)[:] = (
                self.address + places[3] + 8 * self._starts[i], int(gate.holds), gate.stages,
                self.address + places[1] + record + RECORD_SKIP,
            )  # fmt: skip
            records[record // 8 + 2] = self.address + places[5] + at
        self._set(TABLE_STAGES, n)
        self._set(TABLE_RECORDS, self.address + places[1])
        self._set(TABLE_COUNTERS, self.address + places[2])
        self._set(TABLE_WAKE, int(wake))
        self._set(TABLE_GATES, len(gates))
        if tiles_config:
            parts[4][:] = tile_configuration()
            self._set(TABLE_TILE_CONFIG, self.address + places[4])
        # a run whose stages have one tile each has nothing for a second thread
        self.parallel = any(tiles > 1 for _, tiles, _ in given)

    def slots(self, stage: int, argument: int) -> int:
        """Where in `pointers` the address of this argument of this stage is."""
        if not 0 <= argument < self._starts[stage + 1] - self._starts[stage]:
            raise IndexError(f"stage {stage} has no argument {argument}")
        return self._starts[stage] + argument

    def record_times(self, threads: int) -> np.ndarray:
        """From the next run on let each thread write down when it did what.

        Args:
            threads: how many threads to see; others that take part write nothing.

        Returns:
            int64 of shape (threads, stages + 1, 3): when the thread came to the stage, when no tile
            of it was left for the thread (both nanoseconds of CLOCK_MONOTONIC), and how many tiles
            the thread did. Row `stages` says when it left the last stage. What it does not write
            (of a stage that is left out) stays as it was: who wants to see who came too late for a
            run writes zeros before.

        Cost: 40 to 100 ns a stage and thread, while it is on; one branch that is never taken, off.
        """
        self.times = np.zeros((threads, self._stages + 1, TIME_BYTES // 8), np.int64)
        self._set(TABLE_TIMES, self.times.ctypes.data)
        self._set(TABLE_TIMED_THREADS, threads)
        return self.times

    def prepare(self, team: int, threads: int, scratch: int, stride: int) -> None:
        """Say who runs it, in how many threads and with which scratch memory (a crew does)."""
        self._set(TABLE_TEAM, team)
        self._set(TABLE_THREADS, threads)
        self._set(TABLE_SCRATCH, scratch)
        self._set(TABLE_SCRATCH_STRIDE, stride)

    def _set(self, offset: int, value: int) -> None:
        self._head[offset // 8] = value

    def __del__(self):
        release = getattr(self, "release", None)
        if release is not None and not sys.is_finalizing():  # by then the workers have ended
            release(self.address)


def wait_until(condition: Callable[[], bool]) -> None:
    """Give the processor away until the condition holds."""
    while not condition():
        time.sleep(0)


def tile_configuration() -> np.ndarray:
    """64 bytes for ldtilecfg: palette 1, eight tiles of 16 rows of 64 bytes.

    Source: Intel 64 Software Developer's Manual, volume 1, section 18.2: byte 0 the palette, 16-bit
    words at 16 + 2 i the bytes in a row of tile i, bytes at 48 + i its rows.
    """
    config = np.zeros(64, np.uint8)
    config[0] = 1
    config[16:32].view(np.uint16)[:] = 64
    config[48:56] = 16
    return config


def _round_up(size: int) -> int:
    return -(-size // CACHE_LINE) * CACHE_LINE


# --- the threads ---

_SPIN_SECONDS = 50e-6  # longer than a wake-up costs, short beside a scheduler's time slice
_MOST_THREADS = 1024
_STOP = 2**64 - 1


class Crew:
    """One set of workers and the memory they share. Its memory is never given back."""

    def __init__(self):
        self._loop = _native()
        self._memory = _forever(TEAM_SLOTS + _MOST_THREADS * CACHE_LINE)
        self._words = self._memory.view(np.uint64)
        self.address: int = self._memory.ctypes.data
        self._words[TEAM_SPIN // 8] = self._loop.spin
        self._handles: list[ctypes.c_void_p] = []
        self._scratch = np.empty(0, np.uint8)
        self._scratch_at = self._stride = 0
        self.state = object()  # another one when what a table was prepared with is no longer right
        self.start = self._loop.run  # runs a prepared table, given its address

    @property
    def workers(self) -> int:
        """How many threads there are beside the caller's."""
        return len(self._handles)

    def run(self, table: StageTable, threads: int) -> int:
        """Run the table with the calling thread and threads - 1 workers."""
        self.prepare(table, threads)
        return self.start(table.address)

    def prepare(self, table: StageTable, threads: int) -> None:
        """Let `start` run the table so, until `state` is another or another crew prepares it."""
        asked, threads = threads, threads if table.parallel else 1
        if len(self._handles) < threads - 1:
            self._start(threads - 1)
        if table.scratch_bytes > self._stride or threads * self._stride > self._scratch.size:
            self._grow_scratch(table.scratch_bytes, threads)
        table.prepare(self.address, threads, self._scratch_at, self._stride)
        table.prepared = self.state, asked

    def _grow_scratch(self, size: int, threads: int) -> None:
        # a late worker of an earlier run takes no tile any more, so nobody uses the old memory
        self._stride = max(size, self._stride)
        self._scratch = aligned_bytes(self._stride * threads)
        self._scratch_at = self._scratch.ctypes.data
        self.state = object()

    def _start(self, workers: int) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        # signals go to threads of Python: a worker that took one would leave Ctrl-C unseen
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            for i in range(len(self._handles), workers):
                slot = TEAM_SLOTS + i * CACHE_LINE
                self._words[slot // 8 + 1] = self.address
                self._words[slot // 8 + 2] = i + 1
                handle = ctypes.c_void_p()
                failed = libc.pthread_create(
                    ctypes.byref(handle),
                    None,
                    ctypes.c_void_p(self._loop.worker),
                    ctypes.c_void_p(self.address + slot),
                )
                if failed:
                    raise SettingError(
                        "the system refuses another thread",
                        got=f"{i + 1} threads, then {os.strerror(failed)}",
                        rule="as many as the user's limit of processes allows",
                        fix="TINYTORCH_NUM_THREADS=1, or a higher limit (ulimit -u)",
                    )
                self._handles.append(handle)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

    def looks_at(self, table: int) -> bool:
        """Whether a worker may still read the table at this address."""
        first, step = TEAM_SLOTS // 8, CACHE_LINE // 8
        hazards = self._words[first : first + step * len(self._handles) : step]
        return bool((hazards == table).any())

    def stop(self) -> None:
        """End the workers and wait for them; the crew must be idle."""
        self._words[TEAM_TAG // 8] = _STOP
        self._loop.ring(self.address)
        libc = ctypes.CDLL(None)
        for handle in self._handles:
            libc.pthread_join(handle, None)
        self._handles.clear()
        self.state = object()


class Team:
    """All crews of the process, through which tables are run."""

    idle: list[Crew] = []
    crews: list[Crew] = []  # idle or not

    def run(self, table: StageTable, threads: int) -> int:
        """Run every stage of the table, with up to `threads` threads, the calling one included.

        Results do not depend on `threads`: tiles do not know who runs them. More threads than cores
        work. Other Python threads go on meanwhile. One table must not be run twice at once.

        Args:
            table: what to run; its `pointers` are read now.
            threads: 1 to 1024.

        Returns: the status: 0, or the number != 0 a kernel wrote to `table.status`.
        Raises: SettingError for a number of threads outside the range.
        Cost: about 2 us when the workers still spin; 5 to 10 us more when they must be woken.
        """
        try:
            crew = self.idle.pop()  # atomic: two Python threads never get the same crew
        except IndexError:
            crew = Crew()
            self.crews.append(crew)
        try:
            state, asked = table.prepared
            if state is not crew.state or asked != threads:
                _check_threads(threads)
                crew.prepare(table, threads)
                table.release = _release
            return crew.start(table.address)
        finally:
            self.idle.append(crew)


def _check_threads(threads: int) -> None:
    if not 1 <= threads <= _MOST_THREADS:
        raise SettingError(
            "not a number of threads a program can be run with",
            got=threads,
            rule=f"1 <= threads <= {_MOST_THREADS}",
            fix="set_num_threads(2)",
        )


def _release(table: int) -> None:
    for crew in Team.crews:
        if crew.looks_at(table):
            wait_until(lambda crew=crew: not crew.looks_at(table))


def _forget() -> None:
    """In a forked child: the workers exist only in the parent, and so do their numbers."""
    Team.idle.clear()
    Team.crews.clear()


def _stop() -> None:
    """At exit: end the workers that wait, so that none runs code that is being unloaded."""
    while Team.idle:
        Team.idle.pop().stop()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
atexit.register(_stop)


def _forever(size: int) -> np.ndarray:
    """Zeroed, aligned memory that outlives the interpreter, because workers may."""
    libc = ctypes.CDLL(None)
    libc.calloc.restype = ctypes.c_void_p
    line = CACHE_LINE
    start = libc.calloc(ctypes.c_size_t(1), ctypes.c_size_t(size + line))
    start += -start % line
    return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(start))


class _Native:
    """The compiled run loop."""

    def __init__(self):
        self.library = _loaded(Target.host())
        self.library.keep()
        pointer, number = ctypes.c_void_p, ctypes.c_int64
        self.run = ctypes.CFUNCTYPE(number, pointer)(self.library["tinytorch_run"])
        self.worker = self.library["tinytorch_worker"]
        self.gate = self.library["tinytorch_gate"]
        self.ring = ctypes.CFUNCTYPE(None, pointer)(self.library["tinytorch_ring"])
        pauses = ctypes.CFUNCTYPE(None, number)(self.library["tinytorch_pauses"])
        self.spin = _spin_count(pauses)


def _loaded(target: Target) -> engine.Library:
    """The run loop, from the cache of programs if it is there.

    A process that finds all its programs there then never generates code: LLVM's parts that do
    take 20 MB of memory and 30 ms.
    """
    text, folder = run_loop_text(target), cache.open_cache()
    key = cache.program_key(target.key, text)
    saved = folder.get(key) if folder is not None else None
    if saved is not None:
        with suppress(CompileError):  # another writer put it there: it is compiled again
            return engine.load(saved[0], NAMES)
    image = engine.compile_text(text, target)
    if folder is not None:
        folder.put(key, [image], {})
    return engine.load([image], NAMES)


def _spin_count(pauses: Callable[[int], object]) -> int:
    """How many pauses take about 50 us; the least of three, as anything else only adds time."""
    count = 500
    took: list[float] = []
    for _ in range(3):
        start = time.perf_counter()
        pauses(count)
        took.append(time.perf_counter() - start)
    return max(10, min(100_000, int(count * _SPIN_SECONDS / min(took))))


_making = ForkSafeLock()


@lru_cache
def _made() -> _Native:
    return _Native()


def _native() -> _Native:
    with _making:
        return _made()


# --- the native loop: what the caller and every worker of a crew execute ---
#
# Written as IR text, for its atomics; it knows words, counters and waiting, never Python.
#
#     for each stage:  while a tile is left: take it (compare-and-swap), run the kernel on it
#                      add the number of tiles done; wait until all tiles of the stage are done
#
# Note [why a late worker does no harm]: every run of the process has a number (32 bits), and every
# counter carries that of its run above the count. A worker that wakes after its run has ended finds
# another number, or all tiles done, and can neither take a tile nor count one. Nobody ever waits
# for a worker to arrive, only for tiles.
#
# Note [two ends]: threads with an even number take tiles from the front, the others from the back,
# until they meet. So the halves of an array stay with the same threads from stage to stage and from
# run to run, and in their private caches, and yet nobody waits while there is a tile to take. 16
# bits count each end; a stage with 32,768 tiles or more is taken from the front alone.
#
# Note [hazard slots]: a worker writes the address of the table it is about to read into its slot
# and then looks again whether that table is still being run. Memory may go once no slot names it.
#
# Note [waiting]: spin for about 50 us (a wake-up costs 5 to 50), then sleep on a futex. Who sleeps
# has announced it first, who changes the word looks for sleepers after: both in one total order.
# Every few microseconds a spinning thread offers its core to others: with more threads than cores,
# the one that holds the last tile may be waiting for it. A worker that came too late for a run
# spins again: where short runs follow each other it is in time for the next.

# Note [gates]: the one thread that runs the tile of a gate reads the flag and writes into its
# record how many stages are left out; whoever has seen the gate done goes on behind these. The
# number is written once in a run, before anybody reads it, while the memory of the flag may hold
# something else by then. A late worker may read that of another run; then it finds the counters of
# that run there, which were set before.

NAMES = (
    "tinytorch_run", "tinytorch_worker", "tinytorch_ring", "tinytorch_pauses", "tinytorch_gate",
)  # fmt: skip


def run_loop_text(target: Target) -> str:
    """The module.

    It has `tinytorch_run(table) -> status` for the caller, `tinytorch_worker(slot)` for
    pthread_create, `tinytorch_ring(team)`, `tinytorch_pauses(n)` and the kernel `tinytorch_gate`.
    """
    linux = "linux" in target.triple
    parts = [_pause(target), _waiting(target) if linux else _POLLING, _clock(linux)]
    begin = "begin" if target.has_amx else "entry"
    for part in (_STAGES, _ALONE):
        part = part.replace("TILES_ON", _TILES_ON if target.has_amx else "")
        part = part.replace("READ_RECORD", _READ_RECORD)
        parts.append(part.replace("%ENTRY", "%" + begin))
    text = "\n".join([*parts, _GATE, _RUN, _WORKER, _tiles(target)])
    for name, value in sorted(_CONSTANTS.items(), key=lambda item: -len(item[0])):
        text = text.replace(name, str(value))
    return text


_CONSTANTS = {
    name: value
    for name, value in globals().items()
    if name.startswith(("TEAM_", "TABLE_", "RECORD_", "COUNTER_", "TIME_"))
}


def _pause(target: Target) -> str:
    if target.architecture == "x86_64":
        declare, call = "declare void @llvm.x86.sse2.pause()", "call void @llvm.x86.sse2.pause()"
    else:  # hint 1 is yield
        declare = "declare void @llvm.aarch64.hint(i32)"
        call = "call void @llvm.aarch64.hint(i32 1)"
    return f"""
{declare}
declare i32 @sched_yield()
define internal void @pause() alwaysinline nounwind {{
  {call}
  ret void
}}
define internal void @breathe(i64 %spun) nounwind noinline {{
  {call}
  %low = and i64 %spun, 255
  %due = icmp eq i64 %low, 255
  br i1 %due, label %give, label %keep
give:
  %r = call i32 @sched_yield()
  ret void
keep:
  ret void
}}
define void @tinytorch_pauses(i64 %n) nounwind {{
entry:
  br label %head
head:
  %i = phi i64 [0, %entry], [%next, %head]
  call void @pause()
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %n
  br i1 %more, label %head, label %done
done:
  ret void
}}"""


def _waiting(target: Target) -> str:
    """futex(2): system call 202 on x86-64, 98 on aarch64; 128 FUTEX_WAIT_PRIVATE, 129 ..WAKE_.."""
    number = 202 if target.architecture == "x86_64" else 98
    return f"""
declare i64 @syscall(i64, ...)
define internal void @futex_wait(ptr %word, i32 %seen) nounwind noinline {{
  %r = call i64 (i64, ...) @syscall(i64 {number}, ptr %word, i64 128, i32 %seen, ptr null)
  ret void
}}
define internal void @wake_all(ptr %bell) nounwind noinline {{
  %old = atomicrmw add ptr %bell, i32 1 seq_cst
  %r = call i64 (i64, ...) @syscall(i64 {number}, ptr %bell, i64 129, i64 2147483647)
  ret void
}}"""


# without a futex: look again every 50 us
_POLLING = """
declare i32 @usleep(i32)
define internal void @futex_wait(ptr %word, i32 %seen) nounwind noinline {
  %r = call i32 @usleep(i32 50)
  ret void
}
define internal void @wake_all(ptr %bell) nounwind {
  %old = atomicrmw add ptr %bell, i32 1 seq_cst
  ret void
}"""


def _clock(linux: bool) -> str:
    """Nanoseconds since some start (CLOCK_MONOTONIC: 1 on Linux, 6 on macOS)."""
    return f"""
declare i32 @clock_gettime(i32, ptr)
define internal void @record(ptr %at) nounwind noinline {{
  %now = alloca [2 x i64]
  %r = call i32 @clock_gettime(i32 {1 if linux else 6}, ptr %now)
  %seconds = load i64, ptr %now
  %rest.at = getelementptr i64, ptr %now, i64 1
  %rest = load i64, ptr %rest.at
  %whole = mul i64 %seconds, 1000000000
  %all = add i64 %whole, %rest
  store i64 %all, ptr %at
  ret void
}}"""


_TILES_ON = """
  %config.at = getelementptr i8, ptr %table, i64 TABLE_TILE_CONFIG
  %config = load ptr, ptr %config.at
  %with.tiles = icmp ne ptr %config, null
  br i1 %with.tiles, label %tiles.on, label %begin
tiles.on:
  call void @llvm.x86.ldtilecfg(ptr %config)
  br label %begin
begin:"""


def _tiles(target: Target) -> str:
    if not target.has_amx:
        return "define internal void @tiles_off(ptr %table) alwaysinline nounwind {\n  ret void\n}"
    return """
declare void @llvm.x86.ldtilecfg(ptr)
declare void @llvm.x86.tilerelease()
define internal void @tiles_off(ptr %table) nounwind {
  %config.at = getelementptr i8, ptr %table, i64 TABLE_TILE_CONFIG
  %config = load ptr, ptr %config.at
  %with.tiles = icmp ne ptr %config, null
  br i1 %with.tiles, label %off, label %done
off:
  call void @llvm.x86.tilerelease()
  br label %done
done:
  ret void
}"""


# the kernel, the tiles and the arguments of stage %s
_READ_RECORD = """\
  %record.offset = mul i64 %s, RECORD_BYTES
  %record = getelementptr i8, ptr %records, i64 %record.offset
  %kernel = load ptr, ptr %record
  %tiles.at = getelementptr i8, ptr %record, i64 8
  %tiles = load i64, ptr %tiles.at
  %arguments.at = getelementptr i8, ptr %record, i64 16
  %arguments = load ptr, ptr %arguments.at"""

# stages(team, table, tag, id): take part in run `tag` as thread `id` until it is over
_STAGES = """
define internal void @stages(ptr %team, ptr %table, i64 %tag, i64 %id) nounwind noinline {
entry:
  %tagged = shl i64 %tag, 32
  %stages = load i64, ptr %table
  %records.at = getelementptr i8, ptr %table, i64 TABLE_RECORDS
  %records = load ptr, ptr %records.at
  %counters.at = getelementptr i8, ptr %table, i64 TABLE_COUNTERS
  %counters = load ptr, ptr %counters.at
  %scratch.at = getelementptr i8, ptr %table, i64 TABLE_SCRATCH
  %scratch.all = load ptr, ptr %scratch.at
  %stride.at = getelementptr i8, ptr %table, i64 TABLE_SCRATCH_STRIDE
  %stride = load i64, ptr %stride.at
  %scratch.offset = mul i64 %stride, %id
  %scratch = getelementptr i8, ptr %scratch.all, i64 %scratch.offset
  %times.at = getelementptr i8, ptr %table, i64 TABLE_TIMES
  %times.all = load ptr, ptr %times.at
  %parity = and i64 %id, 1
  %odd = icmp ne i64 %parity, 0
  %seen.at = getelementptr i8, ptr %table, i64 TABLE_TIMED_THREADS
  %seen.threads = load i64, ptr %seen.at
  %timed = icmp slt i64 %id, %seen.threads
  %times.row = add i64 %stages, 1
  %times.before = mul i64 %id, %times.row
  %times.offset = mul i64 %times.before, TIME_BYTES
  %times = getelementptr i8, ptr %times.all, i64 %times.offset
  %status = getelementptr i8, ptr %table, i64 TABLE_STATUS
  %bell = getelementptr i8, ptr %team, i64 TEAM_STAGE_BELL
  %sleepers = getelementptr i8, ptr %bell, i64 4
  %spin.at = getelementptr i8, ptr %team, i64 TEAM_SPIN
  %spin = load i64, ptr %spin.at
TILES_ON
  br label %stage.head

stage.head:
  %s = phi i64 [0, %ENTRY], [%s.next, %stage.over]
  br i1 %timed, label %stage.time, label %stage.test
stage.time:
  %time.offset = mul i64 %s, TIME_BYTES
  %time = getelementptr i8, ptr %times, i64 %time.offset
  call void @record(ptr %time)
  br label %stage.test
stage.test:
  %more = icmp slt i64 %s, %stages
  br i1 %more, label %stage, label %over

stage:
READ_RECORD
  %counter.offset = mul i64 %s, COUNTER_BYTES
  %next = getelementptr i8, ptr %counters, i64 %counter.offset
  %done = getelementptr i8, ptr %next, i64 64
  %complete = or i64 %tagged, %tiles
  %tiles.last = sub i64 %tiles, 1
  %ends = icmp slt i64 %tiles, 32768
  %behind = and i1 %ends, %odd
  br label %take

take:
  %mine = phi i64 [0, %stage], [%mine, %try], [%mine.more, %counted]
  %word = load atomic i64, ptr %next acquire, align 8
  %word.high = lshr i64 %word, 32
  %ours = icmp eq i64 %word.high, %tag
  br i1 %ours, label %look, label %over
look:
  %low = and i64 %word, 4294967295
  %low.front = and i64 %low, 65535
  %low.back = lshr i64 %low, 16
  %front = select i1 %ends, i64 %low.front, i64 %low
  %back = select i1 %ends, i64 %low.back, i64 0
  %gone = add i64 %front, %back
  %left = icmp slt i64 %gone, %tiles
  br i1 %left, label %try, label %drained
try:
  %state = load atomic i64, ptr %status monotonic, align 8
  %aborted = icmp ne i64 %state, 0
  %all.left = sub i64 %tiles, %gone
  %taken = select i1 %aborted, i64 %all.left, i64 1
  %from.back = sub i64 %tiles.last, %back
  %tile = select i1 %behind, i64 %from.back, i64 %front
  %step = select i1 %behind, i64 65536, i64 1
  %added = select i1 %aborted, i64 %all.left, i64 %step
  %word.new = add i64 %word, %added
  %swap = cmpxchg ptr %next, i64 %word, i64 %word.new acq_rel acquire
  %won = extractvalue { i64, i1 } %swap, 1
  br i1 %won, label %won.tile, label %take
won.tile:
  br i1 %aborted, label %counted, label %run
run:
  call void %kernel(ptr %arguments, i64 %tile, ptr %scratch)
  br label %counted
counted:
  %mine.more = add i64 %mine, %taken
  br label %take

drained:
  br i1 %timed, label %drained.time, label %count
drained.time:
  %busy.offset = mul i64 %s, TIME_BYTES
  %busy = getelementptr i8, ptr %times, i64 %busy.offset
  %busy.end = getelementptr i8, ptr %busy, i64 8
  %busy.tiles = getelementptr i8, ptr %busy, i64 16
  call void @record(ptr %busy.end)
  store i64 %mine, ptr %busy.tiles
  br label %count
count:
  %some = icmp ne i64 %mine, 0
  br i1 %some, label %add, label %wait
add:
  %before = atomicrmw add ptr %done, i64 %mine seq_cst
  %after = add i64 %before, %mine
  %last = icmp eq i64 %after, %complete
  br i1 %last, label %ring, label %wait
ring:
  %waiting = load atomic i32, ptr %sleepers seq_cst, align 4
  %anyone = icmp ne i32 %waiting, 0
  br i1 %anyone, label %wake, label %stage.over
wake:
  call void @wake_all(ptr %bell)
  br label %stage.over

wait:
  %spun = phi i64 [0, %count], [0, %add], [%spun.more, %pause], [%spin, %slept]
  %now = load atomic i64, ptr %done acquire, align 8
  %finished = icmp eq i64 %now, %complete
  br i1 %finished, label %stage.over, label %wait.tag
wait.tag:
  %now.high = lshr i64 %now, 32
  %still = icmp eq i64 %now.high, %tag
  br i1 %still, label %wait.how, label %over
wait.how:
  %patient = icmp slt i64 %spun, %spin
  br i1 %patient, label %pause, label %sleep
pause:
  call void @breathe(i64 %spun)
  %spun.more = add i64 %spun, 1
  br label %wait
sleep:
  %announced = atomicrmw add ptr %sleepers, i32 1 seq_cst
  %seen = load atomic i32, ptr %bell seq_cst, align 4
  %again = load atomic i64, ptr %done seq_cst, align 8
  %changed.high = lshr i64 %again, 32
  %same.run = icmp eq i64 %changed.high, %tag
  %unfinished = icmp ne i64 %again, %complete
  %sleepy = and i1 %same.run, %unfinished
  br i1 %sleepy, label %down, label %slept
down:
  call void @futex_wait(ptr %bell, i32 %seen)
  br label %slept
slept:
  %withdrawn = atomicrmw sub ptr %sleepers, i32 1 seq_cst
  br label %wait

stage.over:
  %skip.at = getelementptr i8, ptr %record, i64 RECORD_SKIP
  %skip = load atomic i64, ptr %skip.at acquire, align 8
  %s.after = add i64 %s, 1
  %s.next = add i64 %s.after, %skip
  br label %stage.head
over:
  call void @tiles_off(ptr %table)
  ret void
}"""

_GATE = """
define void @tinytorch_gate(ptr %gate, i64 %tile, ptr %scratch) nounwind {
  %slot = load ptr, ptr %gate
  %flag = load ptr, ptr %slot
  %byte = load i8, ptr %flag
  %set = icmp ne i8 %byte, 0
  %holds.at = getelementptr i8, ptr %gate, i64 8
  %holds = load i64, ptr %holds.at
  %wanted = icmp ne i64 %holds, 0
  %runs = icmp eq i1 %set, %wanted
  %stages.at = getelementptr i8, ptr %gate, i64 16
  %stages = load i64, ptr %stages.at
  %skip = select i1 %runs, i64 0, i64 %stages
  %skip.at.at = getelementptr i8, ptr %gate, i64 24
  %skip.at = load ptr, ptr %skip.at.at
  store atomic i64 %skip, ptr %skip.at release, align 8
  ret void
}"""

# alone(table): what one thread does that nobody helps and nobody watches: it need not count tiles,
# which costs 30 ns a stage. A worker that is late from another run of the table finds the counters
# of that run, all done; those of stages behind gates need not be, so a table with gates counts.
_ALONE = """
define internal void @alone(ptr %table) nounwind noinline {
entry:
  %stages = load i64, ptr %table
  %records.at = getelementptr i8, ptr %table, i64 TABLE_RECORDS
  %records = load ptr, ptr %records.at
  %scratch.at = getelementptr i8, ptr %table, i64 TABLE_SCRATCH
  %scratch = load ptr, ptr %scratch.at
  %status = getelementptr i8, ptr %table, i64 TABLE_STATUS
TILES_ON
  br label %stage.head
stage.head:
  %s = phi i64 [0, %ENTRY], [%s.next, %stage.over]
  %more = icmp slt i64 %s, %stages
  br i1 %more, label %stage, label %over
stage:
READ_RECORD
  br label %tile.head
tile.head:
  %tile = phi i64 [0, %stage], [%tile.next, %tile.run]
  %left = icmp slt i64 %tile, %tiles
  br i1 %left, label %tile.try, label %stage.over
tile.try:
  %state = load atomic i64, ptr %status monotonic, align 8
  %aborted = icmp ne i64 %state, 0
  br i1 %aborted, label %over, label %tile.run
tile.run:
  call void %kernel(ptr %arguments, i64 %tile, ptr %scratch)
  %tile.next = add i64 %tile, 1
  br label %tile.head
stage.over:
  %s.next = add i64 %s, 1
  br label %stage.head
over:
  call void @tiles_off(ptr %table)
  ret void
}"""

_RUN = """
@runs = internal global i64 1
define i64 @tinytorch_run(ptr %table) nounwind {
entry:
  %team.at = getelementptr i8, ptr %table, i64 TABLE_TEAM
  %team = load ptr, ptr %team.at
  %status = getelementptr i8, ptr %table, i64 TABLE_STATUS
  store atomic i64 0, ptr %status monotonic, align 8
  %threads.at = getelementptr i8, ptr %table, i64 TABLE_THREADS
  %threads = load i64, ptr %threads.at
  %shared = icmp sgt i64 %threads, 1
  %timed.at = getelementptr i8, ptr %table, i64 TABLE_TIMED_THREADS
  %timed = load i64, ptr %timed.at
  %watched = icmp ne i64 %timed, 0
  %gates.at = getelementptr i8, ptr %table, i64 TABLE_GATES
  %gates = load i64, ptr %gates.at
  %gated = icmp ne i64 %gates, 0
  %unhelped = or i1 %watched, %gated
  %counts = or i1 %shared, %unhelped
  br i1 %counts, label %number, label %single
single:
  call void @alone(ptr %table)
  br label %end
number:
  %run = atomicrmw add ptr @runs, i64 1 monotonic
  %tag = and i64 %run, 4294967295
  %tagged = shl i64 %tag, 32
  %count = load i64, ptr %table
  %counters.at = getelementptr i8, ptr %table, i64 TABLE_COUNTERS
  %counters = load ptr, ptr %counters.at
  %empty = icmp eq i64 %count, 0
  br i1 %empty, label %publish, label %reset
reset:
  %s = phi i64 [0, %number], [%s.next, %reset]
  %offset = mul i64 %s, COUNTER_BYTES
  %next = getelementptr i8, ptr %counters, i64 %offset
  %done = getelementptr i8, ptr %next, i64 64
  store atomic i64 %tagged, ptr %next monotonic, align 8
  store atomic i64 %tagged, ptr %done monotonic, align 8
  %s.next = add i64 %s, 1
  %more = icmp slt i64 %s.next, %count
  br i1 %more, label %reset, label %publish
publish:
  br i1 %shared, label %announce, label %work
announce:
  %table.at = getelementptr i8, ptr %team, i64 TEAM_TABLE
  %bell = getelementptr i8, ptr %team, i64 TEAM_IDLE_BELL
  %sleepers = getelementptr i8, ptr %bell, i64 4
  store atomic ptr %table, ptr %table.at seq_cst, align 8
  store atomic i64 %tag, ptr %team seq_cst, align 8
  %wake.at = getelementptr i8, ptr %table, i64 TABLE_WAKE
  %wanted = load i64, ptr %wake.at
  %waiting = load atomic i32, ptr %sleepers seq_cst, align 4
  %waiting.wide = zext i32 %waiting to i64
  %both = mul i64 %wanted, %waiting.wide
  %anyone = icmp ne i64 %both, 0
  br i1 %anyone, label %wake, label %work
wake:
  call void @wake_all(ptr %bell)
  br label %work
work:
  call void @stages(ptr %team, ptr %table, i64 %tag, i64 0)
  br i1 %shared, label %withdraw, label %end
withdraw:
  %table.at2 = getelementptr i8, ptr %team, i64 TEAM_TABLE
  store atomic ptr null, ptr %table.at2 seq_cst, align 8
  br label %end
end:
  %done.at = getelementptr i8, ptr %table, i64 TABLE_DONE
  store i64 1, ptr %done.at
  %result = load atomic i64, ptr %status monotonic, align 8
  ret i64 %result
}"""

_WORKER = """
define void @tinytorch_ring(ptr %team) nounwind {
  %bell = getelementptr i8, ptr %team, i64 TEAM_IDLE_BELL
  call void @wake_all(ptr %bell)
  ret void
}
define ptr @tinytorch_worker(ptr %slot) nounwind {
entry:
  %team.at = getelementptr i8, ptr %slot, i64 8
  %team = load ptr, ptr %team.at
  %id.at = getelementptr i8, ptr %slot, i64 16
  %id = load i64, ptr %id.at
  %table.at = getelementptr i8, ptr %team, i64 TEAM_TABLE
  %bell = getelementptr i8, ptr %team, i64 TEAM_IDLE_BELL
  %sleepers = getelementptr i8, ptr %bell, i64 4
  %spin.at = getelementptr i8, ptr %team, i64 TEAM_SPIN
  %spin = load i64, ptr %spin.at
  br label %idle
idle:
  %last = phi i64 [0, %entry], [%last, %pause], [%last, %slept], [%last, %moved],
    [%tag, %missed], [%tag, %not.wanted], [%tag, %worked]
  %spun = phi i64 [0, %entry], [%spun.more, %pause], [%spin, %slept], [%spun, %moved],
    [0, %missed], [%spin, %not.wanted], [0, %worked]
  %tag = load atomic i64, ptr %team seq_cst, align 8
  %new = icmp ne i64 %tag, %last
  br i1 %new, label %called, label %wait
wait:
  %patient = icmp slt i64 %spun, %spin
  br i1 %patient, label %pause, label %sleep
pause:
  call void @breathe(i64 %spun)
  %spun.more = add i64 %spun, 1
  br label %idle
sleep:
  %announced = atomicrmw add ptr %sleepers, i32 1 seq_cst
  %seen = load atomic i32, ptr %bell seq_cst, align 4
  %tag.again = load atomic i64, ptr %team seq_cst, align 8
  %quiet = icmp eq i64 %tag.again, %last
  br i1 %quiet, label %down, label %slept
down:
  call void @futex_wait(ptr %bell, i32 %seen)
  br label %slept
slept:
  %withdrawn = atomicrmw sub ptr %sleepers, i32 1 seq_cst
  br label %idle
called:
  %stop = icmp eq i64 %tag, -1
  br i1 %stop, label %end, label %join
join:
  %table = load atomic ptr, ptr %table.at seq_cst, align 8
  %over = icmp eq ptr %table, null
  br i1 %over, label %missed, label %hazard
missed:
  br label %idle
hazard:
  store atomic ptr %table, ptr %slot seq_cst, align 8
  %table.still = load atomic ptr, ptr %table.at seq_cst, align 8
  %tag.still = load atomic i64, ptr %team seq_cst, align 8
  %table.same = icmp eq ptr %table.still, %table
  %tag.same = icmp eq i64 %tag.still, %tag
  %same = and i1 %table.same, %tag.same
  br i1 %same, label %invited, label %moved
moved:
  store atomic ptr null, ptr %slot seq_cst, align 8
  br label %idle
invited:
  %threads.at = getelementptr i8, ptr %table, i64 TABLE_THREADS
  %threads = load i64, ptr %threads.at
  %wanted = icmp slt i64 %id, %threads
  br i1 %wanted, label %work, label %not.wanted
not.wanted:
  store atomic ptr null, ptr %slot seq_cst, align 8
  br label %idle
work:
  call void @stages(ptr %team, ptr %table, i64 %tag, i64 %id)
  br label %worked
worked:
  store atomic ptr null, ptr %slot seq_cst, align 8
  br label %idle
end:
  ret ptr null
}"""
