"""What kernels are told of memory is what lies there.

Ground truth: each damage makes the program wrong by construction; the undamaged one is accepted.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.compiler.compiled import targets
from tests.compiler.test_pass_regressions import Draft
from tinytorch.base.dtypes import bfloat16, float32
from tinytorch.base.errors import CompileError
from tinytorch.compiler.graph.graph import Value
from tinytorch.compiler.pipeline import stage
from tinytorch.compiler.plan.access import Access, nowhere, unit
from tinytorch.compiler.plan.lowering import (
    PlanReader,
    store_coordinates,
    verify_access,
    verify_layouts,
)
from tinytorch.compiler.plan.stages import Group, Placement, Storage
from tinytorch.primitives.primitive import Spec, store

TARGET = targets()[-1]


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


def test_numbers_that_are_fixed_now():
    """Closed form: one stored number, through movement, also in bfloat16; a source; else none."""
    d = Draft()
    narrow, one, two = (
        Value(Spec((1,), bfloat16)),
        Value(Spec((), float32)),
        Value(Spec((2,), float32)),
    )
    d.graph.constants = {
        narrow: store(np.array([1.5]), bfloat16), one: np.array(2.5, np.float32),
        two: np.ones(2, np.float32),
    }  # fmt: skip
    wide = d("broadcast_to", narrow, shape=(4,))
    full = d("permute", d("full", shape=(2, 3), value=7.0, dtype=float32), axes=(1, 0))
    count = d("iota", shape=(4,), axis=0, dtype=float32)
    x = d.given((1,))
    d.graph.results = [d("add", wide, d.given((4,), bfloat16))]
    reader = PlanReader(stage(d.graph, TARGET, "materialize"), {})
    reader.producer, reader.graph = d.graph.producers(), d.graph
    found = [reader.number(v) for v in (narrow, wide, one, two, full, count, x)]
    assert found == [1.5, 1.5, 2.5, None, 7.0, None, None]


def test_where_a_group_stores_its_values():
    """Closed form: at its points, or along the kept loops for one number a row."""
    group = Group(0, (2, 3, 5), frozenset([1]), None, False, ())

    def at(*shape: int) -> tuple:
        return store_coordinates(group, Value(Spec(shape, float32)))

    assert at(2, 3, 5) == (unit(3, 0), unit(3, 1), unit(3, 2))
    assert at(2, 5) == (unit(3, 0), unit(3, 2))
    assert at(2, 1, 5) == (unit(3, 0), nowhere(3), unit(3, 2))


def test_views_at_the_ends_of_their_array():
    """Closed form: the first and the last element of a part of memory, and one beyond either."""
    d = Draft()
    x = d.given((4, 4))
    place = Placement(Storage("temporary", 999, x), (8, 1), 10)  # 10 to 37
    two = d.given((2,))
    verify_access(Access(x, (2,), (27,), 10), two, place)
    verify_access(Access(x, (0,), (99,), 99), d.given((0,)), place)
    for strides, offset in (((28,), 10), ((27,), 11), ((27,), 9), ((-1,), 10)):
        with pytest.raises(CompileError, match="a view reaches outside"):
            verify_access(Access(x, (2,), strides, offset), two, place)


def test_views_that_cannot_be_reshaped_are_copied():
    """Ground truth: the definition: of states, of parts, and of what was flipped; and what is read
    twice is copied once."""
    d = Draft()
    x = d.given((4, 6))
    turned = d("reshape", d("permute", x, axes=(1, 0)), shape=(24,))
    part = d("reshape", d("slice", x, start=(1, 1), stop=(4, 5), step=(1, 1)), shape=(12,))
    back = d("reshape", d("flip", x, axes=(1,)), shape=(24,))
    d.graph.results = [d("neg", turned), d("exp", turned), d("abs", part)]
    labels = [t.shown for t in stage(d.graph, TARGET, "lower").tasks]
    assert labels.count("copy") == 2 and len(labels) == 5
    d.check(d("neg", turned), d("abs", part), d("add", back, turned), turned)
