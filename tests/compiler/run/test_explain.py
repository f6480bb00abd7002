"""What a compiled function shows of itself."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch.codegen.target import Target
from tinytorch.compiler.run.explain import measure


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


def test_a_kind_of_call_can_be_named(compiled):
    """Another shape is another program, without being run."""
    f, w = compiled
    before = w.numpy().copy()
    assert "float32[5, 64]" in f.graph(np.ones((5, 64), np.float32))
    np.testing.assert_array_equal(w.numpy(), before)


def test_the_roofline_is_plausible():
    """Bounds any machine of this century meets: 1 GFLOP/s to 100 TFLOP/s, 0.5 to 2000 GB/s."""
    limit = measure(Target.host(), 1)
    assert 1e9 < limit.flops < 1e14
    assert 0.5e9 < limit.bandwidth < 2e12
    assert limit.seconds(int(limit.flops), 0) == pytest.approx(1)
    assert limit.seconds(0, int(limit.bandwidth)) == pytest.approx(1)
