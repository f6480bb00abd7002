"""What the checks between the passes refuse: former faults, put back by hand into their output.

Ground truth: each damage makes the program wrong by construction; the undamaged one is accepted.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.compiler.compiled import targets
from tests.compiler.test_pass_regressions import Draft
from tinytorch.base.dtypes import float32, int64
from tinytorch.base.errors import CompileError
from tinytorch.compiler.graph.graph import Captured
from tinytorch.compiler.graph.rewriter import IndexCheck, Simplified
from tinytorch.compiler.loops.expression import Constant, Load, Op, Reduce, Store
from tinytorch.compiler.loops.inner_reductions import row_kernel
from tinytorch.compiler.loops.lower_nest import lower_nest
from tinytorch.compiler.loops.nest import Nest, verify_nest
from tinytorch.compiler.loops.outer_reductions import column_kernel
from tinytorch.compiler.pipeline import stage
from tinytorch.compiler.plan.access import Access, bounds, nested
from tinytorch.compiler.plan.buffers import check_buffers
from tinytorch.compiler.plan.fuse import check_groups, fuse
from tinytorch.compiler.plan.layout import choose_layouts
from tinytorch.compiler.plan.lowering import verify_access, verify_layouts
from tinytorch.compiler.plan.order import check_order
from tinytorch.compiler.plan.stages import Fused, Placement, Storage

TARGET = targets()[-1]
SIZES, OVER = (4, 8), frozenset([1])
X = Load(float32, "x", (8, 1))
COLUMN = Load(float32, "x", (1, 0))


def total(over=OVER) -> Reduce:
    return Reduce(float32, "sum", X, over)


def shares(outer: int = 8, inner: int = 1) -> Nest:
    """x / x.sum(1): something is stored at each point of the reduced loop."""
    share = Op(float32, "div", (X, total()))
    return Nest(SIZES, OVER, (Store("out", float32, (outer, inner), share),), "sum+div")


# kernels


def test_a_kernel_of_columns_does_not_store_along_its_reduced_loops():
    """Fault: rows of an image that lies channels-last, and of a column plus a row."""
    share = Op(float32, "div", (X, Reduce(float32, "sum", X, frozenset([0]))))
    stored = Store("out", float32, (8, 1), share)
    with pytest.raises(CompileError, match="kernel of columns was asked to store along"):
        column_kernel(TARGET, Nest(SIZES, frozenset([0]), (stored,)))
    with pytest.raises(CompileError, match="kernel of columns"):
        column_kernel(TARGET, shares())  # and its last loop is reduced
    with pytest.raises(CompileError, match="kernel of rows was asked to reduce"):
        row_kernel(TARGET, Nest(SIZES, frozenset([0]), (stored,)))
    assert lower_nest(TARGET, Nest(SIZES, frozenset([0]), (stored,))).steps


NBYTES = {"x": 128, "out": 128, "state": 256}
PLACE = Store("out", float32, (8, 1), X)
BAD_LOOPS = {
    "reaches outside": (
        replace(PLACE, value=Load(float32, "x", (8, 2))),
        replace(PLACE, value=Load(float32, "x", (8, 1), -1)),
        replace(PLACE, strides=(8, 2)),
        replace(PLACE, offset=1),
        replace(PLACE, strides=(-8, 1)),
        replace(PLACE, value=Load(float32, "x", (0, 1), 0, ((Constant(int64, 0), 8, 5),))),
    ),
    "write different numbers to one place": (
        replace(PLACE, strides=(8, 0)), replace(PLACE, strides=(0, 1)),
        replace(PLACE, strides=(0, 0), value=COLUMN),
    ),
    "two turns of its loops write one place": (replace(PLACE, strides=(1, 1)),),
    "runs over other loops": (
        replace(PLACE, strides=(0, 0), value=total(frozenset([0, 1]))),
        replace(PLACE, value=Op(float32, "div", (X, total(frozenset([0]))))),
    ),
    "reads what another of its turns writes": (
        Store("state", float32, (8, 1), Load(float32, "state", (8, 1), 1)),
        Store("state", float32, (8, 1), Load(float32, "state", (8, 1)), 16),
    ),
}  # fmt: skip


@pytest.mark.parametrize("problem", BAD_LOOPS)
def test_loops_that_are_wrong(problem):
    """Reads outside an array, stores along a loop, a kernel that reads what it overwrites."""
    for store in BAD_LOOPS[problem]:
        with pytest.raises(CompileError, match=problem):
            verify_nest(Nest(SIZES, OVER, (store,), "damaged"), NBYTES)


def test_loops_that_are_right():
    """In place, backwards, repeated, looked up, results of rows, beside each other, and nothing."""
    for store in (
        PLACE, replace(PLACE, value=Load(float32, "x", (-8, -1), 31)),
        replace(PLACE, value=COLUMN), replace(PLACE, strides=(1, 0), value=total()),
        replace(PLACE, value=Load(float32, "x", (0, 1), 0, ((Constant(int64, 0), 8, 4),))),
        Store("x", float32, (8, 1), Op(float32, "exp", (X,))),
        Store("x", float32, (8, 2), Load(float32, "x", (8, 2), 1)),
    ):  # fmt: skip
        sizes = (4, 4) if store.strides == (8, 2) else SIZES
        verify_nest(Nest(sizes, OVER, (store,), "right"), NBYTES)
    verify_nest(shares(), NBYTES)
    verify_nest(Nest((0, 8), OVER, (replace(PLACE, offset=999),)), NBYTES)


def test_strides():
    """Closed form."""
    assert bounds((8, -1), (4, 8), 7) == (0, 31)
    assert nested((8, -1), (4, 8)) and not nested((7, 1), (4, 8)) and nested((0, 1), (1, 8))


# groups


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


# memory and order


def training(name: str) -> Any:
    """Two states, one updated from the other's old numbers, behind a check of indices."""
    d = Draft()
    s, t = d.given((6, 4), state=True), d.given((6, 4), state=True)
    i = d.given((3,), int64)
    rows = d("take", t, i, axis=0)
    d.graph.updates = [(s, d("add", s, d("matmul", t, d.given((4, 4))))), (t, d("neg", t))]
    d.graph.results = [rows, d("concatenate", d("exp", rows), d("abs", rows), axis=1)]
    return stage(d.graph, TARGET, name)


def test_memory_that_does_not_fit_its_values():
    """Stores and later reads under different layouts, elements and parts over each other."""
    buffers = training("assign buffers")
    check_buffers(buffers)
    (old, new) = next(iter(buffers.in_place.values()))[0]
    place = buffers.of[new]
    damages = {
        "outside its memory": replace(place, offset=1),
        "elements of a value share a place": replace(place, strides=(1, 1)),
        "does not lie as the old one": replace(place, strides=(1, 6)),
    }
    for problem, damaged in damages.items():
        with pytest.raises(CompileError, match=problem):
            check_buffers(replace(buffers, of={**buffers.of, new: damaged}))
    parts = [v for v, p in buffers.of.items() if p.storage.nbytes == 96 and v.shape == (3, 4)]
    assert len(parts) == 2  # both parts of the concatenation lie where they belong
    with pytest.raises(CompileError, match="two parts of a whole lie at one place"):
        check_buffers(replace(buffers, of={**buffers.of, parts[1]: buffers.of[parts[0]]}))


def test_a_view_that_leaves_its_array():
    """Fault: 1 x 1 convolutions read beside a view; no kernel may be given such strides."""
    d = Draft()
    x = d.given((4, 4))
    place = Placement(Storage("temporary", 64, x), (4, 1))
    verify_access(Access(x, (2, 4), (8, 1), 4), d.given((2, 4)), place)
    for access in (Access(x, (2, 4), (16, 1)), Access(x, (2, 4), (-8, 1), 4)):
        with pytest.raises(CompileError, match="a view reaches outside"):
            verify_access(access, d.given((2, 4)), place)


def test_a_kernel_that_was_not_told_where_its_arrays_lie():
    """Fault: random bits joined by a concatenation were all written at its beginning."""
    d = Draft()
    d.graph.results = [d("cumsum", d.given((4, 3)), axis=0)]
    buffers = stage(d.graph, TARGET, "assign buffers")
    (group,) = buffers.fused.groups
    (out,) = group.called.outputs
    verify_layouts(group, set(), buffers.of)
    of = {**buffers.of, out: replace(buffers.of[out], strides=(1, 4))}
    verify_layouts(group, {out}, of)
    with pytest.raises(CompileError, match="does not know the layout of its arrays"):
        verify_layouts(group, set(), of)
    of[out] = replace(of[out], strides=(3, 1), offset=12)
    with pytest.raises(CompileError, match="does not know the layout"):
        verify_layouts(group, set(group.called.inputs), of)


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
