"""Graphs as they are written, printed and refused. Ground truth: by hand; each damage is wrong."""

from __future__ import annotations

import numpy as np
import pytest

from tests.compiler.test_pass_regressions import Draft
from tinytorch.base.dtypes import bfloat16, float32, float64
from tinytorch.base.errors import CompileError
from tinytorch.compiler.graph.graph import Graph, Node, Value, applied, verify
from tinytorch.primitives import TABLE
from tinytorch.primitives.primitive import Spec


def value(*shape: int, dtype=float32) -> Value:
    return Value(Spec(shape, dtype))


def test_what_a_node_is():
    """Closed form: the op class of its row, its axes from 0, and the number of a source."""
    x = value(2, 3, 4)
    total = Node(TABLE["sum"], (x,), {"axes": (-1, 0)}, ())
    assert total.is_reduction and total.reduced_axes == {0, 2} and not total.is_movement
    everything = Node(TABLE["sum"], (x,), {"axes": None}, ())
    assert everything.reduced_axes == {0, 1, 2}
    full = applied(TABLE["full"], (), {"shape": (2,), "value": 3.0, "dtype": float32})
    count = applied(TABLE["iota"], (), {"shape": (2,), "axis": 0, "dtype": float32})
    assert full.is_source and full.constant == 3.0 and not full.is_position
    assert count.is_source and count.constant is None and count.is_position
    padded = applied(TABLE["pad"], (x,), {"before": (0,) * 3, "after": (1,) * 3, "value": 2.0})
    assert padded.constant is None and not padded.is_position
    assert applied(TABLE["flip"], (x,), {"axes": (0,)}).is_movement
    assert (value().name, padded.where) == ("", "")


def test_users_are_named_once():
    """Closed form: x * x reads x in one place."""
    graph = Graph(arguments=[x := value(4)])
    (y,) = graph.add(TABLE["mul"], (x, x), {}, "a.py:1")
    (z,) = graph.add(TABLE["add"], (x, y), {})
    assert graph.users() == {x: graph.nodes, y: graph.nodes[1:]}
    assert graph.producers() == {y: graph.nodes[0], z: graph.nodes[1]}
    assert graph.nodes[0].where == "a.py:1"


def test_the_text_of_a_program():
    """Golden: names, numbers up to 16 of a constant, copies of states that are read when they are
    gone, and None for no result."""
    graph = Graph(arguments=[x := value(17)], states=[s := value(16)])
    short, long = value(16), value(17)
    graph.constants = {short: np.arange(16, dtype=np.float32), long: np.ones(17, np.float32)}
    (y,) = graph.add(TABLE["add"], (x, long), {})
    (t,) = graph.add(TABLE["add"], (s, short), {})
    (view,) = graph.add(TABLE["reshape"], (s,), {"shape": (4, 4)})
    graph.results, graph.updates = [view, y, s], [(s, t)]
    numbers = [float(i) for i in range(16)]
    assert str(graph).splitlines() == [
        'def program(a0: "float32[17]", s0: "float32[16]"):',
        f'    c0 = np.array({numbers}, "float32").reshape((16,))  # float32[16]',
        '    c1 = constants["c1"]  # float32[17]',
        "    v0 = add(a0, c1)  # float32[17]",
        "    v1 = add(s0, c0)  # float32[16]",
        "    v2 = reshape(s0, shape=(4, 4))  # float32[4, 4]",
        "    k0 = np.array(v2)  # kept",
        "    k1 = np.array(s0)  # kept",
        "    s0[...] = v1",
        "    return k0, v0, k1",
    ]
    assert list(graph.long_constants()) == ["c1"]
    lines = graph.source("c.npz").splitlines()
    assert lines[7:10] == [
        'add = TABLE["add"]', 'reshape = TABLE["reshape"]', "constants = np.load('c.npz')",
    ]  # fmt: skip
    graph.updates = [(s, s)]
    assert "kept" not in str(graph) and str(graph).endswith("return v2, v0, s0")
    graph.results = []
    assert str(graph).endswith("return None")
    assert repr(value(2, 3, dtype=bfloat16)) == "value: bfloat16[2, 3]" and repr(x) == (
        "a0: float32[17]"
    )


def program() -> Draft:
    d = Draft()
    x, s = d.given((4,)), d.given((4,), state=True)
    c = value(4)
    d.graph.constants[c] = np.ones(4, np.float32)
    y = d("add", x, c)
    d.graph.results, d.graph.updates = [d("neg", y)], [(s, y)]
    verify(d.graph, "here")
    return d


def test_programs_that_are_wrong():
    """Each damage makes the program wrong by construction; the undamaged one is accepted."""

    def constant(graph: Graph, array: np.ndarray) -> None:
        graph.constants[next(iter(graph.constants))] = array

    def output(graph: Graph, v: Value) -> None:
        graph.nodes[0].outputs = (v,)

    damages = {
        "a constant differs from its Spec": [
            lambda g: constant(g, np.ones(5, np.float32)), lambda g: constant(g, np.ones(4)),
        ],
        "read before it is made": [lambda g: g.nodes.reverse(), lambda g: g.arguments.clear()],
        "differs from the shape rule": [
            lambda g: output(g, value(5)), lambda g: output(g, value(4, dtype=float64)),
        ],
        "made twice": [
            lambda g: g.nodes.append(g.nodes[0]), lambda g: output(g, g.arguments[0]),
        ],
        "an output is never made": [
            lambda g: g.results.append(value(4)),
            lambda g: g.updates.append((g.states[0], value(4))),
        ],
        "an update does not fit its state": [
            lambda g: g.updates.append((g.arguments[0], g.results[0])),
            lambda g: g.updates.append((g.states[0], g.add(TABLE["reshape"], (g.results[0],),
                                                           {"shape": (2, 2)})[0])),
        ],
    }  # fmt: skip
    for problem, ways in damages.items():
        for damage in ways:
            graph = program().graph
            damage(graph)
            with pytest.raises(CompileError, match=f"'here' made an invalid program: .*{problem}"):
                verify(graph, "here")
