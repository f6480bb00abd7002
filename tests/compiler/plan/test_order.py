"""Orders in which something is read too early or too late are refused.

Ground truth: each damage makes the program wrong by construction; the undamaged one is accepted.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.compiler.compiled import targets
from tests.compiler.plan.test_buffers import training
from tests.compiler.test_pass_regressions import Draft
from tinytorch.base.dtypes import float32, int64
from tinytorch.base.errors import CompileError
from tinytorch.compiler.graph.graph import Value
from tinytorch.compiler.graph.rewriter import IndexCheck
from tinytorch.compiler.pipeline import stage
from tinytorch.compiler.plan.order import Circle, Dependences, check_order, item_loads
from tinytorch.compiler.plan.stages import Copy, Group, Storage
from tinytorch.primitives.primitive import Spec

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
    with pytest.raises(CompileError, match="before what may end the run"):
        check_as(late)
    (group,) = (g for g in ordered.buffers.in_place if g.label == "neg")
    without = [i for i in order if i is not group]
    early = [check, group, *(i for i in without if i is not check)]
    with pytest.raises(CompileError, match="read after it was overwritten"):
        check_as(early)


def values(number: int) -> list[Value]:
    return [Value(Spec((4,), float32)) for _ in range(number)]


def groups(number: int) -> list[Group]:
    return [Group(i, (4,), None, None, False, ()) for i in range(number)]


def ordered(items, loads=(), makes=(), in_place=()):
    """The order of items, each with the values it reads and makes and the states it overwrites."""
    read = {i: () for i in items} | dict(loads)
    return Dependences(items, read, dict(makes), dict(in_place)).order()


def test_items_keep_their_order_but_for_what_they_need():
    """Closed form: what is needed comes directly before, with what it needs in turn."""
    a, b, c, e = groups(4)
    u, v, w = values(3)
    assert ordered([a, b, c, e]) == [a, b, c, e]
    loads = {a: (v,), c: (u,), b: (w,)}
    assert ordered([a, b, c, e], loads, {v: c, u: e}) == [e, c, a, b]  # w is given
    both = {a: (u, v)}
    assert ordered([a, b, c, e], both, {u: e, v: c}) == [e, c, a, b]
    shared = {a: (v,), b: (v,)}
    assert ordered([a, b, c], shared, {v: c}) == [c, a, b]


def test_a_state_is_overwritten_after_it_was_read_and_after_every_check():
    """Closed form: not after itself."""
    a, b, c = groups(3)
    (s, t, new) = values(3)
    check = IndexCheck(t, 4, "take", "")
    copy = Copy(s, Storage("result", 16))
    in_place = {a: ((s, new),)}
    assert ordered([a, b, c], {a: (s,), c: (s,)}, {}, in_place) == [c, a, b]
    assert ordered([a, copy], {copy: (s,)}, {}, in_place) == [copy, a]
    assert ordered([a, b, check], {}, {}, in_place) == [check, a, b]
    assert ordered([a, b, check]) == [a, b, check]


def test_items_that_wait_for_each_other():
    """Closed form: the circle names a state that is overwritten on it, and none beside it."""
    a, b, c = groups(3)
    s, t, u, v, new = values(5)
    swapped = ordered([a, b], {a: (t,), b: (s,)}, {}, {a: ((s, new),), b: ((t, new),)})
    assert isinstance(swapped, Circle) and swapped.state in (s, t) and len(swapped.groups) == 2
    plain = ordered([a, b], {a: (u,), b: (v,)}, {u: b, v: a})
    assert isinstance(plain, Circle) and plain.state is None
    before = ordered([c, a, b], {c: (v,), a: (u,), b: (v,)}, {u: b, v: a}, {c: ((s, new),)})
    assert isinstance(before, Circle) and before.state is None  # c only waits for the circle
    on = ordered([a, b], {a: (u,), b: (s, v)}, {u: b, v: a}, {a: ((s, new),)})
    assert isinstance(on, Circle) and on.state is s
    alone = ordered([a], {a: (u,)}, {u: a})
    assert isinstance(alone, Circle) and alone.state is None
    last = ordered([a, b], {a: (u,), b: (v,)}, {u: b, v: a}, {b: ((t, new),)})
    assert isinstance(last, Circle) and last.state is t


def test_what_an_item_reads():
    """Closed form: what has memory below a chain of movement, in program order; a copy to where its
    value lies makes it and reads none."""
    d = Draft()
    x, i = d.given((4, 3)), d.given((3, 2), int64)
    y = d("exp", x)
    count = d("iota", shape=(5,), axis=0, dtype=int64)
    d.graph.results = [
        y, d("permute", y, axes=(1, 0)), x, count,
        d("take", x, d("slice", i, start=(0, 0), stop=(3, 1), step=(1, 1)), axis=0),
    ]  # fmt: skip
    found = stage(d.graph, TARGET, "order tasks")
    made, turned, given, counted, _ = found.buffers.graph.results
    copies = {c.value: found.loads[c] for c in found.items if isinstance(c, Copy)}
    copies.pop(counted)
    assert copies == {turned: (made,), given: (given,)}
    (check,) = (c for c in found.items if isinstance(c, IndexCheck))
    assert found.loads[check] == (i,)
    materialized, to = found.buffers.materialized, Storage("result", 48)
    assert item_loads(materialized, Copy(given, to)) == (given,)
    assert item_loads(materialized, Copy(given, to), held=True) == ()
    assert item_loads(materialized, Copy(turned, to), held=True) == (made,)
    assert item_loads(materialized, check, held=True) == (i,)
