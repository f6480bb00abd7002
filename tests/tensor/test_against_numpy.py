"""Broadcasting, indexing and number types, on inputs that nobody chose. Ground truth: NumPy.

The search is derandomised: every run tries the same examples.
"""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

import tinytorch as tt
import tinytorch.array_api as xp

EXAMPLES = settings(max_examples=60, deadline=None, derandomize=True, database=None)
ELEMENTS = st.floats(-8, 8, allow_subnormal=False)
PAIRS = {
    "add": np.add, "subtract": np.subtract, "multiply": np.multiply, "maximum": np.maximum,
    "minimum": np.minimum, "less": np.less, "equal": np.equal, "greater_equal": np.greater_equal,
}  # fmt: skip


def array(shape):
    return nps.arrays(np.float64, shape, elements=ELEMENTS)


@st.composite
def broadcastable(draw):
    """Two arrays that broadcast, and the shape that they have together."""
    shapes = draw(
        nps.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=4, min_side=0)
    )
    a, b = (draw(array(s)) for s in shapes.input_shapes)
    return a, b, shapes.result_shape


@EXAMPLES
@given(broadcastable(), st.sampled_from(sorted(PAIRS)), st.booleans())
def test_broadcasting_is_numpys(pair, name, number_on_the_left):
    """NumPy: shape and values, bit for bit; gradients have the shapes of the operands."""
    a, b, shape = pair
    left = tt.Tensor(a, requires_grad=True)
    right = tt.Tensor(b, requires_grad=True)
    found = getattr(xp, name)(left, right)
    assert found.shape == shape
    assert np.array_equal(found.detach().numpy(), PAIRS[name](a, b))
    if number_on_the_left:
        assert np.array_equal((2.5 - right).detach().numpy(), 2.5 - b)
    if found.requires_grad:
        found.backward(tt.ones(shape, dtype="float64"))
        assert left.grad.shape == a.shape and right.grad.shape == b.shape
        total = {"add": (1, 1), "subtract": (1, -1)}.get(name)
        if total is not None:  # closed form: each element is used so many times
            used = np.ones(shape)
            assert left.grad.numpy().sum() == used.sum() * total[0]
            assert right.grad.numpy().sum() == used.sum() * total[1]


@st.composite
def indexed(draw):
    """An array and a key of numbers, slices, None and ... that fits it."""
    x = draw(array(nps.array_shapes(min_dims=1, max_dims=4, max_side=5)))
    return x, draw(nps.basic_indices(x.shape, allow_newaxis=True, max_dims=6))


@EXAMPLES
@given(indexed())
def test_basic_indexing_is_numpys(case):
    """NumPy: values and shape; memory is shared; the gradient is 1 where the key points, else 0;
    assigning there is NumPy's."""
    x, key = case
    tensor = tt.Tensor(x, requires_grad=True)
    found, wanted = tensor[key], x[key]
    assert found.shape == wanted.shape and np.array_equal(found.detach().numpy(), wanted)
    if wanted.size:
        assert tt.shares_memory(found, tensor)
    found.backward(tt.ones(found.shape, dtype="float64"))
    picked = np.zeros_like(x)
    picked[key] = 1.0
    assert np.array_equal(tensor.grad.numpy(), picked)
    plain, recorded, expected = tt.Tensor(x), tensor * 1.0, x.copy()
    expected[key] = 7.0
    plain[key] = 7.0
    recorded[key] = 7.0
    assert np.array_equal(plain.numpy(), expected)
    assert np.array_equal(recorded.detach().numpy(), expected)


@st.composite
def picked(draw):
    """An array and an index array for each of its first axes."""
    x = draw(array(nps.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4)))
    return x, draw(nps.integer_array_indices(x.shape))


@EXAMPLES
@given(picked())
def test_index_arrays_are_numpys(case):
    """NumPy: values; the gradient counts how often each element is picked (np.add.at)."""
    x, key = case
    tensor = tt.Tensor(x, requires_grad=True)
    found = tensor[key]
    assert np.array_equal(found.detach().numpy(), x[key])
    found.backward(tt.ones(found.shape, dtype="float64"))
    counts = np.zeros_like(x)
    np.add.at(counts, key, 1.0)
    assert np.array_equal(tensor.grad.numpy(), counts)


@st.composite
def reduced(draw):
    """An array and some of its axes."""
    x = draw(array(nps.array_shapes(min_dims=0, max_dims=4, min_side=1, max_side=4)))
    axes = draw(st.none() | nps.valid_tuple_axes(x.ndim))
    return x, axes, draw(st.booleans())


@EXAMPLES
@given(reduced(), st.sampled_from(["sum", "max", "min", "mean", "prod", "any", "all"]))
def test_reductions_are_numpys(case, name):
    """NumPy: shape; values to the rounding of at most 256 terms of size 8 in another order."""
    x, axes, keep = case
    found = getattr(xp, name)(tt.Tensor(x), axis=axes, keepdims=keep).numpy()
    wanted = getattr(np, name)(x, axis=axes, keepdims=keep)
    assert found.shape == np.shape(wanted)
    scale = np.abs(wanted).max(initial=0.0) if name == "prod" else 256 * 8.0
    if np.isfinite(scale):
        assert np.allclose(found, wanted, rtol=1e-13, atol=scale * 2.0**-48)


@EXAMPLES
@given(array(nps.array_shapes(min_dims=2, max_dims=3, max_side=4)), st.data())
def test_moving_is_numpys(x, data):
    """NumPy: reshape, transpose, flip and roll move the same numbers to the same places."""
    order = data.draw(st.permutations(range(x.ndim)))
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    tensor = tt.Tensor(x)
    assert np.array_equal(tensor.permute(order).numpy(), x.transpose(order))
    assert np.array_equal(tensor.permute(order).reshape(-1).numpy(), x.transpose(order).reshape(-1))
    assert np.array_equal(tensor.flip(axis).numpy(), np.flip(x, axis))
    assert np.array_equal(tensor.roll(3, axis).numpy(), np.roll(x, 3, axis))
    assert np.array_equal(tensor.T.numpy(), x.T)
    assert np.array_equal(tt.concat([tensor, tensor], axis).numpy(), np.concatenate([x, x], axis))
