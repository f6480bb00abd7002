"""A compiled function from inside: its kernels with their times, its LLVM IR, its assembly.

Knows how to print programs; changes nothing. Timing runs on copies of the states and on made-up
arguments, so that looking does not train.
"""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from tinytorch.codegen import engine
from tinytorch.compiler.pipeline import compile_graph
from tinytorch.compiler.plan.arena import size_text
from tinytorch.compiler.plan.launch import LaunchTask
from tinytorch.compiler.run.program import Runner
from tinytorch.compiler.run.roofline import Roofline, measure
from tinytorch.tensor.memory import Buffer, copy_of

if TYPE_CHECKING:
    from tinytorch.compiler.run.executable import Executable

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
    arguments = [_made_up(v) for v in graph.arguments]
    results = [Buffer.empty(v.shape, v.dtype).array for v in graph.results]
    runner = Runner(call.program, call.threads, timed=True)
    runner.bind_states([_address(a) for a in states])
    given = [_address(a) for a in arguments], [_address(a) for a in results]
    measured = []
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


def _made_up(value) -> np.ndarray:
    """Numbers that any program can be run with: ones, and 0 for integers, which may be indices."""
    array = Buffer.empty(value.shape, value.dtype).array
    array[...] = 0x3F80 if value.dtype.name == "bfloat16" else 1 if value.dtype.is_float else 0
    return array


def _address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


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
