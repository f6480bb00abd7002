"""What this machine can do at most, measured: operations a second of each unit, bytes a second.

Knows native loops and a clock, and how often a program comes back to its memory; never Tensors.
Limits are measured because virtual machines, clock limits and neighbours decide what can be had,
not data sheets.

Note [where bytes come from]: a loop that goes through n bytes again and again touches n bytes
between two visits of the same byte, its reuse distance (Mattson et al. 1970, "Evaluation techniques
for storage hierarchies", IBM Systems Journal 9(2)). So the bandwidth of such loops, over n, says
how fast bytes of each reuse distance come: from the first cache, the last, or memory. What a task
of a program touches has a reuse distance too, which follows from the order of tasks and the sizes
of what they touch; a task's bytes are charged at the bandwidth of their distance. It is a model: a
cache that another thread's core filled, or a kernel that reads its operand twice, is not seen.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import inf, log
from time import perf_counter

import numpy as np

from tinytorch.base.dtypes import DType, float32, float64
from tinytorch.codegen import engine
from tinytorch.codegen.builder import Function, Value, vector
from tinytorch.codegen.kernel import Kernel, build
from tinytorch.codegen.target import Target
from tinytorch.codegen.team import StageTable, Team, aligned_bytes
from tinytorch.compiler.plan.launch import LaunchPlan, LaunchTask
from tinytorch.kernels.register_tile import (
    WORD,
    Words,
    multiply_add,
    words_of_bytes,
    words_of_pairs,
)

# independent sums: more than latency (4 to 5 cycles) x units (2), fewer than registers
_CHAINS = 12
_ROUNDS = 20_000  # about 0.2 ms a tile: short, so that some repeat has the machine to itself
_TILES = 16
_REPEATS = 25  # the best counts: neighbours only ever slow a loop down
_SETS = tuple(1 << n for n in (15, 17, 19, 21, 23, 25))  # bytes gone through again and again
# The largest: several times a last cache of 32 MB; of 64 MB, 37 GB/s came where memory gives 27.
_READ_BYTES = 128 << 20
_AGAIN_BYTES = 64 << 20  # of smaller ones so many are read, again and again
_EMPTY_STAGES = 200


@dataclass(frozen=True)
class Roofline:
    """What the machine can do with all threads of a program.

    Args:
        peaks: operations a second of each unit that the target has (a fused multiply-add is two):
            "fp32", "fp64", "bf16", "int8".
        reads: (bytes gone through again and again, bytes a second read), smallest first; the last
            one is memory's.
        empty: seconds that the clock sees of a kernel that does nothing: taking tiles, two stamps.
    """

    peaks: Mapping[str, float]
    reads: tuple[tuple[int, float], ...]
    empty: float = 0.0

    @property
    def bandwidth(self) -> float:
        """Bytes a second read from memory."""
        return self.reads[-1][1]

    def peak(self, unit: str) -> float:
        """Operations a second of a unit; of one that was not measured, those of fp32."""
        return self.peaks.get(unit) or self.peaks["fp32"]

    def bandwidth_at(self, distance: float) -> float:
        """Bytes a second at a reuse distance: Note [where bytes come from].

        >>> limit = Roofline({"fp32": 1e9}, ((1024, 8e9), (4096, 2e9)))
        >>> [round(limit.bandwidth_at(n) / 1e9, 6) for n in (1, 1024, 2048, 4096, 1e12)]
        [8.0, 8.0, 4.0, 2.0, 2.0]
        """
        sizes = [n for n, _ in self.reads]
        i = bisect_left(sizes, distance)
        if i in (0, len(sizes)):
            return self.reads[min(i, len(sizes) - 1)][1]
        (n0, b0), (n1, b1) = self.reads[i - 1 : i + 1]
        part = log(distance / n0) / log(n1 / n0)
        return b0 ** (1 - part) * b1**part

    def seconds(
        self, flops: int, nbytes: int, unit: str = "fp32", rate: float | None = None
    ) -> float:
        """The least time for this many operations, and bytes at `rate`, from memory by default."""
        return max(flops / self.peak(unit), nbytes / (rate or self.bandwidth))

    def __str__(self) -> str:
        peaks = ", ".join(f"{p / 1e9:.0f} GFLOP/s {unit}" for unit, p in self.peaks.items())
        return f"{peaks}, {self.bandwidth / 1e9:.1f} GB/s read"


@dataclass(frozen=True)
class Bound:
    """The least time of a task, and what sets it.

    Args:
        seconds: the least time.
        by: "fp32" or another unit, "memory", "cache", or "start" for a kernel too small for either.
    """

    seconds: float
    by: str


def bounds(plan: LaunchPlan, limit: Roofline) -> list[Bound]:
    """Of each task; host calls are not measured by it: ("numpy", 0 seconds)."""
    return [
        Bound(0.0, "numpy") if one.task.host is not None else _bound(one.task, touched, limit)
        for one, touched in zip(plan.launched, reuse_distances(plan), strict=True)
    ]


def _bound(task: LaunchTask, touched: list[tuple[int, float]], limit: Roofline) -> Bound:
    whole = sum(n for n, _ in touched) or 1
    moving = sum(task.bytes * n / whole / limit.bandwidth_at(d) for n, d in touched)
    rate = task.bytes / moving if moving else limit.bandwidth
    computing = task.flops / limit.peak(task.unit)
    least = limit.seconds(task.flops, task.bytes, task.unit, rate)
    if least <= limit.empty:
        return Bound(limit.empty, "start")
    if computing >= moving:
        return Bound(least, task.unit)
    return Bound(least, "memory" if rate < 1.25 * limit.bandwidth else "cache")


def reuse_distances(plan: LaunchPlan) -> list[list[tuple[int, float]]]:
    """(bytes, reuse distance) of what each task touches, in a program that is run again and again.

    The distance is the bytes touched since the task that touched it last, its own included. Of a
    buffer of which a task needs a part (a table of rows), as much counts as the task moves.
    """
    last: OrderedDict[tuple[str, int], int] = OrderedDict()  # place -> bytes, oldest first
    out: list[list[tuple[int, float]]] = []
    for turn in range(2):  # the first turn fills the caches
        for launched in plan.launched:
            used = {
                (plan.storages[i][0], plan.storages[i][2] + start): min(
                    n, max(launched.task.bytes, 1)
                )
                for i, start, n in launched.memory
            }
            if turn:
                out.append([(n, _distance(last, place, n)) for place, n in used.items()])
            for place, n in used.items():
                last[place] = n
                last.move_to_end(place)
    return out


def _distance(
    last: OrderedDict[tuple[str, int], int], place: tuple[str, int], nbytes: int
) -> float:
    total = 0
    for other in reversed(last):
        if other == place:
            return total + nbytes
        total += last[other]
    return inf


# measuring


@lru_cache
def measure(target: Target, threads: int) -> Roofline:
    """The limits of this machine for code of `target` on `threads` threads.

    Cost: about 1 s and 128 MB, once in a process.
    """
    memory = _written()
    reads = [_read(target, n, threads) for n in (*_SETS, _READ_BYTES)]
    peaks = {"fp32": _multiply(target, float32), "fp64": _multiply(target, float64)}
    pairs = words_of_pairs(target)
    if target.has_amx:
        peaks |= {"bf16": _multiply_tiles("tdpbf16ps", 32), "int8": _multiply_tiles("tdpbssd", 64)}
    elif pairs:
        peaks["bf16"] = _multiply_words(target, pairs)
    if target.has_int8_dot and not target.has_amx:
        peaks["int8"] = _multiply_words(target, words_of_bytes(target, ""))
    nothing = build("roofline_nothing", ["memory"], lambda f, p: None, tiles=threads)
    kernels = [*reads, *peaks.values(), nothing]
    library = engine.load(
        [engine.compile_text(engine.module_text(kernels), target)], [k.name for k in kernels]
    )

    def best(kernel: Kernel) -> float:
        return _best(library[kernel.name], kernel, memory, target, threads)

    rates = [kernel.bytes / best(kernel) for kernel in reads]
    # what is nearer is not slower: a rate below a farther one was disturbed
    rates = [max(rates[i:]) for i in range(len(rates))]
    return Roofline(
        {unit: kernel.flops / best(kernel) for unit, kernel in peaks.items()},
        tuple(zip((*_SETS, _READ_BYTES), rates, strict=True)),
        _empty(library[nothing.name], nothing.tiles, memory, threads),
    )


def _written() -> np.ndarray:
    """Memory with pages of its own: what was never written is one page of zeros, which stays in a
    near cache, and was read at 139 GB/s where memory gives 27."""
    memory = aligned_bytes(_READ_BYTES)
    memory.view(np.float32)[:] = 1.0
    return memory


def _best(address: int, kernel: Kernel, memory: np.ndarray, target: Target, threads: int) -> float:
    stage = address, kernel.tiles, [memory.ctypes.data]
    table = StageTable([stage], kernel.scratch, tiles_config=target.has_amx)
    team, best = Team(), inf
    for _ in range(_REPEATS):
        start = perf_counter()
        team.run(table, threads)
        best = min(best, perf_counter() - start)
    return best


def _empty(address: int, tiles: int, memory: np.ndarray, threads: int) -> float:
    """From the first thread's coming to the end of the last tile, of the fastest empty stage."""
    table = StageTable([(address, tiles, [memory.ctypes.data])] * _EMPTY_STAGES)
    stamps = table.record_times(threads)
    Team().run(table, threads)
    begin, end, done = stamps[:, :_EMPTY_STAGES].transpose(2, 0, 1)
    took = np.where(done > 0, end, 0).max(0) - np.where(done > 0, begin, np.iinfo("i8").max).min(0)
    return float(took.min()) * 1e-9


def _multiply(target: Target, dtype: DType) -> Kernel:
    """Fused multiply-adds on numbers that stay in registers."""
    n, llvm = target.lanes(dtype), dtype.llvm
    return _chains(
        f"roofline_multiply_{dtype.name}", n, 2 * n,
        lambda f, _: f.const(f"<{n} x {llvm}>", 0.999), lambda f, s, a: f.fma(s, a, a), llvm,
    )  # fmt: skip


def _multiply_words(target: Target, words: Words) -> Kernel:
    """Dot products of words: pairs of bfloat16, or four bytes."""
    n = target.lanes(float32)
    return _chains(
        f"roofline_multiply_{words.number}", n, 2 * n * words.each,
        lambda f, base: f.load(base, vector(n, WORD)),
        lambda f, s, a: multiply_add(f, a, a, s, words), words.sums,
    )  # fmt: skip


def _chains(
    name: str, n: int, flops: int, factor: Callable[[Function, Value], Value],
    step: Callable[[Function, Value, Value], Value], llvm: str = "float",
) -> Kernel:  # fmt: skip
    """Sums of n lanes in registers, each made `_ROUNDS` times by `step` from itself and a factor.

    Args:
        flops: of one step.
        factor: given the address of the sums.
        llvm: the type of a sum.
    """
    type = f"<{n} x {llvm}>"

    def body(f: Function, pointers: Mapping[str, Value]) -> None:
        base = f.at(pointers["memory"], f.mul(f.tile, f.index(n * _CHAINS)), llvm)
        sums = [f.load(f.at(base, f.index(i * n), llvm), type) for i in range(_CHAINS)]
        a = factor(f, base)
        with f.loop("i", 0, _ROUNDS, carry=sums) as i:
            i.next(*[step(f, s, a) for s in i.carried])
        for j, s in enumerate(i.results):
            f.store(s, f.at(base, f.index(j * n), llvm))

    return build(name, ["memory"], body, tiles=_TILES, flops=flops * _CHAINS * _ROUNDS * _TILES)


def _multiply_tiles(instruction: str, depth: int) -> Kernel:
    """Products of AMX tiles: 16 x depth by depth x 16 numbers, four sums at a time."""
    rounds = _ROUNDS // 4

    def body(f: Function, pointers: Mapping[str, Value]) -> None:
        for tile in range(8):
            f.call("void", "llvm.x86.tilezero", Value(str(tile), "i8"))
        with f.loop("i", 0, rounds):
            for out in range(4):
                a, b = 4 + out // 2, 6 + out % 2
                given = [Value(str(tile), "i8") for tile in (out, a, b)]
                f.call("void", f"llvm.x86.{instruction}", *given)

    flops = 4 * 2 * 16 * 16 * depth * rounds * _TILES
    return build(f"roofline_{instruction}", ["memory"], body, tiles=_TILES, flops=flops)


def _read(target: Target, nbytes: int, threads: int) -> Kernel:
    """Sums of `nbytes`, again and again up to `_AGAIN_BYTES`; each thread keeps to its part."""
    n = target.lanes(float32)
    block = n * 8  # numbers of a turn
    type, count = f"<{n} x float>", max(1, nbytes // 4 // threads // block) * block
    turns = max(1, _AGAIN_BYTES // 4 // threads // count)

    def body(f: Function, pointers: Mapping[str, Value]) -> None:
        base = f.at(pointers["memory"], f.mul(f.tile, f.index(count)), "float")
        zero = [f.const(type, 0.0)] * 8
        with f.loop("turn", 0, turns, carry=zero) as turn:
            with f.loop("i", 0, count, block, carry=turn.carried) as i:
                places = [f.add(i.index, f.index(j * n)) for j in range(8)]
                loads = [f.load(f.at(base, place, "float"), type) for place in places]
                i.next(*[f.add(c, x) for c, x in zip(i.carried, loads, strict=True)])
            turn.next(*i.results)
        total = turn.results[0]
        for s in turn.results[1:]:
            total = f.add(total, s)
        f.store(total, f.scratch)

    return build(
        f"roofline_read_{nbytes}", ["memory"], body, tiles=threads, scratch=64,
        bytes=4 * count * turns * threads,
    )  # fmt: skip
