"""Sums and rows at run-time places against NumPy's, on sizes that nobody thought of."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tinytorch.primitives import TABLE
from tinytorch.primitives.primitive import numbers


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


@given(st.integers(1, 5), st.lists(st.integers(0, 3), max_size=2), st.data())
def test_put_rows_is_assignment_in_order(size, beside, data):
    """Ground truth: Python's assignments, one after the other; x itself stays as it was."""
    places = data.draw(st.lists(st.integers(-size, size - 1), max_size=7))
    x, y = numbers(size, *beside), numbers(len(places), *beside, seed=1)
    before, wanted = x.copy(), x.copy()
    for place, row in zip(places, y, strict=True):
        wanted[place] = row
    index = np.array(places, np.int64)
    np.testing.assert_array_equal(TABLE["put_rows"](x, y, index), wanted)
    np.testing.assert_array_equal(x, before)
