"""The common shape of operands against NumPy's, on shapes that nobody thought of."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinytorch.base.errors import ShapeError
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
