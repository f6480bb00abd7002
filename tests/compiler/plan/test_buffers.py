"""Memory that does not fit its values is refused.

Ground truth: each damage makes the program wrong by construction; the undamaged one is accepted.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.compiler.compiled import targets
from tests.compiler.test_pass_regressions import Draft
from tinytorch.base.dtypes import int64
from tinytorch.base.errors import CompileError
from tinytorch.compiler.pipeline import stage
from tinytorch.compiler.plan.buffers import check_buffers

TARGET = targets()[-1]


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


def buffers_of(d: Draft, *updates, results=()):
    d.graph.updates, d.graph.results = list(updates), list(results)
    return stage(d.graph, TARGET, "assign buffers")


def states_in_place(d: Draft, *updates) -> list[bool]:
    """Which of the updates are written where the old state lies."""
    found = buffers_of(d, *updates)
    inside = {old for pairs in found.in_place.values() for old, _ in pairs}
    last = {to for _, to, _ in found.last}
    for old, _ in updates:  # each in place or copied when all is done
        assert (old in inside) != (found.of[old].storage in last)
    return [old in inside for old, _ in updates]


def test_states_that_are_written_where_they_lie():
    """Closed form: those that a group reads at no other place than it writes."""
    d = Draft()
    s, x = d.given((4, 4), state=True), d.given((4, 4))
    assert states_in_place(d, (s, d("add", s, x))) == [True]
    for other in (
        lambda d, s: d("add", s, d("flip", s, axes=(0,))),
        lambda d, s: d("add", s, d("permute", s, axes=(1, 0))),
        lambda d, s: d("add", s, d("slice", s, start=(1, 0), stop=(2, 4), step=(1, 1))),
        lambda d, s: d("take", s, d.given((4,), int64), axis=0),
        lambda d, s: d("sub", s, d("matmul", s, d.given((4, 4)))),
        lambda d, s: d("permute", d.given((4, 4)), axes=(1, 0)),
        lambda d, s: d.given((4, 4)),
        lambda d, s: d("put_rows", d.given((4, 4)), d.given((2, 4)), d.given((2,), int64)),
        lambda d, s: d("put_rows", s, d("slice", s, start=(0, 0), stop=(2, 4), step=(1, 1)),
                       d.given((2,), int64)),
    ):  # fmt: skip
        d = Draft()
        s = d.given((4, 4), state=True)
        assert states_in_place(d, (s, other(d, s))) == [False]
    for same in (
        lambda d, s: d("sub", s, d("matmul", d.given((4, 4)), d.given((4, 4)))),
        lambda d, s: d("matmul", d.given((4, 4)), d.given((4, 4))),
        lambda d, s: d("put_rows", s, d.given((2, 4)), d.given((2,), int64)),
        lambda d, s: d("add", s, d("reshape", d("reshape", s, shape=(1, 4, 4)), shape=(4, 4))),
        lambda d, s: d("add", d("neg", s), d.given((4,))),
    ):
        d = Draft()
        s = d.given((4, 4), state=True)
        assert states_in_place(d, (s, same(d, s))) == [True]


def test_states_that_depend_on_each_other():
    """Closed form: one kernel reads both before it writes; of two kernels that read what the other
    overwrites one is copied; of two states that would be one value one is."""
    d = Draft()
    s, t = d.given((4, 4), state=True), d.given((4, 4), state=True)
    first = d("neg", t)
    assert states_in_place(d, (t, first), (s, d("mul", first, d("exp", s)))) == [True, True]
    d = Draft()
    s, t, w = d.given((4, 4), state=True), d.given((4, 4), state=True), d.given((4, 4))
    updates = (s, d("matmul", t, w)), (t, d("matmul", s, w))
    assert sorted(states_in_place(d, *updates)) == [False, True]
    d = Draft()
    s, t = d.given((4, 4), state=True), d.given((4, 4), state=True)
    one = d("neg", s)
    assert states_in_place(d, (s, one), (t, one)) == [True, False]
    d = Draft()
    s, t = d.given((4, 4), state=True), d.given((4, 4), state=True)
    found = buffers_of(d, (s, t), (t, s))
    assert [kept is None for _, _, kept in found.last] == [False, False]
    d = Draft()
    s, x = d.given((4, 4), state=True), d.given((4, 4))
    ((_, _, kept),) = buffers_of(d, (s, x)).last
    assert kept is None
    d = Draft()
    s = d.given((4, 4), state=True)
    assert not buffers_of(d, (s, s)).last


def parts_of(d: Draft, *operands: Any, results=(), axis=1) -> dict[int, tuple]:
    """Number, offset and strides of the operands that are written where they belong."""
    out = d("concatenate", *operands, axis=axis)
    found = buffers_of(d, results=[out, *results])
    (node,) = {node for node, _ in found.parts} or {None}
    places = {}
    for i in sorted(i for _, i in found.parts):
        base = found.fused.paths.base(node.inputs[i])[0]
        place = found.of[base]
        assert place.storage is found.results[found.graph.results[0]]
        places[i] = (place.offset, place.strides)
    return places


def test_parts_are_written_where_they_belong():
    """Closed form: offsets and strides in a (3, 8) array, also seen through movement; not what is
    given, what others read, what is wanted or repeated, nor what a kernel writes densely."""
    d = Draft()
    x, y = d.given((3, 4)), d.given((3, 4))
    assert parts_of(d, d("exp", x), d("abs", y)) == {0: (0, (8, 1)), 1: (4, (8, 1))}
    d = Draft()
    x, y = d.given((3, 4)), d.given((3, 4))
    assert parts_of(d, d("exp", x), d("abs", y), axis=0) == {0: (0, (4, 1)), 1: (12, (4, 1))}
    d = Draft()
    x, y = d.given((4, 3)), d.given((12,))
    turned = d("permute", d("cumsum", x, axis=0), axes=(1, 0))
    flat = d("reshape", d("cumsum", y, axis=0), shape=(3, 4))
    assert parts_of(d, turned, flat) == {0: (0, (1, 8))}  # 12 in one row are no part
    d = Draft()
    rows = d("reshape", d("exp", d.given((12,))), shape=(3, 4))
    assert parts_of(d, d.given((3, 4)), rows, axis=0) == {1: (12, (1,))}
    d = Draft()
    x = d.given((3, 4))
    y, z = d("exp", x), d("flip", d("cumsum", x, axis=0), axes=(0,))
    assert parts_of(d, x, y, z, y) == {1: (4, (16, 1))}
    d = Draft()
    y = d("exp", d.given((3, 4)))
    assert parts_of(d, y, d.given((3, 4)), results=[y]) == {}
    d = Draft()
    y = d("cumsum", d.given((3, 4)), axis=0)
    assert parts_of(d, y, d.given((3, 4)), results=[d("cumsum", y, axis=1)]) == {}
    d = Draft()
    dense = d("scatter_add", d.given((5, 4)), d.given((5,), int64), axis=0, size=3)
    assert parts_of(d, dense, d("exp", d.given((3, 4)))) == {1: (4, (8, 1))}


def test_results_lie_in_memory_of_their_own():
    """Closed form: what is computed is written there at once; what is given, what lies in another
    order, and a new state are copied. Two results that are one value are one."""
    d = Draft()
    x, s = d.given((4, 3)), d.given((4, 3), state=True)
    y, turned, new = d("exp", x), d("permute", x, axes=(1, 0)), d("neg", s)
    d.graph.results, d.graph.updates = [y, y, turned, x, new], [(s, new)]
    found = stage(d.graph, TARGET, "assign buffers")
    one, same, *others = found.graph.results
    assert one is same and found.of[one].storage is found.results[one]
    assert [c.value for c in found.copies] == others
    assert {found.results[v].kind for v in found.graph.results} == {"result"}
    assert len({id(found.results[v]) for v in found.graph.results}) == 4


def test_memory_at_its_ends():
    """Closed form: a value may end where its memory does; one byte less is too little."""
    buffers = buffers_of(d := Draft(), results=[d("neg", d.given((4, 3)))])
    (v,) = buffers.graph.results
    place = buffers.of[v]
    for strides, offset, fits in (
        ((-3, -1), 11, True), ((-3, -1), 10, False), ((1, 4), 0, True), ((3, 1), -1, False),
        ((4, 1), 0, False),
    ):  # fmt: skip
        of = {**buffers.of, v: replace(place, strides=strides, offset=offset)}
        if fits:
            check_buffers(replace(buffers, of=of))
        else:
            with pytest.raises(CompileError, match="outside its memory"):
                check_buffers(replace(buffers, of=of))
