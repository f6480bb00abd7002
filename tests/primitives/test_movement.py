"""Broadcasting and slicing against NumPy's and Python's own, on shapes that nobody thought of."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.reverse_mode import Traced, gradient
from tinytorch.primitives import fold_to, slice_
from tinytorch.primitives.primitive import numbers

SHAPES = st.lists(st.integers(0, 4), max_size=4).map(tuple)


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
