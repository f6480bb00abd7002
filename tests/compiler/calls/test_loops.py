"""loops.py: the tasks of one trip, and where what they touch lies.

That the numbers are right: tests/compiler/record/test_loops.py, and tests/test_compiled_rows.py.
"""

from __future__ import annotations

import json

import numpy as np
import pytest

import tinytorch as tt
from tests.compiler.compiled import run, targets
from tinytorch.base.errors import CompileError
from tinytorch.codegen.target import Target
from tinytorch.compiler.plan.lower import check_tasks
from tinytorch.compiler.plan.stages import BodyCall
from tinytorch.compiler.plan.trips import Walk, Way
from tinytorch.compiler.run import program as programs

TARGET = Target.named("vector128")


def numbers(*shape, seed=0):
    return tt.Tensor(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def lowered(function, *given):
    """(labels of the tasks, those of the trip, the loop's task) of a function with one loop."""
    compiled = tt.compile(function, target=TARGET)
    compiled(*given)
    tasks = compiled.stages()["lower"].tasks
    (loop,) = (t for t in tasks if isinstance(t.kernel, BodyCall))
    return [t.shown for t in tasks], [t.shown for t in loop.kernel.tasks], loop


def test_what_is_alike_in_every_trip_is_done_once():
    """Invariant: arithmetic on a weight, and a product with another, come before the loop."""
    weight, other = numbers(8, 8), numbers(8, 8, seed=1)

    def walk(x):
        return tt.scan(lambda c, v: (((c @ (other @ weight.exp())) + v).tanh(), None), x[0], x)[0]

    before, trip, _ = lowered(walk, numbers(4, 2, 8))
    assert before == ["exp", "matmul", "scan"]
    assert trip == ["matmul+add+tanh"]


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(("trips", "before"), [(6, ["pack"]), (2, [])])
def test_a_weight_is_packed_once_for_all_trips(turned, trips, before):
    """Invariant: one kernel before the loop packs the weight; a trip has its product alone.

    Fails where each tile of a trip's product packs its part of the weight anew.
    """
    weight, x = numbers(96, 96), numbers(trips, 16, 96)

    def walk(x):
        return tt.scan(
            lambda c, v: ((c @ (weight.T if turned else weight)) * 0.1 + v, None), x[0], x
        )[0]

    compiled = tt.compile(walk, target=TARGET)
    np.testing.assert_allclose(compiled(x).numpy(), walk(x).numpy(), rtol=1e-4, atol=1e-4)
    tasks = compiled.stages()["lower"].tasks
    (loop,) = (t for t in tasks if isinstance(t.kernel, BodyCall))
    assert [t.kernel.name.partition("_")[0] for t in tasks if t is not loop] == before
    assert [t.kernel.name.partition("_")[0] for t in loop.kernel.tasks] == ["gemm"]


def test_a_carried_value_that_is_stacked_is_never_copied():
    """Ground truth: the kernel reads the row before, and writes the next one: nothing else."""
    _, trip, loop = lowered(
        lambda x: tt.scan(lambda c, v: (c * 0.5 + v,) * 2, x[0], x)[1], numbers(5, 3, 8)
    )
    assert trip == ["mul+add"]
    (task,) = loop.kernel.tasks
    ways = [loop.kernel.ways[s] for s in task.arguments]
    out, *_ = (loop.arguments.index(s) for s in loop.writes)
    rows = 3 * 8 * 4
    assert Way(Walk(out, 0, rows, 5)) in ways
    assert any(w.each == Walk(out, -rows, rows, 5) and w.first is not None for w in ways)


def test_a_carried_value_lies_in_two_places_by_turns():
    """Ground truth: trips 0, 1, 2, 3 write places 0, 1, 0 and the result; each reads what the one
    before wrote, the first what the loop is given."""
    _, trip, loop = lowered(
        lambda x: tt.scan(lambda c, v: (c * 0.5 + v, None), x[0], x)[0], numbers(4, 3, 8)
    )
    assert trip == ["mul+add"]
    (task,) = loop.kernel.tasks
    (own,) = (loop.kernel.ways[s] for s in task.writes)
    (came,) = (w for s in task.reads if (w := loop.kernel.ways[s]).first is not None)
    written = [(w.argument, w.at(t)) for t in range(4) for w in [own.of(t, 4)]]
    read = [(w.argument, w.at(t)) for t in range(4) for w in [came.of(t, 4)]]
    assert read[1:] == written[:-1] and read[0] != written[0]
    turns = written[0][0]
    assert written[:3] == [(turns, 0), (turns, 128), (turns, 0)]  # 96 bytes, in whole cache lines
    assert written[3][0] != turns and read[3] == (turns, 0)


def test_temporaries_of_a_trip_are_counted_once():
    """Invariant: the arena of 4 and of 300 trips is the same, but for what is stacked.

    (Of fewer trips weights are not packed, which takes place once, not in each trip.)
    """
    sizes = []
    for length in (4, 300):
        weight = numbers(16, 16)

        def walk(x, weight=weight):
            return tt.scan(
                lambda c, v: (((c @ weight).exp().sum(1, True) + v) @ weight, None), x[0], x
            )

        compiled = tt.compile(walk, target=TARGET)
        compiled(numbers(length, 16, 16))
        sizes.append(compiled.stages()["plan the arena"].arena)
    assert sizes[0] == sizes[1] > 0


def test_a_gradient_goes_through_one_arena():
    """Closed form of memory: stacks are rows; nothing else grows with the length."""

    def step(x):
        def loss(x):
            return tt.scan(lambda c, v: ((c * v).tanh(), None), x[0] * 1, x)[0].sum()

        return tt.grad(loss)(x)

    sizes = []
    for length in (10, 20, 30):
        compiled = tt.compile(step, target=TARGET)
        compiled(numbers(length, 4, 16))
        sizes.append(compiled.stages()["plan the arena"].arena)
    assert sizes[2] - sizes[1] == sizes[1] - sizes[0] <= 10 * 3 * 4 * 16 * 4


def test_explain_shows_a_loop_as_its_kernels_times_trips():
    """Ground truth: the number of trips."""
    compiled = tt.compile(lambda x: tt.scan(lambda c, v: ((c + v).tanh(), None), x[0], x)[0])
    compiled(numbers(7, 4))
    (row,) = (line for line in compiled.explain().splitlines() if "add+tanh" in line)
    assert row.split()[2] == "7"
    assert "7 trips of" in str(compiled.stages()["lower"])


def test_a_loop_on_a_page_and_in_a_trace(tmp_path):
    """Invariant: both are written; what is shown of a loop are its kernels in each trip."""
    compiled = tt.compile(lambda x: tt.scan(lambda c, v: ((c + v).tanh(), None), x[0], x.exp())[0])
    compiled(numbers(7, 4))
    compiled.page(tmp_path / "page.html")
    compiled.trace(tmp_path / "trace.json")
    assert "8 different" not in (tmp_path / "page.html").read_text()
    names = [e["name"] for e in json.loads((tmp_path / "trace.json").read_text())["traceEvents"]]
    assert names.count("add+tanh") == 7 and names.count("exp") == 1


def test_a_warm_start_reads_the_loop_from_disk(tmp_path, monkeypatch):
    """Ground truth: the cold run; the passes do not run again."""
    monkeypatch.setenv("TINYTORCH_CACHE", str(tmp_path))
    programs.forget_programs()
    x = numbers(9, 2, 8)

    def walk(x):
        def loss(x):
            return (tt.scan(lambda c, v: ((c + v).tanh(), c * v), x[0], x)[1] ** 2).sum()

        return tt.value_and_grad(loss)(x)

    cold = tt.compile(walk)(x)
    programs.forget_programs()

    def refuse(*_):
        raise AssertionError("the passes ran on a warm start")

    monkeypatch.setattr(programs, "compile_graph", refuse)
    warm = tt.compile(walk)(x)
    for a, b in zip(cold, warm, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    programs.forget_programs()


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("target", targets(), ids=lambda t: t.name)
def test_memory_around_is_left_alone(target, reverse):
    """Invariant: guards of 64 bytes around every array (tests/compiler/compiled.py), rows of odd
    sizes, both directions."""
    compiled = tt.compile(
        lambda c, x: tt.scan(lambda c, v: (c - v, (c * v, c)), c, x, reverse=reverse),
        target=target,
    )
    c, x = numbers(3, 5), numbers(7, 3, 5, seed=1)
    wanted = compiled(c, x)
    graph = compiled._last.recording.graph
    given = dict(zip(graph.arguments, (c.numpy(), x.numpy()), strict=True))
    results, _ = run(compiled._last.program, graph, given, 2)
    flat = [wanted[0], *wanted[1]]
    for a, b in zip(results, flat, strict=True):
        np.testing.assert_array_equal(a, b.numpy())


def test_a_way_outside_is_refused():
    """Ground truth: a row beyond the end, by construction."""
    compiled = tt.compile(lambda x: tt.scan(lambda c, v: (c + v,) * 2, x[0], x)[1], target=TARGET)
    compiled(numbers(4, 3))
    program = compiled.stages()["lower"]
    (loop,) = (t for t in program.tasks if isinstance(t.kernel, BodyCall))
    check_tasks(program)
    storage = next(iter(loop.kernel.tasks[0].writes))
    loop.kernel.ways[storage] = Way(Walk(loop.kernel.ways[storage].each.argument, 4, 12, 4))
    with pytest.raises(CompileError, match="memory that is not its own"):
        check_tasks(program)
