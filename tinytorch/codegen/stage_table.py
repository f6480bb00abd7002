"""The table of stages that a team runs: which kernels, how many tiles, which argument pointers.

Knows addresses and counts; never threads, arrays or what a kernel does. A stage is given as
(kernel address, tiles, initial argument addresses); stages run one after the other, the tiles of
one in any order on any thread.

    table = StageTable([(kernel, 8, [x, y]), ...], scratch_bytes=4096)
    table.pointers[table.slots(0, 1)] = address      # may be rewritten before each run
    status = Team().run(table, threads=2)            # 0, or what a kernel wrote to table.status
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence

import numpy as np

from tinytorch.base.errors import CompileError
from tinytorch.codegen import run_loop

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
