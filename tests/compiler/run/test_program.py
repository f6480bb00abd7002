"""Native programs: found again, memory, threads, fork, interruption, host calls, bad indices."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import tinytorch as tt
from tinytorch.base.dtypes import float32
from tinytorch.base.errors import IndexRangeError
from tinytorch.codegen import cache, engine
from tinytorch.codegen.kernel import Kernel, Operand, build
from tinytorch.codegen.target import Target
from tinytorch.compiler.graph.graph import Graph, Node, Value
from tinytorch.compiler.loops.lower_nest import LOWERED
from tinytorch.compiler.plan.arena import plan_arena
from tinytorch.compiler.plan.launch import LaunchPlan, launch_plan
from tinytorch.compiler.plan.lower import check_tasks
from tinytorch.compiler.plan.stages import HostCall, Storage, Task, TaskList
from tinytorch.compiler.run import program as programs
from tinytorch.compiler.run.program import Program
from tinytorch.primitives import TABLE
from tinytorch.primitives.primitive import Spec

N = 1000


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TINYTORCH_CACHE", str(tmp_path))
    programs.forget_programs()
    yield
    programs.forget_programs()


def axpy(name: str, a: float, tiles: int = 4) -> Kernel:
    """out = a * x + y over N floats."""

    def body(f, p):
        part = N // tiles
        start = f.mul(f.tile, f.index(part))
        with f.loop("i", 0, part) as i:
            at = f.add(start, i.index)
            x = f.load(f.at(p["x"], at, "float"), "float")
            y = f.load(f.at(p["y"], at, "float"), "float")
            f.store(f.add(f.mul(x, f.const("float", a)), y), f.at(p["out"], at, "float"))

    return build(name, ("x", "y", "out"), body, tiles=tiles, flops=2 * N, bytes=12 * N, label=name)


def hand_made() -> tuple[TaskList, Graph]:
    """t = 2 x + s; u = sort(t) by NumPy; s = s + u in place; result = 3 u + x."""
    graph = Graph()
    x, s = Value(Spec((N,), float32)), Value(Spec((N,), float32))
    graph.arguments, graph.states = [x], [s]
    for _ in range(3):
        graph.nodes.append(Node(TABLE["add"], (x, s), {}, (Value(x.spec),), "user.py:7"))
    result, new = graph.nodes[0].outputs[0], graph.nodes[1].outputs[0]
    graph.results, graph.updates = [result], [(s, new)]
    given, state, out = (
        Storage("argument", 4 * N),
        Storage("state", 4 * N),
        Storage("result", 4 * N),
    )
    t, u = Storage("temporary", 4 * N), Storage("temporary", 4 * N)
    dense = ((N,), Operand(float32, (1,)))
    sort = HostCall(TABLE["sort"], {"axis": 0}, (dense,), (dense,))

    def task(kernel, reads, write):
        return Task(
            kernel, (*reads, write), frozenset(reads), frozenset([write]), where="user.py:7"
        )

    tasks = [
        task(axpy("twice_000000000001", 2.0), (given, state), t),
        task(sort, (t,), u),
        task(axpy("once_000000000002", 1.0, 8), (u, state), state),
        task(axpy("thrice_000000000003", 3.0), (u, given), out),
    ]
    program = TaskList(
        tasks, [given, state, out, t, u], {x: given}, {s: state}, {}, {result: out}, graph, graph
    )
    check_tasks(program)
    return program, graph


def program_of(tasks: TaskList, graph: Graph) -> Program:
    target = Target.host()
    plan = launch_plan(plan_arena(tasks)).plan
    again = LaunchPlan.from_json(plan.to_json())  # what the cache would give back
    assert again == plan
    return Program(
        again, [engine.compile_text(engine.module_text(tasks.kernels), target)], graph, target
    )


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_program_made_by_hand(threads):
    """Ground truth: the same four lines in NumPy, for any number of threads."""
    program = program_of(*hand_made())
    assert program.host_calls == ["numpy.sort"]
    runner = program.runner(threads)
    rng = np.random.default_rng(0)
    x, s = rng.normal(size=(2, N)).astype(np.float32)
    out, want = np.zeros(N, np.float32), s.copy()
    runner.bind_states([s.ctypes.data])
    for _ in range(3):
        runner.run([x.ctypes.data], [out.ctypes.data])
        u = np.sort(2 * x + want)
        want = u + want
        np.testing.assert_array_equal(s, want)
        np.testing.assert_array_equal(out, 3 * u + x)


def test_a_timed_runner_notes_every_task():
    """Invariant: one span for each task, one after the other; none that was forgotten."""
    program = program_of(*hand_made())
    from tinytorch.compiler.run.program import Runner

    runner = Runner(program, 1, timed=True)
    x, s, out = np.ones((3, N), np.float32)
    runner.bind_states([s.ctypes.data])
    runner.run([x.ctypes.data], [out.ctypes.data])
    spans = runner.spans()
    assert [s.task for s in spans] == [0, 1, 2, 3] and {s.worker for s in spans} == {0}
    times = [t for s in spans for t in (s.begin, s.end)]
    assert times == sorted(times) and times[0] > 0
    runner.forget_spans()
    assert runner.spans() == []
    plain = program.runner(1)
    plain.bind_states([s.ctypes.data])
    plain.run([x.ctypes.data], [out.ctypes.data])
    assert plain.spans() == [], "nobody asked to see kernels or host calls"


def test_a_bad_index_names_the_line_and_changes_nothing():
    """Ground truth: the state before; the message shows index, size and this file."""
    n = tt.Tensor(np.zeros(3, np.float32))
    table = tt.Tensor(np.arange(12, dtype=np.float32).reshape(4, 3))

    @tt.compile
    def step(index):
        n.assign_(n + 1)
        return table.take(index, 0)

    good = np.array([0, 3, -4], np.int64)
    assert step(good).tolist() == table.numpy()[good].tolist()
    for bad in (4, -5, 10**9):
        with pytest.raises(IndexRangeError, match="outside its axis") as caught:
            step(np.array([0, bad, 1], np.int64))
        assert f"index {bad} " in caught.value.got and "size 4" in caught.value.got
        assert "test_program.py:" in caught.value.got
    assert n.tolist() == [1, 1, 1]
    step(good)
    assert n.tolist() == [2, 2, 2]


@pytest.fixture
def numpy_sort():
    """A row of a user, which has no kernel."""
    yield tt.primitive("sort_rows", infer=lambda x: x, numpy=lambda x: np.sort(x, 0))
    del TABLE["sort_rows"]


def test_rows_without_a_kernel_are_host_calls(numpy_sort):
    """Ground truth: NumPy; explain() counts them."""
    f = tt.compile(lambda x: numpy_sort(x * 2) + 1)
    x = np.random.default_rng(0).normal(size=(9, 2)).astype(np.float32)
    np.testing.assert_array_equal(f(x).numpy(), np.sort(x * 2, 0) + 1)
    assert "host calls: 1 (numpy.sort_rows)" in f.explain()


def test_what_a_run_that_failed_computed_is_not_used_by_the_next(monkeypatch, numpy_sort):
    """Ground truth: NumPy; the first run fails when NumPy's answer is written."""
    f = tt.compile(lambda x: numpy_sort(x * 2) + 1, threads=1)
    x = np.random.default_rng(0).normal(size=(9, 2)).astype(np.float32)
    f(x)
    (runner,) = f._last.program.idle[1]
    host = runner.segments[1]
    real = host._array

    def failing(i, *spec):
        return 3 if i == len(host.call.inputs) else real(i, *spec)  # cannot be written to

    with monkeypatch.context() as patch:
        patch.setattr(host, "_array", failing)
        with pytest.raises(TypeError):
            f(x)
    np.testing.assert_array_equal(f(-x).numpy(), np.sort(-x * 2, 0) + 1)


def test_two_python_threads_run_one_program():
    """Ground truth: arithmetic; each running program has memory of its own."""
    f = tt.compile(lambda x: ((x * 2).sum(dim=1, keepdim=True) + x).sum(), threads=2)
    x = np.ones((64, 50), np.float32)
    want = float(((x * 2).sum(1, keepdims=True) + x).sum())
    f(x)
    wrong = []

    def work(k):
        for _ in range(100):
            if f(x * k).item() != want * k:
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in (1, 2, 4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_a_forked_child_goes_on():
    """Ground truth: arithmetic in the child; its exit code says so."""
    n = tt.Tensor(np.zeros(3, np.float32))
    step = tt.compile(lambda x: n.assign_(n + x) * 1, threads=2)
    x = np.ones(3, np.float32)
    step(x)
    child = os.fork()
    if child == 0:
        try:
            ok = step(x).tolist() == [2, 2, 2] and tt.compile(lambda x: x * 5)(x).tolist() == [
                5,
                5,
                5,
            ]
        except BaseException:
            ok = False
        os._exit(0 if ok else 1)
    for _ in range(600):
        done, code = os.waitpid(child, os.WNOHANG)
        if done:
            break
        time.sleep(0.1)
    else:
        os.kill(child, signal.SIGKILL)
        pytest.fail("the child hangs")
    assert os.waitstatus_to_exitcode(code) == 0
    assert step(x).tolist() == [2, 2, 2]


INTERRUPTED = """
import signal, threading, time, os
import numpy as np
import tinytorch as tt
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
n = tt.Tensor(np.zeros((500, 500), np.float32))
step = tt.compile(lambda: n.assign_(n + 1))
step()
threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
steps = 1
try:
    end = time.time() + 60
    while time.time() < end:
        step()
        steps += 1
except KeyboardInterrupt:
    values = set(n.numpy().ravel().tolist())
    assert len(values) == 1, values          # no step is half applied
    assert values.pop() in (steps, steps + 1)
    step()
    print("whole")
"""


def test_ctrl_c_leaves_whole_steps():
    """Invariant: after an interrupt every number of the state has the same count."""
    out = subprocess.run(
        [sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, timeout=300,
        cwd=Path(tt.__file__).parents[1], env={**os.environ, "PYTHONPATH": "."},
    )  # fmt: skip
    assert out.stdout.strip() == "whole", out.stderr


def test_python_cost_of_a_call_with_a_hundred_states():
    """Ground truth: an empty Python function, called 2,000 times: 80 us where the issue's limit is
    30; the least of many, each beside the other, is what neither a busy nor a slow machine changes.
    """
    states = [tt.Tensor(np.ones(4, np.float32)) for _ in range(100)]

    @tt.compile(threads=1)
    def step(x):
        for t in states:
            t.assign_(t + 1)
        return x * 2

    x = tt.Tensor([1.0])
    step(x)

    def nothing():
        pass

    times, yardstick = [], []
    for _ in range(300):
        start = time.perf_counter()
        step(x)
        middle = time.perf_counter()
        for _ in range(2000):
            nothing()
        times.append(middle - start)
        yardstick.append(time.perf_counter() - middle)
    assert min(times) < min(yardstick)


INTERRUPTED_ANYWHERE = """
import os, signal, threading, time
import numpy as np
import tinytorch as tt

armed = False

def interrupt(number, frame):
    global armed
    if armed:  # not while the test itself looks at the numbers
        armed = False
        raise KeyboardInterrupt

signal.signal(signal.SIGINT, interrupt)
n = tt.Tensor(np.zeros(2000, np.float32))
m = tt.Tensor(np.zeros(2000, np.float32))
w = tt.Tensor(np.ones(3, np.float32), requires_grad=True)
taken = tt.Tensor(np.zeros(3, np.float32))
BODY
step = tt.compile(step)
step(taken)
interrupts = 0

def ring():
    while True:
        time.sleep(0.004)
        os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=ring, daemon=True).start()
end = time.time() + 60
while interrupts < 300 and time.time() < end:
    try:
        armed = True
        while time.time() < end:
            step(taken)
        armed = False
    except KeyboardInterrupt:
        interrupts += 1
        counts = {*n.numpy().tolist(), *m.numpy().tolist(), *taken.numpy().tolist()}
        counts |= {*w.grad.numpy().tolist()}
        assert len(counts) == 1, counts  # states, gradient and argument: the same step
print("interrupts", interrupts)
"""

BODIES = {
    "native": """
def step(x):
    n.assign_(n + 1)
    w.grad = None
    (w * n[0]).sum().backward()
    x.assign_(x + 1)
    m.assign_(m + 1)
""",
    # a user's row has no kernel: NumPy does it, between two native parts
    "with a host call": """
ordered = tt.primitive("ordered", infer=lambda x: x, numpy=np.sort)
def step(x):
    n.assign_(n + 1)
    w.grad = None
    (w * ordered(-n)[0] * -1).sum().backward()
    x.assign_(x + 1)
    m.assign_(-ordered(-(m + 1)))
""",
}


@pytest.mark.parametrize("body", sorted(BODIES))
def test_ctrl_c_at_any_moment_leaves_whole_steps(body):
    """Invariant: states, the gradient that is left and an assigned argument count the same steps.

    300 interrupts, or a minute's: they come within the native part, within NumPy and between.
    """
    out = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_ANYWHERE.replace("BODY", BODIES[body])],
        capture_output=True, text=True, timeout=300,
        cwd=Path(tt.__file__).parents[1], env={**os.environ, "PYTHONPATH": "."},
    )  # fmt: skip
    assert out.returncode == 0, out.stderr
    assert int(out.stdout.split()[-1]) > 10  # a busy machine answers few


def test_compiled_equals_eager_and_is_found_again():
    """Ground truth: eager; the second time nothing is lowered."""

    def f(x):
        return (x * 2).tanh().sum(dim=1)

    x = tt.Tensor(np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32))
    # a sum of 5 numbers of size <= 1, and tanh within 2 ulp: 8 * 2**-23
    np.testing.assert_allclose(tt.compile(f)(x).numpy(), f(x).numpy(), rtol=0, atol=8 * 2**-23)
    programs.forget_programs()

    def refuse(*_):
        raise AssertionError("the passes ran on a warm start")

    before, programs.compile_graph = programs.compile_graph, refuse
    try:
        again = tt.compile(f)(x)
    finally:
        programs.compile_graph = before
    np.testing.assert_allclose(again.numpy(), f(x).numpy(), rtol=0, atol=8 * 2**-23)


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "nonsense", "plan"])
def test_a_damaged_cache_is_compiled_again(damage, tmp_path):
    """Ground truth: arithmetic; whatever is in the file."""

    def f(x):
        return x * 3 + 1

    x = tt.Tensor([1.0, 2.0])
    tt.compile(lambda x: x - 1)(x)
    others = {*tmp_path.rglob("*.program")}
    tt.compile(f)(x)
    (path,) = {*tmp_path.rglob("*.program")} - others
    content = bytearray(path.read_bytes())
    if damage == "cut":
        content = content[: len(content) // 2]
    elif damage == "flip":
        content[len(content) // 2] ^= 255
    elif damage == "empty":
        content = bytearray()
    elif damage == "nonsense":
        content = bytearray(os.urandom(500))
    else:  # a valid file whose plan is not ours
        folder = cache.open_cache()
        path.unlink()
        compiled = tt.compile(f)
        compiled(x)
        graph = compiled._last.recording.graph
        folder.put(programs.key_of(graph, Target.host()), [b"\x7fELF"], {"format": 0})
        content = bytearray(path.read_bytes())
    path.write_bytes(bytes(content))
    programs.forget_programs()
    assert tt.compile(f)(x).tolist() == [4, 7]


def test_the_line_is_that_of_the_newest_recording():
    """Two equal graphs from different lines share code; each error names its own line."""
    table = tt.Tensor(np.zeros((4, 3), np.float32))

    def one(index):
        return table.take(index, 0)

    def two(index):
        return table.take(index, 0)

    lines = []
    for f in (one, two):
        with pytest.raises(IndexRangeError) as caught:
            tt.compile(f)(np.array([9]))
        lines.append(caught.value.got.rsplit(":", 1)[1])
    assert lines == [str(f.__code__.co_firstlineno + 1) for f in (one, two)]


def test_models_of_one_kind_share_code_and_arena():
    """Ground truth: arithmetic; two states, one program, one runner used in turn."""
    functions, states = [], []
    for start in (0.0, 100.0):
        n = tt.Tensor(np.full(3, start, np.float32))

        def step(n=n):
            n.assign_(n + 1)
            return n * 2

        states.append(n)
        functions.append(tt.compile(step))
    for i in range(1, 4):
        assert functions[0]().tolist() == [2.0 * i] * 3
        assert functions[1]().tolist() == [200 + 2.0 * i] * 3
    programs = [f._last.program for f in functions]
    assert programs[0].library is programs[1].library
    assert sum(map(len, programs[0].idle.values())) == 1


def test_a_child_has_an_arena_of_its_own():
    """Ground truth: fork(2); what a child writes into large pages stays with the child."""
    memory = programs._pages(5 << 20)
    assert memory.nbytes == 5 << 20 and memory.ctypes.data % (2 << 20) == 0 and not memory.any()
    memory[:] = 1
    child = os.fork()
    if child == 0:
        memory[:] = 2
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert (memory == 1).all()


def alive() -> Counter[str]:
    """How many objects of each class of the package the collector knows."""
    gc.collect()
    return Counter(
        f"{t.__module__}.{t.__qualname__}"
        for t in map(type, gc.get_objects())
        if str(t.__module__).startswith("tinytorch.")
    )


def test_programs_that_are_gone_leave_no_object(monkeypatch):
    """Invariant: once all that is kept is full, other programs take the place of those before, as
    kinds of calls of one function and as functions that are dropped. The memory of the process,
    over ten thousand programs: scripts/recompilations."""
    monkeypatch.setattr(programs, "KEPT", 3)
    monkeypatch.setattr("tinytorch.compiler.compile.MOST_RECORDINGS", 3)
    monkeypatch.setattr(LOWERED, "_most", 3)
    one = tt.compile(lambda x: (x * 2).tanh().sum())

    def compile_some(first: int) -> Counter[str]:
        for n in range(first, first + 8):
            x = np.ones((3, n), np.float32)
            assert one(x).item() == pytest.approx(3 * n * np.tanh(2), rel=1e-5)
            tt.compile(lambda x: x.exp() + x.sum())(x)
        return alive()

    programs.forget_programs()
    compile_some(2)
    settled = compile_some(10)
    assert compile_some(18) == settled
