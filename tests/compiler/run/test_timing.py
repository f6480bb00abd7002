"""What the threads of a run note down.

Ground truth: invariants of times; a run made by hand.
"""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch.compiler.run.program import Span
from tinytorch.compiler.run.timing import TimedRun, timed_run


def test_sums_of_a_run_made_by_hand():
    """By hand: two threads, two tasks of 10 and 20 ns, 5 ns between, 7 before, 3 after."""
    run = TimedRun(
        100, 145, (Span(0, 0, 107, 115, 2), Span(0, 1, 109, 117, 3), Span(1, 0, 122, 142, 1)), 2
    )
    assert run.tasks == [(107, 117), (122, 142)]
    assert (run.whole, run.at_tasks, run.between, run.around) == (45, 30, 5, 10)
    assert run.waiting == 2 * 30 - (8 + 8 + 20)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_every_task_is_in_its_place(threads):
    """Invariant: tasks follow each other inside the run; on 1 thread nobody waits; states and the
    number of recordings stay."""
    w = tt.Tensor(np.ones((64, 64), np.float32))

    def f(x):
        y = (x @ w).tanh().sum(0)
        w.assign_(w + 1)
        return y

    step = tt.compile(f, threads=threads)
    step(np.ones((32, 64), np.float32))
    before = w.numpy().copy()
    run = timed_run(step._last)
    np.testing.assert_array_equal(w.numpy(), before)
    plan = step._last.program.plan
    assert len(run.tasks) == len(plan.tasks) > 1
    flat = [run.begin, *np.ravel(run.tasks).tolist(), run.end]
    assert flat == sorted(flat)
    assert all(0 <= s.worker < threads and s.tiles > 0 for s in run.spans)
    for i, task in enumerate(plan.tasks):
        assert sum(s.tiles for s in run.spans if s.task == i) == task.tiles
    assert run.at_tasks + run.between + run.around == run.whole
    assert run.waiting >= 0 and (threads > 1 or run.waiting == 0)


def test_a_host_call_is_a_task_of_the_first_thread():
    """Ground truth: the plan's host calls, as one span each, between the kernels."""
    f = tt.compile(lambda x: tt.host_call(np.sort, x, x * 2) + 1, threads=2)
    f(np.random.default_rng(0).normal(size=(9, 2)).astype(np.float32))
    run, plan = timed_run(f._last), f._last.program.plan
    hosts = [i for i, t in enumerate(plan.tasks) if t.host is not None]
    assert hosts
    for i in hosts:
        (span,) = [s for s in run.spans if s.task == i]
        assert span.worker == 0 and run.begin < span.begin < span.end < run.end
