"""Locks and forks: what a forked child finds.

Knows threads and fork. A child has only the thread that forked. Two things can go wrong there: a
lock that another thread held stays closed for ever, and what that thread was in the middle of stays
half done. A `ForkSafeLock` is for work whose halves do no harm: the child finds it open. Work that
must be whole (LLVM's memory, a recording that has changed Tensors) is waited for: `fork_waits_for`.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from contextlib import AbstractContextManager
from weakref import WeakSet

_all: WeakSet[ForkSafeLock] = WeakSet()


class ForkSafeLock:
    """A lock that its holder may take again, and that is open again in a forked child.

    `with x.lock:` where Ctrl-C may come at any moment: `lock` is Python's own, whose `__exit__` no
    exception of a signal handler can interrupt; `with x:` elsewhere.
    """

    __slots__ = ("__weakref__", "lock")

    def __init__(self) -> None:
        self.lock = threading.RLock()
        _all.add(self)

    def __enter__(self) -> None:
        self.lock.acquire()

    def __exit__(self, *_problem: object) -> None:
        self.lock.release()


class SharedLock:
    """Many threads may hold it together, or one alone (`with lock:`), which it may do again.

    Note [how it is shared]
        Sharing is written out where it is needed, because an exception of a signal handler (Ctrl-C)
        may come between any two Python functions, and a share that is never given back would keep
        others waiting for ever:

            try:
                lock.sharing.append(me)          # me = threading.get_ident()
                if lock.owner is not None:
                    lock.give_way(me)
                ...
            finally:
                lock.sharing.remove(me)

        Both sides announce themselves first and look for the other afterwards, and a change of the
        deque is one step for other threads: at most one side goes on. A thread that shares the
        lock must not ask for it alone, but while it rests: code of the user that runs in the middle
        may do so, and others need not wait for it.

            try:
                lock.resting.append(me)
                ...                              # once for each share that the thread has
            finally:
                lock.resting.remove(me)
            if lock.owner is not None:
                lock.give_way(me)

    Example:
        >>> lock = SharedLock()
        >>> with lock:
        ...     lock.owner == threading.get_ident()
        True
    """

    __slots__ = ("_depth", "_lock", "owner", "resting", "sharing")

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._depth = 0
        self.owner: int | None = None  # who has it alone, or waits to
        self.sharing: deque[int] = deque()
        self.resting: deque[int] = deque()

    def _works(self, thread: int) -> bool:
        """Whether a thread has a share that does not rest."""
        return self.sharing.count(thread) > self.resting.count(thread)

    def give_way(self, me: int) -> None:
        """Wait while another thread has the lock alone, without a share of this one."""
        while self.owner is not None and self.owner != me:
            self.sharing.remove(me)
            try:
                with self._lock:
                    pass
            finally:
                self.sharing.append(me)

    def __enter__(self) -> None:
        self._lock.acquire()
        me = self.owner = threading.get_ident()
        self._depth += 1
        try:
            while any(other != me and self._works(other) for other in tuple(self.sharing)):
                time.sleep(20e-6)
        except BaseException:  # Ctrl-C while it waits
            self.__exit__()
            raise

    def __exit__(self, *_problem: object) -> None:
        self._depth -= 1
        if not self._depth:
            self.owner = None
        self._lock.release()


_waited: list[tuple[int, AbstractContextManager[object]]] = []


def fork_waits_for(lock: AbstractContextManager[object], place: int) -> None:
    """Let `os.fork` take `lock` first, so that the child finds its work whole and the lock open.

    Args:
        lock: its holder may take it again.
        place: locks are taken in rising order; it must be the order in which one thread takes them.
    """
    _waited.append((place, lock))
    _waited.sort(key=lambda entry: entry[0])


def _before_fork() -> None:
    for _, lock in _waited:
        lock.__enter__()


def _after_fork() -> None:
    for _, lock in reversed(_waited):
        lock.__exit__(None, None, None)


def _in_child() -> None:
    _after_fork()
    for lock in list(_all):
        lock.lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_in_child)
