"""Which products are one of tall matrices, and which attention has a kernel. Ground truth: sizes by
hand, and the definition."""

from __future__ import annotations

import pytest

from tests.compiler.compiled import targets
from tests.compiler.test_pass_regressions import Draft
from tinytorch.base.dtypes import (
    bfloat16,
    float16,
    float32,
    float64,
    int8,
    int16,
    int32,
    int64,
    uint8,
)
from tinytorch.compiler.calls import contractions
from tinytorch.compiler.pipeline import stage
from tinytorch.primitives import TABLE

TARGET = targets()[-1]


@pytest.mark.parametrize(("a", "b", "batch", "m"), [
    ((4, 5), (5, 6), (), 4),
    ((3, 4, 5), (5, 6), (), 12),
    ((2, 3, 4, 5), (5, 6), (), 24),
    ((3, 4, 5), (1, 5, 6), (), 12),
    ((1, 4, 5), (1, 5, 6), (), 4),
    ((3, 4, 5), (3, 5, 6), (3,), 4),
    ((4, 5), (3, 5, 6), (3,), 4),
    ((1, 4, 5), (3, 5, 6), (3,), 4),
    ((2, 1, 4, 5), (3, 5, 6), (2, 3), 4),
    ((2, 3, 4, 5), (2, 1, 5, 6), (2, 3), 4),
])  # fmt: skip
def test_products_by_one_matrix_are_one_product(a, b, batch, m, monkeypatch):
    """Closed form: batches of rows are one tall matrix where the right operand is the same for
    all; the strides of a repeated operand are 0."""
    specs, lower = [], contractions.lower_product

    def lowered(target, spec, epilogue, needed):
        specs.append(spec)
        return lower(target, spec, epilogue, needed)

    monkeypatch.setattr(contractions, "lower_product", lowered)
    d = Draft()
    out = d("matmul", d.given(a), d.given(b))
    d.graph.results = [d("neg", out)]
    stage(d.graph, TARGET, "lower")
    (spec,) = specs
    assert (spec.batch, spec.m, spec.n, spec.k) == (batch, m, 6, 5)
    for operand, shape in ((spec.a, a), (spec.b, b)):
        assert len(operand.strides) == len(batch) + 2
        own = (*(1,) * (2 + len(batch) - len(shape)), *shape[:-2])[-len(batch) :] if batch else ()
        assert [s == 0 for s in operand.strides[:-2]] == [n == 1 for n in own]


def test_rows_that_are_not_one_matrix_in_memory():
    """Ground truth: the definition: batches whose rows lie in another order, integers, and parts of
    both operands."""
    d = Draft()
    a, b = d.given((4, 3, 5)), d.given((5, 6))
    turned = d("permute", a, axes=(1, 0, 2))
    back = d("slice", a, start=(1, 0, 1), stop=(4, 3, 5), step=(1, 1, 1))
    part = d("slice", b, start=(1, 0), stop=(5, 6), step=(1, 2))
    i, j = d.given((2, 1, 4, 5), int32), d.given((3, 5, 6), int32)
    d.check(
        d("matmul", turned, b), d("matmul", back, part), d("matmul", i, j),
        d("matmul", d("flip", i, axes=(3,)), d("permute", d.given((6, 5), int32), axes=(1, 0))),
    )  # fmt: skip


def test_products_of_integers_of_all_widths():
    """Ground truth: the definition; sums wrap in the type of the result, and what follows is done
    on them: rows of bytes times weights (out, in), many and few of them."""
    d = Draft()
    results = []
    for dtype in (int8, uint8, int16, int64):
        a, b = d.given((2, 9, 70), dtype), d.given((70, 20), dtype)
        results += [d("matmul", a, b), d("neg", d("matmul", a, b, dtype=int32))]
    for rows in (1, 19):
        x, w = d.given((rows, 130), uint8), d.given((21, 130), int8)
        x, w = (d("cast", v, dtype=int32) for v in (x, w))
        product = d("matmul", x, d("permute", w, axes=(1, 0)))
        results.append(d("maximum", product, d.given((21,), int32)))
    d.check(*results)


@pytest.mark.parametrize(("dtype", "name"), [
    (float32, "attention"), (bfloat16, "attention"), (float64, "attention"),
    (float16, "attention"),
])  # fmt: skip
def test_attention_that_has_a_kernel(dtype, name):
    """Closed form: of all floats; of nothing it has none."""
    for queries, wanted in ((4, name), (0, None)):
        d = Draft()
        q, k, v = (d.given((1, 2, n, 8), dtype) for n in (queries, 4, 4))
        out, lse = d.graph.add(TABLE["attention"], (q, k, v), {"causal": False, "scale": 0.5})
        d.graph.results = [out, lse]
        labels = [t.shown for t in stage(d.graph, TARGET, "lower").tasks]
        assert (wanted in labels) if wanted else ("attention" not in labels)
