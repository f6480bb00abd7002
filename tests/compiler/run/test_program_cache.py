"""Programs found again: in memory, on disk, or made by the passes when neither has them."""

import os

import numpy as np
import pytest

import tinytorch as tt
from tinytorch.base.errors import IndexRangeError
from tinytorch.codegen import cache
from tinytorch.codegen.target import Target
from tinytorch.compiler.run import program_cache


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TINYTORCH_CACHE", str(tmp_path))
    program_cache.forget_programs()
    yield
    program_cache.forget_programs()


def test_compiled_equals_eager_and_is_found_again():
    """Ground truth: eager; the second time nothing is lowered."""

    def f(x):
        return (x * 2).tanh().sum(dim=1)

    x = tt.Tensor(np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32))
    # a sum of 5 numbers of size <= 1, and tanh within 2 ulp: 8 * 2**-23
    np.testing.assert_allclose(tt.compile(f)(x).numpy(), f(x).numpy(), rtol=0, atol=8 * 2**-23)
    program_cache.forget_programs()

    def refuse(*_):
        raise AssertionError("the passes ran on a warm start")

    before, program_cache.compile_graph = program_cache.compile_graph, refuse
    try:
        again = tt.compile(f)(x)
    finally:
        program_cache.compile_graph = before
    np.testing.assert_allclose(again.numpy(), f(x).numpy(), rtol=0, atol=8 * 2**-23)


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "nonsense", "plan"])
def test_a_damaged_cache_is_compiled_again(damage, tmp_path):
    """Ground truth: arithmetic; whatever is in the file."""

    def f(x):
        return x * 3 + 1

    x = tt.Tensor([1.0, 2.0])
    tt.compile(f)(x)
    (path,) = tmp_path.rglob("*.program")
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
        folder.put(program_cache.key_of(graph, Target.host()), [b"\x7fELF"], {"format": 0})
        content = bytearray(next(tmp_path.rglob("*.program")).read_bytes())
    path.write_bytes(bytes(content))
    program_cache.forget_programs()
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
