"""Numbers and Tensors as operands: one rule for what fits, what meets what and what is refused.

A Tensor where a number is asked for is an operand with a gradient, or refused: it is never a number
that was read once, whose gradient is lost and which a compiled function keeps.
"""

import math

import numpy as np
import pytest
import torch

import tinytorch as tt
import tinytorch.array_api as xp
from tests.compiler.compiled import targets
from tinytorch import nn
from tinytorch.base.errors import (
    ArgumentTypeError,
    CompileError,
    DTypeError,
    ShapeError,
    TinyTorchError,
)
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


# --- what fits, what meets what, signs of zero, the order of NaN; on each target ---

WAYS = [None, *TARGETS]
IDS = ["eager", *(t.name for t in TARGETS)]
NAN = float("nan")


def by(way, function):
    """The function itself (None), or compiled for a target."""
    return function if way is None else tt.compile(function, target=way)


def whole(name, *values):
    return tt.Tensor(np.array(values or (0,), name))


def _set(x, key, value):
    x = x + 0
    x[key] = value
    return x


def _iadd(x, value):
    x = x + 0
    x += value
    return x


# name -> (dtype, function of a Tensor of it)
DO_NOT_FIT = {
    "add": ("uint8", lambda x: x + 300),
    "radd": ("uint8", lambda x: 300 + x),
    "sub": ("int8", lambda x: x - 129),
    "rsub": ("uint8", lambda x: 300 - x),
    "mul": ("uint8", lambda x: x * -1),
    "floor_div": ("int8", lambda x: x // 1000),
    "rfloor_div": ("int8", lambda x: 1000 // x),
    "mod": ("int8", lambda x: x % 1000),
    "pow": ("uint8", lambda x: x**256),
    "and": ("uint8", lambda x: x & 256),
    "shift": ("int8", lambda x: x << 200),
    "equal": ("uint8", lambda x: x == 300),
    "not_equal": ("uint8", lambda x: x != -1),
    "less": ("int64", lambda x: x < 2**63),
    "greater": ("int8", lambda x: x > 128),
    "int32 + 2**40": ("int32", lambda x: x + 2**40),
    "int64 + 2**70": ("int64", lambda x: x + 2**70),
    "uint32 - negative": ("uint32", lambda x: x + -5),
    "bool + 2**63": ("bool", lambda x: x + 2**63),
    "NumPy's number": ("uint8", lambda x: x + np.int64(300)),
    "where": ("uint8", lambda x: tt.where(x > 0, x, 300)),
    "masked_fill": ("uint8", lambda x: x.masked_fill(x > 0, -1)),
    "masked_fill inf": ("int64", lambda x: x.masked_fill(x > 0, math.inf)),
    "masked_fill_": ("uint8", lambda x: (x + 0).masked_fill_(x > 0, -1)),
    "maximum": ("uint8", lambda x: tt.maximum(x, 300)),
    "minimum": ("uint8", lambda x: tt.minimum(300, x)),
    "clip": ("uint8", lambda x: x.clip(0, 300)),
    "clamp_": ("uint8", lambda x: (x + 0).clamp_(min=-1)),
    "iadd": ("uint8", lambda x: _iadd(x, 300)),
    "add_": ("uint8", lambda x: (x + 0).add_(300)),
    "setitem": ("uint8", lambda x: _set(x, 0, 300)),
    "setitem slice": ("int8", lambda x: _set(x, slice(None), -129)),
    "setitem list": ("uint8", lambda x: _set(x, slice(None), [300])),
    "setitem NumPy's number": ("uint8", lambda x: _set(x, 0, np.int64(300))),
    "setitem nan": ("int64", lambda x: _set(x, 0, NAN)),
    "setitem inf": ("int32", lambda x: _set(x, 0, math.inf)),
    "setitem 2**63": ("int64", lambda x: _set(x, 0, 2**63)),
    "setitem 2.0**63": ("int64", lambda x: _set(x, 0, 2.0**63)),
    "setitem mask": ("uint8", lambda x: _set(x, np.array([True]), 300)),
    "fill_": ("uint8", lambda x: (x + 0).fill_(300)),
    "fill_ nan": ("int16", lambda x: (x + 0).fill_(NAN)),
    "copy_": ("uint8", lambda x: (x + 0).copy_(300)),
    "full": ("uint8", lambda x: tt.full((1,), 300, "uint8") + x),
    "full_like": ("uint8", lambda x: tt.full_like(x, -1)),
    "Tensor": ("uint8", lambda x: tt.tensor([300], dtype="uint8") + x),
    "Tensor nan": ("int64", lambda x: tt.Tensor([NAN], dtype="int64") + x),
    "Tensor float": ("uint8", lambda x: tt.Tensor([256.0], dtype="uint8") + x),
    "Tensor 2**63": ("int64", lambda x: tt.tensor([2**63]) + x),
    "asarray": ("uint8", lambda x: tt.asarray([[300]], dtype="uint8") + x),
    "arange": ("uint8", lambda x: tt.arange(300, dtype="uint8")[:1] + x),
    "arange from": ("int8", lambda x: tt.arange(127, 130, dtype="int8")[:1] + x),
    "linspace": ("uint8", lambda x: tt.linspace(0, 300, 2, dtype="uint8")[:1] + x),
    "randint": ("uint8", lambda x: tt.randint(0, 300, (1,), "uint8") + x),
    "pad": ("uint8", lambda x: tt.pad(x, (1,), (1,), 300)),
    "scatter_add": ("uint8", lambda x: tt.scatter_add(x, 0, tt.tensor([0]), [300])),
}


@pytest.mark.parametrize("way", [None, TARGETS[0]], ids=["eager", "compiled"])
@pytest.mark.parametrize("form", DO_NOT_FIT)
def test_a_python_number_that_does_not_fit_is_refused_in_every_form(form, way):
    """Rule: a Python number takes the Tensor's type, and refusing beats wrapping around. (It is
    refused while the function is recorded, before there is a target.)"""
    dtype, function = DO_NOT_FIT[form]
    with pytest.raises(DTypeError, match="does not fit into the tensor's type"):
        by(way, function)(whole(dtype, 1))


def test_numbers_at_the_ends_of_the_range_fit():
    """Ground truth: two's complement; a fraction is dropped, as Python's int()."""
    for name in ("uint8", "int8", "int16", "int32", "int64", "uint32"):
        low, high = int(np.iinfo(name).min), int(np.iinfo(name).max)
        x = whole(name, 0, 0, 0)
        x[0], x[1] = low, high
        x[2] = -0.5 if low else 0.5
        assert x.tolist() == [low, high, 0] and (x == high).tolist() == [False, True, False]
        assert tt.Tensor([low, high], dtype=name).tolist() == [low, high]
        assert tt.full((1,), 3.75, name).tolist() == [3]
    assert tt.arange(256, dtype="uint8")[-1].item() == 255
    assert tt.Tensor([-(2.0**63)], dtype="int64").tolist() == [-(2**63)]


def test_arrays_and_tensors_wrap_around_as_astype_does():
    """Ground truth: NumPy's astype. Only Python numbers are refused."""
    wide = np.array([300, -1])
    for made in (
        tt.Tensor(wide, dtype="uint8"),
        tt.Tensor(wide).astype("uint8"),
        tt.zeros(2, dtype="uint8").copy_(tt.Tensor(wide)),
        _set(tt.zeros(2, dtype="uint8"), slice(None), wide),
    ):
        assert made.tolist() == [44, 255]
    assert (whole("uint8", 1) + wide).tolist() == [301, 0]  # arrays promote: int64


def test_whole_numbers_beyond_every_float_are_refused_and_others_round():
    """Ground truth: float(2**70) is exact; Python has no float of 10**400."""
    assert (tt.zeros(1) + 2**70).item() == 2.0**70
    assert tt.Tensor([2**70], dtype="float64").item() == 2.0**70
    for way in (None, TARGETS[0]):
        with pytest.raises(DTypeError, match="a long number for float32"):
            by(way, lambda x: x * 10**400)(tt.ones(1))


@pytest.mark.parametrize("way", WAYS, ids=IDS)
def test_filling_keeps_the_type(way):
    """Ground truth: PyTorch: masked_fill, fill_ and assignments convert the value."""

    def everything(x, mask):
        return [
            x.masked_fill(mask, 1.5), (x + 0).masked_fill_(mask, tt.Tensor(7.9)),
            (x + 0).fill_(2.9), _set(x, 0, -0.5), (x > 1).masked_fill(mask, 10),
            x.float().masked_fill(mask, tt.Tensor(1.5, dtype="float64")),
        ]  # fmt: skip

    outs = by(way, everything)(tt.tensor([1, 2]), tt.tensor([True, False]))
    assert [o.tolist() for o in outs] == [
        [1, 2], [7, 2], [2, 2], [0, 2], [True, True], [1.5, 2.0],
    ]  # fmt: skip
    assert [o.dtype.name for o in outs] == ["int64"] * 4 + ["bool", "float32"]


@pytest.mark.parametrize("way", WAYS, ids=IDS)
def test_integer_to_a_float_power_is_float32(way):
    """Ground truth: the formula in float64; PyTorch gives float32 for every float exponent."""
    powers = (2.0, 3.0, 0.5, 0.0, 1.0, -1.0, -0.5, np.float64(2.0), np.float32(3.0))
    for name in ("int32", "uint8", "int64"):
        x = whole(name, 1, 2, 5)
        for out, p in zip(by(way, lambda x: [x**e for e in powers])(x), powers, strict=True):
            assert out.dtype is tt.float32, (name, p)
            truth = np.array([1.0, 2.0, 5.0]) ** float(p)
            np.testing.assert_allclose(out.numpy(), truth, rtol=3e-7)  # 2 roundings and pow's 1
    for out, truth in zip(by(way, lambda x: [x**2, x**3, x**0])(x), (25, 125, 1), strict=True):
        assert out.dtype is tt.int64 and out[2].item() == truth


@pytest.mark.parametrize("way", WAYS, ids=IDS)
def test_running_sums_keep_the_type_that_is_asked_for(way):
    """Ground truth: sums modulo 256, as NumPy's add.accumulate."""
    given = np.array([[100, 100, 100], [1, 2, 3]], np.uint8)
    truth = np.add.accumulate(given, 1, np.uint8)
    for x in (tt.Tensor(given), tt.Tensor(given.astype(np.int64))):
        outs = by(
            way,
            lambda x: [
                tt.cumulative_sum(x, axis=1, dtype=tt.uint8),
                tt.cumsum(x, 1, dtype=tt.uint8),
                tt.cumulative_sum(x, axis=1, dtype="uint8", include_initial=True)[:, 1:],
                tt.sum(x, 1, dtype=tt.uint8),
                tt.cumulative_prod(x, axis=1, dtype=tt.uint8),
                tt.cumsum(x, 1),
            ],
        )(x)
        for out in outs[:3]:
            assert out.dtype is tt.uint8 and out.tolist() == truth.tolist()
        assert outs[3].dtype is tt.uint8 and outs[3].tolist() == truth[:, -1].tolist()
        products = np.multiply.accumulate(given, 1, np.uint8)
        assert outs[4].dtype is tt.uint8 and outs[4].tolist() == products.tolist()
        assert outs[5].dtype is tt.int64 and outs[5].tolist() == given.cumsum(1).tolist()


ODD = np.array([0.0, -0.0, np.nan, -np.nan, np.inf, -np.inf, 1.0, -1.0, 0.3, -0.3])
NUMPY_NAME = {"round": "rint"}
SIGNED = (
    "abs asin asinh atan atanh ceil expm1 floor log1p negative positive reciprocal round sin sinh "
    "sqrt tan tanh trunc sign square cos cosh exp acos"
).split()
SIGNED_PAIRS = "atan2 copysign hypot divide multiply add subtract floor_divide remainder".split()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("way", WAYS, ids=IDS)
def test_signs_of_zeros_are_those_of_ieee_754(way, dtype):
    """Ground truth: NumPy (the C library), which follows IEEE 754 and C99 annex F. Signs of a NaN
    that was computed are nobody's promise; those of NaNs that are given are seen by signbit."""
    x = ODD.astype(dtype)
    a, b = (np.ravel(m) for m in np.meshgrid(x, x, indexing="ij"))

    def everything(x, a, b):
        singles = [getattr(tt, name)(x) for name in SIGNED]
        pairs = [getattr(tt, name)(a, b) for name in SIGNED_PAIRS]
        return [*singles, *pairs, tt.signbit(x), tt.signbit(-x)]

    outs = [o.numpy() for o in by(way, everything)(tt.Tensor(x), tt.Tensor(a), tt.Tensor(b))]
    np.testing.assert_array_equal(outs[-2], np.signbit(x))
    np.testing.assert_array_equal(outs[-1], np.signbit(-x))
    with np.errstate(all="ignore"):
        truths = [getattr(np, NUMPY_NAME.get(name, name))(x) for name in SIGNED]
        truths += [getattr(np, {"atan2": "arctan2"}.get(n, n))(a, b) for n in SIGNED_PAIRS]
    for name, out, truth in zip((*SIGNED, *SIGNED_PAIRS), outs, truths, strict=False):
        number = ~np.isnan(truth)
        np.testing.assert_array_equal(np.isnan(out), ~number, name)
        np.testing.assert_array_equal(np.signbit(out)[number], np.signbit(truth)[number], name)
        np.testing.assert_allclose(out[number], truth[number], rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("way", WAYS, ids=IDS)
def test_nan_sorts_last_and_wins_everywhere(way):
    """Ground truth: NumPy, where NaN is behind every number and wins max and min."""
    x = np.array([[2.0, NAN, -np.inf, np.inf, NAN, -0.0], [1.0, 3.0, 2.0, 0.0, 5.0, -1.0]], "f4")
    line = np.array([-np.inf, 0.0, 0.0, np.inf, NAN, NAN], "f4")
    needles = np.array([NAN, -np.inf, 0.0, 1.0, np.inf], "f4")

    def everything(x, line, needles):
        return [
            xp.sort(x), tt.argsort(x), xp.sort(x, descending=True),
            tt.argmax(x, 1), tt.argmin(x, 1), tt.max(x, 1)[0], tt.min(x, 1)[0],
            *tt.topk(x, 3), tt.searchsorted(line, needles),
            tt.searchsorted(line, needles, side="right"),
            tt.searchsorted(line[:4], needles), tt.searchsorted(line[:4], needles, side="right"),
            tt.maximum(x[0], x[1]), tt.minimum(x[0], x[1]),
        ]  # fmt: skip

    outs = by(way, everything)(tt.Tensor(x), tt.Tensor(line), tt.Tensor(needles))
    order = np.argsort(x, 1, kind="stable")
    turned = x.shape[1] - 1 - np.argsort(x[:, ::-1], 1, kind="stable")[:, ::-1]
    with np.errstate(invalid="ignore"):
        truths = [
            np.sort(x, 1), order, np.sort(x, 1)[:, ::-1],
            x.argmax(1), x.argmin(1), x.max(1), x.min(1),
            np.take_along_axis(x, turned[:, :3], 1), turned[:, :3],
            np.searchsorted(line, needles), np.searchsorted(line, needles, side="right"),
            np.searchsorted(line[:4], needles),
            np.searchsorted(line[:4], needles, side="right"),
            np.maximum(x[0], x[1]), np.minimum(x[0], x[1]),
        ]  # fmt: skip
    for i, (out, truth) in enumerate(zip(outs, truths, strict=True)):
        np.testing.assert_array_equal(out.numpy(), truth, str(i))


def test_limits_of_integer_types():
    """Ground truth: NumPy's; a float type has none of this kind."""
    for dtype, name in ((tt.int8, "int8"), (tt.int64, "int64"), (tt.uint8, "uint8")):
        found, theirs = tt.iinfo(dtype), np.iinfo(name)
        assert (found.min, found.max, found.bits) == (theirs.min, theirs.max, theirs.bits)
    with pytest.raises(DTypeError, match="no integer type"):
        tt.iinfo(tt.float32)
