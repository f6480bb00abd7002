"""Compiled functions in Python threads and in forked children: arithmetic and invariants."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import nn
from tinytorch.base import settings
from tinytorch.base.errors import OutOfMemoryError
from tinytorch.codegen import team

ROOT = Path(tt.__file__).parents[1]


@pytest.fixture(autouse=True)
def threads_change_often():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def together(*functions):
    """Run all at once; gives what they raised."""
    raised = []

    def guarded(function):
        try:
            function()
        except BaseException as problem:
            raised.append(problem)

    threads = [threading.Thread(target=guarded, args=(f,)) for f in functions]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return raised


def test_no_draw_comes_twice():
    """Invariant: 128 bits of one counter: eager and compiled draws in six threads all differ."""
    drawn = []
    shared = tt.compile(lambda: tt.rand(4))

    def eager():
        drawn.extend(tuple(tt.rand(4).tolist()) for _ in range(200))

    def compiled():
        drawn.extend(tuple(shared().tolist()) for _ in range(200))

    def own():
        function = tt.compile(lambda: tt.rand(4) * 1.0)
        drawn.extend(tuple(function().tolist()) for _ in range(200))

    assert not together(eager, compiled, own, eager, compiled, own)
    assert len(drawn) == len(set(drawn)) == 1200


def test_tuples_that_other_threads_make_meanwhile():
    """Invariant: looking for what a recording left gives no tuple of another thread a second owner.

    A tuple that is being made may have one owner alone: Python raises SystemError otherwise.
    """
    going, problems = [True], []

    def tuples():
        while going:
            try:
                tuple(i for i in range(30))
            except SystemError as problem:
                problems.append(problem)

    def record():
        try:
            for _ in range(150):
                tt.compile(lambda x: x * 2 + 1)(tt.ones(3))
        finally:
            going.clear()

    assert not together(tuples, tuples, tuples, record)
    assert not problems


def trained(seed: int) -> list[np.ndarray]:
    """The weights after twenty compiled steps of a model that a thread has for itself."""
    made = tt.Generator(seed)
    weights = [tt.randn(6, 5, generator=made), tt.randn(5, 1, generator=made)]
    for w in weights:
        w.requires_grad = True
    x = tt.randn(32, 6, generator=made)
    optimizer = tt.optim.AdamW(weights, lr=0.05)

    @tt.compile(threads=2)
    def step(x):
        loss = (((x @ weights[0]).tanh() @ weights[1] - x[:, :1]) ** 2).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss

    for _ in range(20):
        step(x)
    return [w.numpy() for w in weights]


def test_eight_threads_train_and_share_a_step():
    """Ground truth: one thread after the other, bit for bit; a shared step counts every call."""
    want = [trained(seed) for seed in range(8)]
    count = tt.Tensor(0.0)

    @tt.compile(threads=2)
    def shared(x):
        count.assign_(count + x.sum())

    found = {}

    def work(seed):
        found[seed] = trained(seed)
        for _ in range(25):
            shared(tt.ones(4))

    assert not together(*[lambda seed=seed: work(seed) for seed in range(8)])
    for seed in range(8):
        assert all((a == b).all() for a, b in zip(found[seed], want[seed], strict=True))
    assert count.item() == 8 * 25 * 4


LIMITED = """
import gc, resource, numpy as np, tinytorch as tt

count, w = tt.Tensor(0.0), tt.Tensor(np.ones(1000, np.float32))

@tt.compile
def step(x):
    count.assign_(count + 1)
    y = (x[:, None] * x[None, :]).cumsum(0)  # 64 MB of temporaries
    w.assign_(w + y[-1, :1000])
    return y.sum()

x = tt.Tensor(np.ones(4000, np.float32))
step(x)
for runners in step._last.program.idle.values():
    runners.clear()  # with their arenas
gc.collect()
limit = resource.getrlimit(resource.RLIMIT_AS)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (20 << 20), limit[1]))
try:
    step(x)
    print("went")
except tt.TinyTorchError as error:
    resource.setrlimit(resource.RLIMIT_AS, limit)
    assert isinstance(error, MemoryError) and all((error.what, error.got, error.rule, error.fix))
    print(count.item(), w.tolist()[0])
step(x)
print(count.item(), w.tolist()[0])
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc/self/statm")
def test_memory_that_is_not_there_changes_nothing():
    """Ground truth: the states before; with memory the same call works. A real limit of memory."""
    out = subprocess.run(
        [sys.executable, "-c", LIMITED], capture_output=True, text=True, timeout=300,
        cwd=ROOT, env={**os.environ, "PYTHONPATH": "."},
    )  # fmt: skip
    assert out.stdout.split() == ["1.0", "4001.0", "2.0", "8001.0"], out.stderr


def test_scratch_that_is_not_there_changes_nothing(monkeypatch):
    """Ground truth: the states before; the error has four parts, and the next call works."""
    count = tt.Tensor(0.0)

    @tt.compile(threads=1)
    def step(x):
        count.assign_(count + 1)
        return tt.argsort(x)  # its keys lie in scratch memory

    x = tt.Tensor(np.arange(30000, dtype=np.float32)[::-1].copy())
    with monkeypatch.context() as patch:
        patch.setattr(team.Team, "idle", [])  # workers with scratch memory of their own

        def full(shape, *more, real=np.zeros):
            if isinstance(shape, int) and shape > 100_000:  # of tables there is enough
                raise MemoryError
            return real(shape, *more)

        patch.setattr(np, "zeros", full)
        with pytest.raises(OutOfMemoryError) as caught:
            step(x)
        assert all((caught.value.what, caught.value.got, caught.value.rule, caught.value.fix))
        assert count.item() == 0
    assert step(x).tolist() == list(range(30000))[::-1] and count.item() == 1


PINNED = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import tinytorch as tt
f = tt.compile(lambda x: x.sort()[0] + x.sum(), threads=16)
print(tt.num_threads(), f(tt.Tensor([2.0, 1.0])).tolist(), f._last.threads)
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_a_process_on_one_core_uses_one_thread():
    """Ground truth: its affinity; more threads than that would wait for each other."""
    out = subprocess.run(
        [sys.executable, "-c", PINNED], capture_output=True, text=True, timeout=300, cwd=ROOT,
        env={**{k: v for k, v in os.environ.items() if "THREADS" not in k}, "PYTHONPATH": "."},
    )  # fmt: skip
    assert out.stdout.strip() == "1 [4.0, 5.0] 1", out.stderr


def test_threads_beyond_the_cores_are_left_out(monkeypatch):
    """Invariant: the numbers are those of one thread, whatever is asked for."""
    monkeypatch.setattr(settings, "_cores", 2)
    x, found = tt.randn(300, 40), []
    for threads in (1, 2, 16):
        f = tt.compile(lambda x: (x @ x.T).softmax(1).sum(0), threads=threads)
        found.append(f(x).numpy().tobytes())
        assert f._last.threads == min(threads, 2) and list(f._last.program.idle)[-1] <= 2
    assert len(set(found)) == 1


def test_first_calls_of_one_compiled_model():
    """Ground truth: the eager answer, before any thread began; one recording serves all."""
    for _ in range(5):
        model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4))
        x = tt.randn(5, 8)
        want, compiled = model(x).numpy(), tt.compile(model)
        wrong = []

        def call(compiled=compiled, x=x, want=want, wrong=wrong):
            for _ in range(5):
                if not np.allclose(compiled(x).numpy(), want, rtol=1e-5, atol=1e-6):
                    wrong.append(1)

        assert not together(*[call] * 8)
        assert not wrong and compiled.captures == 1


def test_different_functions_over_one_weight_while_others_read_it_eagerly():
    """Ground truth: arithmetic; gradients of the recorded functions never mix."""
    for _ in range(3):
        w = tt.Tensor(np.ones(6, np.float32), requires_grad=True)

        def function(k, w=w):
            f = tt.compile(lambda x: (w * x * k).sum())
            for _ in range(4):
                assert f(tt.ones(6)).item() == 6 * k

        def gradient(k, w=w):
            f = tt.compile(lambda x: tt.grad(lambda v: (v * w * x * k).sum())(x))
            for _ in range(4):
                assert f(tt.ones(6)).tolist() == [k] * 6

        def eager(w=w):
            other = tt.Tensor(np.ones(6, np.float32), requires_grad=True)
            for _ in range(50):
                other.grad = None
                (w.detach() * other * 3).sum().backward()
                assert other.grad.tolist() == [3.0] * 6
                assert (w * 2).sum().item() == 12

        parts = [lambda k=k: function(k) for k in (1, 2, 3)]
        parts += [lambda k=k: gradient(k) for k in (4, 5)]
        assert not together(*parts, eager, eager)


FORKED = """
import os, sys, threading, time
import tinytorch as tt

# Python's own locks of modules are not ours to open: everything is imported before the fork
tt.compile(lambda x: (x + tt.rand(1)).exp().sum())(tt.ones(7))
stop = False

def compiling(k):
    i = 0
    while not stop:
        tt.compile(lambda x: (x * (k + i) + 1.0).exp().sum())(tt.ones(7))
        i += 1

threads = [threading.Thread(target=compiling, args=(1000.0 * k,)) for k in (1, 2)]
for t in threads:
    t.start()
time.sleep(0.3)
codes = []
for i in range(6):
    child = os.fork()
    if child == 0:
        ok = tt.compile(lambda x: x * (5.0 + i))(tt.ones(3)).tolist() == [5.0 + i] * 3
        ok = ok and len({tuple(tt.rand(4).tolist()), tuple(tt.rand(4).tolist())}) == 2
        os._exit(0 if ok else 1)
    end = time.time() + 60
    while not (done := os.waitpid(child, os.WNOHANG))[0]:
        if time.time() > end:
            os.kill(child, 9)
        time.sleep(0.02)
    codes.append(os.waitstatus_to_exitcode(done[1]))
stop = True
for t in threads:
    t.join()
print(codes)
"""


def test_a_child_forked_while_other_threads_compile_goes_on(tmp_path):
    """Ground truth: arithmetic in six children; a lock that stayed closed would hang them."""
    out = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKED], capture_output=True, text=True, timeout=300,
        cwd=ROOT, env={**os.environ, "PYTHONPATH": ".", "TINYTORCH_CACHE": str(tmp_path)},
    )  # fmt: skip
    assert out.returncode == 0 and out.stdout == "[0, 0, 0, 0, 0, 0]\n", out.stderr


def test_a_recording_begun_by_a_signal_within_a_compiled_call():
    """Invariant: nothing waits for itself; the handler's answer and the call's are both right."""
    answers = []
    big = tt.compile(lambda x: (x * 2).sum())
    x = tt.ones(200_000)
    big(x)

    def handler(number, frame):
        k = float(len(answers))
        answers.append(tt.compile(lambda x: x + k)(tt.ones(2)).tolist() == [1 + k] * 2)
        signal.setitimer(signal.ITIMER_REAL, 0.01)  # not while this one is being answered

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    try:
        end = time.time() + 60
        while len(answers) < 10 and time.time() < end:
            assert big(x).item() == 400_000
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(answers) >= 10 and all(answers)
