"""tt.host_call, eager and compiled: numbers, order, gradients, errors, threads, the disk cache.

Ground truth: the same function called eagerly, and closed forms.
"""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import tinytorch as tt
from tinytorch.base.errors import ArgumentTypeError, GradientError, ShapeError
from tinytorch.compiler.run import program as programs


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TINYTORCH_CACHE", str(tmp_path))
    programs.forget_programs()
    yield
    programs.forget_programs()


def both(function):
    return [function, tt.compile(function)]


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16", "int32", "bool"])
def test_every_kind_of_number(dtype):
    """Ground truth: NumPy; bfloat16 comes as float32 and is rounded on the way back."""
    x = tt.tensor([[3, 0], [1, 1]], dtype=getattr(tt, dtype))
    seen = []

    def function(a):
        seen.append(a.dtype.name)
        return np.sort(a, 0)

    for run in both(lambda x: tt.host_call(function, x, x)):
        out = run(x)
        assert out.dtype == x.dtype and out.tolist() == np.sort(x.tolist(), 0).tolist()
    wide = "float32" if dtype == "bfloat16" else dtype
    assert seen == [wide, wide]


def test_results_of_every_form():
    """Closed form: none, one, several; a pair, a Tensor like it, a list."""
    x = tt.Tensor([1.0, 2.0])

    def run(x):
        none = tt.host_call(lambda a: None, None, x)
        one = tt.host_call(lambda a: a.sum(), ((), "float64"), x)
        n, like = tt.host_call(lambda a: (a.size, a + 1), [((), tt.int64), x], x)
        flat = tt.host_call(lambda: np.arange(3.0), (3, tt.float32))
        return none, one, n, like, flat

    for call in both(run):
        none, one, n, like, flat = call(x)
        assert none is None and one.dtype is tt.float64 and one.item() == 3
        assert n.dtype is tt.int64 and n.item() == 2 and like.tolist() == [2, 3]
        assert flat.tolist() == [0, 1, 2]


def test_calls_happen_in_program_order_once_a_run_even_if_unused():
    """Ground truth: the order in which the lines stand; equal calls are two calls."""
    told = []

    @tt.compile
    def f(x):
        tt.host_call(lambda a: told.append(("x", a.tolist())), None, x)
        y = x * 2
        for _ in range(2):
            tt.host_call(lambda a: told.append("same") or a, y, y)  # nobody reads it
        tt.host_call(lambda: told.append("last"), None)
        return y + 1

    for k in (1.0, 2.0):
        f(tt.Tensor([k]))
    assert told == [("x", [1]), "same", "same", "last", ("x", [2]), "same", "same", "last"]
    text = f.explain()
    assert "host calls: 4" in text and len(told) == 8  # looking at it calls nothing


def make_step(function):
    """A training step with a call of `function` in its middle; (step, what it changes)."""
    w = tt.Tensor([1.0, 2.0], requires_grad=True)
    count = tt.Tensor([0.0])
    optimizer = tt.optim.AdamW([w], lr=0.1)

    @tt.compile
    def step(x):
        count.assign_(count + 1)
        y = tt.host_call(function, x, x * count.detach())
        loss = (w * y).sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        tt.host_call(lambda a: function(a), w, w)
        return loss

    def changed():
        return w.tolist(), count.tolist(), repr(optimizer.state_dict())

    return step, changed


@pytest.mark.parametrize("at", [0, 1])
def test_an_error_reaches_the_caller_as_it_is_and_changes_nothing(at):
    """Ground truth: the states before; the first call, and one that is given the new weights."""
    calls, armed = [], []

    def function(a):
        calls.append(a)
        if armed and len(calls) % 2 == (1 + at) % 2:
            raise KeyError("theirs")
        return a * 2

    step, changed = make_step(function)
    x = tt.Tensor([1.0, 3.0])
    step(x), step(x)
    before = changed()
    armed.append(True)
    with pytest.raises(KeyError, match="theirs") as caught:
        step(x)
    assert type(caught.value) is KeyError and changed() == before
    armed.clear()
    calls.clear()
    step(x)
    assert changed()[1] == [3.0] and changed() != before


def test_a_wrong_result_is_refused_and_changes_nothing():
    """Ground truth: the states before."""
    wrong = []
    step, changed = make_step(lambda a: np.zeros(7) if wrong else a)
    x = tt.Tensor([1.0, 3.0])
    step(x)
    before = changed()
    wrong.append(True)
    with pytest.raises(ShapeError, match="other shapes"):
        step(x)
    assert changed() == before


def test_a_gradient_is_refused_or_given_by_custom_vjp():
    """Closed form: d/dx sum(exp(x)) = exp(x), by a rule around two host calls."""
    x = tt.Tensor([0.5, 1.0], requires_grad=True)

    def plain(x):
        return tt.grad(lambda x: tt.host_call(np.exp, x, x).sum())(x)

    exp = tt.custom_vjp(lambda x: tt.host_call(np.exp, x, x))
    exp.define(lambda x: ((y := tt.host_call(np.exp, x, x)), y), lambda y, g: (g * y,))
    for call in both(plain):
        with pytest.raises(GradientError, match="goes through a host call"):
            call(x.detach())
    for call in both(lambda x: tt.grad(lambda x: exp(x).sum())(x)):
        np.testing.assert_allclose(call(x.detach()).numpy(), np.exp([0.5, 1.0]), rtol=1e-6)
    for call in both(
        lambda x: tt.grad(lambda x: (x * tt.host_call(np.exp, x, x.detach())).sum())(x)
    ):
        np.testing.assert_allclose(call(x.detach()).numpy(), np.exp([0.5, 1.0]), rtol=1e-6)


def test_a_function_may_use_compiled_functions_and_other_threads_may_record():
    """Ground truth: arithmetic; nobody waits for ever (each thread gives its share of the lock)."""

    def inner(k):
        return tt.compile(lambda x: x * k)  # recorded while the outer program runs

    outer = tt.compile(
        lambda x, k: tt.host_call(lambda a, k: inner(float(k))(tt.Tensor(a)).numpy(), x, x, k) + 1
    )
    outer(tt.ones(3), tt.Tensor(2.0))
    found = {}

    def work(k):
        found[k] = [outer(tt.ones(3), tt.Tensor(float(k))).tolist() for _ in range(20)]

    threads = [threading.Thread(target=work, args=(k,), daemon=True) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert not any(t.is_alive() for t in threads)
    assert found == {k: [[k + 1.0] * 3] * 20 for k in range(4)}


def test_programs_that_differ_by_the_function_share_code_and_call_their_own():
    """Ground truth: arithmetic; the second program is found in memory, the third on disk."""

    def program_of(k):
        f = tt.compile(lambda x: tt.host_call(lambda a: a * k, x, x + 1))
        out = f(tt.Tensor([1.0])).item()
        return out, f._last.program

    two, first = program_of(2.0)
    three, second = program_of(3.0)
    assert (two, three) == (4, 6) and second.library is first.library
    programs.forget_programs()
    five, third = program_of(5.0)
    assert five == 10 and third.library is not first.library
    assert third.objects == first.objects  # compiled once


SAVED = """
import sys
import tinytorch as tt
from tinytorch.compiler.run import program

program.compile_graph = None  # not called where the cache has the program
f = tt.compile(lambda x: tt.host_call(lambda a: a * 7, x, x + 1))
print(f(tt.Tensor([1.0])).item())
"""


def test_another_process_finds_the_code_and_brings_its_function():
    """Ground truth: arithmetic, by a function that the first process never had."""
    tt.compile(lambda x: tt.host_call(lambda a: a * 2, x, x + 1))(tt.Tensor([1.0]))
    out = subprocess.run(
        [sys.executable, "-c", SAVED], capture_output=True, text=True, timeout=300,
        cwd=Path(tt.__file__).parents[1], env={**os.environ, "PYTHONPATH": "."},
    )  # fmt: skip
    assert out.stdout.split() == ["14.0"], out.stderr


def test_what_says_no_result_is_refused_in_four_parts():
    """The message names what was given."""
    for wrong in ("float32", 3, ((2,), "text"), [None], (("a",), tt.float32)):
        with pytest.raises(ArgumentTypeError, match="does not say what") as caught:
            tt.host_call(len, wrong, tt.ones(2))
        assert caught.value.rule and caught.value.fix


def test_rows_of_users_are_host_calls_and_their_errors_change_nothing():
    """Ground truth: NumPy, and the states before; the row raises in its second run."""
    broken = []

    def doubled(x):
        if broken:
            raise ValueError("theirs")
        return 2 * x

    row = tt.primitive("doubled", infer=lambda x: x, numpy=doubled, vjp=lambda g, out, x: (g * 2,))
    try:
        w = tt.Tensor([1.0, 2.0], requires_grad=True)
        count = tt.Tensor(0.0)
        optimizer = tt.optim.SGD([w], lr=0.5)

        @tt.compile
        def step():
            count.assign_(count + 1)
            loss = row(w).sum()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            return loss

        assert step().item() == 6
        assert w.tolist() == [0, 1] and count.item() == 1
        assert "host calls: 1 (numpy.doubled)" in step.explain()
        broken.append(True)
        with pytest.raises(ValueError, match="theirs"):
            step()
        assert w.tolist() == [0, 1] and count.item() == 1
        broken.clear()
        step()
        assert w.tolist() == [-1, 0] and count.item() == 2
    finally:
        del tt.primitives.TABLE["doubled"]
