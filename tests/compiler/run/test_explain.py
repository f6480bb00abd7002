"""What a compiled function shows of itself."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch.compiler.run import kernel_sums
from tinytorch.compiler.run.program import Span
from tinytorch.compiler.run.timing import TimedRun


@pytest.fixture
def compiled(tmp_path, monkeypatch):
    monkeypatch.setenv("TINYTORCH_CACHE", str(tmp_path))
    w = tt.Tensor(np.ones((64, 64), np.float32))

    def f(x):
        out = (x @ w).tanh()
        w.assign_(w + 1)
        return out

    out = tt.compile(f, threads=1)
    out(np.ones((32, 64), np.float32))
    return out, w


def test_explain_lists_kernels_and_changes_nothing(compiled):
    """Ground truth: the operations in the function; FLOPs of the product 2 M N K = 262 144."""
    f, w = compiled
    before = w.numpy().copy()
    text = f.explain()
    assert "matmul" in text and "tanh" in text
    assert "host calls: 0" in text and "GFLOP/s" in text
    assert "1 threads" in text
    (row,) = [line for line in text.splitlines() if "matmul" in line]
    assert " k" in row or " M" in row
    np.testing.assert_array_equal(w.numpy(), before)


def test_shares_add_up(compiled):
    """Invariant: the shares of all kernels are 100 %, up to their rounding to 0.1 %."""
    f, _ = compiled
    cells = [
        c
        for line in f.explain().partition("total")[0].splitlines()[2:]
        for c in line.split()
        if c.endswith("%") and "." in c
    ]
    assert abs(sum(float(c[:-1]) for c in cells) - 100) <= 0.05 * len(cells) + 1e-9


def test_every_stage_can_be_printed(compiled):
    """Each stage is in its own language."""
    f, _ = compiled
    assert f.graph().startswith("def program(") and "matmul(" in f.graph()
    assert "define void" in f.llvm()
    assert ".globl" in f.asm() or ".text" in f.asm()
    assert "arguments" in f.memory() and "temporaries" in f.memory()


def test_what_is_explained_can_be_had_as_numbers(compiled):
    """Ground truth: the plan's own kernels and bytes; what frozen states lead to is counted too."""
    f, _ = compiled
    found, plan = f.profile(), f._last.program.plan
    assert {k.symbol for k in found.kernels} == {one.task.symbol for one in plan.launched}
    assert 0 < sum(k.seconds for k in found.kernels) <= found.run.whole * 1e-9
    assert f.workspace() == plan.arena + plan.kept
    w = tt.randn(64, 64)
    kept = tt.compile(lambda x: x @ (w * 2.0), freeze=True)
    kept(tt.ones(8, 64))
    assert kept.workspace() >= w.size * 4


def test_a_kind_of_call_can_be_named(compiled):
    """Another shape is another program, without being run."""
    f, w = compiled
    before = w.numpy().copy()
    assert "float32[5, 64]" in f.graph(np.ones((5, 64), np.float32))
    np.testing.assert_array_equal(w.numpy(), before)


def test_time_between_and_around_kernels_is_shown(compiled):
    """Ground truth: a run made by hand of 100 us: one kernel of 60, barriers of 30, Python of 10;
    the rows of kernels add up to it."""
    f, _ = compiled
    plan = f._last.program.plan
    spans, at = [], 5_000
    for i, task in enumerate(plan.tasks):
        spans.append(Span(i, 0, at, at + 60_000 // len(plan.tasks), task.tiles))
        at = spans[-1].end + 30_000 // (len(plan.tasks) - 1)
    run = TimedRun(0, 100_000, tuple(spans), 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel_sums, "timed_run", lambda call: run)
        lines = f.explain().splitlines()
    (between,) = [line for line in lines if line.startswith("between")]
    (around,) = [line for line in lines if line.startswith("around")]
    (total,) = [line for line in lines if line.startswith("total")]
    assert "30.0 us" in between and between.endswith("30.0%")
    assert "10.0 us" in around and around.endswith("10.0%")
    assert "100.0 us" in total
    assert "threads wait for others 0.0% of the kernels' time" in lines


def test_every_kernel_says_what_limits_it(compiled):
    """Ground truth: the words of roofline.Bound; the product of 32 x 64 x 64 in its column."""
    f, _ = compiled
    head, _, *rows = f.explain().splitlines()
    assert head.split()[-1] == "limit"
    kernels = [r for r in rows[: rows.index(next(x for x in rows if x.startswith("between")))]]
    assert {r.split()[-1] for r in kernels} <= {"fp32", "memory", "cache", "start"}
