"""Rewrite rules, each alone. Ground truth: the operations that are left, by hand, and the numbers.

The numbers are those of the program as it was recorded: to the last bit, NaN, infinities and the
sign of zero included, but where a rule computes in another order (the case says so).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from tinytorch.base.dtypes import float16, float32, float64, int64
from tinytorch.codegen.target import Target
from tinytorch.compiler.graph.graph import Captured, Graph, Value, step_reference
from tinytorch.compiler.graph.simplify import check_simplified, simplify
from tinytorch.primitives import TABLE
from tinytorch.primitives.primitive import Spec

ODD = np.array([[1.5, -0.0, np.nan], [np.inf, -np.inf, -2.25]], np.float32)  # every first argument
X, Y = Spec((2, 3), float32), Spec((2, 3), float32)


class Program:
    """A graph that is written by hand: `p("add", a, b)` appends and gives the result."""

    def __init__(self) -> None:
        self.graph = Graph()

    def given(self, spec: Spec) -> Value:
        self.graph.arguments.append(Value(spec))
        return self.graph.arguments[-1]

    def number(self, x: float, dtype=float32) -> Value:
        v = Value(Spec((), dtype))
        self.graph.constants[v] = np.array(x, dtype.storage)
        return v

    def __call__(self, name: str, *inputs: Value, **params) -> Value:
        return self.graph.add(TABLE[name], inputs, params)[0]


@dataclass
class Case:
    """A program over arguments of these shapes, and the operations that are left of it.

    Args:
        build: gives the result.
        left: names of primitives, in order.
        specs: of the arguments.
        exact: whether the numbers are the same to the last bit.
    """

    build: Callable[..., Value]
    left: str
    specs: tuple[Spec, ...] = (X,)
    exact: bool = True


CASES = {
    "equal computations once": Case(
        lambda p, x: p("add", p("exp", x), p("exp", x)), "exp add"
    ),
    "known numbers are computed now": Case(
        lambda p, x: p("mul", x, p("add", p.number(2), p.number(3))), "mul"
    ),
    "reshape to its own shape": Case(lambda p, x: p("reshape", x, shape=(2, 3)), ""),
    "reshape of a reshape": Case(
        lambda p, x: p("reshape", p("reshape", x, shape=(6,)), shape=(3, 2)), "reshape"
    ),
    "permute to the same order": Case(lambda p, x: p("permute", x, axes=(0, 1)), ""),
    "permute there and back": Case(
        lambda p, x: p("permute", p("permute", x, axes=(1, 0)), axes=(1, 0)), ""
    ),
    "a product turned is the product of the turned": Case(
        lambda p, x, w: p("permute", p("matmul", x, w), axes=(1, 0)),
        "permute permute matmul", (Spec((2, 3), float64), Spec((3, 4), float64)), exact=False,
    ),
    "broadcast to its own shape": Case(lambda p, x: p("broadcast_to", x, shape=(2, 3)), ""),
    "broadcast of a broadcast": Case(
        lambda p, x: p("broadcast_to", p("broadcast_to", x, shape=(4, 2, 3)), shape=(5, 4, 2, 3)),
        "broadcast_to",
    ),
    "arithmetic broadcasts by itself": Case(
        lambda p, x, y: p("add", p("broadcast_to", x, shape=(2, 3)), y), "add",
        (Spec((3,), float32), Y),
    ),
    "padded by nothing": Case(
        lambda p, x: p("pad", x, before=(0, 0), after=(0, 0), value=1.0), ""
    ),
    "sums of padded neighbours are a concatenation": Case(
        lambda p, x, y: p(
            "add", p("pad", x, before=(0, 0), after=(2, 0), value=0.0),
            p("pad", y, before=(2, 0), after=(0, 0), value=0.0),
        ),
        "concatenate", (X, Y), exact=False,  # -0.0 + 0.0 is 0.0; joined it stays -0.0
    ),
    "cast to its own type": Case(lambda p, x: p("cast", x, dtype=float32), ""),
    "a narrowing cast goes in front of movement": Case(
        lambda p, x: p("exp", p("cast", p("permute", x, axes=(1, 0)), dtype=float16)),
        "cast permute exp",
    ),
    "a widening cast stays behind movement": Case(
        lambda p, x: p("cast", p("permute", x, axes=(1, 0)), dtype=float64), "permute cast"
    ),
    "all of an array is the array": Case(
        lambda p, x: p("slice", x, start=(0, 0), stop=(2, 3), step=(1, 1)), ""
    ),
    "a part of an array is not": Case(
        lambda p, x: p("slice", x, start=(0, 1), stop=(2, 3), step=(1, 1)), "slice"
    ),
    "a sum over one element": Case(
        lambda p, x: p("sum", x, axes=(1,), keepdims=False), "reshape", (Spec((2, 1), float32),)
    ),
    "the sum of nothing": Case(
        lambda p, x: p("sum", x, axes=(0,), keepdims=False), "full", (Spec((0, 3), float32),)
    ),
    "x times 1": Case(lambda p, x: p("mul", x, p.number(1)), ""),
    "1 times x": Case(lambda p, x: p("mul", p.number(1), x), ""),
    "x divided by 1": Case(lambda p, x: p("div", x, p.number(1)), ""),
    "1 divided by x": Case(lambda p, x: p("div", p.number(1), x), "div"),
    "x plus 0, for -0.0 + 0.0 is 0.0": Case(lambda p, x: p("add", x, p.number(0)), "add"),
    "the square": Case(lambda p, x: p("pow", x, p.number(2)), "mul"),
    "the first power": Case(lambda p, x: p("pow", x, p.number(1)), ""),
    "the root of a power stays": Case(lambda p, x: p("pow", x, p.number(0.5)), "pow"),
    "zeros are final only where a factor is not finite": Case(
        lambda p, x: p("absorb", p("mul", x, p.number(3)), x), "mul"
    ),
    "absorb of an unknown factor": Case(
        lambda p, x, y: p("absorb", p("mul", x, y), x), "mul absorb", (X, Y)
    ),
    "one element of each line": Case(
        lambda p, x: p("take_along", x, p("full", shape=(2, 1), value=1, dtype=int64), axis=1),
        "full iota add less where equal where sum", exact=False,
    ),
}  # fmt: skip


def simplified(case: Case):
    """(the program, what is left of it, arguments for both)."""
    p = Program()
    values = [p.given(spec) for spec in case.specs]
    p.graph.results = [case.build(p, *values)]
    p.graph.add(TABLE["neg"], (values[0],), {})  # nobody reads it
    out = simplify(Captured(p.graph, Target.host()))
    check_simplified(out)
    drawn = [np.random.default_rng(1).standard_normal(v.shape) for v in values]
    if case.specs[0] == X:
        drawn[0] = ODD
    arrays = {v: a.astype(v.dtype.storage) for v, a in zip(values, drawn, strict=True)}
    return p.graph, out.graph, arrays


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_is_left(case):
    """Ground truth: the names of the operations, by hand."""
    _, after, _ = simplified(case)
    assert [n.primitive.name for n in after.nodes] == case.left.split()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_numbers_are_those_of_the_recorded_program(case):
    """Ground truth: the slow definition, graph.step_reference, of the program as it was."""
    before, after, arrays = simplified(case)
    with np.errstate(all="ignore"):
        (wanted,), (found,) = (step_reference(g, arrays)[0] for g in (before, after))
    assert found.dtype == wanted.dtype and found.shape == wanted.shape
    if case.exact:
        assert np.array_equal(found, wanted, equal_nan=found.dtype.kind == "f")
        assert np.array_equal(np.signbit(found), np.signbit(wanted)) or np.isnan(found).any()
    else:
        np.testing.assert_allclose(found, wanted, rtol=1e-12)
