"""in_place.py: the numbers of the copying function, and the memory it saves, measured."""

import tracemalloc

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import nn
from tinytorch.base.errors import GradientError
from tinytorch.nn import functional as F
from tinytorch.nn.in_place import BLOCK, in_place

PAIRS = {
    "relu_": F.relu, "sigmoid_": F.sigmoid, "tanh_": F.tanh, "leaky_relu_": F.leaky_relu,
    "elu_": F.elu, "selu_": F.selu, "hardtanh_": F.hardtanh,
}  # fmt: skip


def numbers(shape) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("shape", [(), (0,), (3, 5), (BLOCK + 7,)])
def test_the_same_numbers(name, shape):
    """Ground truth: the function that copies, bit for bit; blocks change nothing."""
    x = tt.Tensor(numbers(shape))
    expected = PAIRS[name](x).numpy()
    assert getattr(F, name)(x) is x
    assert np.array_equal(x.numpy(), expected)


def peak(function, x) -> int:
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    function(x)
    most = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    return most


@pytest.mark.parametrize("name", ["relu", "gelu", "silu"])
def test_memory_is_saved(name):
    """Measured (row S4-16): 4 MiB of numbers need less than 2 MiB on top, not 4 MiB or more."""
    function = getattr(F, name)
    with tt.no_grad():
        assert peak(function, tt.Tensor(numbers(2**20))) >= 2**22
        assert peak(lambda x: in_place(function, x), tt.Tensor(numbers(2**20))) < 2**21


def test_views_see_the_change():
    """PyTorch: relu_ writes through a view."""
    x = tt.Tensor(np.array([-1.0, 2.0]))
    view = x.reshape(2, 1)
    F.relu_(x)
    assert x.tolist() == [0.0, 2.0] and view.tolist() == [[0.0], [2.0]]


def test_gradients_are_those_of_the_numbers_that_were_used():
    """Ground truth: the copying activation in the same network."""
    grads = []
    for inplace in (False, True):
        tt.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(inplace=inplace), nn.Linear(8, 8),
                            nn.SiLU(inplace), nn.Linear(8, 1))  # fmt: skip
        net(tt.Tensor(numbers((3, 4)))).sum().backward()
        grads.append([p.grad.numpy() for p in net.parameters()])
    assert all(np.array_equal(a, b) for a, b in zip(*grads, strict=True))


def test_a_leaf_that_gathers_a_gradient_is_refused():
    """Ground truth: PyTorch refuses it too."""
    x = tt.Tensor([1.0], requires_grad=True)
    with pytest.raises(GradientError, match="changed in place"):
        F.relu_(x)


LAYERS = [
    nn.ReLU, nn.SiLU, nn.Mish, nn.ReLU6, nn.Hardsigmoid, nn.Hardswish, nn.SELU, nn.LeakyReLU,
    nn.ELU, nn.Hardtanh,
]  # fmt: skip


@pytest.mark.parametrize("layer", LAYERS)
def test_layers_take_the_setting(layer):
    """Ground truth: the layer without it, eager and compiled; the input is written over."""
    plain, over, x = layer(), layer(inplace=True), numbers((4, 5))
    expected = plain(tt.Tensor(x)).numpy()
    given = tt.Tensor(x)
    assert np.array_equal(over(given).numpy(), expected)
    assert np.array_equal(given.numpy(), expected)
    compiled = tt.compile(lambda x: over(x * 1.0) + 0.0)
    np.testing.assert_allclose(compiled(tt.Tensor(x)).numpy(), expected, rtol=1e-5, atol=1e-6)
