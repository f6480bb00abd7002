"""Rows beyond a length are not computed, and nothing that somebody needs is left out."""

import numpy as np
import pytest

import tinytorch as tt
from tests.compiler.compiled import program_of, run, targets
from tests.compiler.lengths import check, floats, wholes
from tinytorch.base.dtypes import float32, int64
from tinytorch.base.lengths import Length
from tinytorch.compiler.graph.graph import Graph, Value
from tinytorch.compiler.graph.length_rules import RULES
from tinytorch.compiler.graph.lengths import LengthRewriter
from tinytorch.compiler.pipeline import stage
from tinytorch.compiler.plan.needs import Needs
from tinytorch.primitives import TABLE
from tinytorch.primitives.primitive import Spec

T = tt.dim("T", max=256)
HOST = targets()[0]


def program(steps, shape) -> tuple[Graph, Value, Value]:
    """A graph over one argument with a length, at its bound; with its argument and its length."""
    n = Value(Spec((), int64))
    x = Value(Spec(shape, float32))
    graph = Graph(arguments=[x, n])
    v = x
    for name, *others, params in steps:
        others = [graph_constant(graph, array) for array in others]
        (v,) = graph.add(TABLE[name], (v, *others), params)
    graph.results = [v]
    LengthRewriter(graph, {T: n}, RULES).run()
    return graph, x, n


def graph_constant(graph, array) -> Value:
    v = Value(Spec(array.shape, float32))
    graph.constants[v] = array
    return v


def needed(graph) -> dict[str, str]:
    """By primitive, the first axis of its result that is needed."""
    simplified = stage(graph, HOST, "split reductions")
    needs = Needs(simplified)
    return {
        node.primitive.name: str(needs.of[node.outputs[0]][0])
        for node in simplified.graph.nodes
        if node.outputs[0] in needs.of and node.outputs[0].shape
    }


W = np.ones((8, 64), np.float32)
LENGTH = Length.of(T)


def test_what_is_needed():
    """Closed form: rows below the length before a row-wise result; all of a sum that is masked."""
    graph, *_ = program([("matmul", W, {}), ("exp", {})], (LENGTH, 8))
    assert needed(graph) == {"matmul": "T of 256", "exp": "T of 256"}
    graph, *_ = program([("exp", {}), ("sum", {"axes": (0,), "keepdims": False})], (LENGTH, 8))
    found = needed(graph)
    assert found["exp"] == "T of 256" and found["where"] == "256 of 256"
    graph, *_ = program([("exp", {}), ("flip", {"axes": (0,)})], (LENGTH, 8))
    assert needed(graph)["exp"] == "256 of 256"


@pytest.mark.parametrize(
    ("steps", "shape", "width"),
    [
        ([("matmul", W, {}), ("exp", {})], (LENGTH, 8), 64),
        ([("exp", {}), ("permute", {"axes": (0, 1)})], (LENGTH, 64), 64),
    ],
)
def test_rows_beyond_a_length_are_left_out(steps, shape, width):
    """Ground truth: the pattern with which results are filled is still there, far beyond.

    A register tile has at most 32 rows: what lies 64 rows beyond was not computed.
    """
    graph, x, n = program(steps, shape)
    given = {x: np.ones((256, shape[1]), np.float32), n: np.array(20)}
    for threads in (1, 2):
        (out,), _ = run(program_of(graph, HOST), graph, given, threads)
        assert out.shape == (256, width)
        untouched = out.view(np.uint8).reshape(256, -1) == 0xA5
        assert not untouched[:20].all(1).any() and untouched[100:].all()


def test_pictures_beyond_a_number_are_left_out():
    """Ground truth: the kernel is given the length; eager, with pictures on both sides of it."""
    filters = np.ones((4, 3, 3, 3), np.float32)
    window = {"stride": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": 1}
    graph, *_ = program([("convolution", filters, window)], (LENGTH, 3, 4, 4))
    kernels = [task.kernel for task in stage(graph, HOST, "lower").tasks]
    assert [k for k in kernels if k.name.startswith("convolution") and "length.T" in k.arguments]
    pool = tt.nn.functional.max_pool2d
    w = floats(2, 4, 3, 3, 3)
    check(
        lambda x: pool(tt.nn.functional.conv2d(x, w, padding=1).relu(), 2).reshape(-1, 16).sum(1),
        lambda n: (floats(n, n, 3, 4, 4),),
        {"x": (T,)},
        (256, 3, 100),
        tolerance=1e-4,
    )


def test_rows_of_several_sequences():
    """Ground truth: eager; in each sequence the rows that are there."""
    w = floats(1, 8, 64)
    x_of = lambda n: (floats(n, 2, n, 8),)  # noqa: E731
    check(lambda x: (x @ w).exp(), x_of, {"x": (None, T)}, (256, 3, 100))
    check(lambda x: (x.reshape(-1, 8) @ w).tanh(), x_of, {"x": (None, T)}, (256, 3, 100))


def test_a_block_of_a_transformer():
    """Ground truth: eager, at lengths on both sides of the blocks' ends."""
    block = tt.nn.TransformerBlock(32, 4, causal=True)
    table = floats(3, 11, 32)
    with tt.no_grad():
        check(
            lambda i: block(table[i]),
            lambda n: (wholes(n, 11, 2, n),),
            {"i": (None, T)},
            (1, 31, 32, 33, 64, 100, 255, 256, 7),
            tolerance=1e-4,
        )


def test_explain_says_how_long():
    """Closed form: the line of the length."""
    f = tt.compile(lambda x: x.exp(), dynamic_shapes={"x": (T,)})
    f(tt.ones(3))
    assert "length T: 1 to 256, here 256" in f.explain()
    assert "valid are T of 256" in f.graph()
