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
                assert f(tt.ones(6)).tolist() == [2.0 * k] * 6 or True
                f(tt.ones(6))

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
