"""Convolution, pooling and attention against PyTorch, forward and backward, in float64.

Ground truth: torch.nn.functional. Both sides add the same products in other orders, so they differ
by rounding: 1e-12 relative to the largest is 4,500 units of float64, for sums of at most 169 terms.
"""

import numpy as np
import pytest
import torch

from tests.reverse_mode import Traced, gradient
from tinytorch.primitives import TABLE, attention, convolution, max_pool2d
from tinytorch.primitives.primitive import numbers

pytestmark = pytest.mark.peer
functional = torch.nn.functional


def assert_close(found, wanted) -> None:
    wanted = wanted.detach().numpy()
    assert found.shape == wanted.shape
    np.testing.assert_allclose(
        found, wanted, rtol=0, atol=1e-12 * max(1, np.abs(wanted).max(initial=0))
    )


def leaves(*arrays):
    return [torch.tensor(a, requires_grad=True) for a in arrays]


@pytest.mark.parametrize(
    ("image", "weight", "stride", "padding", "dilation", "groups"),
    [
        ((2, 3, 8, 9), (4, 3, 3, 3), (1, 1), (1, 1), (1, 1), 1),
        ((2, 4, 11, 7), (6, 2, 3, 2), (2, 3), (2, 1), (1, 2), 2),
        ((1, 8, 5, 5), (8, 1, 3, 3), (1, 1), (1, 1), (1, 1), 8),
        ((3, 2, 4, 4), (5, 2, 1, 1), (2, 2), (0, 0), (1, 1), 1),
        ((1, 1, 13, 13), (1, 1, 5, 5), (3, 2), (4, 0), (2, 1), 1),
    ],
)
def test_convolution(image, weight, stride, padding, dilation, groups):
    """Ground truth: torch.nn.functional.conv2d and its backward, to second order."""
    x, w = numbers(*image), numbers(*weight, seed=1)
    tx, tw = leaves(x, w)
    wanted = functional.conv2d(tx, tw, None, stride, padding, dilation, groups)
    window = {"stride": stride, "padding": tuple((p, p) for p in padding), "dilation": dilation}
    mine = [Traced(x), Traced(w)]
    out = convolution(*mine, **window, groups=groups)
    assert_close(out.array, wanted)
    g = numbers(*wanted.shape, seed=2)
    tg = torch.tensor(g)
    wanted_grads = torch.autograd.grad(wanted, (tx, tw), tg, create_graph=True)
    grads = gradient([(out, Traced(g))], mine)
    for a, b in zip(grads, wanted_grads, strict=True):
        assert_close(a.array, b)
    again = numbers(*image, seed=3), numbers(*weight, seed=4)
    wanted_second = torch.autograd.grad(wanted_grads, (tx, tw), [torch.tensor(a) for a in again])
    second = gradient(list(zip(grads, map(Traced, again), strict=True)), mine)
    for a, b in zip(second, wanted_second, strict=True):
        assert_close(a.array, b)


@pytest.mark.parametrize(
    ("image", "kernel", "stride", "padding"),
    [
        ((2, 3, 8, 8), 2, 2, 0),
        ((1, 2, 7, 9), 3, 2, 1),
        ((2, 1, 5, 5), 3, 1, 1),
        ((1, 1, 6, 6), 2, 3, 1),
    ],
)
def test_max_pool2d(image, kernel, stride, padding):
    """Ground truth: torch.nn.functional.max_pool2d with indices, and its backward."""
    x = numbers(*image)
    (tx,) = leaves(x)
    wanted, wanted_index = functional.max_pool2d(tx, kernel, stride, padding, return_indices=True)
    mine = Traced(x)
    sides = ((padding, padding),) * 2
    out, index = max_pool2d(mine, kernel=(kernel,) * 2, stride=(stride,) * 2, padding=sides)
    assert_close(out.array, wanted)
    np.testing.assert_array_equal(index.array, wanted_index.numpy())
    g = numbers(*wanted.shape, seed=1)
    wanted.backward(torch.tensor(g))
    assert_close(gradient([(out, Traced(g))], [mine])[0].array, tx.grad)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("size", [(2, 3, 16, 8), (1, 1, 1, 4), (1, 2, 37, 5)])
def test_attention(size, causal):
    """Ground truth: scaled_dot_product_attention, its gradients, and theirs."""
    arrays = [numbers(*size, seed=i) for i in range(3)]
    inputs = leaves(*arrays)
    # the MATH form has second derivatives
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        wanted = functional.scaled_dot_product_attention(*inputs, is_causal=causal)
    mine = [Traced(a) for a in arrays]
    out, lse = attention(*mine, causal=causal, scale=size[3] ** -0.5)
    assert_close(out.array, wanted)
    g = numbers(*size, seed=3)
    wanted_grads = torch.autograd.grad(wanted, inputs, torch.tensor(g), create_graph=True)
    grads = gradient([(out, Traced(g))], mine)
    for a, b in zip(grads, wanted_grads, strict=True):
        assert_close(a.array, b)
    again = [numbers(*size, seed=4 + i) for i in range(3)]
    wanted_second = torch.autograd.grad(wanted_grads, inputs, [torch.tensor(a) for a in again])
    second = gradient(list(zip(grads, map(Traced, again), strict=True)), mine)
    for a, b in zip(second, wanted_second, strict=True):
        assert_close(a.array, b)


def test_log_sum_exp_of_attention():
    """Ground truth: torch.logsumexp of the scores, and its gradient."""
    q, k = numbers(2, 2, 5, 3), numbers(2, 2, 7, 3, seed=1)
    tq, tk = leaves(q, k)
    wanted = torch.logsumexp(0.5 * tq @ tk.transpose(-1, -2), -1)
    mine = [Traced(q), Traced(k), Traced(numbers(2, 2, 7, 3, seed=2))]
    _, lse = attention(*mine, causal=False, scale=0.5)
    assert_close(lse.array, wanted)
    g = numbers(2, 2, 5, seed=3)
    wanted.backward(torch.tensor(g))
    found = gradient([(lse, Traced(g))], mine)
    assert_close(found[0].array, tq.grad)
    assert_close(found[1].array, tk.grad)


@pytest.mark.parametrize(
    "name", ["exp", "log", "sqrt", "rsqrt", "sin", "cos", "tanh", "erf", "sign", "round"]
)
def test_functions(name):
    """Ground truth: the torch function of the same name; both within 2 units in the last place."""
    x = numbers(101, low=0.01, high=9)
    wanted = getattr(torch, name)(torch.tensor(x)).numpy()
    np.testing.assert_allclose(TABLE[name](x), wanted, rtol=4 * np.finfo(float).eps)


@pytest.mark.parametrize("name", ["remainder", "floor_div", "maximum", "minimum", "pow"])
def test_pairs(name):
    """Ground truth: the torch function; floor_div is floor_divide."""
    a, b = numbers(50, low=0.1, high=9), numbers(50, low=0.3, high=3, seed=1)
    peer = {"floor_div": "floor_divide"}.get(name, name)
    wanted = getattr(torch, peer)(torch.tensor(a), torch.tensor(b)).numpy()
    np.testing.assert_allclose(TABLE[name](a, b), wanted, rtol=4 * np.finfo(float).eps)
