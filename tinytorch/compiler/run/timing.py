"""One run of a program, as its threads noted it: who did what when, and what lay between.

Knows executables, native time stamps and arithmetic on them; never how they are shown. A run is on
copies of the states and on made-up arguments, so that looking does not train. Time stamps are taken
by the thread team's native loop (codegen/team.py), in a table that only such runs have: programs
that nobody looks at do not pay for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tinytorch.base.dtypes import bfloat16
from tinytorch.compiler.run.executable import Executable
from tinytorch.compiler.run.program import Runner, Span, address_of, clock
from tinytorch.primitives.primitive import Spec
from tinytorch.tensor.memory import Buffer, copy_of

RUNS = 20  # of which the fastest is shown: neighbours only ever slow a run down
LEAST_RUNS, ENOUGH_SECONDS = 3, 3.0  # of a long program fewer, so that nobody waits for minutes


@dataclass(frozen=True)
class TimedRun:
    """One run. All times are nanoseconds of one clock.

    Args:
        begin, end: Python called the program, and had its answer.
        spans: each thread at each task, in the order of the tasks.
        threads: how many threads could take part.
    """

    begin: int
    end: int
    spans: tuple[Span, ...]
    threads: int

    @cached_property
    def tasks(self) -> list[tuple[int, int]]:
        """(begin, end) of each task: its first thread came, its last tile was done."""
        out: dict[int, tuple[int, int]] = {}
        for s in self.spans:
            begin, end = out.get(s.task, (s.begin, s.end))
            out[s.task] = min(begin, s.begin), max(end, s.end)
        return [out[i] for i in sorted(out)]

    @cached_property
    def ran(self) -> frozenset[int]:
        """The tasks of which something was done: not those of a case that was not taken."""
        return frozenset(s.task for s in self.spans if s.tiles)

    def seconds(self, task: int) -> float:
        """Of a task: more than 0, also where the clock did not move."""
        begin, end = self.tasks[task]
        return max(end - begin, 1) * 1e-9

    @property
    def whole(self) -> int:
        """All of it."""
        return self.end - self.begin

    @property
    def at_tasks(self) -> int:
        """Time in which some thread was at a task."""
        return sum(end - begin for begin, end in self.tasks)

    @property
    def between(self) -> int:
        """Time between tasks: barriers, the way into and out of segments, time stamps."""
        last = self.tasks[:-1]
        return sum(b - e for (_, e), (b, _) in zip(last, self.tasks[1:], strict=True))

    @property
    def around(self) -> int:
        """Time before the first task and after the last: Python, and waking the workers."""
        return self.whole - self.at_tasks - self.between

    @property
    def waiting(self) -> int:
        """Of all threads together: time at a barrier, or not yet there, while others had a task."""
        working = sum(s.end - s.begin for s in self.spans)
        return self.threads * self.at_tasks - working


def timed_run(call: Executable, runs: int = RUNS) -> TimedRun:
    """The fastest of several runs, after one that warms up; dims are as long as they can be.

    Args:
        call: what to run; its states stay as they are.
        runs: at least 1; of a long program only as many as 3 seconds hold, and 3.

    Cost: these runs and one more, and copies of the states.
    """
    graph = call.recording.graph
    call.binding.refresh()
    states = [copy_of(call.binding.array(i), v.dtype) for i, v in enumerate(graph.states)]
    arguments = [_made_up(v.spec) for v in graph.arguments]
    for dim, i in call.recording.dims.items():
        arguments[i][...] = dim.max
    results = [Buffer.empty(v.shape, v.dtype).array for v in graph.results]
    runner = Runner(call.program, call.threads, timed=True)
    runner.bind_states([address_of(a) for a in states])
    given = [address_of(a) for a in arguments], [address_of(a) for a in results]
    seen: list[TimedRun] = []
    for i in range(runs + 1):
        if i > LEAST_RUNS and sum(run.whole for run in seen) > ENOUGH_SECONDS * 1e9:
            break
        runner.forget_spans()
        begin = clock()
        runner.run(*given, frozen=runner)  # derived by the run that warms up
        end = clock()
        seen.append(TimedRun(begin, end, tuple(runner.spans()), call.threads))
    return min(seen[1:], key=lambda run: run.whole)


def _made_up(spec: Spec) -> np.ndarray:
    """Numbers that any program can be run with: ones, and 0 for integers, which may be indices."""
    array = Buffer.empty(spec.shape, spec.dtype).array
    array[...] = 0x3F80 if spec.dtype is bfloat16 else 1 if spec.dtype.is_float else 0
    return array
