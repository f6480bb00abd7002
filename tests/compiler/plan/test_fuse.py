"""Groups that wait for each other, or do an operation twice, are refused.

Ground truth: each damage makes the program wrong by construction; the undamaged one is accepted.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.compiler.compiled import targets
from tests.compiler.test_pass_regressions import Draft
from tinytorch.base.dtypes import float32, int64
from tinytorch.base.errors import CompileError
from tinytorch.compiler.graph.graph import Captured
from tinytorch.compiler.graph.rewriter import IndexCheck, Simplified
from tinytorch.compiler.pipeline import stage
from tinytorch.compiler.plan.access import nowhere, row_coordinates, unit
from tinytorch.compiler.plan.fuse import check_groups, fuse
from tinytorch.compiler.plan.layout import choose_layouts
from tinytorch.compiler.plan.stages import Fused

TARGET = targets()[-1]


def product() -> tuple[Draft, Fused]:
    """y = -x; z = exp(y @ w); two groups, the second after the first."""
    d = Draft()
    x, w = d.given((4, 8)), d.given((8, 8))
    y = d("neg", x)
    d.graph.results = [d("exp", d("matmul", y, w)), d("sum", y, axes=(1,), keepdims=False)]
    return d, stage(d.graph, TARGET, "fuse")


def with_nodes(fused: Fused, *nodes: tuple) -> Fused:
    """The same with other nodes in its groups."""
    groups = [replace(g, nodes=tuple(n)) for g, n in zip(fused.groups, nodes, strict=True)]
    return replace(fused, groups=tuple(groups))


def test_groups_that_wait_for_each_other():
    """Fault: `y[::2] *= s`, a node joined a group that what it reads came after."""
    _, fused = product()
    first, second = (g for g in fused.groups)
    check_groups(fused)
    assert second.label == "matmul+exp"
    # exp, which reads the product, which reads neg
    circle = with_nodes(fused, (*first.nodes, second.nodes[-1]), second.nodes[:-1])
    with pytest.raises(CompileError, match="groups wait for each other"):
        check_groups(circle)


def test_operations_done_nowhere_or_twice():
    """Each node that is neither movement nor computed where it is read has one group."""
    _, fused = product()
    first, second = (g.nodes for g in fused.groups)
    with pytest.raises(CompileError, match="in two groups"):
        check_groups(with_nodes(fused, first, (*second, first[0])))
    with pytest.raises(CompileError, match="nowhere or twice"):
        check_groups(with_nodes(fused, first, second[:-1]))
    other = replace(fused.groups[0], axes=frozenset([0]))
    with pytest.raises(CompileError, match="different axes"):
        check_groups(replace(fused, groups=(other, fused.groups[1])))


def test_a_value_that_is_checked_is_stored():
    """Fault: nll_loss with ignore_index over positions waited for its own labels."""
    d = Draft()
    x, labels = d.given((2, 3, 8)), d.given((2, 8), int64)
    safe = d("add", labels, labels)
    hits = d("equal", d("iota", shape=(2, 3, 8), axis=1, dtype=int64),
             d("reshape", safe, shape=(2, 1, 8)))  # fmt: skip
    picked = d("where", hits, x, d("full", shape=(), value=0.0, dtype=float32))
    d.graph.results = [d("sum", picked, axes=(1,), keepdims=False)]
    check = IndexCheck(safe, 3, "take", "")
    captured = Captured(d.graph, TARGET)
    check_groups(fuse(choose_layouts(Simplified(captured, d.graph, (check,)))))
    forgotten = fuse(choose_layouts(Simplified(captured, d.graph)))
    with pytest.raises(CompileError, match="wanted in memory is not stored"):
        check_groups(replace(forgotten, wanted=forgotten.wanted | {safe}))


def groups_of(d: Draft, *results) -> list[str]:
    """The operations of each group, in the order they were begun."""
    d.graph.results = list(results)
    return [g.label for g in stage(d.graph, TARGET, "fuse").groups]


def test_operations_over_the_same_points_are_one_group():
    """Closed form: whatever shape the operands have; another shape is another group."""
    d = Draft()
    x, y = d.given((4, 6)), d.given((6,))
    assert groups_of(d, d("add", d("neg", x), d("mul", d("abs", x), y))) == ["neg+abs+mul+add"]
    d = Draft()
    x, y = d.given((4, 6)), d.given((6,))
    assert groups_of(d, d("add", d("neg", x), d("abs", y))) == ["neg+add", "abs"]
    d = Draft()
    x = d.given((4, 6))
    y = d("permute", d("neg", x), axes=(1, 0))
    assert groups_of(d, d("exp", y)) == ["neg", "exp"]  # read at another place
    d = Draft()
    y = d("reshape", d("neg", d.given((4, 6))), shape=(24,))
    assert groups_of(d, d("exp", y)) == ["neg", "exp"]


def test_rows_and_their_reductions_are_one_group():
    """Closed form: several over the same axes, and what is computed of their results; other
    axes, the other array of a size, and the outermost axis are groups of their own."""
    d = Draft()
    x = d.given((4, 6))
    total, most = (d(n, d("exp", x), axes=(1,), keepdims=True) for n in ("sum", "max"))
    assert groups_of(d, d("div", x, d("add", total, most))) == ["exp+sum+max+add+div"]
    d = Draft()
    x = d.given((4, 6))
    inner = d("sum", d("exp", x), axes=(1,), keepdims=False)
    whole = d("sum", d("exp", x), axes=(0, 1), keepdims=False)
    assert groups_of(d, inner, whole) == ["exp+sum", "sum"]
    d = Draft()
    x = d.given((4, 6))
    assert groups_of(d, d("exp", d("sum", d("neg", x), axes=(0,), keepdims=False))) == ["sum+exp"]
    d = Draft()
    x = d.given((4, 6))
    total = d("sum", x, axes=(1,), keepdims=True)
    assert groups_of(d, d("sum", d("sub", x, total), axes=(1,), keepdims=False)) == ["sum+sub"]


def test_a_row_in_place_of_points():
    """Closed form: a value for each row may join the rows' group, also seen as another rank; one
    that needs a value at each point may not, and a row's result is not read in another row."""
    d = Draft()
    x = d.given((4, 6))
    total = d("sum", x, axes=(1,), keepdims=True)
    flat = d("reshape", total, shape=(4,))
    assert groups_of(d, d("mul", flat, flat)) == ["sum+mul"]
    d = Draft()
    x = d.given((6, 6))
    total = d("sum", x, axes=(1,), keepdims=False)
    assert groups_of(d, d("sub", x, total)) == ["sum", "sub"]
    d = Draft()
    x = d.given((6, 6))
    total = d("sum", x, axes=(1,), keepdims=True)
    assert groups_of(d, d("sub", x, total)) == ["sum+sub"]
    d = Draft()
    x = d.given((6, 6))
    total = d("sum", x, axes=(1,), keepdims=True)
    turned = d("permute", total, axes=(1, 0))
    assert groups_of(d, d("sub", x, turned)) == ["sum", "sub"]


def test_what_follows_a_product():
    """Closed form: arithmetic over its result, in registers; no reduction, and no other shape. A
    product of integers has an epilogue like any other."""
    d = Draft()
    a, b = d.given((4, 5)), d.given((5, 6))
    y = d("matmul", a, b)
    assert groups_of(d, d("add", d("exp", y), d("abs", d.given((4, 6))))) == ["matmul+exp+abs+add"]
    d = Draft()
    y = d("matmul", d.given((4, 5)), d.given((5, 6)))
    assert groups_of(d, d("sum", y, axes=(1,), keepdims=False)) == ["matmul", "sum"]
    d = Draft()
    y = d("matmul", d.given((4, 5), int64), d.given((5, 6), int64))
    assert groups_of(d, d("neg", y)) == ["matmul+neg"]
    d = Draft()
    y = d("matmul", d.given((4, 5)), d.given((5, 6)))
    assert groups_of(d, d("add", y, d.given((3, 4, 6)))) == ["matmul", "add"]
    d = Draft()
    y, z = (d("matmul", d.given((4, 5)), d.given((5, 6))) for _ in range(2))
    assert groups_of(d, d("add", y, z)) == ["matmul", "matmul+add"]
    d = Draft()
    y = d("matmul", d.given((4, 5)), d.given((5, 6)))
    z = d("matmul", y, d.given((6, 6)))
    assert groups_of(d, d("add", y, z)) == ["matmul", "matmul+add"]


def test_reductions_of_columns():
    """Closed form: arithmetic that they alone read is computed on the way; two of one array are
    one pass, if neither needs the other and both run over the same axes."""
    d = Draft()
    x = d.given((4, 6))
    y = d("mul", x, x)
    sums = [d("sum", v, axes=(0,), keepdims=False) for v in (x, y)]
    assert groups_of(d, *sums) == ["sum"]
    assert len(stage(d.graph, TARGET, "fuse").groups[0].nodes) == 2
    d = Draft()
    x, y = d.given((4, 6)), d.given((4, 6))
    sums = [d("sum", v, axes=(0,), keepdims=False) for v in (x, y)]
    assert groups_of(d, *sums) == ["sum", "sum"]  # nothing in common
    d = Draft()
    x = d.given((4, 5, 6))
    sums = [d("sum", x, axes=axes, keepdims=False) for axes in ((0,), (1,))]
    assert groups_of(d, *sums) == ["sum", "sum"]
    d = Draft()
    x = d.given((4, 6))
    mean = d("sum", x, axes=(0,), keepdims=True)
    off = d("sub", x, mean)
    assert groups_of(d, d("sum", d("mul", off, off), axes=(0,), keepdims=False)) == ["sum", "sum"]
    d = Draft()
    y = d("neg", d.given((4, 6)))
    assert groups_of(d, y, d("sum", y, axes=(0,), keepdims=False)) == ["neg", "sum"]  # wanted
    d = Draft()
    y = d("neg", d.given((4, 6)))
    turned = d("permute", y, axes=(1, 0))
    assert groups_of(d, d("sum", turned, axes=(1,), keepdims=False)) == ["neg", "sum"]


def test_sources_are_computed_where_they_are_read():
    """Closed form: numbers, counts and arrays of one number lie in no group of their own."""
    d = Draft()
    x = d.given((4, 6))
    count = d("iota", shape=(4, 6), axis=1, dtype=float32)
    assert groups_of(d, d("add", x, count)) == ["add"]
    d = Draft()
    one = d("neg", d.given((1, 1)))
    assert groups_of(d, d("sum", d("add", d.given((4, 6)), one), axes=(0,), keepdims=False)) == [
        "neg", "sum",
    ]  # fmt: skip


def test_groups_that_are_joined_later():
    """Closed form: what reads two groups of the same points makes them one, unless something that
    needs the first stands between them."""
    d = Draft()
    x, y = d.given((4, 6)), d.given((4, 6))
    assert groups_of(d, d("add", d("neg", x), d("exp", y))) == ["neg+exp+add"]
    d = Draft()
    y = d("neg", d.given((6, 6)))
    z = d("cumsum", y, axis=0)
    assert groups_of(d, d("add", y, d("exp", z))) == ["neg", "cumsum", "exp+add"]
    d = Draft()
    x = d.given((4, 6))
    total = d("sum", d("neg", x), axes=(1,), keepdims=True)
    other = d("exp", d.given((4, 1)))
    assert groups_of(d, d("div", x, d("add", total, other))) == ["neg+sum+exp+add+div"]
    d = Draft()
    x, y = d.given((4, 6)), d.given((4, 6))
    first, second = (d("sum", v, axes=(1,), keepdims=True) for v in (x, y))
    assert groups_of(d, d("add", first, second)) == ["sum+add"]
    assert len(stage(d.graph, TARGET, "fuse").groups[0].nodes) == 3


def test_row_coordinates():
    """Closed form: each axis of a result for each row runs along the kept loop of its size."""
    found = row_coordinates((2, 1, 5), (2, 3, 5), frozenset([1]))
    assert found == (unit(3, 0), nowhere(3), unit(3, 2))
    assert row_coordinates((5,), (1, 3, 5), frozenset([1])) == (unit(3, 2),)


def test_axes_of_one_element_do_not_count():
    """Closed form: neither for what is outermost nor for one number a row; axes of two do."""
    d = Draft()
    total = d("sum", d("neg", d.given((4, 1, 1))), axes=(0,), keepdims=False)
    assert groups_of(d, total) == ["neg+sum"]
    d = Draft()
    assert groups_of(d, d("sum", d("neg", d.given((2, 6))), axes=(0,), keepdims=False)) == ["sum"]
    d = Draft()
    total = d("sum", d.given((2, 1, 6)), axes=(2,), keepdims=False)
    assert groups_of(d, d("mul", total, total)) == ["sum+mul"]
    d = Draft()
    total = d("sum", d.given((1, 2, 6)), axes=(2,), keepdims=False)
    flat = d("reshape", total, shape=(2,))
    assert groups_of(d, d("mul", flat, flat)) == ["sum+mul"]
    d = Draft()
    total = d("sum", d.given((2, 3, 6)), axes=(2,), keepdims=False)
    assert groups_of(d, d("mul", d("reshape", total, shape=(6,)), d.given((6,)))) == ["sum", "mul"]


def test_what_reads_a_group_at_other_places_is_never_joined_with_it():
    """Closed form: z reads y turned, so that what reads both in place joins z alone."""
    d = Draft()
    x, u = d.given((6, 6)), d.given((6, 6))
    y = d("neg", x)
    z = d("add", d("exp", u), d("permute", y, axes=(1, 0)))
    assert groups_of(d, d("mul", y, z)) == ["neg", "exp+add+mul"]
    d = Draft()
    x, u = d.given((6, 6)), d.given((6, 6))
    y = d("neg", x)
    z = d("add", d("exp", u), d("permute", y, axes=(1, 0)))
    more = d("abs", z)
    assert groups_of(d, d("mul", d("tanh", y), more)) == ["neg+tanh", "exp+add+abs+mul"]


def test_rows_of_a_table_are_read_at_any_place():
    """Closed form: what is looked up in is a group of its own; the places may be joined."""
    d = Draft()
    x, i = d.given((6, 4)), d.given((6,), int64)
    y = d("neg", x)
    assert groups_of(d, d("take", y, d("abs", i), axis=0)) == ["neg", "abs", "take"]
    d = Draft()
    x, i = d.given((6,)), d.given((6,), int64)
    assert groups_of(d, d("add", d("take", d("neg", x), d("abs", i), axis=0), x)) == [
        "neg", "abs+take+add",
    ]  # fmt: skip
    d = Draft()
    x, i = d.given((6, 4)), d.given((6,), int64)
    picked = d("take", x, i, axis=0)
    assert groups_of(d, d("sum", d("exp", picked), axes=(0,), keepdims=False)) == ["take", "sum"]


def test_a_row_does_not_read_what_has_a_number_for_each_point():
    """Closed form: a scalar may be both; x / sum(x) of one row is computed where the row is."""
    d = Draft()
    x = d.given((1, 6))
    total = d("sum", x, axes=(1,), keepdims=True)
    assert groups_of(d, d("div", x, total)) == ["sum+div"]
    d = Draft()
    x = d.given((6, 1))
    total = d("sum", d("neg", d.given((6, 5))), axes=(1,), keepdims=True)
    first = d("slice", d("neg", x), start=(0, 0), stop=(6, 1), step=(1, 1))
    assert groups_of(d, d("add", total, first)) == ["neg+sum+add"]
    d = Draft()
    wide = d("neg", d.given((4, 6)))
    total = d("sum", wide, axes=(1,), keepdims=True)
    column = d("slice", wide, start=(0, 0), stop=(4, 1), step=(1, 1))
    assert groups_of(d, d("add", total, column)) == ["neg+sum", "add"]


def test_a_pass_over_columns_is_shared_only_by_what_does_not_need_it():
    """Closed form: with a group of columns in between, and one that runs over another domain."""
    d = Draft()
    x, y = d.given((4, 6)), d.given((5, 6))
    first = d("sum", x, axes=(0,), keepdims=True)
    other = d("max", y, axes=(0,), keepdims=True)
    third = d("min", x, axes=(0,), keepdims=True)
    assert groups_of(d, first, other, third) == ["sum+min", "max"]
    d = Draft()
    x = d.given((4, 6))
    first = d("sum", x, axes=(0,), keepdims=True)
    off = d("mul", x, d("exp", first))
    assert groups_of(d, d("max", off, axes=(0,), keepdims=False)) == ["sum", "max"]


def test_products_of_columns_and_their_epilogues():
    """Closed form: what follows the sums of columns joins them; what has a number for each point
    does not."""
    d = Draft()
    x = d.given((4, 6))
    total = d("sum", x, axes=(0,), keepdims=True)
    assert groups_of(d, d("exp", d("add", total, d.given((6,))))) == ["sum+add+exp"]
    d = Draft()
    x = d.given((4, 6))
    total = d("sum", x, axes=(0,), keepdims=True)
    assert groups_of(d, d("sub", x, total)) == ["sum", "sub"]


def test_which_row_a_result_is_read_in():
    """Closed form: a column of a square is each row's own, a row of it is all of them; also behind
    a reshape that adds an axis."""
    for shape, labels in (((6, 1), ["sum+sub"]), ((1, 6), ["sum", "sub"])):
        d = Draft()
        x = d.given((6, 6))
        total = d("reshape", d("sum", x, axes=(1,), keepdims=False), shape=shape)
        assert groups_of(d, d("sub", x, total)) == labels
        d = Draft()
        x = d.given((6, 6))
        total = d("reshape", d("sum", x, axes=(1,), keepdims=False), shape=shape)
        assert groups_of(d, d("sum", d("sub", x, total), axes=(1,), keepdims=False)) == (
            ["sum+sub"] if len(labels) == 1 else ["sum", "sub+sum"]
        )
    d = Draft()
    x = d.given((6, 6))
    total = d("sum", x, axes=(1,), keepdims=True)
    grid = d("reshape", d("exp", total), shape=(6,))
    assert groups_of(d, d("mul", x, d("add", total, grid))) == ["sum+exp", "add+mul"]


def test_what_a_product_reads_is_never_joined_with_it():
    """Closed form: the product reads all of y, so that y is whole before it begins."""
    d = Draft()
    y = d("neg", d.given((6, 6)))
    assert groups_of(d, d("add", d("matmul", y, d.given((6, 6))), y)) == ["neg", "matmul+add"]
    d = Draft()
    counts = d("sum", d.given((4, 6), int64), axes=(1,), keepdims=False)
    assert groups_of(d, d("take", d.given((9, 6)), counts, axis=0)) == ["sum", "take"]


def test_an_order_of_groups_is_kept():
    """Closed form: what reads y and a running sum of it comes after both; nor may it draw y into a
    group that waits for the sum. A group before them, so that places in the list count."""
    d = Draft()
    first = d("exp", d.given((3,)))
    y = d("neg", d.given((6, 6)))
    z = d("cumsum", y, axis=0)
    assert groups_of(d, first, d("add", y, z)) == ["exp", "neg", "cumsum", "add"]
    d = Draft()
    first = d("exp", d.given((3,)))
    y = d("neg", d.given((6, 6)))
    z = d("cumsum", y, axis=0)
    assert groups_of(d, first, d("add", y, d("abs", z))) == ["exp", "neg", "cumsum", "abs+add"]
    which = d("less", d.given((6, 6)), d.given((6, 6)))
    assert groups_of(d, first, d("where", which, y, z)) == ["exp", "neg", "cumsum", "less+where"]
    d = Draft()
    first = d("exp", d.given((3,)))
    y, more = d("neg", d.given((6, 6))), d("abs", d.given((6, 6)))
    z = d("cumsum", more, axis=0)
    assert groups_of(d, first, d("where", d("less", y, y), more, z)) == [
        "exp", "neg+less+where", "abs", "cumsum",
    ]  # fmt: skip


def test_a_reduction_joins_the_points_it_runs_over():
    """Closed form: not those that are repeated; also two points."""
    d = Draft()
    y = d("broadcast_to", d("neg", d.given((6,))), shape=(4, 6))
    assert groups_of(d, d("sum", y, axes=(1,), keepdims=False)) == ["neg", "sum"]
    d = Draft()
    assert groups_of(d, d("sum", d("neg", d.given((2,))), axes=(0,), keepdims=False)) == ["neg+sum"]


def test_what_a_group_needs_is_needed_by_all_after_it():
    """Closed form: y is joined by what reads k turned, so that the running sum of y waits for k
    too, and what reads k and that sum cannot be done with k. The same for sums of columns."""
    for early in (True, False):
        d = Draft()
        first = d("exp", d.given((3,)))
        y = d("neg", d.given((6, 6)))
        k = d("tanh", d.given((6, 6))) if early else None
        z = d("cumsum", y, axis=0)
        k = k or d("tanh", d.given((6, 6)))
        joined = d("add", y, d("permute", k, axes=(1, 0)))
        middle = ["tanh", "cumsum"] if early else ["cumsum", "tanh"]
        assert groups_of(d, first, joined, d("add", k, z)) == ["exp", "neg+add", *middle, "add"]
    d = Draft()
    first, x = d("exp", d.given((3,))), d.given((4, 6))
    off = d("sub", x, d("sum", x, axes=(0,), keepdims=True))
    assert groups_of(d, first, d("max", off, axes=(0,), keepdims=False)) == ["exp", "sum", "max"]


def test_which_groups_are_never_one():
    """Closed form: rows of sums and a product; sums over different axes; two passes over columns;
    what was read turned. A group before them, so that places in the list count."""
    d = Draft()
    first, x = d("exp", d.given((3,))), d.given((6, 6))
    share = d("div", x, d("sum", x, axes=(1,), keepdims=True))
    product = d("matmul", d.given((6, 6)), d.given((6, 6)))
    assert groups_of(d, first, d("add", product, share)) == ["exp", "sum+div", "matmul+add"]
    d = Draft()
    first, x = d("exp", d.given((3,))), d.given((4, 6))
    one, two = (
        d("sub", x, d(name, x, axes=axes, keepdims=True))
        for name, axes in (("max", (1,)), ("sum", (0, 1)))
    )
    assert groups_of(d, first, d("add", one, two)) == ["exp", "max+sub", "sum+sub+add"]
    d = Draft()
    first = d("exp", d.given((3,)))
    one, two = (d("sum", d.given((4, 6)), axes=(0,), keepdims=False) for _ in range(2))
    assert groups_of(d, first, d("add", one, two)) == ["exp", "sum", "sum+add"]
    d = Draft()
    first, y = d("exp", d.given((3,))), d("neg", d.given((6, 6)))
    z = d("add", d("abs", d.given((6, 6))), d("permute", y, axes=(1, 0)))
    assert groups_of(d, first, d("mul", y, z)) == ["exp", "neg", "abs+add+mul"]


def test_what_was_joined_is_still_apart():
    """Closed form: y joins u, which z reads turned: what reads both joins z alone; and an order is
    kept over what joined."""
    d = Draft()
    first, u = d("exp", d.given((3,))), d("tanh", d.given((6, 6)))
    z = d("abs", d("permute", u, axes=(1, 0)))
    y = d("add", d("neg", d.given((6, 6))), u)
    assert groups_of(d, first, d("mul", y, z)) == ["exp", "abs+mul", "tanh+neg+add"]
    d = Draft()
    first, u, v = d("exp", d.given((3,))), d("tanh", d.given((6, 6))), d("neg", d.given((6, 6)))
    sums = d("cumsum", u, axis=0)
    y = d("add", u, v)  # one group, before the running sum
    assert groups_of(d, first, d("mul", y, sums)) == ["exp", "tanh+neg+add", "cumsum", "mul"]


def test_joint_groups_need_what_each_of_them_needed():
    """Closed form: -C(k) and exp(C(m)) for running sums C become one group, which needs k and m; so
    does what reads either of them, and neither k nor m can wait for it."""
    for last in (0, 1, 2):
        d = Draft()
        first, w = d("round", d.given((3,))), d.given((6, 6))
        k, m = d("tanh", w), d("abs", d.given((6, 6)))
        u = d("neg", d("cumsum", k, axis=0))
        after = d("cumsum", u, axis=1)
        joint = d("add", u, d("exp", d("cumsum", m, axis=0)))
        then = d("cumsum", joint, axis=1)
        out = d("mul", *((k, then), (m, then), (m, after))[last])
        wanted = [
            "round",
            "tanh",
            "abs",
            "cumsum",
            "neg+exp+add",
            "cumsum",
            "cumsum",
            "cumsum",
            "mul",
        ]
        assert sorted(groups_of(d, first, out, joint, then, after)) == sorted(wanted)
