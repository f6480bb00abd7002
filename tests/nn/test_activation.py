"""activation.py: closed forms, corners, extremes, bad settings."""

import math
import tracemalloc

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import nn
from tinytorch.base.errors import GradientError, SettingError, ShapeError
from tinytorch.nn import functional as F
from tinytorch.nn.activation import BLOCK, in_place

X = np.array([-30.0, -6.0, -3.0, -1.5, -1e-3, 0.0, 1e-3, 1.5, 3.0, 6.0, 30.0])


def sigmoid(x):
    return 1.0 / (1.0 + math.exp(-x))


def softplus(x):
    return math.log1p(math.exp(x))


CLOSED = {
    "leaky_relu": lambda x: x if x > 0 else 0.01 * x,
    "elu": lambda x: x if x > 0 else math.expm1(x),
    "selu": lambda x: 1.0507009873554805 * (x if x > 0 else 1.6732632423543772 * math.expm1(x)),
    "silu": lambda x: x * sigmoid(x),
    "mish": lambda x: x * math.tanh(softplus(x)),
    "softplus": softplus,
    "logsigmoid": lambda x: -softplus(-x),
    "softsign": lambda x: x / (1 + abs(x)),
    "relu6": lambda x: min(max(x, 0.0), 6.0),
    "hardtanh": lambda x: min(max(x, -1.0), 1.0),
    "hardsigmoid": lambda x: min(max(x + 3.0, 0.0), 6.0) / 6.0,
    "hardswish": lambda x: x * min(max(x + 3.0, 0.0), 6.0) / 6.0,
}


each = pytest.mark.parametrize("name", CLOSED)


@each
def test_closed_form(name):
    """Closed form: the formula of the docstring in Python's floats.

    1 + exp(-30) keeps 3 of the 16 digits of exp(-30) = 9e-14, so small values are compared
    absolutely, to 1e-15.
    """
    expected = [CLOSED[name](float(x)) for x in X]
    found = getattr(F, name)(tt.Tensor(X)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-14, atol=1e-15 * 30)


@each
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_far_from_zero_value_and_slope_are_the_limits(name, dtype):
    """Closed form: at +-1e4 each function is its asymptote, its slope that of the asymptote."""
    limits = {  # (value, slope) at -1e4, then at 1e4
        "leaky_relu": ((-100.0, 0.01), (1e4, 1.0)),
        "elu": ((-1.0, 0.0), (1e4, 1.0)),
        "selu": ((-1.7580993408473768, 0.0), (10507.009873554805, 1.0507009873554805)),
        "softsign": ((-1e4 / 10001, 1e-8), (1e4 / 10001, 1e-8)),
        "logsigmoid": ((-1e4, 1.0), (0.0, 0.0)),
        "relu6": ((0.0, 0.0), (6.0, 0.0)),
        "hardtanh": ((-1.0, 0.0), (1.0, 0.0)),
        "hardsigmoid": ((0.0, 0.0), (1.0, 0.0)),
    }.get(name, ((0.0, 0.0), (1e4, 1.0)))
    x = tt.Tensor(np.array([-1e4, 1e4], dtype), requires_grad=True)
    out = getattr(F, name)(x)
    out.sum().backward()
    eps = np.finfo(dtype).eps
    values, slopes = zip(*limits, strict=True)
    np.testing.assert_allclose(out.detach().numpy(), values, rtol=4 * eps, atol=0)
    np.testing.assert_allclose(x.grad.numpy(), slopes, rtol=4 * eps, atol=1e-11)


def test_softplus_is_sharper_with_beta():
    """Closed form: log(2) / beta at 0, slope 1/2, curvature beta / 4."""
    for beta in (0.5, 1.0, 4.0):
        f = lambda x, beta=beta: F.softplus(x, beta)  # noqa: E731
        zero = tt.Tensor(np.array(0.0))
        assert f(zero).item() == pytest.approx(math.log(2) / beta, rel=1e-15)
        assert tt.grad(f)(zero).item() == pytest.approx(0.5, rel=1e-15)
        assert tt.grad(tt.grad(f))(zero).item() == pytest.approx(beta / 4, rel=1e-14)


def test_glu_and_prelu_and_softmin():
    """Closed form: a * sigmoid(b); slopes by channel; softmax of the negative."""
    x = np.random.default_rng(0).standard_normal((2, 6, 3))
    halves = x[:, :3] / (1 + np.exp(-x[:, 3:]))
    np.testing.assert_allclose(F.glu(tt.Tensor(x), 1).numpy(), halves, rtol=1e-13)
    slopes = np.arange(6.0)
    expected = np.where(x > 0, x, x * slopes[:, None])
    found = F.prelu(tt.Tensor(x), tt.Tensor(slopes)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-15)
    np.testing.assert_allclose(
        F.softmin(tt.Tensor(x), 1).numpy(), F.softmax(tt.Tensor(-x), 1).numpy(), rtol=1e-15
    )


def test_an_axis_is_halved_if_its_size_is_even():
    """Closed form: a * sigmoid(0) = a / 2; 3 numbers have no halves."""
    assert F.glu(tt.Tensor([[3.0, 4.0, 0.0, 0.0]])).tolist() == [[1.5, 2.0]]
    with pytest.raises(ShapeError, match="glu: the axis cannot be halved"):
        F.glu(tt.zeros(2, 3))


def test_nan_stays_nan():
    """Invariant: an activation does not hide a fault."""
    for name in CLOSED:
        assert math.isnan(getattr(F, name)(tt.Tensor([float("nan")])).item()), name


@pytest.mark.parametrize(
    ("make", "phrase"),
    [
        (lambda: nn.LeakyReLU("steep"), "negative_slope is outside"),
        (lambda: nn.PReLU(0), "num_parameters is not a whole number"),
        (lambda: nn.ELU(math.inf), "alpha is outside"),
        (lambda: nn.Softplus(0.0), "beta is outside"),
        (lambda: nn.Hardtanh(1.0, -1.0), "max_val is outside"),
        (lambda: F.hardtanh(tt.zeros(2), 1.0, 0.5), "wrong way round"),
    ],
)
def test_bad_settings_are_named(make, phrase):
    """Ground truth: the ranges in the docstrings."""
    with pytest.raises(SettingError, match=phrase):
        make()


def test_bad_shapes_are_named():
    """Ground truth: the docstrings."""
    with pytest.raises(ShapeError, match="cannot be halved"):
        nn.GLU()(tt.zeros(2, 5))
    with pytest.raises(ShapeError, match=r"one slope for each channel[\s\S]*PReLU\(5\)"):
        nn.PReLU(4)(tt.zeros(2, 5))


def test_settings_are_shown():
    """Ground truth: written by hand."""
    assert repr(nn.LeakyReLU(0.2)) == "LeakyReLU(negative_slope=0.2)"
    assert repr(nn.Hardtanh()) == "Hardtanh(min_val=-1, max_val=1)"
    assert repr(nn.Softplus(2.0)) == "Softplus(beta=2)"
    assert repr(nn.ELU()) == "ELU(alpha=1)"
    assert repr(nn.PReLU(3)) == "PReLU(num_parameters=3)"
    assert repr(nn.LogSoftmax(1)) == "LogSoftmax(dim=1)"
    assert repr(nn.GLU()) == "GLU(dim=-1)"


# Written over their input: the numbers of the copying function, and the memory saved, measured.
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
def test_the_input_stays_unless_said(layer):
    """Ground truth: the default of the docstrings."""
    x = tt.Tensor(numbers((4, 5)))
    assert layer()(x) is not x and np.array_equal(x.numpy(), numbers((4, 5)))


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


def test_gelu_against_the_normal_distribution():
    """Ground truth: math.erf in float64; the tanh formula stays within 5e-4 of it."""
    x = np.linspace(-6, 6, 41)
    exact = np.array([v * 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in x])
    assert F.gelu(tt.Tensor(x)).numpy() == pytest.approx(exact, abs=1e-13)
    assert F.gelu(tt.Tensor(x), "tanh").numpy() == pytest.approx(exact, abs=5e-4)


def test_formulas_that_there_are_not():
    """Ground truth: the two names in the docstring."""
    with pytest.raises(SettingError, match="gelu: approximate"):
        F.gelu(tt.zeros(2), "sigmoid")
    with pytest.raises(SettingError, match="approximate has two values"):
        nn.GELU("fast")


def test_at_a_bound_there_is_no_slope():
    """Closed form: hardtanh takes the number at a bound, as PyTorch does, not what led there."""
    x = tt.Tensor([-1.0, -0.5, 0.5, 1.0], requires_grad=True)
    F.hardtanh(x).sum().backward()
    assert x.grad.tolist() == [0.0, 1.0, 1.0, 0.0]


@pytest.mark.parametrize("function", [F.gelu, F.silu], ids=["gelu", "silu"])
def test_what_bf16_keeps_of_an_activation(function):
    """Closed form: the function of the rounded number, and its slope there, rounded; other number
    types and precisions are left alone."""
    x = tt.randn(64, generator=tt.Generator(1))
    rounded = x.to("bfloat16").to("float32")

    def slope(x, precision):
        x = x.detach().requires_grad_()
        with tt.precision(precision):
            y = function(x)
            y.sum().backward()
        return y.detach(), x.grad

    plain, exact = slope(x, "float32")
    wanted, at_rounded = slope(rounded, "float32")
    y, gradient = slope(x, "bf16")
    assert np.array_equal(y.numpy(), wanted.numpy()) and not np.array_equal(
        y.numpy(), plain.numpy()
    )
    assert np.array_equal(gradient.numpy(), at_rounded.to("bfloat16").to("float32").numpy())
    assert (
        slope(x.to("float64"), "bf16")[0].tolist() == slope(x.to("float64"), "float32")[0].tolist()
    )
