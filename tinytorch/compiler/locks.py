"""Locks that a forked child finds open.

Knows threads and fork. A child has only the thread that forked; a lock that another thread held at
that moment would stay closed for ever.
"""

from __future__ import annotations

import os
import threading
from weakref import WeakSet

_all: WeakSet[ForkSafeLock] = WeakSet()


class ForkSafeLock:
    """A lock that its holder may take again, and that is open again in a forked child."""

    __slots__ = ("__weakref__", "_lock")

    def __init__(self) -> None:
        self._lock = threading.RLock()
        _all.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_problem) -> None:
        self._lock.release()


def _open_all() -> None:
    for lock in list(_all):
        lock._lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_open_all)
