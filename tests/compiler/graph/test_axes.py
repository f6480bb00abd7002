"""Which places of an axis are valid, before and after reshape."""

import numpy as np
import pytest

from tinytorch.base.lengths import Length, at_bound, dim, value_at
from tinytorch.compiler.graph.axes import (
    Axis,
    Part,
    common_axis,
    exactly,
    plain_axes,
    plain_axis,
    regrouped,
)

T_DIM, B_DIM = dim("T", max=5), dim("B", max=3)
T, B = Length.of(T_DIM), Length.of(B_DIM)


def valid(axes, lengths) -> np.ndarray:
    """True where a place is valid, by the parts of each axis."""
    out = np.ones((), bool)
    for axis in axes:
        line = np.ones((), bool)
        for part in axis.parts:
            n = value_at(part.length, lengths)
            line = np.logical_and.outer(line, np.arange(part.bound) < n)
        out = np.logical_and.outer(out, line.reshape(-1))
    return out


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((B, T, 4), (B * T, 4)),
        ((B, T, 4), (B, 4 * T)),
        ((2, T, 6), (2, T, 2, 3)),
        ((T, 6), (T * 6,)),
        ((2, 3, T), (6, T)),
        ((B, T), (1, B, 1, T)),
        ((12,), (3, 4)),
    ],
)
def test_reshape_moves_valid_places_as_numpy_moves_elements(before, after):
    """Ground truth: numpy.reshape of a mask; and back again."""
    axes = plain_axes(before)
    made = regrouped(axes, after)
    assert tuple(a.size for a in made) == at_bound(after)
    assert tuple(a.length for a in made) == after
    for t, b in ((1, 1), (3, 2), (5, 3)):
        lengths = {T_DIM: t, B_DIM: b}
        wanted = valid(axes, lengths).reshape(at_bound(after))
        np.testing.assert_array_equal(valid(made, lengths), wanted)
    assert regrouped(made, before) == axes


@pytest.mark.parametrize(
    ("before", "after"), [((T, 6), (6, T)), ((2 * T,), (T, 2)), ((T, T), (T * T - T, 1))]
)
def test_places_that_would_be_torn_apart_are_refused(before, after):
    """Invariant: no axes are better than wrong ones."""
    axes = plain_axes(before)
    made = regrouped(axes, after)
    assert made is None or tuple(a.length for a in made) == after


def test_axes_meet():
    """Closed form: joined and plain axes of one length lie differently; a free one gives way."""
    joined = Axis((Part(3, B), Part(5, T)))
    assert common_axis([joined, plain_axis(B * T, is_free=True)]) == joined
    assert common_axis([joined, joined]) == joined
    assert common_axis([joined, plain_axis(B * T)]) is None
    assert (
        not joined.is_prefix
        and plain_axis(T).is_prefix
        and Axis((Part(5, T), Part(2, 2))).is_prefix
    )
    assert str(plain_axis(T)) == "T of 5" and joined.size == 15


def test_exact_quotients():
    """Closed form."""
    assert exactly(6, 2) == 3 and exactly(6, 4) is None and exactly(6, T) is None
    assert exactly(6 * T, T) == 6 and exactly(T, 2) is None
