"""Pieces of parameters: together they are the whole, and nobody's memory is written by surprise."""

import numpy as np

import tinytorch as tt
from tinytorch.optim.group import BLOCK, in_blocks


def test_pieces_cover_everything_once():
    """Invariant: adding 1 to each piece adds 1 to each element, also of the last, short piece."""
    x, g = tt.zeros(3, BLOCK), tt.ones(3, BLOCK)
    pieces = in_blocks((x,), g[:, ::1])
    assert pieces is not None
    for mine, gradient in pieces:
        mine += gradient
    np.testing.assert_array_equal(x.numpy(), 1.0)


def test_a_gradient_may_lie_across():
    """Ground truth: the transpose, element by element."""
    x = tt.zeros(2, 3)
    g = tt.Tensor(np.arange(6.0, dtype=np.float32).reshape(3, 2)).T
    for mine, gradient in in_blocks((x,), g) or ():
        mine += gradient
    np.testing.assert_array_equal(x.numpy(), g.numpy())


def test_views_see_what_is_written_and_the_tape_does_not():
    """Invariants: a detached Tensor shows the new numbers; a gradient is that of the old ones."""
    x, w = tt.zeros(4), tt.ones(4, requires_grad=True)
    other, product = x.detach(), (w * x).sum()
    for mine, gradient in in_blocks((x,), tt.ones(4)) or ():
        mine += gradient
    np.testing.assert_array_equal(other.numpy(), 1.0)
    product.backward()
    np.testing.assert_array_equal(w.grad.numpy(), 0.0)
