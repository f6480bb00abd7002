"""A compiled function from inside: its kernels with times and limits, its LLVM IR, its assembly.

Knows how to print programs, three native loops and a clock; changes nothing. Timing runs on copies
of the states and on made-up arguments, so that looking does not train. The machine's limits are
measured: virtual machines, clock limits and neighbours decide what can be had, not data sheets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import inf
from statistics import median
from time import perf_counter

import numpy as np

from tinytorch.base.dtypes import bfloat16, float32
from tinytorch.codegen import engine
from tinytorch.codegen.builder import Function, Value
from tinytorch.codegen.kernel import Kernel, build
from tinytorch.codegen.target import Target
from tinytorch.codegen.team import StageTable, Team, aligned_bytes
from tinytorch.compiler.pipeline import compile_graph
from tinytorch.compiler.plan.arena import size_text
from tinytorch.compiler.plan.launch import LaunchTask
from tinytorch.compiler.run.executable import Executable
from tinytorch.compiler.run.program import Runner, address_of
from tinytorch.primitives.primitive import Spec
from tinytorch.tensor.memory import Buffer, copy_of

# independent sums: more than latency (4 to 5 cycles) x units (2), fewer than registers
_CHAINS = 12
_ROUNDS = 100_000
_TILES = 16
_READ_BYTES = 64 << 20  # of each pass; several times the last cache one core can claim
_REPEATS = 5  # the best counts: neighbours only ever slow a loop down


@dataclass(frozen=True)
class Roofline:
    """What the machine can do with all threads of a program.

    Args:
        flops: float32 operations a second (a fused multiply-add is two).
        bf16_flops: bfloat16 operations a second, 0 if the target has no instruction for them.
        bandwidth: bytes a second read from memory.
    """

    flops: float
    bf16_flops: float
    bandwidth: float

    def seconds(self, flops: int, nbytes: int, bf16: bool = False) -> float:
        """The least time for this many operations and bytes from memory."""
        peak = self.bf16_flops if bf16 and self.bf16_flops else self.flops
        return max(flops / peak, nbytes / self.bandwidth)

    def __str__(self) -> str:
        bf16 = f", {self.bf16_flops / 1e9:.0f} GFLOP/s bf16" if self.bf16_flops else ""
        return f"{self.flops / 1e9:.0f} GFLOP/s fp32{bf16}, {self.bandwidth / 1e9:.1f} GB/s read"


@lru_cache
def measure(target: Target, threads: int) -> Roofline:
    """The limits of this machine for code of `target` on `threads` threads."""
    memory = aligned_bytes(_READ_BYTES)
    kernels = [_multiply(target), _read(target)]
    if target.has_amx or target.has_bf16_dot:
        kernels.append(_multiply_tiles() if target.has_amx else _multiply_bf16())
    library = engine.load(
        [engine.compile_text(engine.module_text(kernels), target)], [k.name for k in kernels]
    )
    seconds = [_best(library[k.name], k, memory, target, threads) for k in kernels]
    rates = [k.flops / s for k, s in zip(kernels, seconds, strict=True)]
    return Roofline(rates[0], rates[2] if len(rates) > 2 else 0.0, _READ_BYTES / seconds[1])


def _best(address: int, kernel: Kernel, memory: np.ndarray, target: Target, threads: int) -> float:
    stage = address, kernel.tiles, [memory.ctypes.data]
    table = StageTable([stage], kernel.scratch, tiles_config=target.has_amx)
    team, best = Team(), inf
    for _ in range(_REPEATS):
        start = perf_counter()
        team.run(table, threads)
        best = min(best, perf_counter() - start)
    return best


def _multiply(target: Target) -> Kernel:
    """Fused multiply-adds on numbers that stay in registers."""
    n = target.lanes(float32)
    return _chains(
        "roofline_multiply", n, 2 * n,
        lambda f, _: f.const(f"<{n} x float>", 0.999), lambda f, s, a: f.fma(s, a, a),
    )  # fmt: skip


def _multiply_bf16() -> Kernel:
    """Dot products of pairs of bfloat16: 32 products into 16 sums."""
    dot = "llvm.x86.avx512bf16.dpbf16ps.512"
    return _chains(
        "roofline_multiply_bf16", 16, 64,
        lambda f, base: f.load(base, "<32 x bfloat>", align=4),
        lambda f, s, a: f.call("<16 x float>", dot, s, a, a),
    )  # fmt: skip


def _chains(
    name: str, n: int, flops: int, factor: Callable[[Function, Value], Value],
    step: Callable[[Function, Value, Value], Value],
) -> Kernel:  # fmt: skip
    """Sums of n lanes in registers, each made `_ROUNDS` times by `step` from itself and a factor.

    Args:
        flops: of one step.
        factor: given the address of the sums.
    """
    type = f"<{n} x float>"

    def body(f: Function, pointers: Mapping[str, Value]) -> None:
        base = f.at(pointers["memory"], f.mul(f.tile, f.index(4 * n * _CHAINS)), "float")
        sums = [f.load(f.at(base, f.index(i * n), "float"), type) for i in range(_CHAINS)]
        a = factor(f, base)
        with f.loop("i", 0, _ROUNDS, carry=sums) as i:
            i.next(*[step(f, s, a) for s in i.carried])
        for j, s in enumerate(i.results):
            f.store(s, f.at(base, f.index(j * n), "float"))

    return build(name, ["memory"], body, tiles=_TILES, flops=flops * _CHAINS * _ROUNDS * _TILES)


def _multiply_tiles() -> Kernel:
    """Products of AMX tiles: 16 x 32 by 32 x 16 bfloat16 numbers, four sums at a time."""
    rounds = _ROUNDS // 4

    def body(f: Function, pointers: Mapping[str, Value]) -> None:
        for tile in range(8):
            f.call("void", "llvm.x86.tilezero", Value(str(tile), "i8"))
        with f.loop("i", 0, rounds):
            for out in range(4):
                a, b = 4 + out // 2, 6 + out % 2
                given = [Value(str(tile), "i8") for tile in (out, a, b)]
                f.call("void", "llvm.x86.tdpbf16ps", *given)

    flops = 4 * 2 * 16 * 16 * 32 * rounds * _TILES
    return build("roofline_multiply_tiles", ["memory"], body, tiles=_TILES, flops=flops)


def _read(target: Target) -> Kernel:
    """Sums of everything in memory, each tile a part of it."""
    n = target.lanes(float32)
    type, count = f"<{n} x float>", _READ_BYTES // 4 // _TILES

    def body(f: Function, pointers: Mapping[str, Value]) -> None:
        base = f.at(pointers["memory"], f.mul(f.tile, f.index(count)), "float")
        zero = f.const(type, 0.0)
        with f.loop("i", 0, count, n * 8, carry=[zero] * 8) as i:
            loads = [
                f.load(f.at(base, f.add(i.index, f.index(j * n)), "float"), type) for j in range(8)
            ]
            i.next(*[f.add(c, x) for c, x in zip(i.carried, loads, strict=True)])
        total = i.results[0]
        for s in i.results[1:]:
            total = f.add(total, s)
        f.store(total, f.scratch)

    return build(
        "roofline_read", ["memory"], body, tiles=_TILES, scratch=64, flops=0, bytes=_READ_BYTES
    )


# what ran, and how fast

RUNS = 20  # of which the median counts
_COLUMNS = ("kernel", "operations", "runs", "bytes", "FLOPs", "time", "share", "roofline")


def explain(call: Executable) -> str:
    """The table of `Compiled.explain`: a row for each kernel in order of first use, and the sums.

    Tasks with equal code and operations share a row; "runs" counts them. "roofline" is the least
    time this machine needs for the row's operations or bytes, divided by the time taken; above
    100 % the bytes came from a cache.
    """
    program, plan = call.program, call.program.plan
    times = time_tasks(call)
    limit = measure(program.target, call.threads)
    total = sum(times) or 1e-12
    groups: dict[tuple[str, str], _Row] = {}
    for task, seconds in zip(plan.tasks, times, strict=True):
        row = groups.setdefault((task.symbol, task.label), _Row())
        row.add(task, seconds, limit)
    rows = [row.cells(_short(symbol), label, total) for (symbol, label), row in groups.items()]
    everything = _Row()
    for task, seconds in zip(plan.tasks, times, strict=True):
        everything.add(task, seconds, limit)
    rows.append(everything.cells("total", "", total))
    calls = f" ({', '.join(sorted(set(program.host_calls)))})" if program.host_calls else ""
    return "\n".join(
        [
            *_table(rows),
            f"host calls: {len(program.host_calls)}{calls}",
            f"arena: {size_text(plan.arena)}",
            f"machine: {program.target.name}, {call.threads} threads, {limit}",
        ]
    )


class _Row:
    """Sums over tasks."""

    def __init__(self) -> None:
        self.runs = self.bytes = self.flops = 0
        self.seconds = self.least = 0.0

    def add(self, task: LaunchTask, seconds: float, limit: Roofline) -> None:
        self.runs += 1
        self.bytes += task.bytes
        self.flops += task.flops
        self.seconds += seconds
        bf16 = "bf16" in task.symbol or "bfloat" in task.symbol
        self.least += limit.seconds(task.flops, task.bytes, bf16)

    def cells(self, name: str, label: str, total: float) -> tuple[str, ...]:
        return (
            name,
            label,
            str(self.runs),
            size_text(self.bytes),
            _count(self.flops),
            _time(self.seconds),
            f"{self.seconds / total:.1%}",
            f"{self.least / self.seconds:.0%}" if self.seconds else "-",
        )


def time_tasks(call: Executable, runs: int = RUNS) -> list[float]:
    """Seconds each task takes: the median of several runs, on copies of the states."""
    graph = call.recording.graph
    call.binding.refresh()
    states = [copy_of(call.binding.array(i), v.dtype) for i, v in enumerate(graph.states)]
    arguments = [_made_up(v.spec) for v in graph.arguments]
    results = [Buffer.empty(v.shape, v.dtype).array for v in graph.results]
    runner = Runner(call.program, call.threads, timed=True)
    runner.bind_states([address_of(a) for a in states])
    given = [address_of(a) for a in arguments], [address_of(a) for a in results]
    measured: list[list[float]] = []
    for _ in range(runs + 1):
        runner.run(*given)
        measured.append(runner.times)
    return [median(times) for times in zip(*measured[1:], strict=True)]


def llvm(call: Executable) -> str:
    """The kernels' IR as the compiler writes it, before LLVM's passes."""
    program = call.program
    return engine.module_text(compile_graph(program.graph, program.target)[1])


def assembly(call: Executable) -> str:
    """The kernels' assembly."""
    return engine.assembly_text(llvm(call), call.program.target)


def _made_up(spec: Spec) -> np.ndarray:
    """Numbers that any program can be run with: ones, and 0 for integers, which may be indices."""
    array = Buffer.empty(spec.shape, spec.dtype).array
    array[...] = 0x3F80 if spec.dtype is bfloat16 else 1 if spec.dtype.is_float else 0
    return array


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    everything = [_COLUMNS, *rows]
    widths = [max(len(row[i]) for row in everything) for i in range(len(_COLUMNS))]
    lines = [
        "  ".join(
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in everything
    ]
    return [lines[0], "-" * len(lines[0]), *lines[1:]]


def _short(symbol: str) -> str:
    """A kernel's name without the hash at its end."""
    stem, _, tail = symbol.rpartition("_")
    return (
        stem if stem and len(tail) == 12 and all(c in "0123456789abcdef" for c in tail) else symbol
    )


def _count(n: int) -> str:
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if n >= size:
            return f"{n / size:.1f} {unit}"
    return str(n)


def _time(seconds: float) -> str:
    return f"{seconds * 1e3:.2f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.1f} us"
