"""Sums down the columns of an array: blocks cover every column once and none beyond."""

import pytest

from tests.compiler.test_pass_regressions import Draft
from tinytorch.compiler.loops.nest import Nest
from tinytorch.compiler.loops.outer_reductions import OuterPlan


@pytest.mark.parametrize("columns", [1, 16, 17, 64, 65, 128, 200])
def test_blocks_cover_the_columns(columns):
    """Closed form: as many blocks of width x vectors as are needed, for each row that is kept."""
    plan = OuterPlan(Nest((3, 50, columns), frozenset({1}), (), "sum"), (0,), (1,), 16, 4, 2)
    assert (plan.blocks - 1) * 64 < columns <= plan.blocks * 64
    assert plan.groups == 3 * plan.blocks
    assert (plan.tiles - 1) * 2 < plan.groups <= plan.tiles * 2


@pytest.mark.parametrize("columns", [16, 17, 64, 128])
def test_sums_of_columns_stay_in_their_row(columns):
    """Ground truth: the definition, and the bytes around the result (compiled.py)."""
    d = Draft()
    d.check(d("sum", d.given((70, columns)), axes=(0,), keepdims=False))
