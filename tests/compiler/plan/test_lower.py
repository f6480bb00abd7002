"""Groups, copies and checks as tasks. Ground truth: counts by hand; each damage is wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.compiler.compiled import targets
from tests.compiler.test_pass_regressions import Draft
from tinytorch.base.dtypes import float32, int64
from tinytorch.base.errors import CompileError
from tinytorch.codegen.kernel import Kernel
from tinytorch.compiler.graph.graph import Graph, Value
from tinytorch.compiler.pipeline import stage
from tinytorch.compiler.plan.lower import check_tasks
from tinytorch.compiler.plan.stages import Storage, Task, TaskList
from tinytorch.primitives.primitive import TABLE, Spec

TARGET = targets()[-1]


def value(*shape: int) -> Value:
    return Value(Spec(shape, float32))


def task(reads: list[Storage], writes: list[Storage], *, check: bool = False) -> Task:
    given = (*reads, *writes)
    kernel = Kernel("k", "", frozenset(), tuple(f"b{i}" for i in range(len(given))), tiles=1)
    return Task(kernel, given, frozenset(reads), frozenset(writes), check=check)


X, C, T = Storage("argument", 16), Storage("constant", 16), Storage("temporary", 16)
S, R, STATUS = Storage("state", 16), Storage("result", 16), Storage("status", 64)
OLD, NEW, OUT = value(4), value(4), value(4)


def program(*tasks: Task, **changes) -> TaskList:
    graph = Graph(states=[OLD], updates=[(OLD, NEW)])
    whole = TaskList(list(tasks), [X, C, T, S, R, STATUS], {}, {OLD: S}, {}, {OUT: R}, graph, graph)
    return replace(whole, **changes)


CHECK, FIRST = task([X], [STATUS], check=True), task([X, C], [T])
LAST, UPDATE = task([T], [R]), task([T, S], [S])


def test_programs_that_are_right():
    """Of nothing nothing need be written, nor of a state that stays; a state twice if need be."""
    check_tasks(program(CHECK, FIRST, LAST, UPDATE))
    check_tasks(program(CHECK, FIRST, UPDATE, UPDATE, LAST))
    stays = Graph(states=[OLD], updates=[(OLD, OLD)])
    check_tasks(program(CHECK, FIRST, LAST, graph=stays, states={}))
    old, new, out = value(0), value(0), value(0)
    empty = Graph(states=[old], updates=[(old, new)])
    check_tasks(program(graph=empty, states={}, results={out: Storage("result", 0)}))


@pytest.mark.parametrize(("problem", "tasks", "changes"), [
    ("never written: <temp", (LAST, FIRST, UPDATE), {}),
    ("never written: <temp", (UPDATE, FIRST, LAST), {}),
    ("wrong number of buffers", (FIRST, replace(LAST, arguments=(T,)), UPDATE), {}),
    ("begins outside", (replace(FIRST, begins=(0, 17, 0)), LAST, UPDATE), {}),
    ("begins outside", (replace(FIRST, begins=(-4, 0, 0)), LAST, UPDATE), {}),
    ("not listed", (FIRST, LAST, UPDATE), {"storages": [X, C, T, S]}),
    ("not listed", (FIRST, LAST, replace(UPDATE, reads=frozenset([Storage("state", 16)]))), {}),
    ("writes an input or a constant", (FIRST, LAST, UPDATE, task([T], [X])), {}),
    ("writes an input or a constant", (FIRST, LAST, UPDATE, task([T], [C])), {}),
    ("after a state was written", (FIRST, UPDATE, CHECK, LAST), {}),
    ("a result is never written", (FIRST, UPDATE), {}),
    ("a result is never written", (FIRST, LAST, UPDATE), {"results": {OUT: T}}),
    ("state is never written", (FIRST, LAST), {}),
    ("state is never written", (FIRST, LAST, UPDATE), {"states": {}}),
])  # fmt: skip
def test_programs_that_are_wrong(problem, tasks, changes):
    """Each damage makes the program wrong by construction."""
    match = "a task reads memory that was never written" if "temp" in problem else problem
    with pytest.raises(CompileError, match=match):
        check_tasks(program(*tasks, **changes))


def labels(d: Draft, *results: Value) -> list[str]:
    """What each task does."""
    d.graph.results = list(results)
    return [t.shown for t in stage(d.graph, TARGET, "lower").tasks]


def test_indices_are_checked_where_they_lie():
    """Closed form: dense ones in place, of any shape; those with gaps, or repeated, in a copy;
    none of nothing. Checks are numbered from 1."""
    for shape, see, copies in (
        ((6,), lambda d, i: i, 0),
        ((), lambda d, i: i, 0),
        ((2, 3), lambda d, i: d("reshape", i, shape=(6,)), 0),
        ((2, 3), lambda d, i: i, 0),
        ((6,), lambda d, i: d("slice", i, start=(0,), stop=(6,), step=(2,)), 1),
        ((6,), lambda d, i: d("slice", i, start=(2,), stop=(6,), step=(1,)), 0),
        ((2, 3), lambda d, i: d("permute", i, axes=(1, 0)), 1),
        ((1,), lambda d, i: d("broadcast_to", i, shape=(3,)), 1),
        ((1,), lambda d, i: d("broadcast_to", i, shape=(1, 1)), 0),
    ):
        d = Draft()
        i = d.given(shape, int64)
        found = labels(d, d("take", d.given((9, 4)), see(d, i), axis=0))
        assert found.count("check take") == 1 and found.count("copy") == copies, (shape, found)
        d.check(d.graph.results[0])
    d = Draft()
    assert labels(d, d("take", d.given((9, 4)), d.given((0,), int64), axis=0)) == []
    d = Draft()
    x, i, j = d.given((9, 4)), d.given((3,), int64), d.given((3,), int64)
    d.graph.results = [d("take", d("take", x, i, axis=0), j, axis=1)]
    checks = [t for t in stage(d.graph, TARGET, "lower").tasks if t.check]
    assert [t.details for t in checks] == [{"size": 9, "number": 1}, {"size": 4, "number": 2}]


def test_steps_of_a_sequence_are_done_by_the_same_kernels():
    """Closed form: a recurrence written as a Python loop needs as many different kernels for 9
    steps as for 4, and gives the numbers of its definition (small integers: no rounding)."""
    different: list[int] = []
    for steps in (4, 9):
        d = Draft()
        x, w, u = d.given((3, steps, 5)), d.given((5, 6)), d.given((6, 6))
        h, high, low, rows = d.given((3, 6)), d.given((6,)), d.given((6,)), []
        for t in range(steps):
            row = d("slice", x, start=(0, t, 0), stop=(3, t + 1, 5), step=(1, 1, 1))
            given = d("matmul", d("reshape", row, shape=(3, 5)), w)
            h = d("minimum", d("add", given, d("matmul", h, u)), high)
            h = d("maximum", h, low)
            rows.append(d("reshape", h, shape=(3, 1, 6)))
        d.check(d("concatenate", *rows, axis=1))
        different.append(len({k.name for k in stage(d.graph, TARGET, "lower").kernels}))
    assert different[0] == different[1] < 10


def test_what_numpy_does():
    """Closed form: the work its row counts, the bytes of all arrays, and no read of nothing."""
    d = Draft()
    q, k = d.given((1, 1, 4, 0)), d.given((1, 1, 3, 0))
    d.graph.results = [*d.graph.add(TABLE["attention"], (q, k, k), {"causal": False, "scale": 1.0})]
    node = d.graph.nodes[0]
    (made,) = stage(d.graph, TARGET, "lower").tasks
    assert made.shown == "numpy.attention" and len(made.arguments) == len(made.kernel.arguments)
    outs = [v.spec for v in node.outputs]
    assert made.kernel.flops == node.primitive.flops([q.spec, k.spec, k.spec], outs, **node.params)
    assert made.kernel.bytes == sum(s.nbytes for s in outs) and not made.reads


def test_states_that_are_copied_when_all_is_done():
    """Closed form: one copy of a new state that lies somewhere, two where it is a state itself."""
    d = Draft()
    s, x = d.given((4,), state=True), d.given((4,))
    d.graph.updates = [(s, x)]
    assert labels(d) == ["copy"]
    d = Draft()
    s, t = d.given((4,), state=True), d.given((4,), state=True)
    d.graph.updates = [(s, t), (t, s)]
    assert labels(d) == ["copy"] * 4
