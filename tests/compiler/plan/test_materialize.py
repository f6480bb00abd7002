"""Which values get memory, at the limits of computing them again.

Ground truth: counts by hand. A value crosses here from a group of rows into the epilogue of a
matrix product; the row is summed, so that the two cannot be one.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.compiler.compiled import targets
from tests.compiler.test_pass_regressions import Draft
from tinytorch.base.dtypes import bfloat16, float16, float32, float64, int64
from tinytorch.base.errors import CompileError
from tinytorch.compiler.graph.graph import Value
from tinytorch.compiler.pipeline import stage
from tinytorch.compiler.plan.materialize import check_materialized
from tinytorch.compiler.plan.stages import Materialized

TARGET = targets()[-1]
SHAPE = (2, 8, 256)


def cross(d: Draft, *crossing: Value) -> Materialized:
    """Let each value be summed along rows and added to a product of matrices."""
    n, m, k = crossing[0].shape
    for v in crossing:
        d.graph.results.append(d("sum", v, axes=(2,), keepdims=False))
        d.graph.results.append(
            d("add", d("matmul", d.given((n, m, 3), v.dtype), d.given((n, 3, k), v.dtype)), v)
        )
    found = stage(d.graph, TARGET, "materialize")
    labels = [g.label for g in found.fused.groups]
    assert any("sum" in label for label in labels) and any("matmul+add" in n for n in labels)
    return found


def is_stored(found: Materialized, name: str) -> bool:
    """Whether the output of the last node of that primitive has memory."""
    node = [n for n in found.graph.nodes if n.primitive.name == name][-1]
    return node.outputs[0] in found.values


def chain(d: Draft, x: Value, operations: int) -> Value:
    """So many cheap operations on x, the last of them a square."""
    for i in range(operations - 1):
        x = d("neg" if i % 2 else "abs", x)
    return d("mul", x, x)


@pytest.mark.parametrize(("operations", "stored"), [(1, False), (16, False), (17, True)])
def test_as_many_operations_as_are_done_again(operations, stored):
    """Closed form: at most 16."""
    d = Draft()
    assert is_stored(cross(d, chain(d, d.given(SHAPE), operations)), "mul") == stored


@pytest.mark.parametrize(("costly", "stored"), [(1, False), (2, False), (3, True)])
def test_as_many_costly_functions_as_are_done_again(costly, stored):
    """Closed form: at most 2; the same one is counted once."""
    d = Draft()
    x = d.given(SHAPE)
    for i in range(costly):
        x = d("tanh" if i % 2 else "exp", x)
    assert is_stored(cross(d, d("mul", x, x)), "mul") == stored


@pytest.mark.parametrize(("leaves", "dtype", "stored"), [
    (2, float32, False), (3, float32, True), (3, float16, True), (2, float64, True),
    (1, float64, False),
])  # fmt: skip
def test_as_many_arrays_as_are_read_again(leaves, dtype, stored):
    """Closed form: at most 2 whole arrays, and at most twice the bytes of a float32 result."""
    d = Draft()
    x = d("cast", d.given(SHAPE, dtype), dtype=float32)
    for _ in range(leaves - 1):
        x = d("add", x, d("cast", d.given(SHAPE, dtype), dtype=float32))
    assert is_stored(cross(d, d("mul", x, x)), "mul") == stored


@pytest.mark.parametrize(("small", "stored"), [((1, 1, 256), False), ((2, 1, 256), True)])
def test_arrays_of_a_sixteenth_are_read_for_nothing(small, stored):
    """Closed form: 256 of 4096 elements are, 512 are not."""
    d = Draft()
    x = d("add", d("add", d.given(SHAPE), d.given(SHAPE)), d.given(small))
    assert is_stored(cross(d, d("mul", x, x)), "mul") == stored


@pytest.mark.parametrize(("length", "stored"), [(15, True), (16, False)])
def test_a_value_for_each_row_is_stored_in_place_of_what_follows_from_it(length, stored):
    """Closed form: where a row has 16 elements and more, its sum is 1 / 16 of them and fewer."""
    d = Draft()
    x = d.given((2, 8, length))
    found = cross(d, d("div", x, d("sum", x, axes=(2,), keepdims=True)))
    total = next(n for n in found.graph.nodes if n.params.get("keepdims"))
    assert is_stored(found, "div") == stored
    assert (total.outputs[0] in found.values) != stored


def test_a_value_behind_a_lookup_or_a_product_is_not_computed_again():
    """A lookup is no arithmetic on elements at the same place; a product is a library call."""
    d = Draft()
    found = cross(d, d("take", d.given((3, 8, 256)), d.given((2,), int64), axis=0))
    assert is_stored(found, "take")
    d = Draft()
    product = d("matmul", d.given((2, 8, 3)), d.given((2, 3, 256)))
    found = cross(d, d("mul", product, product))
    assert is_stored(found, "mul") != (product in found.values)


def roots(dtype=float32, *, single=False) -> list[bool]:
    """An epilogue whose last steps p = -xw and q = |p| give erf(q) and exp(q), which are wanted
    later as float32: whether p, q and those have memory."""
    d = Draft()
    p = d("neg", d("matmul", d.given((2, 8, 3), dtype), d.given((2, 3, 256), dtype)))
    q = d("abs", p)
    wanted = [d("cast", d(name, q), dtype=float32) for name in ("erf", "exp")]
    for v in wanted[: 1 if single else 2]:
        other = d("matmul", d.given((2, 8, 3)), d.given((2, 3, 256)))
        d.graph.results.append(d("add", other, v))
    found = stage(d.graph, TARGET, "materialize")
    crossing = [n.inputs[1] for n in found.graph.nodes if n.primitive.name == "add"]
    return [
        is_stored(found, "neg"),
        is_stored(found, "abs"),
        *(v in found.values for v in crossing),
    ]


def test_one_value_is_stored_in_place_of_two_that_follow_from_it():
    """Closed form: |p| gives both; of values that serve as well, the last. It gains nothing for
    one value of as many bytes, nor where it takes the bytes of both."""
    assert roots() == [False, True, False, False]
    assert roots(bfloat16, single=True) == [False, False, False]  # but what was cast
    assert roots(single=True) == [False, False, True]
    assert roots(float64) == [False, False, True, True]


def test_what_cannot_be_had_is_refused():
    """Each damage takes away memory that somebody reads; undamaged it is accepted."""
    d = Draft()
    x, y, seen = d.given((4, 3)), d.given((3, 4)), d.given((4, 3))
    inner = d("matmul", d("exp", x), y)
    summed = d("matmul", d.given((4, 3), float64), d.given((3, 4), float64))
    d.graph.results = [
        d("neg", d("matmul", inner, inner)), d("permute", inner, axes=(1, 0)),
        d("permute", seen, axes=(1, 0)), d("sum", summed, axes=(1,), keepdims=False),
    ]  # fmt: skip
    found = stage(d.graph, TARGET, "materialize")
    made = {n.primitive.name: n.outputs[0] for n in reversed(found.graph.nodes)}
    (total,) = (n for n in found.graph.nodes if n.is_reduction)
    check_materialized(found)
    for v, problem in (
        (made["exp"], "a library call reads a value without memory"),
        (made["matmul"], "without memory"), (x, "in no memory"), (made["neg"], "wanted in memory"),
        (seen, "wanted in memory"), (total.inputs[0], "in no memory"),
    ):  # fmt: skip
        assert v in found.values
        with pytest.raises(CompileError, match=problem):
            check_materialized(replace(found, values=found.values - {v}))


def test_counts_that_are_looked_up_or_reshaped_lie_in_memory():
    """A table is read at any row, and a reshaped count has no steps; any other is computed."""
    for use, stored in (
        (lambda d, count, i: d("take", count, i, axis=0), True),
        (lambda d, count, i: d("neg", d("reshape", count, shape=(2, 2, 2))), True),
        (lambda d, count, i: d("neg", d("reshape", count, shape=(4, 1, 2))), False),
        (lambda d, count, i: d("neg", d("permute", count, axes=(1, 0))), False),
    ):
        d = Draft()
        count = d("iota", shape=(4, 2), axis=1, dtype=float32)
        d.graph.results = [use(d, count, d.given((3,), int64))]
        assert is_stored(stage(d.graph, TARGET, "materialize"), "iota") == stored
