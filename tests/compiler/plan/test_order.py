"""Orders in which something is read too early or too late are refused.

Ground truth: each damage makes the program wrong by construction; the undamaged one is accepted.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.compiler.compiled import targets
from tests.compiler.plan.test_buffers import training
from tinytorch.base.errors import CompileError
from tinytorch.compiler.graph.rewriter import IndexCheck
from tinytorch.compiler.plan.order import check_order

TARGET = targets()[-1]


def test_orders_that_are_wrong():
    """A value read before it is made, a state after it is gone, a check that comes too late."""
    ordered = training("order tasks")
    order = ordered.items

    def check_as(items) -> None:
        check_order(replace(ordered, items=tuple(items)))

    check_as(order)
    with pytest.raises(CompileError, match="before it is made"):
        check_as(order[::-1])
    with pytest.raises(CompileError, match="twice or never"):
        check_as(order[:-1])
    check = next(i for i in order if isinstance(i, IndexCheck))
    late = [i for i in order if i is not check] + [check]
    with pytest.raises(CompileError, match="before an index check"):
        check_as(late)
    (group,) = (g for g in ordered.buffers.in_place if g.label == "neg")
    without = [i for i in order if i is not group]
    early = [check, group, *(i for i in without if i is not check)]
    with pytest.raises(CompileError, match="read after it was overwritten"):
        check_as(early)
