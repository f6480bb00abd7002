"""What kernels are told of memory is what lies there.

Ground truth: each damage makes the program wrong by construction; the undamaged one is accepted.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.compiler.compiled import targets
from tests.compiler.test_pass_regressions import Draft
from tinytorch.base.errors import CompileError
from tinytorch.compiler.pipeline import stage
from tinytorch.compiler.plan.access import Access
from tinytorch.compiler.plan.lowering import verify_access, verify_layouts
from tinytorch.compiler.plan.stages import Placement, Storage

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
