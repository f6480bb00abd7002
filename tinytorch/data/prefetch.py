"""Making the next items in a background thread while the present one is used.

Knows an iterator, never what it yields.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import TypeVar

T = TypeVar("T")


def prefetched(items: Iterator[T], ahead: int) -> Iterator[T]:
    """The same items in the same order, made up to `ahead` items early by one thread.

    An error of `items` is raised here, at its place in the order. When this iterator is closed or
    thrown away, the thread ends.

    Args:
        items: only the thread touches it from now on.
        ahead: how many finished items may wait, >= 1.

    Cost: one thread; `ahead` items of memory.

    Example:
        >>> list(prefetched(iter("abc"), ahead=2))
        ['a', 'b', 'c']
    """
    finished: queue.Queue = queue.Queue(maxsize=ahead)
    stopped = threading.Event()

    def put(entry: tuple[str, object]) -> bool:
        while not stopped.is_set():
            try:
                finished.put(entry, timeout=0.1)  # so that a stop is seen when nobody takes
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for item in items:
                if not put(("item", item)):
                    return
        except BaseException as error:  # handed to the user's thread, which raises it
            put(("error", error))
        else:
            put(("end", None))

    thread = threading.Thread(target=work, name="tinytorch-prefetch", daemon=True)
    thread.start()
    try:
        while True:
            kind, value = finished.get()
            if kind == "item":
                yield value
            elif kind == "error":
                raise value
            else:
                return
    finally:
        stopped.set()
        thread.join()
