"""step.py and Interruption in run.py: what is compiled; signals outside the main thread."""

import json
import threading

import numpy as np
import pytest

from tinytorch.training import step as module
from tinytorch.training.run import Interruption
from tinytorch.training.step import Step


@pytest.fixture
def log(monkeypatch):
    """Shapes of the calls that went through the compiler, which is replaced here."""
    seen: list[tuple] = []

    def recording(fn, guards):
        def call(*batch):
            seen.append(batch[0].shape)
            return fn(*batch)

        return call

    monkeypatch.setattr(module, "_compiled", recording)
    return seen


def rows(n: int, width: int = 3) -> np.ndarray:
    return np.zeros((n, width), np.float32)


def test_a_smaller_last_batch_runs_eagerly(log):
    """Ground truth: Note [the last batch]."""
    step = Step(lambda x: x.sum(), compile=True)
    for n in (8, 8, 5, 8, 5):
        step(rows(n))
    assert log == [(8, 3), (8, 3), (8, 3)]


def test_a_smaller_size_that_comes_again_at_once_is_compiled(log):
    """Ground truth: the same note: another loader with smaller batches must not stay slow."""
    step = Step(lambda x: x.sum(), compile=True)
    for n in (8, 5, 5, 5):
        step(rows(n))
    assert log == [(8, 3), (5, 3), (5, 3)]


def test_what_was_seen_can_be_carried_over(log):
    """Ground truth: the step that saw everything itself; JSON holds what is carried."""
    whole, first, second = (Step(lambda x: x.sum(), compile=True) for _ in range(3))
    for n in (8, 5, 5, 3):
        whole(rows(n))
    expected = log.copy()
    log.clear()
    for n in (8, 5):
        first(rows(n))
    second.remember(json.loads(json.dumps(first.seen())))
    for n in (5, 3):
        second(rows(n))
    assert log == expected == [(8, 3), (5, 3)]


def test_larger_batches_and_other_widths_are_compiled(log):
    """Ground truth: neither is a remainder."""
    step = Step(lambda x: x.sum(), compile=True)
    for batch in (rows(4), rows(9), rows(2, width=7)):
        step(batch)
    assert log == [(4, 3), (9, 3), (2, 7)]


def test_nothing_is_compiled_if_not_asked(log):
    """Ground truth: compile=False."""
    assert Step(lambda x: x.sum(), compile=False)(rows(4)).item() == 0.0
    assert log == []


def test_other_threads_have_no_signals_and_need_none():
    """Ground truth: Python delivers signals to the main thread alone."""
    found = []

    def run():
        with Interruption() as stop:
            found.append(stop.requested)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [False]
