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
