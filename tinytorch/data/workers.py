"""Who makes batches: threads of this process, or processes of their own.

Knows jobs, their order, pipes and arrays; never what a job makes. Processes are for data sets whose
work is Python.

Note [who holds which end]: a worker's pipe has one end in the worker and one here, and no other
process has either (forkserver passes single descriptors). So when this process ends, however it
ends, the worker reads an end of file and ends; when a worker ends, so does the read here.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import time
import traceback
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from typing import Any, Protocol

import numpy as np

from tinytorch.base.errors import DataError

Job = tuple[int, int, int]  # seed, epoch, batch
START = "forkserver"  # a fork of this process would copy its threads' locks in whatever state
WAIT = 5.0  # seconds given to a worker whose pipe broke, to say how it ended
PATIENCE = 0.1  # seconds given to all workers that were told to end: those that wait for work do
SAFE, OURS = "PYTHONSAFEPATH", "tinytorch"


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


class Processes:
    """Workers that are processes. Batch i is made by worker i modulo their number.

    A job is three numbers and a worker works out the rest itself, so a job never fills a pipe:
    this process cannot wait for a worker that waits for this process.

    Args:
        make: what a job does, giving a tuple or dict of arrays; pickled once to each worker.
        workers: how many, >= 1.

    Cost: a start of about 0.3 s each; a copy of the data set in each, unless its arrays are
        memory-mapped; two copies of each batch through a pipe.
    """

    def __init__(self, make: Callable[[Job], tuple], workers: int):
        context = _started()
        self._workers, self._pipes = [], []
        self._next = 0
        # Also when nobody holds this any more, and when the interpreter ends.
        self._end = weakref.finalize(self, _end, self._pipes, self._workers)
        for i in range(workers):
            here, there = context.Pipe()
            worker = context.Process(
                target=serve, args=(there, make), name=f"tinytorch-loader-{i}", daemon=True
            )
            self._pipes.append(here)
            try:
                worker.start()
            except (pickle.PicklingError, AttributeError, TypeError) as error:
                self.close()
                raise DataError(
                    "the data set or the transform cannot be sent to a process",
                    got=error,
                    rule="objects of classes and functions that an import finds by their names",
                    fix="a function with a name in place of a lambda; or processes=False",
                ) from None
            finally:
                there.close()
            self._workers.append(worker)

    def submit(self, job: Job) -> Callable[[], tuple]:
        """Begin a job; its result must be taken before those of later jobs."""
        i = self._next
        self._next = (i + 1) % len(self._pipes)
        try:
            self._pipes[i].send(job)
        except OSError:
            raise self._gone(i) from None
        return lambda: self._receive(i)

    def _receive(self, i: int) -> tuple:
        try:
            answer = receive(self._pipes[i])
        except (EOFError, OSError):
            raise self._gone(i) from None
        if isinstance(answer, Exception):  # outside the `try`: it may be an OSError of the data set
            raise answer
        return answer

    def _gone(self, i: int) -> DataError:
        worker = self._workers[i]
        worker.join(WAIT)
        code = worker.exitcode
        return DataError(
            "a process of the DataLoader ended",
            got=f"worker {i}, exit code {code}",
            rule="workers live as long as the loader",
            fix="its last words stand above; if there are none it was killed: fewer workers or "
            'less memory. A script must start under `if __name__ == "__main__":`, because a '
            "worker imports it",
        )

    def close(self) -> None:
        """End the workers, those in the middle of a batch too: nobody will take it.

        Cost: 0.1 s at most, and what the system takes to end a process.
        """
        self._end()


def _end(pipes: list, workers: list) -> None:
    for pipe in pipes:
        pipe.close()
    last = time.monotonic() + PATIENCE
    for worker in workers:
        worker.join(max(0.0, last - time.monotonic()))
    busy = [worker for worker in workers if worker.is_alive()]
    for worker in busy:
        worker.kill()  # SIGTERM could be ignored by what the data set calls
    for worker in workers:
        worker.join()
        worker.close()  # its descriptors


def serve(pipe: Connection, make: Callable[[Job], tuple]) -> None:
    """A worker's life: make what is asked for until the pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that trains
    if os.environ.get(SAFE) == OURS:  # for what the data set starts, it is as the user left it
        del os.environ[SAFE]
    while True:
        try:
            job = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            answer = flattened(make(job))
            strange = [a.dtype for a in answer[1] if a.dtype.hasobject]
            if strange:
                raise DataError(
                    "a batch holds Python objects",
                    got=f"dtype {strange[0]}",
                    rule="processes hand over arrays of numbers",
                    fix="DataLoader(..., processes=False)",
                )
        except Exception as error:  # handed to the user's process, which raises it
            answer = error
        try:
            send(pipe, answer)
        except OSError:
            return


def flattened(batch: Any) -> tuple[Any, list[np.ndarray]]:
    """The shape of a batch, with numbers in place of its arrays, and the arrays.

    >>> flattened({"x": np.zeros(2), "y": (np.ones(1),)})
    ({'x': 0, 'y': (1,)}, [array([0., 0.]), array([1.])])
    """
    arrays: list[np.ndarray] = []
    return _numbered(batch, arrays), arrays


def _numbered(x: Any, arrays: list[np.ndarray]) -> Any:
    # not a function within the one above that calls itself: such a circle would keep the arrays
    if isinstance(x, Mapping):
        return {name: _numbered(part, arrays) for name, part in x.items()}
    if isinstance(x, tuple | list):
        return getattr(type(x), "_make", tuple)([_numbered(part, arrays) for part in x])
    arrays.append(np.ascontiguousarray(x))
    return len(arrays) - 1


def filled(shape: Any, arrays: Sequence[np.ndarray]) -> Any:
    """The batch that `flattened` took apart."""
    if isinstance(shape, dict):
        return {name: filled(part, arrays) for name, part in shape.items()}
    if isinstance(shape, tuple):
        return getattr(type(shape), "_make", tuple)([filled(part, arrays) for part in shape])
    return arrays[shape]


def send(pipe: Connection, answer: tuple[Any, list[np.ndarray]] | Exception) -> None:
    """Shapes and types, then the bytes of each array; or an error and where it came from."""
    if isinstance(answer, Exception):
        place = "".join(traceback.format_exception(answer))
        pipe.send((_that_travels(answer), f"in a process of the DataLoader:\n{place}"))
        return
    shape, parts = answer
    pipe.send([shape, [(a.shape, a.dtype) for a in parts]])
    for a in parts:
        if a.size:
            pipe.send_bytes(a.data.cast("B"))


def receive(pipe: Connection) -> Any:
    """What `send` sent: new arrays; or an error, with a note that says where it came from."""
    head = pipe.recv()
    if isinstance(head, tuple):
        error, place = head
        error.add_note(place)
        return error
    place, kinds = head
    arrays = tuple(np.empty(shape, dtype) for shape, dtype in kinds)
    for a in arrays:
        if a.size:
            pipe.recv_bytes_into(a.data.cast("B"))
    return filled(place, arrays)


def _started() -> ForkServerContext:
    """The context whose server starts workers; the server runs.

    Python starts the server with -c, which puts the present folder first on its path: ./socket.py
    would run in it. With PYTHONSAFEPATH it does not; workers get this process's own path.
    """
    given = os.environ.get(SAFE)
    if not given:
        os.environ[SAFE] = OURS
    try:
        forkserver.ensure_running()
    finally:
        if not given:
            del os.environ[SAFE]
    return multiprocessing.get_context(START)


def _that_travels(error: Exception) -> Exception:
    """The error, or one with its text if it cannot be pickled and read again."""
    try:
        pickle.loads(pickle.dumps(error))
        return error
    except Exception:
        return DataError(
            "a process of the DataLoader failed",
            got=f"{type(error).__name__}: {error}",
            rule="the data set and the transform run without errors",
            fix="DataLoader(..., workers=0) shows the error where it happens",
        )
