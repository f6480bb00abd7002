"""Locks: who waits for whom, and what a forked child finds."""

import os
import signal
import threading
import time

import pytest

from tinytorch.base import locks
from tinytorch.base.locks import ForkSafeLock, SharedLock, fork_waits_for


def test_its_holder_may_take_it_again():
    """Ground truth: the docstrings."""
    lock, shared = ForkSafeLock(), SharedLock()
    with lock, lock:
        pass
    with shared, shared:
        assert shared.owner == threading.get_ident()
    assert shared.owner is None


def test_a_lock_is_held_by_one():
    """Invariant: 4 threads add 200 each in two steps, and none is lost."""
    lock, total = ForkSafeLock(), [0]

    def add():
        for _ in range(200):
            with lock:
                before = total[0]
                time.sleep(0)
                total[0] = before + 1

    threads = [threading.Thread(target=add) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert total == [800]


def test_sharing_waits_for_who_has_it_alone_and_the_other_way_round():
    """Ground truth: Note [how it is shared]: events in the order that they must have."""
    lock, seen, me = SharedLock(), [], threading.get_ident()

    def share():
        mine = threading.get_ident()
        try:
            lock.sharing.append(mine)
            if lock.owner is not None:
                lock.give_way(mine)
            seen.append("shared")
        finally:
            lock.sharing.remove(mine)

    with lock:
        thread = threading.Thread(target=share)
        thread.start()
        time.sleep(0.05)
        assert lock.owner == me
        seen.append("alone")
    thread.join()
    assert seen == ["alone", "shared"]

    lock.sharing.append(-1)  # another thread's share

    def end():
        time.sleep(0.05)
        seen.append("given back")
        lock.sharing.remove(-1)

    thread = threading.Thread(target=end)
    thread.start()
    with lock:
        seen.append("alone")
    thread.join()
    assert seen[2:] == ["given back", "alone"]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_finds_locks_open_and_what_fork_waits_for_whole(monkeypatch):
    """Ground truth: the module's docstring: in the child both can be taken at once."""
    monkeypatch.setattr(locks, "_waited", [])
    open_again, waited, order = ForkSafeLock(), threading.RLock(), []

    class Noting:
        def __init__(self, name):
            self.name = name

        def __enter__(self):
            order.append(self.name)

        def __exit__(self, *problem):
            order.append(f"{self.name} open")

    fork_waits_for(Noting("second"), place=2)
    fork_waits_for(waited, place=3)
    fork_waits_for(Noting("first"), place=1)
    held, end = threading.Event(), threading.Event()

    def hold():
        with open_again:
            held.set()
            end.wait(120)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(120)
    child = os.fork()
    if child == 0:
        signal.alarm(120)
        free = open_again.lock.acquire(blocking=False) and waited.acquire(blocking=False)
        os._exit(0 if free else 1)
    _, status = os.waitpid(child, 0)
    end.set()
    thread.join()
    assert status == 0
    assert order == ["first", "second", "second open", "first open"]


def test_a_share_that_rests_is_not_waited_for():
    """Invariant: the lock is taken alone while a sharer's user code runs; a second share counts."""
    lock, me = SharedLock(), threading.get_ident()
    taken = threading.Event()

    def alone():
        with lock:
            taken.set()

    lock.sharing.append(me)
    lock.resting.append(me)
    lock.sharing.append(me)  # compiled code that the user's code calls
    other = threading.Thread(target=alone, daemon=True)
    other.start()
    assert not taken.wait(0.1)
    lock.sharing.remove(me)
    assert taken.wait(60)
    lock.resting.remove(me)
    lock.sharing.remove(me)
    other.join(60)
