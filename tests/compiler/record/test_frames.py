"""Frames: the depth of the stack, beside other tools that look at frames, on several threads."""

import gc
import os
import subprocess
import sys
import textwrap
import threading
import types

import pytest

import tinytorch as tt
from tinytorch.base.errors import CompileError
from tinytorch.compiler.record import frames

pytestmark = pytest.mark.usefixtures("by_numpy")


def thing(**named):
    return types.SimpleNamespace(**named)


X = tt.Tensor([1.0, 2.0])


def test_this_python_can_be_watched():
    """Ground truth: CPython 3.11, 3.12 and 3.13 are looked at and tested."""
    assert frames.available() is ((3, 11) <= sys.version_info[:2] <= (3, 13))


@pytest.mark.parametrize(
    "source",
    [
        "def f(a):\n    return [x.k for x in a if x] + [y for y in a]",
        "def f(a):\n    try:\n        return a.k\n    except (KeyError, ValueError) as e:\n"
        "        return e\n    finally:\n        a.done()",
        "def f(a):\n    with a as b, b.c as d:\n        yield d.k\n        x = yield\n    return x",
        "def f(*a, k=1, **d):\n    return a[0](*a, **d, z=k) or d.get('k', a and k)",
        "def f(a):\n    match a:\n        case {'k': k}:\n            return k\n"
        "        case [x, *_]:\n            return x\n    a[1:2], a.b[3] = a[4:], {**a, 'c': [*a]}",
        "def f(a):\n    while a.n:\n        a.n -= 1\n        if a.n == 2: continue\n"
        "        if a.n is None: break\n    else:\n        return lambda: a.n\n    del a.n",
        "async def f(a):\n    async with a as b:\n        async for x in b:\n            await x.k",
    ],
)
def test_the_depth_of_the_stack_follows_from_the_code(source):
    """Invariant: every instruction that can be reached has one depth, at least 0, at most the
    code's own bound."""
    namespace = {}
    exec(source, namespace)
    code = namespace["f"].__code__
    found = frames.depths(code)
    assert len(found) > 10
    assert all(0 <= depth <= code.co_stacksize for depth in found.values())


# --- beside other tools ---


def lines_seen(call):
    """(event, line) of the function `f` as a trace function of Python sees them."""
    seen = []

    def local(frame, event, _):
        seen.append((event, frame.f_lineno))
        return local

    def begin(frame, event, _):
        if frame.f_code.co_name == "traced_function":
            seen.append((event, frame.f_lineno))
            return local
        return None

    before = sys.gettrace()
    sys.settrace(begin)
    try:
        call()
        assert sys.gettrace() is begin
    finally:
        sys.settrace(before)
    return seen


def test_a_trace_function_sees_what_it_sees_without_compiling():
    """Ground truth: the same function, called eagerly; a debugger is such a trace function."""
    o = thing(k=2.0)

    def traced_function(x):
        y = x * o.k
        for _ in range(2):
            y = y + 1
        return y

    compiled = tt.compile(traced_function)
    assert lines_seen(lambda: compiled(X)) == lines_seen(lambda: traced_function(X))
    o.k = 3.0
    assert compiled(X).tolist() == traced_function(X).tolist()


def test_a_measure_of_coverage_counts_the_lines_of_a_recording(tmp_path):
    """Ground truth: the lines of the program below that run; and its guards hold."""
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent("""
        import tinytorch as tt

        class Settings:
            k = 2.0

        def scaled(x):
            if Settings.k > 100:
                x = x + 1
            return x * Settings.k

        f = tt.compile(scaled)
        assert f(tt.Tensor([1.0])).tolist() == [2]
        Settings.k = 3.0
        assert f(tt.Tensor([1.0])).tolist() == [3]
        """)
    )
    run = [sys.executable, "-m", "coverage"]
    done = subprocess.run(
        [*run, "run", f"--data-file={tmp_path / 'data'}", f"--include={program}", str(program)],
        capture_output=True, text=True, cwd=tmp_path,
        env={
            "TINYTORCH_CACHE": str(tmp_path / "cache"), "PATH": "",
            "PYTHONPATH": os.path.dirname(os.path.dirname(tt.__file__)),
        },
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = subprocess.run(
        [*run, "report", f"--data-file={tmp_path / 'data'}", "-m"],
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert "program.py" in report.stdout and report.stdout.rstrip().endswith("%"), report.stdout
    row = next(line for line in report.stdout.splitlines() if "program.py" in line).split()
    assert row[-1] == "9" and row[-3] == "1"  # one line missed: `x = x + 1`


def test_the_trace_function_is_back_after_an_exception():
    """Invariant: also when the function raises, or looks at values."""
    before = sys.gettrace(), gc.isenabled()

    def broken(x):
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        tt.compile(broken)(X)
    with pytest.raises(CompileError):
        tt.compile(lambda x: bool(x.sum()))(X)
    assert (sys.gettrace(), gc.isenabled()) == before


def test_two_threads_record_at_once():
    """Ground truth: eager; each thread sees its own readings."""
    things = [thing(k=float(i)) for i in range(8)]
    found = {}

    def work(i):
        f = tt.compile(lambda x: x * things[i].k)
        first = f(X).tolist()
        things[i].k += 100
        found[i] = first, f(X).tolist()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert found == {i: ([i, 2.0 * i], [i + 100.0, 2 * (i + 100.0)]) for i in range(8)}
