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
