"""A compiled function as text: its kernels with times and limits, its LLVM IR, its assembly.

Knows how to print; what is printed is measured in timing.py and roofline.py.
"""

from __future__ import annotations

from collections import Counter

from tinytorch.base.amounts import count_text, size_text, time_text
from tinytorch.codegen import engine
from tinytorch.compiler.pipeline import compile_graph
from tinytorch.compiler.plan.launch import LaunchTask
from tinytorch.compiler.run.executable import Executable
from tinytorch.compiler.run.roofline import Bound, bounds, measure
from tinytorch.compiler.run.timing import timed_run

_COLUMNS = (
    "kernel", "operations", "runs", "bytes", "FLOPs", "time", "share", "roofline", "limit",
)  # fmt: skip


def explain(call: Executable) -> str:
    """The table of `Compiled.explain`: a row for each kernel in order of first use, and the sums.

    Tasks with equal code and operations share a row; "runs" counts them. Times are those of one
    run, the fastest of some; what lies between its kernels (barriers) and around them (Python,
    waking the workers) has rows of its own, so that the shares are of all of it.

    "roofline" is the least time that this machine needs for a kernel, divided by the time taken,
    and "limit" is what sets that least time: arithmetic (fp32, fp64, bf16), bytes from "memory" or
    from a "cache" (roofline.py, Note [where bytes come from]), or "start", for a kernel so small
    that taking its tiles and looking at the clock is what it consists of. A length that differs by
    call has a line of its own; what is timed is its greatest value.

    FLOPs count an operation of the program as one for each number, an exponential too, which takes
    some twenty instructions: kernels that are full of them stay far below what is called the limit.
    """
    program, plan = call.program, call.program.plan
    run, limit = timed_run(call), measure(call.program.target, call.threads)
    whole = run.whole * 1e-9
    rows: dict[tuple[str, str], _Row] = {}
    everything = _Row()
    for launched, bound, (begin, end) in zip(
        plan.launched, bounds(plan, limit), run.tasks, strict=True
    ):
        task = launched.task
        for row in (rows.setdefault((task.symbol, task.label), _Row()), everything):
            row.add(task, bound, (end - begin) * 1e-9)
    cells = [row.cells(short_name(symbol), label, whole) for (symbol, label), row in rows.items()]
    for name, what, taken in (
        ("between", "barriers between kernels", run.between),
        ("around", "Python, waking threads", run.around),
    ):
        share = f"{taken * 1e-9 / whole:.1%}"
        cells.append((name, what, "", "", "", time_text(taken * 1e-9), share, "", ""))
    cells.append(everything.total(whole))
    calls = f" ({', '.join(sorted(set(program.host_calls)))})" if program.host_calls else ""
    waiting = run.waiting / (call.threads * run.at_tasks or 1)
    return "\n".join(
        [
            *_table(cells),
            *[f"length {d.name}: {d.min} to {d.max}, here {d.max}" for d in call.recording.dims],
            f"host calls: {len(program.host_calls)}{calls}",
            f"arena: {size_text(plan.arena)}",
            f"threads wait for others {waiting:.1%} of the kernels' time",
            f"machine: {program.target.name}, {call.threads} threads, {limit}",
        ]
    )


class _Row:
    """Sums over tasks."""

    def __init__(self) -> None:
        self.runs = self.bytes = self.flops = 0
        self.seconds = self.least = 0.0
        self.limits: Counter[str] = Counter()  # least seconds by what sets them

    def add(self, task: LaunchTask, bound: Bound, seconds: float) -> None:
        self.runs += 1
        self.bytes += task.bytes
        self.flops += task.flops
        self.seconds += seconds
        self.least += bound.seconds
        self.limits[bound.by] += round(bound.seconds * 1e12) + 1

    def cells(self, name: str, label: str, whole: float) -> tuple[str, ...]:
        (limit, _), *_ = self.limits.most_common(1)
        return (
            name,
            label,
            str(self.runs),
            size_text(self.bytes),
            count_text(self.flops),
            time_text(self.seconds),
            f"{self.seconds / whole:.1%}",
            f"{self.least / self.seconds:.0%}" if self.least and self.seconds else "-",
            limit,
        )

    def total(self, whole: float) -> tuple[str, ...]:
        return (
            "total",
            "",
            str(self.runs),
            size_text(self.bytes),
            count_text(self.flops),
            time_text(whole),
            "100.0%",
            f"{self.least / whole:.0%}",
            "",
        )


def llvm(call: Executable) -> str:
    """The kernels' IR as the compiler writes it, before LLVM's passes."""
    program = call.program
    return engine.module_text(compile_graph(program.graph, program.target)[1])


def assembly(call: Executable) -> str:
    """The kernels' assembly."""
    return engine.assembly_text(llvm(call), call.program.target)


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    everything = [_COLUMNS, *rows]
    widths = [max(len(row[i]) for row in everything) for i in range(len(_COLUMNS))]
    lines = [
        "  ".join(
            cell.ljust(width) if i < 2 or i == len(row) - 1 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in everything
    ]
    return [lines[0], "-" * len(lines[0]), *lines[1:]]


def short_name(symbol: str) -> str:
    """A kernel's name without the hash at its end.

    >>> short_name("gemm_0123456789ab"), short_name("numpy.sort")
    ('gemm', 'numpy.sort')
    """
    stem, _, tail = symbol.rpartition("_")
    return (
        stem if stem and len(tail) == 12 and all(c in "0123456789abcdef" for c in tail) else symbol
    )
