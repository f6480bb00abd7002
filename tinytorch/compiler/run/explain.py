"""A compiled function as text: its kernels with times and limits, its LLVM IR, its assembly.

Knows how to print; what is printed is measured in kernel_sums.py.
"""

from __future__ import annotations

from collections import Counter

from tinytorch.base.amounts import count_text, size_text, time_text
from tinytorch.codegen import engine
from tinytorch.compiler.pipeline import compile_graph
from tinytorch.compiler.plan.launch import LaunchPlan
from tinytorch.compiler.run.executable import Executable
from tinytorch.compiler.run.kernel_sums import KernelSum, profile, short_name

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
    call has a line of its own; what is timed is its greatest value. So have the kernels that
    run only when frozen states are new; the times are without them.

    FLOPs count an operation of the program as one for each number, an exponential too, which takes
    some twenty instructions: kernels that are full of them stay far below what is called the limit.
    """
    program, plan = call.program, call.program.plan
    found = profile(call)
    run, kernels = found.run, found.kernels
    whole = run.whole * 1e-9
    cells = [_cells(kernel, whole) for kernel in kernels]
    for name, what, taken in (
        ("between", "barriers between kernels", run.between),
        ("around", "Python, waking threads", run.around),
    ):
        share = f"{taken * 1e-9 / whole:.1%}"
        cells.append((name, what, "", "", "", time_text(taken * 1e-9), share, "", ""))
    cells.append(_total(kernels, whole))
    calls = f" ({', '.join(sorted(set(program.host_calls)))})" if program.host_calls else ""
    waiting = run.waiting / (call.threads * run.at_tasks or 1)
    return "\n".join(
        [
            *_table(cells),
            *[f"length {d.name}: {d.min} to {d.max}, here {d.max}" for d in call.recording.dims],
            *_derived(plan),
            f"host calls: {len(program.host_calls)}{calls}",
            f"arena: {size_text(plan.arena)}",
            f"threads wait for others {waiting:.1%} of the kernels' time",
            f"machine: {program.target.name}, {call.threads} threads, {found.machine}",
        ]
    )


def _derived(plan: LaunchPlan) -> list[str]:
    """A line on what is not done at each call."""
    if not plan.derivation:
        return []
    labels = Counter(one.task.label for one in plan.derivation)
    shown = ", ".join(f"{label} {n}" if n > 1 else label for label, n in labels.items())
    return [f"derived once of frozen states: {size_text(plan.kept)} by {shown}"]


def _cells(kernel: KernelSum, whole: float) -> tuple[str, ...]:
    return (
        short_name(kernel.symbol),
        kernel.label,
        str(len(kernel.tasks)),
        size_text(kernel.bytes),
        count_text(kernel.flops),
        time_text(kernel.seconds),
        f"{kernel.seconds / whole:.1%}",
        f"{kernel.least / kernel.seconds:.0%}" if kernel.least else "-",
        kernel.limit,
    )


def _total(kernels: list[KernelSum], whole: float) -> tuple[str, ...]:
    return (
        "total",
        "",
        str(sum(len(k.tasks) for k in kernels)),
        size_text(sum(k.bytes for k in kernels)),
        count_text(sum(k.flops for k in kernels)),
        time_text(whole),
        "100.0%",
        f"{sum(k.least for k in kernels) / whole:.0%}",
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
