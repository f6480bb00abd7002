"""Weights of few bits that a product computes while it reads them.

Ground truth: the definition, on small integers, whose products and sums are exact in float32; of
which weights are read so, the program by hand.
"""

from __future__ import annotations

import pytest

from tests.compiler.compiled import targets
from tests.compiler.test_pass_regressions import Draft
from tinytorch.base.dtypes import bfloat16, float32, int8, int32, uint8
from tinytorch.compiler.pipeline import stage
from tinytorch.compiler.plan.prologue import computed_weight, read_by_product

GROUP = 32


def turned(d, v):
    return d("permute", v, axes=(1, 0))


def whole_columns(d, k, n):
    """(out, in) bytes; added to, so that no rule takes the scale out."""
    w = d("cast", d.given((n, k), int8), dtype=float32)
    return turned(d, d("mul", d("add", w, d.given((n, 1))), d.given((n, 1))))


def rows_of_columns(d, k, n):
    """(in, out) bytes."""
    w = d("cast", d.given((k, n), uint8), dtype=float32)
    return d("mul", d("sub", w, d.given((k, 1))), d.given((n,)))


def groups(d, k, n):
    """(out, in / 32, 32) bytes, a scale for each group."""
    w = d("cast", d.given((n, k // GROUP, GROUP), int8), dtype=float32)
    w = d("mul", w, d.given((n, k // GROUP, 1)))
    return turned(d, d("reshape", w, shape=(n, k)))


def halves(d, k, n):
    """Two numbers of four bits to a byte: the first half of a group in the low bits."""
    w = d.given((n, k // GROUP, 1, GROUP // 2), uint8)
    half = d("iota", shape=(2, 1), axis=0, dtype=uint8)
    low = d("full", shape=(), value=4, dtype=uint8)
    w = d("shift_right", w, d("mul", half, low))
    w = d("bitwise_and", w, d("full", shape=(), value=15, dtype=uint8))
    w = d("sub", d("cast", w, dtype=float32), d("full", shape=(), value=8.0, dtype=float32))
    w = d("mul", w, d.given((n, k // GROUP, 1, 1)))
    return turned(d, d("reshape", w, shape=(n, k)))


def low_bits(d, k, n):
    """Bytes of which the four lowest bits count, and are a place in a table: squares."""
    low = d("bitwise_and", d.given((n, k), uint8), d("full", shape=(), value=15, dtype=uint8))
    w = d("cast", low, dtype=float32)
    return turned(d, d("mul", w, w))


def low_bits_and_all(d, k, n):
    """The same, times the whole byte: no table of 16 numbers."""
    w = d.given((n, k), uint8)
    low = d("bitwise_and", w, d("full", shape=(), value=15, dtype=uint8))
    return turned(d, d("mul", d("cast", low, dtype=float32), d("cast", w, dtype=float32)))


WEIGHTS = [whole_columns, rows_of_columns, groups, halves]


@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize(("m", "k", "n"), [
    (1, 160, 37), (2, 32, 64), (5, 96, 130), (33, 64, 19), (3, 2240, 16),
])  # fmt: skip
def test_numbers(weight, m, k, n):
    """Ground truth: the definition, on every target; few rows and many, sums of several
    stretches, columns that end within a vector, and what follows the product."""
    d = Draft()
    w = weight(d, k, n)
    d.check(d("add", d("matmul", d.given((m, k)), w), d.given((n,))))


@pytest.mark.parametrize("k", [1, 7, 131])
def test_depths_that_are_no_vectors(k):
    """Ground truth: the definition."""
    for weight in (whole_columns, rows_of_columns):
        d = Draft()
        d.check(d("matmul", d.given((2, 3, k)), weight(d, k, 21)))


@pytest.mark.parametrize(("weight", "looked_up"), [
    (halves, True), (low_bits, True), (low_bits_and_all, False), (whole_columns, False),
])  # fmt: skip
def test_four_bits_are_a_place_in_a_table(weight, looked_up):
    """Ground truth: the definition, on every target; and AVX-512's instruction that looks up 16
    numbers, in the code of weights that depend on nothing else along the sums."""
    for m, k in ((1, 192), (3, 224), (9, 64)):
        d = Draft()
        d.check(d("matmul", d.given((m, k)), weight(d, k, 19)))
        for target in targets():
            kernels = [t.kernel for t in stage(d.graph, target, "lower").tasks]
            found = any("permvar.sf" in line for x in kernels for line in x.declarations)
            assert found == (looked_up and target.name == "avx512")


@pytest.mark.parametrize("weight", WEIGHTS)
def test_the_weight_is_never_written(weight):
    """Closed form: all that is written is the product."""
    d = Draft()
    d.graph.results = [d("matmul", d.given((1, 64)), weight(d, 64, 16))]
    tasks = stage(d.graph, targets()[0], "lower").tasks
    assert [s.nbytes for t in tasks for s in t.writes] == [64]


def test_where_the_numbers_of_a_weight_lie():
    """By hand: which axes the rows and columns of the matrix run over, and what is read."""
    for weight, rows, columns in zip(
        WEIGHTS, [(1,), (0,), (1, 2), (1, 2, 3)], [(0,), (1,), (0,), (0,)], strict=True
    ):
        d = Draft()
        w = weight(d, 64, 16)
        x = d.given((1, 64))
        d("matmul", x, w)
        producer, node = d.graph.producers(), d.graph.nodes[-1]
        found = computed_weight(producer, node)
        assert found is not None and (found.rows, found.columns) == (rows, columns)
        given = [v for v in d.graph.arguments if v is not x]
        assert {producer[v].inputs[0] if v in producer else v for v in found.leaves} == set(given)
        assert read_by_product(producer, node) == (x, *found.leaves)


def test_weights_that_are_stored():
    """By hand: of float32, of too little less, batches, another type of x, groups that are no
    vectors, and a scale that is as large as the weight."""

    def product(make, x=(1, 64), dtype=float32):
        d = Draft()
        w = make(d)
        d("matmul", d.given(x, dtype), w)
        return computed_weight(d.graph.producers(), d.graph.nodes[-1])

    def scaled(d, shape, scale, dtype=int8):
        return d("mul", d("cast", d.given(shape, dtype), dtype=float32), d.given(scale))

    assert product(lambda d: scaled(d, (64, 9), (9,))) is not None
    assert product(lambda d: d("neg", d.given((64, 9)))) is None
    assert product(lambda d: scaled(d, (64, 9), (9,), int32)) is None
    assert product(lambda d: scaled(d, (3, 64, 9), (9,)), (3, 1, 64)) is None
    assert (
        product(lambda d: d("cast", d.given((64, 9), int8), dtype=bfloat16), dtype=bfloat16) is None
    )
    assert product(lambda d: scaled(d, (64, 9), (64, 9))) is None
    few = lambda d: d("reshape", scaled(d, (8, 8, 9), (8, 1, 9)), shape=(64, 9))  # noqa: E731
    assert product(few) is None
