"""Batches made by threads of this process.

Knows jobs and their order, never what a job makes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

T = TypeVar("T")
Job = tuple[int, int, int]  # seed, epoch, batch


class Pool(Protocol):
    """Who makes batches: give jobs with `submit`, take the results in the same order."""

    def submit(self, job: Job) -> Callable[[], tuple]:
        """Begin a job; what comes back waits for its result when called."""
        ...

    def close(self) -> None:
        """End the workers; jobs that nobody waits for are dropped."""
        ...


class Threads:
    """Workers that are threads: nothing is copied, and NumPy's long loops run side by side.

    Args:
        make: what a job does; called by several threads at once.
        workers: how many threads, >= 1.
    """

    def __init__(self, make: Callable[[Job], tuple], workers: int):
        self._make = make
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="tinytorch-loader")

    def submit(self, job: Job) -> Callable[[], tuple]:
        """Begin a job."""
        return self._threads.submit(self._make, job).result

    def close(self) -> None:
        """Let running jobs end, drop the others."""
        self._threads.shutdown(wait=True, cancel_futures=True)


def in_order(jobs: Iterable[Job], pool: Pool, ahead: int) -> Iterator[tuple]:
    """The results of all jobs in their order, `ahead` of them begun before they are asked for.

    An error of a job is raised at its place in the order.

    Args:
        jobs: what to do.
        pool: who does it.
        ahead: >= 0.
    """
    waiting: deque[Callable[[], tuple]] = deque()
    for job in jobs:
        waiting.append(pool.submit(job))
        if len(waiting) > ahead:
            yield waiting.popleft()()
    while waiting:
        yield waiting.popleft()()
