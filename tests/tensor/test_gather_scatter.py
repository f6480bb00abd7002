"""gather, take_along_axis and scatter_add with an index smaller than the Tensor it points into."""

import numpy as np
import pytest
import torch

import tinytorch as tt
from tests.compiler.compiled import targets
from tinytorch.base.errors import ShapeError

TARGETS = targets()
WAYS = [None, *TARGETS]
IDS = ["eager", *(t.name for t in TARGETS)]
# x, index, axis, source
CASES = [
    ((3, 4), (3, 1), 0, (3, 1)),
    ((3, 4), (2, 3), 1, (3, 4)),
    ((3, 4), (5, 4), 0, (6, 4)),
    ((2, 3, 4), (1, 2, 2), 2, (2, 3, 3)),
    ((4,), (7,), 0, (9,)),
    ((3, 4), (3, 4), -1, (3, 4)),
]


def by(way, function):
    return function if way is None else tt.compile(function, target=way)


@pytest.mark.parametrize("way", WAYS, ids=IDS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_scatter_add_means_what_it_means_in_pytorch(case, way):
    """Ground truth: PyTorch, value and gradients; source is cut to the index before, because
    PyTorch's own backward refuses a longer one, and what is cut off has gradient 0."""
    shape, places, axis, longer = case
    rng = np.random.default_rng(0)
    x, s = (rng.normal(size=n).astype("f4") for n in (shape, longer))
    index = rng.integers(0, shape[axis], places)

    def ours(x, s, index):
        x, s = x.detach().requires_grad_(), s.detach().requires_grad_()
        out = tt.scatter_add(x, axis, index, s)
        (out * out).sum().backward()
        return out.detach(), x.grad, s.grad

    outs = by(way, ours)(tt.Tensor(x), tt.Tensor(s), tt.Tensor(index))
    tx, ts = torch.tensor(x, requires_grad=True), torch.tensor(s, requires_grad=True)
    truth = tx.scatter_add(axis, torch.tensor(index), ts[tuple(slice(n) for n in places)])
    (truth * truth).sum().backward()
    for mine, peer in zip(outs, (truth, tx.grad, ts.grad), strict=True):
        assert mine.shape == tuple(peer.shape)
        # at most 7 terms of size 3, in another order: 7 * 3 * 6e-8 each, squared in the gradient
        np.testing.assert_allclose(mine.numpy(), peer.detach().numpy(), atol=4e-6)


@pytest.mark.parametrize("way", WAYS, ids=IDS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_gather_means_what_it_means_in_pytorch(case, way):
    """Ground truth: PyTorch, value and gradient."""
    shape, places, axis, _ = case
    rng = np.random.default_rng(1)
    x, index = rng.normal(size=shape).astype("f4"), rng.integers(0, shape[axis], places)

    def ours(x, index):
        x = x.detach().requires_grad_()
        out = tt.gather(x, axis, index)
        (out * out).sum().backward()
        return out.detach(), x.grad

    outs = by(way, ours)(tt.Tensor(x), tt.Tensor(index))
    tx = torch.tensor(x, requires_grad=True)
    truth = tx.gather(axis, torch.tensor(index))
    (truth * truth).sum().backward()
    np.testing.assert_array_equal(outs[0].numpy(), truth.detach().numpy())
    np.testing.assert_allclose(outs[1].numpy(), tx.grad.numpy(), atol=4e-6)


@pytest.mark.parametrize("way", WAYS, ids=IDS)
def test_take_along_axis_broadcasts_as_in_the_array_api(way):
    """Ground truth: NumPy."""
    x = np.arange(24).reshape(2, 3, 4)
    for index, axis in (
        (np.array([[[3, 0]]]), 2),
        (np.array([[[0], [2]], [[1], [1]]]), 1),
        (np.array([[[1, 0, 1, 0]]]), 0),
    ):
        take = by(way, lambda x, i, axis=axis: tt.take_along_axis(x, i, axis))
        truth = np.take_along_axis(x, index, axis)
        np.testing.assert_array_equal(take(tt.Tensor(x), tt.Tensor(index)).numpy(), truth)


@pytest.mark.parametrize(
    ("function", "phrase"),
    [
        (lambda x, i: tt.scatter_add(x, 0, i(1, 3), tt.ones(1, 3)), "longer than x"),
        (lambda x, i: tt.scatter_add(x, 0, i(3, 2), tt.ones(2, 2)), "different shapes"),
        (lambda x, i: tt.scatter_add(x, 0, i(2), tt.ones(2, 2)), "does not fit"),
        (lambda x, i: tt.gather(x, 0, i(1, 3)), "does not fit"),
        (lambda x, i: tt.gather(x, 0, i(1)), "does not fit"),
        (lambda x, i: tt.take_along_axis(x, i(3, 2), 1), "broadcast"),
    ],
)
def test_indices_that_do_not_fit_are_refused(function, phrase):
    """Ground truth: the messages."""
    with pytest.raises(ShapeError, match=phrase):
        function(tt.zeros(2, 2), lambda *shape: tt.zeros(*shape, dtype="int64"))
