"""Broadcasting and slicing against NumPy's and Python's own, on shapes that nobody thought of."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.reverse_mode import Traced, gradient
from tinytorch.base.errors import ShapeError
from tinytorch.primitives import TABLE, fold_to, slice_
from tinytorch.primitives.primitive import numbers
from tinytorch.primitives.shapes import broadcast_shapes

SHAPES = st.lists(st.integers(0, 4), max_size=4).map(tuple)


@given(st.lists(SHAPES, min_size=1, max_size=3))
def test_broadcast_is_numpys(shapes):
    """Ground truth: np.broadcast_shapes, and its refusals."""
    names = [f"x{i}" for i in range(len(shapes))]
    try:
        wanted = np.broadcast_shapes(*shapes)
    except ValueError:
        with pytest.raises(ShapeError, match="do not fit together"):
            broadcast_shapes("add", names, shapes)
    else:
        assert broadcast_shapes("add", names, shapes) == wanted


@given(SHAPES, st.data())
def test_fold_to_is_the_adjoint_of_broadcasting(shape, data):
    """Closed form: <broadcast(x), g> = <x, fold_to(g)> for every x that broadcasts to g's shape."""
    small = tuple(data.draw(st.sampled_from([1, n])) for n in shape)
    small = small[data.draw(st.integers(0, len(small))) :]
    g, x = numbers(*shape, seed=1), numbers(*small)
    folded = fold_to(g, small)
    assert folded.shape == small
    left, right = (np.broadcast_to(x, shape) * g).sum(), (x * folded).sum()
    assert left == pytest.approx(right, rel=0, abs=1e-12 * max(1, g.size))  # rounding: eps a term


@given(st.lists(st.integers(0, 6), min_size=1, max_size=3), st.data())
def test_slices_are_pythons_and_their_gradient_puts_back(shape, data):
    """Ground truth: NumPy indexing with the same slices; the gradient by assignment into zeros."""
    ends = st.none() | st.integers(-8, 8)
    steps = st.none() | st.integers(-4, 4).filter(bool)
    picks = tuple(slice(data.draw(ends), data.draw(ends), data.draw(steps)) for _ in shape)
    start, stop, step = zip(*(p.indices(n) for p, n in zip(picks, shape, strict=True)), strict=True)
    x = Traced(numbers(*shape))
    out = slice_(x, start=start, stop=stop, step=step)
    np.testing.assert_array_equal(out.array, x.array[picks])
    g = numbers(*out.shape, seed=1)
    wanted = np.zeros(x.shape)
    wanted[picks] = g
    (found,) = gradient([(out, Traced(g))], [x])
    np.testing.assert_array_equal(found.array, wanted)


@given(st.integers(0, 5), st.lists(st.integers(0, 4), max_size=2), st.integers(1, 5), st.data())
def test_scatter_add_is_numpys(rows, beside, size, data):
    """Ground truth: np.add.at, on whole numbers, so that the order of adding cannot matter."""
    axis = data.draw(st.integers(0, len(beside)))
    index = np.array(
        data.draw(st.lists(st.integers(-size, size - 1), min_size=rows, max_size=rows)), int
    )
    shape = (*beside[:axis], rows, *beside[axis:])
    g = numbers(*shape, low=-9, high=9, dtype="int64").astype(float)
    wanted = np.zeros((*beside[:axis], size, *beside[axis:]))
    np.add.at(wanted, (*(slice(None),) * axis, index), g)
    np.testing.assert_array_equal(TABLE["scatter_add"](g, index, axis=axis, size=size), wanted)


@given(st.integers(1, 7), st.integers(1, 7), st.integers(1, 3), st.integers(0, 2), st.data())
def test_convolution_and_its_gradients_are_adjoints(height, width, stride, padding, data):
    """Closed form: <conv(x, w), g> = <x, input_gradient(g, w)> = <w, weight_gradient(g, x)>."""
    kernel = tuple(data.draw(st.integers(1, min(4, n + 2 * padding))) for n in (height, width))
    groups = data.draw(st.integers(1, 3))
    window = {
        "stride": (stride, data.draw(st.integers(1, 3))),
        "padding": ((padding, padding), (padding, padding)),
        "dilation": (1, 1),
        "groups": groups,
    }
    x, w = numbers(2, 2 * groups, height, width), numbers(3 * groups, 2, *kernel, seed=1)
    out = TABLE["convolution"](x, w, **window)
    g = numbers(*out.shape, seed=2)
    g_x = TABLE["convolution_input_gradient"](g, w, input_shape=x.shape, **window)
    g_w = TABLE["convolution_weight_gradient"](g, x, weight_shape=w.shape, **window)
    total = (out * g).sum()
    bound = 1e-13 * np.abs(w).sum() * np.abs(x).sum() * 2  # rounding of the products, |g| <= 2
    assert total == pytest.approx((x * g_x).sum(), rel=0, abs=bound)
    assert total == pytest.approx((w * g_w).sum(), rel=0, abs=bound)
