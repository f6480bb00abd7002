"""The thread team: native workers that run a table of stages together with the calling thread.

Knows threads, their memory and their life; never kernels or arrays. Workers are native threads that
never touch Python. They are started when a run first asks for them, spin for about 50 us after a
run, then sleep; they end with the process, and a forked child starts its own.

What is run is a StageTable: which kernels, how many tiles, which argument pointers. A stage is
given as (kernel address, tiles, initial argument addresses); stages run one after the other, the
tiles of one in any order on any thread.

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
import itertools
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from tinytorch.base.errors import CompileError, SettingError
from tinytorch.base.locks import ForkSafeLock
from tinytorch.codegen import engine, run_loop
from tinytorch.codegen.target import Target

_MOST_TILES = 2**31  # tiles are counted in 32 bits beside the number of the run


def aligned_bytes(size: int, alignment: int = run_loop.CACHE_LINE) -> np.ndarray:
    """Zeroed memory of `size` bytes that begins on a multiple of `alignment`."""
    raw = np.zeros(size + alignment, np.uint8)
    start = -raw.ctypes.data % alignment
    return raw[start : start + size]


class StageTable:
    """Native memory that describes one program to the run loop.

    Args:
        stages: (kernel address, tiles >= 0, argument addresses) in order.
        scratch_bytes: memory each thread needs for its own, 64-byte aligned, unspecified contents.
        tiles_config: configure the AMX tiles (all eight: 16 rows of 64 bytes) on every thread that
            takes part; kernels that need other shapes restore this one.
        wake: whether sleeping workers are woken for it. Waking costs the caller a few microseconds
            for a system call: say False for programs shorter than about 20 microseconds.

    Attributes:
        pointers: uint64, every stage's argument addresses (`slots`); may be written between runs.
        status: int64 of shape (1,); kernels write a number != 0 there to skip all that follows.
        done: int64 of shape (1,); 1 when a run has come to its end. Who wants to know writes 0.
        times: None, or after `record_times()` int64 nanoseconds: begin of each stage, end of all.
    """

    def __init__(
        self,
        stages: Sequence[tuple[int, int, Sequence[int]]],
        scratch_bytes: int = 0,
        *,
        tiles_config: bool = False,
        wake: bool = True,
    ):
        self.scratch_bytes = _round_up(scratch_bytes)
        self._starts = np.cumsum([0, *(len(a) for _, _, a in stages)]).tolist()
        self._stages = len(stages)
        n, arguments = len(stages), self._starts[-1]
        sizes = (
            run_loop.TABLE_BYTES,
            _round_up(n * run_loop.RECORD_BYTES),
            n * run_loop.COUNTER_BYTES,
            _round_up(8 * arguments),
            run_loop.CACHE_LINE,
        )
        memory = aligned_bytes(sum(sizes))
        self.address: int = memory.ctypes.data
        places = np.cumsum([0, *sizes]).tolist()
        parts = [memory[a:b] for a, b in zip(places, places[1:], strict=False)]
        self._head = parts[0].view(np.int64)
        records = parts[1].view(np.int64)
        self.pointers = parts[3].view(np.uint64)[:arguments]
        self.status = self._head[run_loop.TABLE_STATUS // 8 :][:1]
        self.done = self._head[run_loop.TABLE_DONE // 8 :][:1].data
        self.times: np.ndarray | None = None
        # set by the team: waits until no worker looks at this memory
        self.release: Callable[[int], None] | None = None
        for i, (kernel, tiles, given) in enumerate(stages):
            if not 0 <= tiles < _MOST_TILES or not kernel:
                raise CompileError.own_fault(
                    "a stage cannot be run",
                    got=f"stage {i}: kernel at {kernel:#x}, {tiles} tiles",
                    rule=f"a kernel address other than 0, and 0 <= tiles < {_MOST_TILES}",
                )
            record = records[i * run_loop.RECORD_BYTES // 8 :]
            record[0], record[1] = kernel, tiles
            record[2] = self.address + places[3] + 8 * self._starts[i]
            self.pointers[self._starts[i] : self._starts[i + 1]] = given
        self._set(run_loop.TABLE_STAGES, n)
        self._set(run_loop.TABLE_RECORDS, self.address + places[1])
        self._set(run_loop.TABLE_COUNTERS, self.address + places[2])
        self._set(run_loop.TABLE_WAKE, int(wake))
        if tiles_config:
            parts[4][:] = tile_configuration()
            self._set(run_loop.TABLE_TILE_CONFIG, self.address + places[4])
        # a run whose stages have one tile each has nothing for a second thread
        self.parallel = any(tiles > 1 for _, tiles, _ in stages)

    def slots(self, stage: int, argument: int) -> int:
        """Where in `pointers` the address of this argument of this stage is."""
        if not 0 <= argument < self._starts[stage + 1] - self._starts[stage]:
            raise IndexError(f"stage {stage} has no argument {argument}")
        return self._starts[stage] + argument

    def record_times(self) -> np.ndarray:
        """From the next run on write the begin of each stage to `times` (20 to 50 ns a stage)."""
        if self.times is None:
            self.times = np.zeros(self._stages + 1, np.int64)
            self._set(run_loop.TABLE_TIMES, self.times.ctypes.data)
        return self.times

    def prepare(self, threads: int, scratch: int, stride: int) -> None:
        """Say how many threads take part and where their scratch memory is (the team does)."""
        head = self._head
        head[run_loop.TABLE_THREADS // 8] = threads
        head[run_loop.TABLE_SCRATCH // 8] = scratch
        head[run_loop.TABLE_SCRATCH_STRIDE // 8] = stride

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
    return -(-size // run_loop.CACHE_LINE) * run_loop.CACHE_LINE


# --- the threads ---

_SPIN_SECONDS = 50e-6  # longer than a wake-up costs, short beside a scheduler's time slice
_MOST_THREADS = 1024
_STOP = 2**64 - 1
_tags = itertools.count(1)  # one number for each run of the process: see run_loop, late workers


class Crew:
    """One set of workers and the memory they share. Its memory is never given back."""

    def __init__(self):
        self._loop = _native()
        self._memory = _forever(run_loop.TEAM_SLOTS + _MOST_THREADS * run_loop.CACHE_LINE)
        self._words = self._memory.view(np.uint64)
        self.address: int = self._memory.ctypes.data
        self._words[run_loop.TEAM_SPIN // 8] = self._loop.spin
        self._handles: list[ctypes.c_void_p] = []
        self._scratch = np.empty(0, np.uint8)
        self._scratch_at = self._stride = 0

    @property
    def workers(self) -> int:
        """How many threads there are beside the caller's."""
        return len(self._handles)

    def run(self, table: StageTable, threads: int) -> int:
        """Run the table with the calling thread and threads - 1 workers."""
        if len(self._handles) < threads - 1:
            self._start(threads - 1)
        if table.scratch_bytes > self._stride or threads * self._stride > self._scratch.size:
            self._grow_scratch(table.scratch_bytes, threads)
        table.prepare(threads, self._scratch_at, self._stride)
        return self._loop.run(self.address, table.address, next(_tags) & 0xFFFFFFFF)

    def _grow_scratch(self, size: int, threads: int) -> None:
        # a late worker of an earlier run takes no tile any more, so nobody uses the old memory
        self._stride = max(size, self._stride)
        self._scratch = aligned_bytes(self._stride * threads)
        self._scratch_at = self._scratch.ctypes.data

    def _start(self, workers: int) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        # signals go to threads of Python: a worker that took one would leave Ctrl-C unseen
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            for i in range(len(self._handles), workers):
                slot = run_loop.TEAM_SLOTS + i * run_loop.CACHE_LINE
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
        first, step = run_loop.TEAM_SLOTS // 8, run_loop.CACHE_LINE // 8
        hazards = self._words[first : first + step * len(self._handles) : step]
        return bool((hazards == table).any())

    def stop(self) -> None:
        """End the workers and wait for them; the crew must be idle."""
        self._words[run_loop.TEAM_TAG // 8] = _STOP
        self._loop.ring(self.address)
        libc = ctypes.CDLL(None)
        for handle in self._handles:
            libc.pthread_join(handle, None)
        self._handles.clear()


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
        if not 1 <= threads <= _MOST_THREADS:
            raise SettingError(
                "not a number of threads a program can be run with",
                got=threads,
                rule=f"1 <= threads <= {_MOST_THREADS}",
                fix="set_num_threads(2)",
            )
        try:
            crew = self.idle.pop()  # atomic: two Python threads never get the same crew
        except IndexError:
            crew = Crew()
            self.crews.append(crew)
        table.release = _release
        try:
            return crew.run(table, threads if table.parallel else 1)
        finally:
            self.idle.append(crew)


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
    line = run_loop.CACHE_LINE
    start = libc.calloc(ctypes.c_size_t(1), ctypes.c_size_t(size + line))
    start += -start % line
    return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(start))


class _Native:
    """The compiled run loop."""

    def __init__(self):
        target = Target.host()
        image = engine.compile_text(run_loop.run_loop_text(target), target)
        self.library = engine.load([image], run_loop.NAMES)
        self.library.keep()
        pointer, number = ctypes.c_void_p, ctypes.c_int64
        self.run = ctypes.CFUNCTYPE(number, pointer, pointer, number)(self.library["tinytorch_run"])
        self.worker = self.library["tinytorch_worker"]
        self.ring = ctypes.CFUNCTYPE(None, pointer)(self.library["tinytorch_ring"])
        pauses = ctypes.CFUNCTYPE(None, number)(self.library["tinytorch_pauses"])
        self.spin = _spin_count(pauses)


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
