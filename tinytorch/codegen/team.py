"""The thread team: native workers that run a table of stages together with the calling thread.

Knows threads, their memory and their life; never kernels or arrays. Workers are native threads that
never touch Python. They are started when a run first asks for them, spin for about 50 us after a
run, then sleep; they end with the process, and a forked child starts its own.

Note [crews]: a crew is one set of workers, and runs one table at a time. A second Python thread
that runs a program meanwhile gets a crew of its own; both make progress whatever the number of
cores, because nobody waits without end on the processor.

    >>> from tinytorch.codegen.stage_table import StageTable
    >>> Team().run(StageTable([]), threads=2)
    0
"""

from __future__ import annotations

import atexit
import ctypes
import itertools
import os
import signal
import time
from functools import lru_cache

import numpy as np

from tinytorch.base.errors import SettingError
from tinytorch.base.locks import ForkSafeLock
from tinytorch.codegen import engine, run_loop
from tinytorch.codegen.stage_table import StageTable, aligned_bytes, wait_until
from tinytorch.codegen.target import Target

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
        if threads > 1 and len(self._handles) < threads - 1:
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

    _idle: list[Crew] = []
    _all: list[Crew] = []

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
            crew = self._idle.pop()  # atomic: two Python threads never get the same crew
        except IndexError:
            crew = Crew()
            self._all.append(crew)
        table.release = _release
        try:
            return crew.run(table, threads if table.parallel else 1)
        finally:
            self._idle.append(crew)


def _release(table: int) -> None:
    for crew in Team._all:
        if crew.looks_at(table):
            wait_until(lambda crew=crew: not crew.looks_at(table))


def _forget() -> None:
    """In a forked child: the workers exist only in the parent, and so do their numbers."""
    Team._idle.clear()
    Team._all.clear()


def _stop() -> None:
    """At exit: end the workers that wait, so that none runs code that is being unloaded."""
    while Team._idle:
        Team._idle.pop().stop()


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


def _spin_count(pauses) -> int:
    """How many pauses take about 50 us; the least of three, as anything else only adds time."""
    count = 500
    took = []
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
