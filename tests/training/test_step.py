"""step.py and Interruption in run.py: what is compiled; signals outside the main thread."""

import json
import threading

import numpy as np
import pytest

import tinytorch as tt
from tinytorch.base.errors import LengthError
from tinytorch.training import Trainer
from tinytorch.training import step as module
from tinytorch.training.history import Silent
from tinytorch.training.run import Interruption
from tinytorch.training.step import Step


@pytest.fixture
def log(monkeypatch):
    """(samples, bound) of the calls that went through the compiler, which is replaced here."""
    seen: list[tuple] = []

    def recording(fn, guards, arrays, bound):
        def call(*batch):
            if arrays and bound > 10:  # as if Python decided by the number
                raise LengthError("a length", got="8", rule="none", fix="none")
            seen.append((batch[0].shape[0], bound))
            return fn(*batch)

        return call

    monkeypatch.setattr(module, "_compiled", recording)
    return seen


def rows(n: int, width: int = 3) -> np.ndarray:
    return np.zeros((n, width), np.float32)


def test_smaller_batches_are_the_same_program(log):
    """Ground truth: Note [the last batch]; one sample is no batch of a length: it runs eagerly."""
    step = Step(lambda x: x.sum(), compile=True)
    for n in (8, 8, 5, 8, 1):
        step(rows(n))
    assert log == [(8, 8), (8, 8), (5, 8), (8, 8)] and len(step.programs) == 1


def test_larger_batches_and_other_widths_are_other_programs(log):
    """Ground truth: the same note; what is smaller than the largest fits."""
    step = Step(lambda x: x.sum(), compile=True)
    for batch in (rows(4), rows(9), rows(4), rows(2, width=7)):
        step(batch)
    assert log == [(4, 4), (9, 9), (4, 9), (2, 2)]


def test_arrays_of_other_lengths_are_programs_of_their_own(log):
    """Ground truth: the same note: no axis of samples, or not the same number of them."""
    Step(lambda x, y: x.sum(), compile=True)(rows(4), rows(3))
    Step(lambda x: x.sum(), compile=True)(np.zeros((1,), np.float32))
    assert log == [(4, 0), (1, 0)]


def test_where_python_decides_a_smaller_last_batch_runs_eagerly(log):
    """Ground truth: the same note."""
    step = Step(lambda x: x.sum(), compile=True)
    for n in (18, 18, 15, 18, 15):
        step(rows(n))
    assert log == [(18, 0), (18, 0), (18, 0)]


def test_where_python_decides_a_smaller_size_that_comes_again_at_once_is_compiled(log):
    """Ground truth: the same note: another loader with smaller batches must not stay slow."""
    step = Step(lambda x: x.sum(), compile=True)
    for n in (18, 15, 15, 15):
        step(rows(n))
    assert log == [(18, 0), (15, 0), (15, 0)]


@pytest.mark.parametrize("most", [8, 18])
def test_what_was_seen_can_be_carried_over(log, most):
    """Ground truth: the step that saw everything itself; JSON holds what is carried."""
    whole, first, second = (Step(lambda x: x.sum(), compile=True) for _ in range(3))
    for n in (most, most - 3, most - 3, 3):
        whole(rows(n))
    expected = log.copy()
    log.clear()
    for n in (most, most - 3):
        first(rows(n))
    second.remember(json.loads(json.dumps(first.seen())))
    for n in (most - 3, 3):
        second(rows(n))
    assert log == expected


def classifier(decides: bool) -> tt.nn.Module:
    """A small network with batch norm, pooling and dropout; one that asks how many samples."""

    class Asks(tt.nn.Module):
        def forward(self, x: tt.Tensor) -> tt.Tensor:
            return x * 2.0 if decides and x.shape[0] % 2 else x * 1.0

    tt.manual_seed(0)
    nn = tt.nn
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), Asks(),
        nn.Flatten(), nn.Dropout(0.1), nn.Linear(16, 3),
    )  # fmt: skip


@pytest.mark.parametrize("decides", [False, True])
@pytest.mark.parametrize("settings", [{}, {"accumulate": 2}, {"clip_norm": 1.0, "ema": 0.9}])
def test_an_epoch_with_a_smaller_last_batch_is_one_program(settings, decides):
    """Ground truth: the same run, eager: weights, statistics, losses, predictions; the count."""
    rng = np.random.default_rng(0)
    batches = [
        (rng.standard_normal((n, 1, 4, 4)).astype(np.float32), rng.integers(0, 3, n))
        for n in (8, 8, 5)
    ]
    runs = []
    for compile in (False, True):
        model = classifier(decides)
        trainer = Trainer(
            model, tt.optim.SGD(lr=0.05), tt.nn.CrossEntropyLoss(), compile=compile,
            progress=Silent(), **settings,
        )  # fmt: skip
        losses = [trainer.train(batches, epochs=3).last["loss"]]
        losses.append(trainer.evaluate(batches)["loss"])
        predicted = trainer.predict(np.concatenate([x for x, _ in batches]), batch_size=8)
        measured = [np.array(losses), predicted.numpy()]
        runs.append([*(t.numpy() for t in model.state_dict().values()), *measured])
        steps = trainer.passes.steps
    # some dozens of float32 operations a step, nine steps: rounding of 6e-8 grows to 1e-6
    for eager, compiled in zip(*runs, strict=True):
        np.testing.assert_allclose(compiled, eager, 1e-4, 1e-5)
    if not decides:
        assert [len(step.programs) for step in steps.values()] == [1, 1, 1]
        assert [step.compiled.captures for step in steps.values()] == [1, 1, 1]
        assert [step.fixed.captures for step in steps.values()] == [0, 0, 0]


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
