"""The arithmetic inside a kernel. Ground truth: closed forms, and numbers that only fit a type."""

from __future__ import annotations

import numpy as np
import pytest

from tests.compiler.test_pass_regressions import Draft
from tinytorch.base.dtypes import bfloat16, bool_, float16, float32, float64, int8, int64
from tinytorch.compiler.loops.expression import (
    Constant,
    Expression,
    Iota,
    Load,
    Op,
    Reduce,
    Store,
    describe,
    digest,
    expensive_among,
    flops_per_point,
    topological,
)

X = Load(float32, "x", (8, 0, 1), 5)


def test_what_an_expression_varies_along():
    """Closed form: the loops with a step, those of looked-up places, less the reduced ones."""
    index = Load(int64, "i", (0, 1, 0))
    looked = Load(float32, "x", (8, 0, 0), 0, ((index, 1, 9),))
    total = Reduce(float32, "sum", X, frozenset([2]))
    assert X.dims == {0, 2} and looked.dims == {0, 1} and Iota(int64, (0, 3)).dims == {1}
    assert total.dims == {0} and Constant(float32, 1).dims == frozenset()
    both = Op(float32, "add", (total, looked))
    assert both.dims == {0, 1} and both.reductions == {total} and both.inputs == (total, looked)
    again = Reduce(float32, "sum", Op(float32, "sub", (X, total)), frozenset([2]))
    assert (total.level, again.level) == (1, 2) and looked.inputs == (index,)


def test_constants_are_the_nearest_of_their_type():
    """Closed form."""
    assert Constant(bfloat16, 1 + 2.0**-7).number == 1 + 2.0**-7
    assert Constant(bfloat16, 1 + 2.0**-9).number == 1.0
    assert Constant(float16, 2049.0).number == 2048.0 and Constant(float32, 1e60).number == np.inf
    assert Constant(int8, 300).number == 44 and Constant(bool_, True).number is True


def test_whether_a_load_reads_what_a_store_writes():
    """Closed form: the same buffer, steps and beginning, and no lookup."""
    store = Store("x", float32, (8, 0, 1), X, 5)
    assert X.is_at(store)
    for other in (
        Load(float32, "y", (8, 0, 1), 5), Load(float32, "x", (8, 1, 1), 5),
        Load(float32, "x", (8, 0, 1), 4),
        Load(float32, "x", (8, 0, 1), 5, ((Constant(int64, 0), 8, 2),)),
    ):  # fmt: skip
        assert not other.is_at(store)


def test_expressions_in_order_and_as_text():
    """Closed form: inputs first, each once; texts are equal exactly when the arithmetic is."""
    y = Load(float32, "y", (8, 0, 1))
    a = Op(float32, "add", (X, y))
    b = Op(float32, "mul", (a, X))
    assert topological([b, a]) == [X, y, a, b]

    def text(*values: Expression) -> str:
        return describe([Store("out", float32, (8, 0, 1), v) for v in values])

    assert text(b) == text(Op(float32, "mul", (Op(float32, "add", (X, y)), X)))
    index = Constant(int64, 1)
    different = [
        X, y, a, b, Op(float32, "add", (y, X)), Op(float64, "add", (X, y)),
        Op(float32, "sub", (X, y)), Load(float32, "x", (8, 0, 1), 6),
        Load(float64, "x", X.strides, 5),
        Load(float32, "x", X.strides, 5, ((index, 1, 9),)),
        Load(float32, "x", X.strides, 5, ((index, 2, 9),)),
        Load(float32, "x", X.strides, 5, ((index, 1, 8),)),
        Constant(float32, 0.0), Constant(float32, -0.0), Iota(float32, (8, 0, 1), 5),
        Iota(float32, (8, 0, 1)), Reduce(float32, "sum", X, frozenset([2])),
        Reduce(float32, "max", X, frozenset([2])), Reduce(float32, "sum", X, frozenset([0, 2])),
    ]  # fmt: skip
    assert len({text(e) for e in different}) == len(different)
    assert digest("a", 1) == digest("a", 1) != digest("a1") and len(digest("a")) == 12
    stores = [Store("out", float32, (8, 0, 1), X), Store("out", float32, (8, 0, 1), X, 1)]
    assert describe(stores[:1]) != describe(stores[1:])


def test_operations_at_each_point():
    """Closed form: reductions, arithmetic and comparisons count one, selections and casts none."""
    e = Op(float32, "exp", (X,))
    wide = Op(float64, "cast", (Op(float32, "where", (Op(bool_, "less", (X, e)), X, e)),))
    stores = [Store("out", float64, (8, 0, 1), wide)]
    assert flops_per_point(stores) == 2
    total = Reduce(float32, "sum", Op(float32, "mul", (e, X)), frozenset([2]))
    stores.append(Store("sum", float32, (1, 0, 0), total))
    assert flops_per_point(stores) == 4
    below, above = Op(float32, "neg", (X,)), Op(float32, "neg", (e,))
    found = expensive_among(topological([above, below]))
    assert e in found and above in found and X not in found and below not in found


@pytest.mark.parametrize("dtype", [float64, bfloat16, bool_])
@pytest.mark.parametrize("columns", [3, 16, 19])
def test_numbers_picked_up_and_put_down_one_by_one(dtype, columns):
    """Ground truth: the definition, and the bytes around the result (compiled.py): every second
    element, backwards, along the lanes of a vector; and places that are looked up there."""
    d = Draft()
    x = d.given((5, 2 * columns), dtype)
    every = d("flip", d("slice", x, start=(0, 1), stop=(5, 2 * columns), step=(1, 2)), axes=(1,))
    table, i = d.given((4, 3), dtype), d.given((columns,), int64)
    i2 = d("where", d("less", i, d("full", shape=(), value=3, dtype=int64)), i, d("neg", i))
    turned = d("permute", d("where", d("equal", every, every), every, every), axes=(1, 0))
    joined = d("concatenate", turned, d("flip", turned, axes=(1,)), axis=1)
    columnwise = d("take", d("permute", table, axes=(1, 0)), i2, axis=1)
    same = d("where", d("equal", every, every), every, every)
    d.check(same, joined, d("take", table, i2, axis=0), columnwise)
