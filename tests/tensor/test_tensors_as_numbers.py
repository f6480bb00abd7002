"""A Tensor where a number is asked for: an operand with a gradient, or a refusal; never a number
that was read once, whose gradient is lost and which a compiled function keeps."""

import numpy as np
import pytest
import torch

import tinytorch as tt
from tests.compiler.compiled import targets
from tinytorch import nn
from tinytorch.base.errors import ArgumentTypeError, CompileError, ShapeError, TinyTorchError
from tinytorch.nn import functional as F
from tinytorch.primitives import TABLE

TARGETS = targets()
X = np.random.default_rng(0).normal(size=(2, 3))


def written(x, s):
    z = x.clone()
    z[0] = s
    return z


def in_part(x, s):
    z = x * 1.0
    z[:, ::2].fill_(s)
    return z


OPERANDS = {
    "fill_": lambda x, s: (x * 1.0).fill_(s),
    "fill_ of a view": in_part,
    "full": lambda x, s: tt.full((2, 3), s),
    "full_like": lambda x, s: tt.full_like(x, s),
    "pad": lambda x, s: tt.pad(x, (1, 0), (0, 2), s),
    "F.pad": lambda x, s: F.pad(x, (1, -1), value=s),
    "masked_fill": lambda x, s: x.masked_fill(x > 0, s),
    "masked_fill_": lambda x, s: (x * 1.0).masked_fill_(x > 0, s),
    "where": lambda x, s: tt.where(x > 0, s, x),
    "assignment": written,
    "add": lambda x, s: tt.add(x, x, alpha=s),
    "subtract": lambda x, s: x.sub(x, alpha=s),
    "add_": lambda x, s: (x * 1.0).add_(x, alpha=s),
    "sub_": lambda x, s: (x * 1.0).sub_(2.0, alpha=s),
    "clip": lambda x, s: x.clip(-s, s * 0.5),
    "clamp_": lambda x, s: (x * 1.0).clamp_(max=s * 0.5),
    "pow": lambda x, s: x.abs() ** s,
    "leaky_relu": lambda x, s: F.leaky_relu(x, s),
    "elu": lambda x, s: F.elu(x, s),
    "hardtanh": lambda x, s: F.hardtanh(x, -s, s * 0.5),
    "leaky_relu_": lambda x, s: F.leaky_relu_(x * 1.0, s),
    "elu_": lambda x, s: F.elu_(x * 1.0, s),
    "hardtanh_": lambda x, s: F.hardtanh_(x * 1.0, -s, s * 0.5),
    "leaky_relu_, x without": lambda x, s: F.leaky_relu_(tt.tensor(X, dtype=x.dtype), s),
    "layer_norm eps": lambda x, s: F.layer_norm(x, (3,), eps=s),
    "rms_norm eps": lambda x, s: F.rms_norm(x, (3,), eps=s),
    "normalize eps": lambda x, s: F.normalize(x, eps=s * 10),
    "attention": lambda x, s: F.scaled_dot_product_attention(x, x * x, x, scale=s),
    "causal attention": lambda x, s: tt.attention(
        *(x.reshape(1, 1, 2, 3) * k for k in (1.0, 2.0, 3.0)), scale=s, causal=True
    ),
}


def weighed(y):
    """One number in which each element counts differently."""
    return (y * tt.arange(1.0, y.size + 1.0, dtype=y.dtype).reshape(y.shape)).sum()


@pytest.mark.parametrize("name", OPERANDS)
def test_the_gradient_reaches_it(name):
    """Ground truth: differences of the function itself, in float64."""
    ask = OPERANDS[name]
    given = tt.tensor(X), tt.tensor(0.7, dtype=tt.float64)
    assert tt.gradcheck(lambda x, s: weighed(ask(x, s)), given, order=1)
    g = tt.grad(lambda s: weighed(ask(given[0], s)))(given[1])
    assert g.item() != 0.0


@pytest.mark.parametrize("name", OPERANDS)
def test_the_value_one_is_not_special(name):
    """Ground truth: the gradient at 1 + 1e-9, and a slope that does not jump there."""
    ask, x = OPERANDS[name], tt.tensor(X)
    slope = tt.grad(lambda s: weighed(ask(x, s)))
    near, at = (slope(tt.tensor(v, dtype=tt.float64)).item() for v in (1.0 + 1e-9, 1.0))
    assert at == pytest.approx(near, rel=1e-6)


@pytest.mark.parametrize("target", TARGETS, ids=[t.name for t in TARGETS])
def test_compiled_code_has_its_number_of_now(target):
    """Ground truth: eager, after each write; a Tensor from outside, and one that is made inside."""
    x, s = tt.tensor(X.astype("f4")), tt.tensor(0.5)
    outside = tt.compile(lambda x: [f(x, s) for f in OPERANDS.values()], target=target)
    inside = tt.compile(lambda x: [f(x, x.abs().mean()) for f in OPERANDS.values()], target=target)
    for value in (0.5, 0.25):
        s.fill_(value)
        for f, y in zip(OPERANDS.values(), outside(x), strict=True):
            np.testing.assert_allclose(y.numpy(), f(x, s).numpy(), 2e-5, 1e-6)
    for f, y in zip(OPERANDS.values(), inside(x), strict=True):
        np.testing.assert_allclose(y.numpy(), f(x, x.abs().mean()).numpy(), 2e-5, 1e-6)


def test_fill_is_that_of_pytorch():
    """Ground truth: PyTorch, whole and through a view; integers take what the cast gives."""
    for make in (lambda y: y.clone(), lambda y: (y.clone() * 1)[::2]):
        found = []
        for lib in (tt, torch):
            y = lib.tensor([1.0, 3.0, 5.0, 6.0], requires_grad=True)
            make(y).fill_(y.sum()).sum().backward()
            found.append(y.grad.tolist())
        assert found[0] == found[1]
    assert tt.zeros(2, dtype=tt.int64).fill_(tt.tensor(2.5)).tolist() == [2, 2]
    with pytest.raises(ShapeError, match="single number"):
        tt.zeros(2).fill_(tt.ones(2))


def test_a_filled_leaf_gathers_a_gradient():
    """Ground truth: what requires_grad=True means."""
    made = (
        tt.full((2,), tt.tensor(1.0), requires_grad=True),
        tt.full_like(tt.ones(2), tt.tensor(1.0), requires_grad=True),
    )
    for x in made:
        x.sum().backward()
        assert x.grad.tolist() == [1.0, 1.0]


P = (tt.ones(2, 3),)
REFUSED = {
    "arange": lambda s: tt.arange(0.0, s),
    "arange step": lambda s: tt.arange(0.0, 3.0, s),
    "arange end": lambda s: tt.arange(0.0, end=s),
    "linspace": lambda s: tt.linspace(0.0, s, 3),
    "bernoulli": lambda s: tt.bernoulli(s, (2,)),
    "dropout_mask": lambda s: tt.dropout_mask((2,), s),
    "norm": lambda s: tt.ones(2).norm(s),
    "round": lambda s: tt.ones(2).round(decimals=s),
    "normalize": lambda s: F.normalize(tt.ones(2, 3), s),
    "dropout": lambda s: F.dropout(tt.ones(2), s),
    "drop_path": lambda s: F.drop_path(tt.ones(2), s, True),
    "dropout of weights": lambda s: F.scaled_dot_product_attention(*P * 3, dropout_p=s),
    "softplus": lambda s: F.softplus(tt.ones(2), s),
    "huber": lambda s: F.huber_loss(tt.ones(2), tt.zeros(2), delta=s),
    "smooth_l1": lambda s: F.smooth_l1_loss(tt.ones(2), tt.zeros(2), beta=s),
    "smoothing": lambda s: F.cross_entropy(tt.ones(2, 3), tt.tensor([0, 1]), label_smoothing=s),
    "interpolate": lambda s: F.interpolate(tt.ones(1, 1, 4), scale_factor=s),
    "LeakyReLU": lambda s: nn.LeakyReLU(s),
    "Dropout": lambda s: nn.Dropout(s),
    "LayerNorm": lambda s: nn.LayerNorm(2, eps=s),
    "row pad": lambda s: TABLE["pad"](tt.ones(2), before=(1,), after=(0,), value=s),
}


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("name", REFUSED)
def test_what_takes_only_numbers_refuses_one_with_a_gradient(name, value):
    """Ground truth: PyTorch, which refuses Tensors with a gradient where it asks for numbers."""
    with pytest.raises(TinyTorchError):
        REFUSED[name](tt.tensor(value, requires_grad=True))
    s = tt.tensor(value)
    with pytest.raises(TinyTorchError):
        tt.compile(lambda x: x + REFUSED[name](s))(tt.ones(1))


def test_a_number_without_a_gradient_is_read():
    """Ground truth: the same with Python's numbers; PyTorch takes such Tensors too."""
    assert tt.arange(tt.tensor(3)).tolist() == [0, 1, 2]
    assert tt.linspace(tt.tensor(0.0), 1.0, 3).tolist() == [0.0, 0.5, 1.0]
    with tt.no_grad():
        assert tt.arange(tt.tensor(2.0, requires_grad=True)).tolist() == [0.0, 1.0]


def test_params_of_rows_are_never_tensors():
    """Ground truth: the rule; what is kept in a program or a cache could be written later."""
    with pytest.raises(ArgumentTypeError, match="plain number"):
        TABLE["pad"](tt.ones(2), before=(1,), after=(0,), value=tt.tensor(1.0))
    with pytest.raises((ArgumentTypeError, CompileError)):
        s = tt.tensor(1.0)
        tt.compile(lambda x: TABLE["pad"](x, before=(1,), after=(0,), value=s))(tt.ones(2))


@pytest.mark.parametrize("take", [
    lambda x, i: x.narrow(0, i, 1), lambda x, i: x.roll(i)[:1],
    lambda x, i: x.reshape(2, 2).diagonal(i)[:1],
], ids=["narrow", "roll", "diagonal"])  # fmt: skip
def test_a_place_is_where_it_was_when_it_was_read(take):
    """Ground truth: the gradient with a Python number; the Tensor is written before backward."""
    grads = []
    for i in (tt.tensor(1), 1):
        x = tt.arange(4.0).requires_grad_()
        y = take(x, i)
        if isinstance(i, tt.Tensor):
            i.fill_(0)
        y.sum().backward()
        grads.append(x.grad.tolist())
    assert grads[0] == grads[1]
