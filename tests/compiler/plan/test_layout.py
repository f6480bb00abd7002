"""Orders of axes, and reductions in two steps. Ground truth: by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.compiler.compiled import targets
from tests.compiler.test_pass_regressions import Draft
from tinytorch.base.dtypes import bfloat16, float16, float32, float64, int64
from tinytorch.base.errors import CompileError
from tinytorch.compiler.graph.graph import Captured, step_reference
from tinytorch.compiler.graph.rewriter import Simplified
from tinytorch.compiler.plan.layout import (
    check_layouts,
    check_split,
    choose_layouts,
    choose_orders,
    split_reductions,
)

LAST = (0, 2, 3, 1)  # of a picture whose channels are innermost in memory


def simplified(d: Draft) -> Simplified:
    """The draft as it is, by no rule."""
    return Simplified(Captured(d.graph, targets()[-1]), d.graph)


def picture(d: Draft, *shape: int):
    """(N, C, H, W) whose channels are innermost in memory."""
    n, c, h, w = shape
    return d("permute", d.given((n, h, w, c)), axes=(0, 3, 1, 2))


def test_arithmetic_takes_the_order_of_an_operand_that_is_not_plain():
    """Closed form: but where all whole operands are plain and only a repeated one is not."""
    d = Draft()
    x, row = picture(d, 2, 3, 4, 5), picture(d, 1, 3, 4, 5)
    column = picture(d, 2, 3, 1, 1)
    y, bias = d.given((2, 3, 4, 5)), d.given((4, 5))
    cases = {
        d("exp", x): LAST,
        d("add", y, x): LAST,
        d("add", y, bias): (0, 1, 2, 3),
        d("add", x, bias): LAST,
        d("add", bias, row): LAST,
        d("add", y, row): (0, 1, 2, 3),
        d("add", d("add", y, row), x): LAST,
        d("add", column, row): LAST,  # no operand is whole
        d("where", d("less", x, y), row, x): LAST,
        d("add", x, d("permute", d.given((5, 4, 3, 2)), axes=(3, 2, 1, 0))): LAST,
    }
    orders = choose_orders(d.graph)
    assert [orders[v] for v in cases] == list(cases.values())


def test_which_primitives_keep_an_order():
    """Closed form: padding, joins and reductions that keep their axes do; lookups are plain."""
    d = Draft()
    x = picture(d, 2, 3, 4, 5)
    i = d.given((2,), int64)
    plain = (0, 1, 2, 3)
    cases = {
        d("pad", x, before=(0, 0, 1, 1), after=(0,) * 4, value=0.0): LAST,
        d("sum", x, axes=(1,), keepdims=True): LAST,
        d("sum", x, axes=(1,), keepdims=False): (0, 1, 2),
        d("flip", x, axes=(2,)): LAST,
        d("take", x, i, axis=0): plain,
        d("concatenate", x, d.given((2, 3, 4, 5)), axis=0): LAST,
        d("concatenate", d.given((2, 3, 4, 5)), x, axis=0): plain,
        d("convolution", d.given((2, 3, 4, 5)), d.given((6, 3, 1, 1)), stride=(1, 1),
          padding=((0, 0), (0, 0)), dilation=(1, 1), groups=1): LAST,
        d("iota", shape=(2, 2), axis=0, dtype=int64): (0, 1),
    }  # fmt: skip
    orders = choose_orders(d.graph)
    assert [orders[v] for v in cases] == list(cases.values())
    d.graph.results = [d("concatenate", x, x, axis=0)]  # is wanted in plain memory
    assert choose_orders(d.graph)[d.graph.results[0]] == plain


def steps_of(dtype, shape, axes, name="sum", keepdims=False):
    """(name, axes) of what a reduction becomes; its numbers stay those of the definition."""
    d = Draft()
    x = d.given(shape, dtype)
    d.graph.results = [d(name, x, axes=axes, keepdims=keepdims)]
    d.graph.nodes[-1].where = "user.py:3"
    wanted = step_reference(d.graph, d.arrays)[0]
    before = simplified(d)
    after = split_reductions(before)
    check_split(after)
    found = step_reference(after.graph, d.arrays)[0]
    np.testing.assert_array_equal(found[0], wanted[0])
    assert all(n.where == "user.py:3" for n in after.graph.nodes)
    assert after.graph.results == before.graph.results
    if len(after.graph.nodes) > 1:
        with pytest.raises(CompileError, match="runs over innermost axes and others"):
            check_split(before)
    else:
        check_split(before)
    return [(n.primitive.name, n.params.get("axes")) for n in after.graph.nodes]


def test_reductions_over_innermost_axes_and_others_are_two_steps():
    """Closed form: over the innermost first; axes of size 1 do not count."""
    for keepdims in (False, True):
        two = steps_of(float32, (2, 3, 4, 5), (0, 3, 2), keepdims=keepdims)
        assert two == [("sum", (2, 3)), ("sum", (0, 3, 2))]
    assert steps_of(float64, (2, 3, 4, 5), (1, 3), "max") == [("max", (3,)), ("max", (1, 3))]
    for axes in ((3,), (2, 3), (0,), (0, 2), (0, 1, 2, 3)):
        assert steps_of(float32, (2, 3, 4, 5), axes) == [("sum", axes)]
    assert steps_of(float32, (1, 3, 4, 5), (0, 3)) == [("sum", (0, 3))]
    assert steps_of(float32, (2, 3, 4, 1), (0, 3)) == [("sum", (0, 3))]
    assert steps_of(float32, (2, 3, 1, 5), (1, 3)) == [("sum", (1, 3))]
    assert steps_of(float32, (2, 3, 1, 5), (0, 3)) == [("sum", (3,)), ("sum", (0, 3))]


@pytest.mark.parametrize("dtype", [float16, bfloat16])
def test_two_steps_of_narrow_floats_are_rounded_once(dtype):
    """Closed form: added up in float32 between two casts."""
    found = steps_of(dtype, (2, 3, 5), (0, 2))
    assert found == [("cast", None), ("sum", (2,)), ("sum", (0, 2)), ("cast", None)]


def test_a_reduction_of_pictures_whose_channels_are_innermost():
    """Closed form: over rows and columns it runs over no innermost axis."""
    d = Draft()
    x = picture(d, 2, 3, 4, 5)
    d.graph.results = [d("sum", x, axes=(0, 2, 3), keepdims=False),
                       d("sum", x, axes=(1, 2), keepdims=False)]  # fmt: skip
    after = split_reductions(simplified(d))
    axes = [n.params["axes"] for n in after.graph.nodes if n.is_reduction]
    assert axes == [(0, 2, 3), (1,), (1, 2)]


def test_orders_that_are_wrong_are_refused():
    """A value without an order, one that names an axis twice, and one of another rank."""
    d = Draft()
    x, one = d.given((4, 3)), d.given(())
    d.graph.results = [d("neg", x), d("neg", one)]
    laid = choose_layouts(simplified(d))
    check_layouts(laid)
    for v, order in ((x, (0, 0)), (x, (0,)), (d.graph.results[0], (0, 2)), (one, (0,))):
        with pytest.raises(CompileError, match="order of axes is missing or wrong"):
            check_layouts(replace(laid, orders={**laid.orders, v: order}))
    for v in laid.orders:
        with pytest.raises(CompileError, match="order of axes is missing or wrong"):
            check_layouts(
                replace(laid, orders={u: o for u, o in laid.orders.items() if u is not v})
            )
