"""The profile of a program: one timed run, and its kernels with their times and limits.

Tasks that are equal in code and operations are taken together. Knows launch plans, times and
bounds; never how they are shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from tinytorch.compiler.plan.launch import LaunchPlan
from tinytorch.compiler.run.executable import Executable
from tinytorch.compiler.run.roofline import Bound, Roofline, bounds, measure
from tinytorch.compiler.run.timing import TimedRun, timed_run


@dataclass
class KernelSum:
    """A kernel with its operations: the sums of all tasks that are equal in both and have run.

    Args:
        symbol: of the code.
        label: the operations.
        tasks: their places among those that the plan launches.
        seconds: from the first thread's coming to the end of the last tile.
        least: seconds of their bounds.
        flops, bytes: of all runs.
        limits: least picoseconds by what sets them.
    """

    symbol: str
    label: str
    tasks: list[int] = field(default_factory=list[int])
    seconds: float = 0.0
    least: float = 0.0
    flops: int = 0
    bytes: int = 0
    limits: Counter[str] = field(default_factory=Counter[str])

    @property
    def limit(self) -> str:
        """What sets most of the least time."""
        ((by, _),) = self.limits.most_common(1)
        return by


@dataclass(frozen=True)
class Profile:
    """What `explain` shows, as numbers.

    Args:
        run: the fastest of some.
        machine: what it can do at most.
        kernels: in order of first use.
    """

    run: TimedRun
    machine: Roofline
    kernels: list[KernelSum]


def profile(call: Executable) -> Profile:
    """Time a program, kernel by kernel.

    Args:
        call: what to run; its states stay as they are.

    Cost: some twenty runs, and, once in a process, measuring the machine.
    """
    plan = call.program.plan
    run, machine = timed_run(call), measure(call.program.target, call.threads)
    return Profile(run, machine, kernel_sums(plan, run, bounds(plan, machine)))


def kernel_sums(plan: LaunchPlan, run: TimedRun, bounds: Iterable[Bound]) -> list[KernelSum]:
    """The kernels in order of first use.

    Args:
        plan: what ran.
        run: when.
        bounds: of each task that the plan launches.
    """
    sums: dict[tuple[str, str], KernelSum] = {}
    for i, (one, bound) in enumerate(zip(plan.launched, bounds, strict=True)):
        task = one.task
        kernel = sums.setdefault((task.symbol, task.label), KernelSum(task.symbol, task.label))
        if i not in run.ran:  # of a case that was not taken
            kernel.limits.setdefault("not taken", 0)
            continue
        kernel.tasks.append(i)
        kernel.seconds += run.seconds(i)
        kernel.least += bound.seconds
        kernel.flops += task.flops
        kernel.bytes += task.bytes
        kernel.limits[bound.by] += round(bound.seconds * 1e12) + 1
    return list(sums.values())


def short_name(symbol: str) -> str:
    """A kernel's name without the hash at its end.

    >>> short_name("gemm_0123456789ab"), short_name("numpy.sort")
    ('gemm', 'numpy.sort')
    """
    stem, _, tail = symbol.rpartition("_")
    return (
        stem if stem and len(tail) == 12 and all(c in "0123456789abcdef" for c in tail) else symbol
    )
