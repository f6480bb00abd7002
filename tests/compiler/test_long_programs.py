"""Programs of thousands of operations: chains of any length, ways that meet, linear passes.

Ground truth: compiler/graph/graph.py, for numbers; for the passes, how often Python functions are
called: a count, that no other program on the machine disturbs.
"""

from __future__ import annotations

import sys

import numpy as np
import pytest

from benchmarks.compile_time import PROGRAMS, parts
from tests.compiler.compiled import program_of, run, targets
from tests.compiler.test_pass_regressions import Draft
from tinytorch.base.dtypes import int64
from tinytorch.compiler.graph.graph import Graph, step_reference
from tinytorch.compiler.pipeline import stage
from tinytorch.compiler.plan.fuse import MOST_NODES
from tinytorch.compiler.record.recording import record

TARGET = targets()[0]


def test_a_chain_is_as_long_as_one_likes():
    """Fault: 330 elementwise operations were more than Python's stack could follow."""
    d = Draft()
    x, one = d.given((40,), int64), d.given((), int64)
    for i in range(1500):
        x = d(("add", "sub", "maximum")[i % 3], d("neg", x), one)
    d.check(x)


def test_movement_is_as_long_as_one_likes():
    """Fault: 300 views of views were more than Python's stack could follow."""
    d = Draft()
    x = d.given((12, 10))
    for i in range(1200):
        x = d("flip", x, axes=(i % 2,)) if i % 3 else d("permute", x, axes=(1, 0))
    d.check(x)


def test_ways_that_meet_are_gone_once():
    """Fault: each x * x - x below a sum of columns doubled the time: 25 of them took minutes."""
    d = Draft()
    x = d.given((8, 20), int64)
    for _ in range(60):
        x = d("remainder", d("sub", d("mul", x, x), x), d("add", d("abs", x), d("abs", x)))
        x = d("maximum", x, d("neg", d("abs", x)))
    d.check(d("sum", x, axes=(0,), keepdims=False))


def test_reductions_that_wait_for_each_other():
    """Fault: the time doubled with each of the maxima that wait for one another."""
    d = Draft()
    x = d.given((4, 9), int64)
    for _ in range(40):
        x = d("sub", x, d("max", d("neg", x), axes=(1,), keepdims=True))
    d.check(x)


def test_a_kernel_does_not_grow_without_end():
    """Closed form: of a chain, and of what a sum of columns computes on the way."""
    d = Draft()
    x = d.given((8, 20))
    for _ in range(2 * MOST_NODES + 1):
        x = d("abs", d("neg", x))
    d.graph.results = [x]
    fused = stage(d.graph, TARGET, "fuse")
    sizes = [len(g.nodes) for g in fused.groups]
    assert sizes == [MOST_NODES] * 4 + [2]
    d.graph.results = [d("sum", x, axes=(0,), keepdims=False)]
    fused = stage(d.graph, TARGET, "fuse")
    assert [len(g.nodes) for g in fused.groups] == [MOST_NODES] * 3 + [2, 1]
    assert len(fused.paths.inlined) == MOST_NODES
    d.check(d.graph.results[0])


def calls_of(graph: Graph) -> dict[str, int]:
    """How often each part of compiling calls a function of Python or C."""
    counts: dict[str, int] = {}
    for name, do in parts(graph, TARGET):
        if name in ("LLVM", "load"):
            break
        count = 0

        def counted(frame, event, argument):
            nonlocal count
            count += event in ("call", "c_call")

        sys.setprofile(counted)
        try:
            do()
        finally:
            sys.setprofile(None)
        counts[name] = count
    return counts


@pytest.mark.parametrize("name", PROGRAMS)
def test_passes_are_linear(name):
    """Invariant: four times the program, at most 4.5 times the calls, in every pass and check."""
    make, _ = PROGRAMS[name]
    few = 45 if name == "towers" else 15  # of those a kernel takes 36
    small, large = (calls_of(record(*make(n), {}).graph) for n in (few, 4 * few))
    wrong = {p: (small[p], large[p]) for p in small if large[p] > 4.5 * small[p] + 200}
    assert not wrong


def test_compiled_is_what_is_written():
    """Ground truth: the definition, for a small one of each program (within float32)."""
    for name, (make, _) in PROGRAMS.items():
        graph = record(*make(5), {}).graph
        random = np.random.default_rng(1)
        arrays = {
            v: random.uniform(0.1, 1, v.shape).astype(v.dtype.storage)
            for v in (*graph.arguments, *graph.states)
        }
        wanted, new = step_reference(graph, arrays)
        found, states = run(program_of(graph, TARGET), graph, arrays, 2)
        for a, b in zip(found, wanted, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5, err_msg=name)
        for old, b in new.items():
            np.testing.assert_allclose(states[old], b, rtol=1e-4, atol=1e-5, err_msg=name)
