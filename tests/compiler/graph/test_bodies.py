"""A body as a graph and back."""

import numpy as np

from tinytorch.base.dtypes import float32
from tinytorch.compiler.graph.bodies import body_of, graph_of_body
from tinytorch.compiler.graph.graph import run_reference
from tinytorch.primitives import TABLE, Spec
from tinytorch.primitives.body import Body, Line

X = Spec((3,), float32)
BODY = Body(
    (X, X),
    (
        Line(TABLE["mul"], (0, 1), {}),
        Line(TABLE["flip"], (2,), {"axes": (0,)}),
        Line(TABLE["sub"], (3, 2), {}),
    ),
    (4, 2, 0),
)


def test_a_body_comes_back_as_it_went():
    """Invariant: lines, the numbers of values, and the user's line."""
    graph = graph_of_body(BODY, "here.py:1")
    assert repr(body_of(graph.arguments, graph.nodes, graph.results)) == repr(BODY)
    assert [node.where for node in graph.nodes] == ["here.py:1"] * 3


def test_the_graph_computes_what_the_lines_say():
    """Ground truth: the three lines in NumPy."""
    x, y = np.array([3, 1, 2], np.float32), np.array([2, 5, 1], np.float32)
    graph = graph_of_body(BODY)
    held = run_reference(graph, dict(zip(graph.arguments, (x, y), strict=True)))
    last, product, first = (held[v] for v in graph.results)
    np.testing.assert_array_equal(product, x * y)
    np.testing.assert_array_equal(last, (x * y)[::-1] - x * y)
    np.testing.assert_array_equal(first, x)
