"""Sums of products over named axes. Ground truth: NumPy."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch.base.errors import ShapeError

RNG = np.random.Generator(np.random.Philox(7))
EQUATIONS = [
    ("ij,jk->ik", (3, 4), (4, 5)), ("bij,bjk->bik", (2, 3, 4), (2, 4, 5)), ("ii->i", (3, 3)),
    ("ii", (3, 3)), ("ij->ji", (2, 3)), ("ij->", (2, 3)), ("i,j->ij", (2,), (3,)),
    ("...ij,...jk->...ik", (2, 1, 3, 4), (5, 4, 2)), ("...i->...", (2, 3)),
    ("ij,ij->ij", (2, 3), (2, 3)),
    ("abc,cd,de->abe", (2, 3, 4), (4, 2), (2, 5)), ("bthd,bshd->bhts", (2, 3, 2, 4), (2, 5, 2, 4)),
    ("ij,j", (2, 3), (3,)), ("aij,ajb->ib", (2, 3, 4), (2, 4, 5)), ("iij,j->i", (3, 3, 2), (2,)),
    ("ij,kj->ik", (0, 3), (2, 3)), ("i->", (0,)),
]  # fmt: skip


@pytest.mark.parametrize("equation", EQUATIONS, ids=lambda e: e[0])
def test_einsum(equation):
    """NumPy's einsum; at most 24 products a sum in float64: 1e-13."""
    text, *shapes = equation
    arrays = [RNG.standard_normal(s) for s in shapes]
    found = tt.einsum(text, *map(tt.asarray, arrays))
    wanted = np.einsum(text, *arrays)
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [("ij,jk", [(2, 3)]), ("ij", [(2,)]), ("ij,jk->ik", [(2, 3), (4, 5)]), ("ij->iik", [(2, 3)]),
     ("i->ii", [(2,)]), ("ii->i", [(2, 3)])],
)  # fmt: skip
def test_einsum_refuses(equation, shapes):
    """Ground truth: four parts."""
    with pytest.raises(ShapeError, match=r"(?s)einsum.*got:.*rule:.*fix:"):
        tt.einsum(equation, *[tt.ones(s) for s in shapes])


def test_cells_beyond_the_padding_are_below_and_to_the_right():
    """Closed form: a window of one tap moves the picture nowhere; what is added is zero."""
    x, one = tt.ones(1, 1, 2, 2), tt.ones(1, 1, 1, 1)
    out = tt.nn.functional.conv_transpose2d(x, one, dilation=3, output_padding=(1, 2))
    expected = np.zeros((3, 4))
    expected[:2, :2] = 1
    np.testing.assert_array_equal(out.numpy(), [[expected]])
