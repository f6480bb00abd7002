"""One run as a file that Chrome and Perfetto open: which thread did which kernel when.

Knows timed runs and the Trace Event Format (Google, "Trace Event Format": events of the kinds X, M
and C); never how times are taken. Open the file at https://ui.perfetto.dev or chrome://tracing;
both read it on the machine of the one who looks.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

from tinytorch.base.files import replacing, user_path
from tinytorch.compiler.plan.launch import LaunchPlan
from tinytorch.compiler.run.executable import Executable
from tinytorch.compiler.run.kernel_sums import short_name
from tinytorch.compiler.run.roofline import Bound, bounds, measure
from tinytorch.compiler.run.timing import TimedRun, timed_run

Event = dict[str, Any]
_PROCESS = 1  # of all events: there is one


def write_trace(call: Executable, name: str, path: str | os.PathLike[str]) -> None:
    """Run the program on copies of its states, and write what its threads did.

    Args:
        call: the program.
        name: what the run is called.
        path: of the file; "~" is filled in.

    Raises:
        StorageError: the file cannot be written.
    """
    run = timed_run(call)
    limits = bounds(call.program.plan, measure(call.program.target, call.threads))
    content = {"displayTimeUnit": "ns", "traceEvents": list(events(call, name, run, limits))}
    with replacing(user_path(path)) as file:
        file.write(json.dumps(content, separators=(",", ":"), allow_nan=False).encode())


def events(call: Executable, name: str, run: TimedRun, limits: list[Bound]) -> Iterator[Event]:
    """The events of a run: names of threads, the whole run, each kernel on each thread, memory.

    Args:
        call: the program.
        name: what the run is called.
        run: when who did what.
        limits: the least time of each task.
    """
    program, plan = call.program, call.program.plan
    yield _named("process_name", 0, f"TinyTorch: {name}")
    for worker, shown in enumerate(thread_names(run.threads)):
        yield _named("thread_name", worker, shown)
        yield {**_named("thread_sort_index", worker, ""), "args": {"sort_index": worker}}
    yield _slice(
        name, "run", 0, 0, run.whole, {"threads": run.threads, "tasks": len(plan.launched)}
    )
    for span in run.spans:
        task, bound = plan.launched[span.task].task, limits[span.task]
        begin, end = run.tasks[span.task]
        shown = {
            "kernel": task.symbol,
            "task": span.task,
            "tiles": f"{span.tiles} of {task.tiles}",
            "line": program.where(task),
            "flops": task.flops,
            "bytes": task.bytes,
            "limit": bound.by,
        }
        if bound.seconds and end > begin:
            shown["roofline"] = f"{bound.seconds * 1e9 / (end - begin):.0%}"
        kind = short_name(task.symbol)
        times = span.begin - run.begin, span.end - span.begin
        yield _slice(task.label or kind, kind, span.worker, *times, shown)
    for (begin, _), alive in zip(run.tasks, alive_bytes(plan), strict=True):
        yield {
            "ph": "C", "name": "arena", "pid": _PROCESS, "tid": 0,
            "ts": (begin - run.begin) / 1e3, "args": {"bytes in use": alive},
        }  # fmt: skip


def thread_names(threads: int) -> list[str]:
    """What the threads of a run are called, the caller's first."""
    return ["calling thread", *(f"worker {i}" for i in range(1, threads))]


def alive_bytes(plan: LaunchPlan) -> list[int]:
    """Bytes of temporaries that are needed while each task runs."""
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for i, launched in enumerate(plan.launched):
        for number, _, _ in launched.memory:
            if plan.storages[number][0] == "temporary":
                first.setdefault(number, i)
                last[number] = i
    change = [0] * (len(plan.launched) + 1)
    for number, i in first.items():
        change[i] += plan.storages[number][1]
        change[last[number] + 1] -= plan.storages[number][1]
    out, now = list[int](), 0
    for difference in change[:-1]:
        now += difference
        out.append(now)
    return out


def _named(kind: str, thread: int, name: str) -> Event:
    return {"ph": "M", "name": kind, "pid": _PROCESS, "tid": thread, "args": {"name": name}}


def _slice(name: str, kind: str, thread: int, begin: int, took: int, shown: Event) -> Event:
    """Something that a thread did; times in nanoseconds, in the file in microseconds."""
    return {
        "ph": "X", "name": name, "cat": kind, "pid": _PROCESS, "tid": thread, "ts": begin / 1e3,
        "dur": took / 1e3, "args": shown,
    }  # fmt: skip
