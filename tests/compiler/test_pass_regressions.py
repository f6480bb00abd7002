"""Faults that random programs found, each as the smallest program that shows it.

Ground truth: compiler/graph/graph.py (or NumPy's strides, where it says so); every target.
"""

from __future__ import annotations

import numpy as np
import pytest

import tinytorch as tt
from tests.compiler.compiled import program_of, run, targets
from tinytorch.base.dtypes import (
    bfloat16,
    bool_,
    float16,
    float32,
    float64,
    int8,
    int16,
    int32,
    int64,
    uint8,
    uint32,
)
from tinytorch.compiler.graph.graph import Graph, Value, step_reference
from tinytorch.compiler.pipeline import stage
from tinytorch.compiler.plan.access import reshape_strides
from tinytorch.primitives import TABLE
from tinytorch.primitives.primitive import Spec, store

TARGETS = targets()


class Draft:
    """A graph being written by hand, inputs filled with small integers."""

    def __init__(self):
        self.graph, self.arrays = Graph(), {}

    def given(self, shape, dtype=float32, state=False) -> Value:
        v = Value(Spec(shape, dtype))
        (self.graph.states if state else self.graph.arguments).append(v)
        random = np.random.default_rng(len(self.arrays))
        self.arrays[v] = store(random.integers(0 if dtype is int64 else -3, 4, shape), dtype)
        return v

    def __call__(self, name, *inputs, **params) -> Value:
        return self.graph.add(TABLE[name], inputs, params)[0]

    def check(self, *results) -> None:
        self.graph.results = list(results)
        wanted, new = step_reference(self.graph, self.arrays)
        for target in TARGETS:
            found, states = run(program_of(self.graph, target), self.graph, self.arrays, 2)
            for a, b in zip(found, wanted, strict=True):
                np.testing.assert_array_equal(a, b, target.name)
            for old, b in new.items():
                np.testing.assert_array_equal(states[old], b, target.name)


def test_a_row_sum_read_along_columns_of_a_square():
    """x - x.sum(1) of a square x reads the sum of row j at (i, j)."""
    d = Draft()
    x = d.given((5, 5))
    d.check(d("sub", x, d("sum", x, axes=(1,), keepdims=False)))


def test_a_matrix_product_with_one_column_writes_no_more():
    """The store of a (7, 1) result was a whole vector wide."""
    d = Draft()
    a, b, s = d.given((7, 3)), d.given((3, 1)), d.given((7, 1), state=True)
    product = d("matmul", a, b)
    d.graph.updates = [(s, product)]
    d.check(product)


def test_a_kernel_reads_a_state_before_it_overwrites_it():
    """Two states updated in one kernel, the second from the old value of the first."""
    d = Draft()
    s, t, m = d.given((40,), state=True), d.given((40,), state=True), d.given((40,))
    first, second = d("abs", t), d("mul", d("add", t, m), d("abs", s))
    d.graph.updates = [(t, first), (s, second)]
    d.check()


def test_swapped_states():
    """s, t = t, s."""
    d = Draft()
    s, t = d.given((9,), state=True), d.given((9,), state=True)
    d.graph.updates = [(s, t), (t, s)]
    d.check()


@pytest.mark.parametrize("dtype", [bfloat16, float16])
@pytest.mark.parametrize("axes", [(0,), (0, 1), (0, 2)])
def test_narrow_sums_are_rounded_once(dtype, axes):
    """Parts of a 16-bit sum are kept in float32."""
    d = Draft()
    x = d.given((4000, 3, 7), dtype)
    shifted = d("add", x, d("full", shape=(), value=1, dtype=dtype))
    d.check(d("sum", shifted, axes=axes, keepdims=False))


def test_a_reduction_around_a_kept_dimension():
    """min over both axes of where(mask, row maximum, x): parts lie between reduced dimensions."""
    d = Draft()
    x = d.given((3, 40000), float64)
    low = d("minimum", x, d("max", d("neg", x), axes=(1,), keepdims=True))
    d.check(d("min", low, axes=(0, 1), keepdims=False))


def test_padding_inside_a_concatenation():
    """The border of a padded part is filled where the part lies."""
    d = Draft()
    x = d.given((2, 2))
    p = d("pad", x, before=(2, 0), after=(1, 1), value=1.0)
    q = d("pad", d("neg", x), before=(2, 0), after=(1, 1), value=0.0)
    d.check(d("concatenate", p, q, axis=1))


def test_a_reshaped_count():
    """An iota behind a reshape has no strides of its own."""
    d = Draft()
    count = d("reshape", d("iota", shape=(1, 16), axis=1, dtype=float32), shape=(8, 2))
    d.check(d("neg", count), count)


def test_a_table_made_beside_its_lookup():
    """take(v, i) + u where v and u are made in one loop: the table must be stored first."""
    d = Draft()
    s, i = d.given((4,), float64), d.given((4,), int64)
    u = d("neg", s)
    d.check(d("add", d("take", d("mul", u, u), i, axis=0), u))


def test_empty_states_and_sums():
    """Nothing to do is done."""
    d = Draft()
    s = d.given((0, 3), state=True)
    d.graph.updates = [(s, d("neg", s))]
    d.check(d("sum", s, axes=(0,), keepdims=False), d("sum", s, axes=(0, 1), keepdims=True))


@pytest.mark.parametrize("name", ["floor", "tanh"])
@pytest.mark.parametrize("dtype", [bfloat16, float16])
def test_conversions_need_no_library(name, dtype):
    """LLVM must not narrow an operation to a type the processor lacks."""
    d = Draft()
    x = d.given((19,), dtype)
    backwards = d("flip", x, axes=(0,))
    if name == "tanh":
        d("tanh", d("cast", d.given((), float64), dtype=dtype))
    d.check(d("floor", backwards), d("cast", d.given((5,), float64), dtype=dtype))


@pytest.mark.parametrize("seed", range(200))
def test_reshape_strides(seed):
    """Ground truth: NumPy, which copies exactly when there are no such strides."""
    random = np.random.default_rng(seed)
    shape = tuple(int(n) for n in random.choice([1, 2, 3, 4, 6], random.integers(1, 4)))
    x = np.arange(np.prod(shape)).reshape(shape).transpose(random.permutation(len(shape)))
    sizes = [
        (x.size,),
        (1, x.size),
        (x.size, 1),
        *((k, x.size // k) for k in (2, 3, 4, 6) if x.size % k == 0),
    ]
    for new in sizes:
        y = x.reshape(new)
        found = reshape_strides(x.shape, [s // 8 for s in x.strides], new)
        assert (found is not None) == np.shares_memory(x, y) or x.size == 1
        if found is not None:
            again = np.lib.stride_tricks.as_strided(x, new, [s * 8 for s in found])
            np.testing.assert_array_equal(again, y)


def groups_of(graph: Graph) -> list[str]:
    return [g.label for g in stage(graph, TARGETS[0], "fuse").groups]


def test_groups_of_softmax_and_of_a_product_with_bias():
    """Golden: one kernel each."""
    d = Draft()
    x = d.given((6, 9))
    e = d("exp", d("sub", x, d("max", x, axes=(1,), keepdims=True)))
    d.graph.results = [d("div", e, d("sum", e, axes=(1,), keepdims=True))]
    assert groups_of(d.graph) == ["max+sub+exp+sum+div"]
    d = Draft()
    d.graph.results = [
        d("tanh", d("add", d("matmul", d.given((4, 5)), d.given((5, 6))), d.given((6,))))
    ]
    assert groups_of(d.graph) == ["matmul+add+tanh"]


def test_padded_arrays_of_other_shapes_are_added_not_joined():
    """pad(x) + pad(y) that broadcast are no concatenation; 0.0 and -0.0 are two constants."""
    d = Draft()
    x, y = d.given((1, 4)), d.given((2, 4))
    above = d("pad", x, before=(0, 0), after=(0, 0), value=0.0)
    below = d("pad", y, before=(1, 0), after=(0, 0), value=0.0)
    d.check(d("add", above, below))
    d = Draft()
    d.graph.results = [d("full", shape=(3,), value=v, dtype=float32) for v in (0.0, -0.0)]
    for target in TARGETS:
        plus, minus = run(program_of(d.graph, target), d.graph, {})[0]
        assert not np.signbit(plus).any() and np.signbit(minus).all()


def test_places_of_row_results():
    """A kernel of its own, and a lookup, may read what a reduction gave."""
    d = Draft()
    x, t = d.given((5, 4)), d.given((4,))
    low = d("neg", d("sum", x, axes=(1,), keepdims=True))
    places = d("argmax", x, axis=1)
    d.check(d("argmax", low, axis=0), d("take", t, places, axis=0))


@pytest.mark.parametrize("dtype", [bfloat16, float16])
def test_comparisons_of_narrow_numbers(dtype):
    """LLVM ended the process on AVX-512: a comparison of bfloat16 that becomes a float16."""
    d = Draft()
    x = d.given((31, 33), dtype)
    negative = d("less", x, d("full", shape=(), value=0, dtype=dtype))
    d.check(d("cast", negative, dtype=float16), d("cast", negative, dtype=bfloat16))


def test_a_product_of_what_is_added_to_it():
    """x @ w + x: what the product reads cannot be computed in its epilogue."""
    d = Draft()
    x, w, i = d.given((6, 6)), d.given((6, 6)), d.given((6,), int64)
    y = d("neg", x)
    rows = d("take", x, i, axis=0)
    d.check(d("add", d("matmul", y, w), y), d("add", d("matmul", rows, w), rows))


def test_what_a_row_keeps_does_not_reach_into_the_next_kept_value():
    """Fault of 2026-11-21: with rows of 5 in vectors of 8, the last row's kept quotients overwrote
    the first kept exponential. Ground truth: the eager definition."""
    values = np.random.default_rng(2).standard_normal((6, 5)).astype(np.float32)
    factors = tt.Tensor(np.array([0.5, 1.0, 2.0, 0.1, 3.0], np.float32))

    def step(x):
        u = 1.0 + x
        loss = (tt.exp(u) * (x / u) * factors).sum()
        loss.backward()
        return loss

    gradients = []
    for call in (step, tt.compile(step)):
        x = tt.Tensor(values, requires_grad=True)
        call(x)
        gradients.append(x.grad.numpy())
    np.testing.assert_allclose(gradients[1], gradients[0], rtol=1e-4, atol=1e-5)


def test_indices_are_checked_before_a_state_that_does_not_depend_on_them():
    """Fault of 2026-11-21: `count` was written in place before the check of the scatter, which the
    schedule refused. Ground truth: a bad index changes nothing; then sums by hand."""
    weights, count = tt.Tensor(np.array([0.2, 1.0, 5.0])), tt.Tensor(np.float64(0.0))
    w = tt.Tensor(np.ones((4, 3)), requires_grad=True)
    total = tt.zeros(4, 3, dtype="float64")

    @tt.compile
    def step(x, y):
        loss = tt.nn.functional.cross_entropy(x @ w, y, weight=weights, ignore_index=0)
        loss.backward()
        with tt.no_grad():
            keep = y != 0
            seen = tt.where(keep, weights.take(tt.where(keep, y, 0), 0), 0.0).sum()
            total.assign_(total + w.grad * seen)
            count.assign_(count + seen)
        w.grad = None
        return loss.detach()

    x = np.ones((5, 4))
    assert step(x, np.array([0, 1, 2, 1, 0])).item() == pytest.approx(np.log(3), rel=1e-12)
    assert count.item() == 7.0
    with pytest.raises(IndexError):
        step(x, np.array([0, 1, 3, 1, 0]))
    assert count.item() == 7.0


@pytest.mark.parametrize("n", [3, 9, 17, 33])
@pytest.mark.parametrize("kinds", [(int32, uint8), (int32, int16), (int16, int8), (int64, int8)])
def test_a_conversion_to_fewer_bytes_writes_no_more_than_it_has(kinds, n):
    """Fault of 2026-11-26: where one element is left beside whole vectors, LLVM for AVX-512 wrote
    it as wide as it was before. Ground truth: the bytes around the result stay (compiled.py)."""
    d = Draft()
    d.check(d("cast", d.given((n,), kinds[0]), dtype=kinds[1]))


def test_truth_is_picked_by_an_index_along_an_axis():
    """Fault of 2026-11-26: one pick along an axis was a sum, which bools do not have."""
    d = Draft()
    d.check(d("take_along", d.given((2, 5), bool_), d.given((2, 1), int64), axis=1))


@pytest.mark.parametrize("dtype", [bfloat16, float16])
def test_a_constant_has_the_numbers_of_its_type(dtype):
    """Fault of 2026-11-26: 0.9 was multiplied in float32, so momentum in bfloat16 was off."""
    d = Draft()
    x = d.given((19,), dtype)
    d.check(d("mul", x, d("full", shape=(), value=0.9, dtype=dtype)))


@pytest.mark.parametrize("shape", [(2,), (3, 4), (3, 1, 5)])
def test_random_bits_that_are_joined_or_turned(shape):
    """Fault of 2026-11-26: bits of a concatenation were written at its beginning, all of them.
    Their kernel writes dense arrays. Ground truth: the definition, without a host call."""
    d = Draft()
    states = [d.given((4,), uint32, state=True) for _ in range(2)]
    for i, state in enumerate(states):
        d.arrays[state] = np.array([i, 7, 2**32 - 2, 0], np.uint32)
    parts = [d.graph.add(TABLE["random_bits"], (s,), {"shape": shape})[0] for s in states]
    turned = d("permute", parts[0], axes=tuple(range(len(shape)))[::-1])
    for joined in range(len(shape)):
        d("concatenate", *parts, axis=joined)
    made = [v for n in d.graph.nodes[-len(shape) :] for v in n.outputs]
    d.check(*(d("add", v, v) for v in (*made, turned)))
    assert not program_of(d.graph, TARGETS[0]).host_calls
    alone = Draft()
    state = alone.given((4,), uint32, state=True)
    bits = alone.graph.add(TABLE["random_bits"], (state,), {"shape": shape})[0]
    alone.graph.results = [bits, alone("permute", bits, axes=tuple(range(len(shape)))[::-1])]
    assert not program_of(alone.graph, TARGETS[0]).host_calls


def test_a_state_that_nothing_is_written_into_stays():
    """Fault of 2026-11-26: an update by no rows was never written. Ground truth: the definition."""
    d = Draft()
    s, t, u = d.given((3, 2), state=True), d.given((3, 2), state=True), d.given((3, 0), state=True)
    start, none, row = d.given((2,), int64), d.given((0,), int64), d.given((1,), int64)
    d.arrays[start], d.arrays[row] = np.array([1, 0]), np.array([2])

    def part(x, stop):
        return d("neg", d("slice", x, start=(1, 0), stop=stop, step=(1, 1)))

    d.graph.updates = [
        (s, d("slice_update", s, part(s, (1, 2)), start)),
        (t, d("put_rows", t, part(t, (1, 2)), none)),
        (u, d("put_rows", u, part(u, (2, 0)), row)),
    ]
    d.check()


@pytest.mark.parametrize("dtype", [bfloat16, float16])
@pytest.mark.parametrize("wide", [None, float32])
def test_taps_of_narrow_floats_are_added_up_in_float32(dtype, wide):
    """Fault of 2026-11-26: a depthwise convolution was rounded after each of its taps. Products of
    small whole numbers: 256 + 1 - 256 is 1, and 0 where 257 was rounded to bfloat16."""
    d = Draft()
    x, w = d.given((1, 2, 1, 4), dtype), d.given((2, 1, 1, 3), dtype)
    big = 2048.0 if dtype is float16 else 256.0
    d.arrays[x] = store(np.array([big, 1, -big, 1] * 2).reshape(1, 2, 1, 4), dtype)
    d.arrays[w] = store(np.ones((2, 1, 1, 3)), dtype)
    window = {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 2}
    if wide:
        window["dtype"] = wide
    out = d("convolution", x, w, **window)
    g = d.given(out.shape, dtype)
    d.arrays[g] = store(np.ones(out.shape), dtype)
    d.check(
        out,
        d("convolution_weight_gradient", g, x, weight_shape=(2, 1, 1, 3), **window),
        d("convolution_input_gradient", x, w, input_shape=(1, 2, 1, 6), **window),
    )


@pytest.mark.parametrize("stride", [(1, 1), (2, 3)])
@pytest.mark.parametrize("groups", [1, 9])
@pytest.mark.parametrize("padding", [((1, 1), (0, 1)), ((0, 3), (2, 2)), ((4, 2), (1, 0))])
def test_the_gradient_of_a_padding_wider_than_the_filter(padding, groups, stride):
    """Fault of 2026-11-26: windows that lie in the padding alone were written outside the picture.
    Ground truth: the definition."""
    d = Draft()
    window = {"stride": stride, "padding": padding, "dilation": (1, 2), "groups": groups}
    shape, filters = (2, 2 * groups, 3, 4), (groups, 2, 2, 1)
    w = d.given(filters)
    y = d("convolution", d.given(shape), w, **window)
    g = d.given(y.shape)
    d.check(d("convolution_input_gradient", g, w, input_shape=shape, **window))


def test_sums_at_places_within_a_concatenation():
    """Fault of 2026-11-26: the result of scatter_add lay in a part of another array, which is no
    matrix of rows; a copy of it was read before anything was written. Ground truth: the definition.
    """
    d = Draft()
    x, s, index = d.given((2, 3, 3, 3)), d.given((2, 3, 3, 3), state=True), d.given((3,), int64)
    d.arrays[index] = np.array([2, 0, 2])
    new = d("neg", d("abs", s))
    d.graph.updates = [(s, new)]
    sums = d("scatter_add", x, index, axis=2, size=3)
    places = d.given((2,), int64)
    d.arrays[places] = np.array([1, 0])
    rows = d("put_rows", d.given((2, 3)), d.given((2, 3)), places)
    d.check(
        d("concatenate", sums, new, axis=1),
        d("concatenate", d("permute", rows, axes=(1, 0)), d.given((3, 1)), axis=1),
    )
    for target in TARGETS:
        assert not program_of(d.graph, target).host_calls


def test_float64_is_rounded_to_float16_once():
    """Fault of 2026-11-26: it went through float32, so that numbers close to a middle of two halves
    were rounded twice. Ground truth: NumPy, which rounds once; every middle and its neighbours."""
    halves = np.arange(0x7C01, dtype=np.uint16).view(np.float16).astype(np.float64)
    halves[-1] = 65536.0
    middles = (halves[1:] + halves[:-1]) / 2
    x = np.concatenate([middles, np.nextafter(middles, 0), np.nextafter(middles, np.inf), halves])
    x = np.concatenate([x, -x, [np.nan, np.inf, -np.inf, 1e300, -1e-300, 5e-324]])
    d = Draft()
    given = d.given(x.shape, float64)
    d.arrays[given] = x
    with np.errstate(over="ignore"):
        d.check(d("cast", given, dtype=float16))


@pytest.mark.parametrize("dtype", [float32, float64, bfloat16])
def test_weights_of_attention_that_are_nothing(dtype):
    """Fault of 2026-11-26: a weight was never under 2**-126, so that large values shone through it,
    and a query whose logits all overflow took the mean of the values. Ground truth: the definition:
    0 whatever it is multiplied by, zeros and a log-sum of -inf."""
    d = Draft()
    q, k, v = (d.given(s, dtype) for s in ((1, 1, 3, 4), (1, 1, 2, 4), (1, 1, 2, 4)))
    g = d.given((1, 1, 3, 4), dtype)
    large = 2.0**100 if dtype is float64 else 2.0**64  # its square overflows the sums' type or not
    d.arrays[q] = store(np.array([[1, 0, 0, 0], [1, 0, 0, 0], [large, 0, 0, 0]]), dtype)
    d.arrays[q] = d.arrays[q].reshape(1, 1, 3, 4)
    keys = np.zeros((1, 1, 2, 4))
    keys[..., 0] = [-(2.0**10), -(2.0**11)]
    d.arrays[k] = store(keys, dtype)
    values = np.ones((1, 1, 2, 4))
    values[0, 0, 1] = 2.0**120
    d.arrays[v], d.arrays[g] = store(values, dtype), store(np.ones((1, 1, 3, 4)), dtype)
    out, lse = d.graph.add(TABLE["attention"], (q, k, v), {"causal": False, "scale": 1.0})
    d.check(out)
    wide = d.arrays[q].copy()
    if dtype is not float64:
        wide[0, 0, 2] = store(np.array([2.0**127, 0, 0, 0]), dtype)  # times -2**10: -inf
    d.arrays[q] = wide
    d.check(out, lse)
    gradients = d.graph.add(
        TABLE["attention_gradient"], (g, q, k, v, out, lse), {"causal": False, "scale": 1.0}
    )
    d.check(gradients[2])


@pytest.mark.parametrize("dilation", [(1, 1), (2, 1), (2, 3)])
@pytest.mark.parametrize("stride", [(1, 1), (2, 1)])
@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("width", [1, 2])
def test_one_rule_makes_use_of_another(width, dilation, stride, groups):
    """Fault of 2026-11-26: a rule that was asked by a rule did not know its result (IndexError for
    a filter for each channel, dilated, without a stride). Ground truth: the definition."""
    d = Draft()
    window = {"stride": stride, "padding": ((0, 0), (1, 0)), "dilation": dilation, "groups": groups}
    x, w = d.given((1, 3, 25, 4)), d.given((3, 3 // groups, 3, width))
    y = d("convolution", x, w, **window)
    g = d.given(y.shape)
    d.check(
        y,
        d("convolution_input_gradient", g, w, input_shape=x.shape, **window),
        d("convolution_weight_gradient", g, x, weight_shape=w.shape, **window),
    )


def test_a_product_whose_zeros_are_final_keeps_its_shape():
    """Fault of 2026-11-26: `absorb` got its product without the broadcast that made its shape.
    Ground truth: the definition."""
    d = Draft()
    p = d("broadcast_to", d.given((1,)), shape=(3,))
    g = d("broadcast_to", d.given((1, 1)), shape=(2, 3))
    d.check(d("absorb", p, p), d("absorb", d("mul", g, p), g))


def test_a_query_of_nan_has_no_weight_on_keys_it_does_not_see():
    """Fault of 2026-11-26: in the definition its weight on a key that a causal mask hides from it
    was NaN, and so was the gradient of that value. Ground truth: the keys that it sees."""
    d = Draft()
    q, k, v, g = (d.given((1, 1, 3, 4)) for _ in range(4))
    d.arrays[q][0, 0, 1] = np.nan
    settings = {"causal": True, "scale": 0.5}
    out, lse = d.graph.add(TABLE["attention"], (q, k, v), settings)
    gradients = d.graph.add(TABLE["attention_gradient"], (g, q, k, v, out, lse), settings)
    d.graph.results = [gradients[2]]
    of_values = [step_reference(d.graph, d.arrays)[0]]
    of_values += [run(program_of(d.graph, t), d.graph, d.arrays, 2)[0] for t in TARGETS]
    for (x,) in of_values:
        assert np.isnan(x[0, 0, :2]).all() and np.isfinite(x[0, 0, 2]).all()
