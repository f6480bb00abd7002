"""Moving, joining and repeating elements."""

import pytest
import torch

import tinytorch as tt
import tinytorch.array_api as xp
from tinytorch.base.errors import (
    ArgumentTypeError,
    ShapeError,
)


def test_meshgrid_is_ij():
    """PyTorch's default; the array API's is "xy"."""
    a, b = [1.0, 2.0], [3.0, 4.0, 5.0]
    ours = tt.meshgrid(tt.tensor(a), tt.tensor(b))
    theirs = torch.meshgrid(torch.tensor(a), torch.tensor(b), indexing="ij")
    assert [g.tolist() for g in ours] == [g.tolist() for g in theirs]
    assert xp.meshgrid(tt.tensor(a), tt.tensor(b))[0].shape == (3, 2)


def test_numbers_without_an_axis_are_not_joined():
    """Ground truth: PyTorch refuses; whichever of them comes first."""
    for given in (lambda x: (x, x[0]), lambda x: (x[0], x), lambda x: (x[0], x[0])):
        for way in (tt.cat, tt.compile(lambda xs: tt.cat(xs))):
            with pytest.raises(ShapeError, match="has no axis"):
                way(given(tt.ones(3)))
        with pytest.raises(RuntimeError):
            torch.cat(given(torch.ones(3)))
    assert tt.cat((tt.tensor(1.0), tt.tensor(2.0)), dim=None).tolist() == [1.0, 2.0]


def test_shapes_are_of_whole_numbers():
    """Ground truth: PyTorch refuses each of them."""
    for given in ("ab", (1.5,), ("a", "b"), (-1, 2)):
        with pytest.raises((ArgumentTypeError, ShapeError)):
            tt.broadcast_shapes(given)
        with pytest.raises((TypeError, ValueError)):
            torch.broadcast_shapes(given)
    assert tt.broadcast_shapes((3, 1), 4, [2, 1, 1]) == (2, 3, 4)


def test_stacks_begin_a_new_first_axis():
    """Ground truth: PyTorch's default, dim=0."""
    assert tt.stack([tt.zeros(2, 3), tt.ones(2, 3)]).tolist() == [[[0.0] * 3] * 2, [[1.0] * 3] * 2]


def test_a_mesh_of_nothing_is_empty():
    """Closed form: as many points as the sizes multiply to."""
    first, second = tt.meshgrid(tt.zeros(0), tt.zeros(3))
    assert first.shape == second.shape == (0, 3)
