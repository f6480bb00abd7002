"""The contract of the table: the same questions, asked of every row on every one of its samples.

Ground truths: the shape rule against the definition; the definition against independent ones (in
tests/primitives/truths.py: Python's integers and loops, long double); gradients against finite
differences in random directions, to second order; narrow types against float64.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest

from tests.primitives.truths import TRUTHS
from tests.reverse_mode import Traced, gradient, inner
from tinytorch.base.dtypes import bfloat16, float16, float32, float64, from_bfloat16
from tinytorch.base.errors import TinyTorchError
from tinytorch.primitives import NOT_DIFFERENTIABLE, TABLE, Primitive, Sample, Spec, add, dtype_of
from tinytorch.primitives.primitive import OpClass, store

ROWS = list(TABLE.values())
CASES = [
    pytest.param(row, sample, id=f"{row.name}-{i}")
    for row in ROWS
    for i, sample in enumerate(row.samples())
]
REFUSALS = [
    pytest.param(row, sample, id=f"{row.name}-{i}")
    for row in ROWS
    for i, sample in enumerate(row.error_samples())
]


def as_tuple(x) -> tuple:
    return x if isinstance(x, tuple) else (x,)


def specs_of(arrays) -> tuple[Spec, ...]:
    return tuple(Spec(a.shape, dtype_of(a)) for a in arrays)


def protected(sample: Sample) -> tuple[np.ndarray, ...]:
    """Views of the inputs that raise when written to: a definition must not."""
    views = tuple(x.view() for x in sample.inputs)
    for view in views:
        view.flags.writeable = False
    return views


@pytest.mark.parametrize("row", ROWS, ids=repr)
def test_row_is_complete(row: Primitive):
    """Ground truth: what primitives/primitive.py says a row has; docs/extending.md adds one."""
    samples = row.samples()
    assert len(samples) >= 2, "samples"
    assert row.error_samples(), "error samples"
    assert row.__doc__, "a sentence that defines it"
    assert row.vjp == NOT_DIFFERENTIABLE or callable(row.vjp)
    assert row.name in TRUTHS, "an independent definition: TRUTHS of tests/primitives/truths.py"
    if any(s.inputs for s in samples):
        shapes = [x.shape for s in samples for x in s.inputs]
        outs = [
            o.shape for s in samples for o in as_tuple(row.infer(*specs_of(s.inputs), **s.params))
        ]
        assert any(0 in s for s in shapes + outs), "a sample with nothing in it"


@pytest.mark.parametrize("row, sample", CASES)
def test_shape_rule_is_the_definition_and_values_are_right(row: Primitive, sample: Sample):
    """Shape and dtype first: a wrong shape can broadcast its way to the right values."""
    inputs = protected(sample)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        specs = as_tuple(row.infer(*specs_of(inputs), **sample.params))
        found = as_tuple(row.numpy(*inputs, **sample.params))
    for spec, array in zip(specs, map(np.asarray, found), strict=True):
        assert array.shape == spec.shape
        assert array.dtype == spec.dtype.compute
    stored = as_tuple(row(*inputs, **sample.params))
    for spec, array in zip(specs, stored, strict=True):
        assert (array.shape, array.dtype) == (spec.shape, spec.dtype.storage)
    flops = row.flops(specs_of(inputs), specs, **sample.params)
    assert isinstance(flops, int) and flops >= 0
    truth, tolerance = TRUTHS[row.name]
    expected = as_tuple(truth(*inputs, **sample.params))
    for array, wanted in zip(map(np.asarray, found), expected, strict=True):
        assert array.shape == np.shape(wanted)
        with np.errstate(over="ignore"):  # a long double beyond float64 is inf there
            assert_close(array, np.asarray(wanted), tolerance)


def assert_close(found: np.ndarray, wanted: np.ndarray, ulps: float) -> None:
    """Within `ulps` units in the last place of the largest number; exact where that is 0."""
    if found.dtype.kind != "f" or ulps == 0:
        np.testing.assert_array_equal(found, wanted.astype(found.dtype))
        return
    finite = np.isfinite(wanted.astype(found.dtype))
    np.testing.assert_array_equal(found[~finite], wanted.astype(found.dtype)[~finite])
    if finite.any():
        size = np.abs(wanted[finite])
        scale = (
            size if ulps <= 4 else np.maximum(size, size.max())
        )  # rows with sums: of the largest
        unit = np.maximum(
            scale * np.finfo(found.dtype).eps, np.finfo(found.dtype).smallest_subnormal
        )
        worst = np.max(np.abs(found[finite] - wanted[finite]) / unit)
        assert worst <= ulps, f"{worst} units in the last place"


@pytest.mark.parametrize("row, sample", REFUSALS)
def test_wrong_inputs_are_refused_in_four_parts(row: Primitive, sample):
    """Ground truth: the phrase beside the error sample, and STYLE's form (what, got, rule, fix)."""
    with pytest.raises(sample.error, match=sample.phrase) as caught:
        row(*sample.inputs, **sample.params)
    assert isinstance(caught.value, TinyTorchError)
    assert all((caught.value.what, caught.value.got, caught.value.rule, caught.value.fix))


# Gradients

STEP = (
    np.finfo(np.float64).eps ** 0.2
)  # 7e-4 balances h^4 of the stencil against eps / h of rounding
RELATIVE = 1e-6  # asked by the issue; the stencil's own error is about eps^0.8 = 3e-13


def differentiable(row: Primitive, sample: Sample) -> bool:
    if row.vjp == NOT_DIFFERENTIABLE or not sample.inputs:
        return False
    floats = [x for x in sample.inputs if x.dtype.kind == "f"]
    held = row.name == "attention_gradient"  # its lse is -inf for a query that sees nothing
    usable = all(x.dtype == np.float64 and (held or np.isfinite(x).all()) for x in floats)
    outs = as_tuple(row.infer(*specs_of(sample.inputs), **sample.params))
    return bool(floats) and usable and any(o.dtype is float64 for o in outs)


GRADIENTS = [c for c in CASES if differentiable(*c.values)]


def direction(array: np.ndarray, seed: int) -> np.ndarray:
    """Random numbers; 0 beside an infinite entry, which cannot be moved."""
    random = np.random.default_rng(seed)
    return np.where(np.isfinite(array), random.uniform(0.5, 1.5, array.shape), 0.0) * random.choice(
        [-1.0, 1.0], array.shape
    )


class Pairing:
    """f(inputs, weights) = sum of weights * outputs, over the float inputs and outputs of a row."""

    def __init__(self, row: Primitive, sample: Sample):
        self.row, self.sample = row, sample
        outs = as_tuple(row(*sample.inputs, **sample.params))
        self.moving = [i for i, x in enumerate(sample.inputs) if x.dtype.kind == "f"]
        self.floats = [i for i, o in enumerate(outs) if o.dtype == np.float64]
        weights = [direction(outs[i], 100 + i) for i in self.floats]
        self.start = [*(sample.inputs[i] for i in self.moving), *weights]

    def __call__(self, variables: list[Traced]) -> Traced:
        inputs = list(self.sample.inputs)
        for i, x in zip(self.moving, variables, strict=False):
            inputs[i] = x
        outs = as_tuple(self.row(*inputs, **self.sample.params))
        total = None
        for i, weight in zip(self.floats, variables[len(self.moving) :], strict=True):
            # an infinite output (lse of a query that sees nothing) has weight 0, not 0 * inf
            dead = ~np.isfinite(outs[i].array)
            out = TABLE["where"](dead, np.zeros(()), outs[i]) if dead.any() else outs[i]
            term = TABLE["mul"](out, weight)
            term = TABLE["sum"](term, axes=tuple(range(len(term.shape))), keepdims=False)
            total = term if total is None else add(total, term)
        return total


def slope_along(function: Callable, seed: int) -> Callable:
    """The function that gives the derivative of `function` along one fixed direction."""

    def derived(variables: list[Traced]) -> Traced:
        value = function(variables)
        one = Traced(np.ones(()))
        total = Traced(np.zeros(()))
        for i, (x, g) in enumerate(
            zip(variables, gradient([(value, one)], variables), strict=True)
        ):
            if g is not None:
                total = add(total, inner(g, direction(x.array, seed + i)))
        return total

    return derived


def check_gradient(function: Callable, start: list[np.ndarray], seed: int) -> None:
    """The gradient of `function` at `start` against a five-point difference along one direction."""
    ways = [direction(x, seed + i) for i, x in enumerate(start)]
    variables = [Traced(x) for x in start]
    value = function(variables)
    found = gradient([(value, Traced(np.ones(())))], variables)
    terms = [g.array * d for g, d in zip(found, ways, strict=True) if g is not None]
    exact = sum(float(t.sum()) for t in terms)
    size = sum(float(np.abs(t).sum()) for t in terms)

    def at(step: float) -> float:
        moved = [
            Traced(np.where(d == 0, x, x + step * d)) for x, d in zip(start, ways, strict=True)
        ]
        return float(function(moved).array)

    h = STEP
    numeric = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)
    # rounding of f reaches the difference as eps |f| / h; a gradient of 0 is compared with that
    noise = 100 * np.finfo(np.float64).eps / h * max(1.0, abs(float(value.array)))
    assert exact == pytest.approx(numeric, rel=0, abs=RELATIVE * size + noise)


@pytest.mark.parametrize("row, sample", GRADIENTS)
def test_gradient_to_second_order(row: Primitive, sample: Sample):
    """Ground truth: finite differences in float64, random directions of the inputs and of g."""
    pairing = Pairing(row, sample)
    check_gradient(pairing, pairing.start, seed=1)
    check_gradient(slope_along(pairing, 50), pairing.start, seed=2)


def test_every_differentiable_row_is_compared_with_differences():
    """The table itself: no row with a gradient rule is left out above for want of a sample."""
    asked = {c.values[0].name for c in GRADIENTS}
    reading = [row for row in ROWS if any(s.inputs for s in row.samples())]
    assert {row.name for row in reading if callable(row.vjp)} == asked


@pytest.mark.parametrize("row, sample", [c for c in GRADIENTS if c.values[0].asks_needs])
def test_only_the_cotangents_that_are_needed(row: Primitive, sample: Sample):
    """Invariant: what a rule gives when it is asked for one input is what it gives for all."""
    inputs = [Traced(x) for x in sample.inputs]
    out = row(*inputs, **sample.params)
    g = Traced(np.asarray(direction(out.array, 5)))
    every = row.vjp(g, out, *inputs, **sample.params)
    for i in range(len(inputs)):
        needs = tuple(j == i for j in range(len(inputs)))
        found = row.vjp(g, out, *inputs, needs=needs, **sample.params)
        assert [j for j, c in enumerate(found) if c is not None] == [i] * (every[i] is not None)
        if every[i] is not None:
            np.testing.assert_array_equal(found[i].array, every[i].array)


def test_rows_of_several_float_operands_ask_what_is_needed():
    """The table itself: a rule that gives several cotangents can leave each of them out."""
    several = {
        c.values[0].name
        for c in GRADIENTS
        if sum(x.dtype.kind == "f" for x in c.values[1].inputs) > 1
    }
    # one program computes all three gradients of attention, and those of its gradient; absorb has
    # one
    together = {"attention", "attention_gradient", "absorb"}
    assert {name for name in several if not TABLE[name].asks_needs} == together


# Narrow types

NARROW = [
    pytest.param(row, sample, dtype, id=f"{row.name}-{i}-{dtype.name}")
    for row in ROWS
    for i, sample in enumerate(row.samples())
    if sample.inputs and all(x.dtype == np.float64 for x in sample.inputs[:1]) and i < 4
    if row.op_class not in (OpClass.LOOP, OpClass.BRANCH)  # whose bodies say the types
    for dtype in (float32, float16, bfloat16)
]


def narrowed(x: np.ndarray, dtype) -> np.ndarray:
    return store(x, dtype) if x.dtype == np.float64 else x


def widened(x: np.ndarray) -> np.ndarray:
    return (from_bfloat16(x) if x.dtype == np.uint16 else x).astype(np.float64)


@pytest.mark.parametrize("row, sample, dtype", NARROW)
def test_narrow_floats_are_float64_rounded(row: Primitive, sample: Sample, dtype):
    """Ground truth: the same definition in float64, on the same rounded inputs.

    Sums are made in float32 and rounded once, so the error is that of one rounding of the output,
    plus one of float32 for each term. Attention adds the rounding of its scores, |q k| <= 8 here.
    """
    inputs = [narrowed(x, dtype) for x in sample.inputs]
    if row.name == "attention_gradient":  # the row log-sum-exp is float32 whatever the heads are
        inputs[5] = sample.inputs[5].astype(np.float32)
    specs = as_tuple(row.infer(*specs_of(inputs), **sample.params))
    found = as_tuple(row(*inputs, **sample.params))
    wide = [widened(x) if x.dtype.kind in "f" or x.dtype == np.uint16 else x for x in inputs]
    wanted = as_tuple(row(*wide, **sample.params))
    kept = sample.params.get("dtype")
    for spec, out, truth in zip(specs, found, wanted, strict=True):
        assert (out.shape, out.dtype) == (spec.shape, spec.dtype.storage)
        if not spec.dtype.is_float:
            if row.name != "cast":
                np.testing.assert_array_equal(out, truth)
            continue
        assert spec.dtype is (kept or dtype) or spec.dtype is float32
        eps = {float32: 2**-23, float16: 2**-10, bfloat16: 2**-7, float64: 2**-52}[spec.dtype]
        size = np.maximum(np.abs(truth), np.abs(truth).max(initial=0.0) * (2**-23 * 100 / eps))
        tiny = {float16: 2**-24}.get(spec.dtype, 0.0)
        with np.errstate(invalid="ignore"):
            close = (
                np.abs(widened(out) - truth)
                <= (2 * eps if spec.dtype is float32 else eps) * size + tiny
            )
        assert (close | (widened(out) == truth) | (np.isnan(truth) & np.isnan(widened(out)))).all()


# Flags


@pytest.mark.parametrize("row, sample", [c for c in CASES if c.values[0].elementwise])
def test_elementwise_means_element_by_element(row: Primitive, sample: Sample):
    """Invariant: turning the broadcast inputs around turns the output around.

    To two units in the last place: NumPy's vector and scalar forms of one function differ by that.
    """
    inputs = np.broadcast_arrays(*sample.inputs)
    out = row(*inputs, **sample.params)
    turned = row(*(np.flip(x) for x in inputs), **sample.params)
    assert_close(
        np.flip(turned), out, 2 if row.name in {"pow", "exp", "log", "sin", "cos", "tanh"} else 0
    )


@pytest.mark.parametrize("row, sample", [c for c in CASES if c.values[0].view])
def test_view_shares_memory(row: Primitive, sample: Sample):
    """Ground truth: np.shares_memory, on contiguous inputs with elements."""
    x = sample.inputs[0].copy()
    out = row.numpy(x, **sample.params)
    assert np.shares_memory(out, x) or not np.size(out)


@pytest.mark.parametrize(
    "row, sample", [c for c in CASES if c.values[0].op_class is not OpClass.SOURCE]
)
def test_results_lie_row_by_row_unless_the_row_says_otherwise(row: Primitive, sample: Sample):
    """Closed form, of operands whose axes lie the other way round in memory.

    The compiler relies on it to tell where `reshape` is a view.
    """
    turned = [np.asarray(x, order="F") for x in sample.inputs]
    for out in as_tuple(row.numpy(*turned, **sample.params)):
        assert row.view or row.keeps_order or out.flags.c_contiguous


@pytest.mark.parametrize("row", [r for r in ROWS if r.selects], ids=repr)
def test_what_is_selected_has_a_gradient(row: Primitive):
    """Invariant: `selects` names operands whose cotangent may be a zero, never places or masks."""
    for sample in row.samples():
        kinds = {np.asarray(sample.inputs[i]).dtype.kind for i in row.selects}
        others = {np.asarray(x).dtype.kind for x in sample.inputs}
        assert "f" in kinds or "f" not in others


def test_bfloat16_is_stored_and_recognised():
    """Closed form: 1 + 2^-8 is a tie and goes to even; uint16 arrays are bfloat16 everywhere."""
    one = store(np.array(1.0), bfloat16)
    tiny = store(np.array(2.0**-8), bfloat16)
    assert one.shape == () and dtype_of(one) is bfloat16
    assert from_bfloat16(add(one, tiny)) == 1.0
    assert from_bfloat16(add(one, store(np.array(2.0**-7), bfloat16))) == 1 + 2**-7
