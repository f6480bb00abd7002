"""Arguments that mean in PyTorch what they mean here: order, bools, numbers without axes, lists."""

import math

import numpy as np
import pytest
import torch

import tinytorch as tt
from tests.compiler.compiled import targets
from tinytorch.base.errors import DTypeError, SettingError, ShapeError
from tinytorch.nn import functional as F

TARGETS = targets()
WAYS = [None, *TARGETS]
IDS = ["eager", *(t.name for t in TARGETS)]
X = np.random.default_rng(0).normal(size=(3, 4)).astype("f4")


def by(way, function):
    return function if way is None else tt.compile(function, target=way)


BOTH = {
    "std(False)": lambda x: x.std(False),
    "std(True)": lambda x: x.std(True),
    "std(correction=None)": lambda x: x.std(correction=None),
    "std(1, keepdim)": lambda x: x.std(1, keepdim=True),
    "std(0, True, True)": lambda x: x.std(0, True, True),
    "var(False)": lambda x: x.var(False),
    "var(0, False)": lambda x: x.var(0, False),
    "var(0, True)": lambda x: x.var(0, True),
    "var(1, False, True)": lambda x: x.var(1, False, True),
    "var(dim, unbiased)": lambda x: x.var(dim=1, unbiased=False),
    "var(correction)": lambda x: x.var(0, correction=2),
    "norm()": lambda x: x.norm(),
    "norm(1)": lambda x: x.norm(1),
    "norm(2, 1)": lambda x: x.norm(2, 1),
    "norm(inf)": lambda x: x.norm(math.inf),
    "norm(-inf, 0)": lambda x: x.norm(-math.inf, 0),
    "norm(0)": lambda x: x.norm(0),
    "norm(3, 0, True)": lambda x: x.norm(3, 0, True),
    "norm(0.5, 1)": lambda x: x.norm(0.5, 1),
    "norm(-2)": lambda x: x.norm(-2),
    "norm('fro', axes)": lambda x: x.norm("fro", (0, 1)),
    "norm(p, dim)": lambda x: x.norm(p=1, dim=0, keepdim=True),
    "norm(None, 1)": lambda x: x.norm(None, 1),
}
NUMBERS = {
    "softmax(-1)": lambda x: x.softmax(-1),
    "softmax(0)": lambda x: x.softmax(0),
    "log_softmax(0)": lambda x: x.log_softmax(0),
    "logsumexp(-1)": lambda x: x.logsumexp(-1),
    "logsumexp(0, True)": lambda x: x.logsumexp(0, True),
    "cumsum(0)": lambda x: x.cumsum(0),
    "cumprod(-1)": lambda x: x.cumprod(-1),
    "sum(-1)": lambda x: x.sum(-1),
    "sum(0, True)": lambda x: x.sum(0, True),
    "mean(0)": lambda x: x.mean(0),
    "prod(-1)": lambda x: x.prod(-1),
    "var(0, False)": lambda x: x.var(0, False),
    "norm(2, -1)": lambda x: x.norm(2, -1),
    "amax(0)": lambda x: x.amax(0),
    "amin(-1)": lambda x: x.amin(-1),
    "argmax(0)": lambda x: x.argmax(0),
    "argmin(-1)": lambda x: x.argmin(-1),
    "argsort(0)": lambda x: x.argsort(0),
    "any(0)": lambda x: x.any(0),
    "all(-1)": lambda x: x.all(-1),
    "topk(1)": lambda x: x.topk(1)[0],
    "flip(0)": lambda x: x.flip(0),
    "squeeze(0)": lambda x: x.squeeze(0),
}


@pytest.mark.parametrize("way", WAYS, ids=IDS)
def test_arguments_mean_what_they_mean_in_pytorch(way):
    """Ground truth: PyTorch; sums of 12 numbers and one root: 12 * 6e-8 relative."""
    outs = by(way, lambda x: [f(x) for f in BOTH.values()])(tt.Tensor(X))
    for (name, f), mine in zip(BOTH.items(), outs, strict=True):
        truth = f(torch.tensor(X)).numpy()
        assert mine.shape == truth.shape, name
        np.testing.assert_allclose(mine.numpy(), truth, rtol=1e-6, err_msg=name)
    with pytest.raises(SettingError, match="no such norm"):
        tt.Tensor(X).norm("nuc")


@pytest.mark.parametrize("way", WAYS, ids=IDS)
def test_a_number_without_axes_counts_as_one_element(way):
    """Ground truth: PyTorch, value and shape, and the gradient of those that have one."""
    outs = by(way, lambda x: [f(x) for f in NUMBERS.values()])(tt.Tensor(2.5))
    for (name, f), mine in zip(NUMBERS.items(), outs, strict=True):
        truth = f(torch.tensor(2.5)).numpy()
        assert mine.shape == truth.shape == (), name
        np.testing.assert_allclose(mine.numpy(), truth, rtol=1e-6, err_msg=name)
    smooth = ("softmax(-1)", "log_softmax(0)", "logsumexp(-1)", "cumsum(0)", "norm(2, -1)")

    def slopes(x):
        return [tt.grad(lambda x, f=NUMBERS[n]: f(x) * 3.0)(x) for n in smooth]

    for name, mine in zip(smooth, by(way, slopes)(tt.Tensor(2.5)), strict=True):
        x = torch.tensor(2.5, requires_grad=True)
        (NUMBERS[name](x) * 3.0).backward()
        assert mine.item() == pytest.approx(x.grad.item(), abs=1e-6), name


def test_a_number_has_no_other_axis():
    """Ground truth: PyTorch refuses too (IndexError)."""
    for name in ("sum", "softmax", "cumsum", "argmax", "sort", "logsumexp", "amax", "cumprod"):
        for axis in (1, -2):
            with pytest.raises(ShapeError, match="no such axis"):
                getattr(tt.Tensor(2.5), name)(axis)
            with pytest.raises(IndexError):
                getattr(torch.tensor(2.5), name)(axis)


TAKES_ONE = (
    "sum mean var std norm amax amin prod argmax argmin any all cumsum sort argsort softmax "
    "log_softmax logsumexp exp log sqrt tanh sigmoid relu abs negative sign floor square sin atan "
    "sinh log1p expm1 isnan reshape flatten squeeze transpose flip topk unique_values nonzero "
    "count_nonzero round reciprocal erf positive trunc signbit tril trace diagonal"
).split()


@pytest.mark.parametrize("name", TAKES_ONE)
def test_a_list_of_tensors_is_refused_where_one_is_asked_for(name):
    """Ground truth: PyTorch raises TypeError; before, the gradient was lost without a word."""
    a = tt.ones(2, 2, requires_grad=True)
    for given in ([a, a], (a, a), [[a[0, 0], a[0, 1]], [1.0, 2.0]], [tt.ones(2, 2)]):
        with pytest.raises(TypeError, match="a list of Tensors is no Tensor"):
            getattr(tt, name)(given)
    if hasattr(torch, name) and name != "norm":
        with pytest.raises(TypeError):
            getattr(torch, name)([torch.ones(2, 2), torch.ones(2, 2)])


def test_a_list_of_tensors_beside_a_tensor_and_as_data():
    """Stated: a Tensor is made of Tensors that no gradient flows to; else stack says how."""
    a = tt.ones(3, requires_grad=True)
    for attempt in (
        lambda: a + [a.sum(), 1.0, 2.0],
        lambda: a * (a, a),
        lambda: (a, a) - a,
        lambda: a == [a, a],
        lambda: tt.maximum(a, [a, a]),
        lambda: tt.clip(a, [a[0], 1.0, 1.0]),
        lambda: tt.concat([[a, a], a]),
        lambda: tt.stack([[a, a], [a, a]]),
        lambda: tt.zeros(3).__setitem__(slice(None), [a.sum(), 1.0, 2.0]),
        lambda: tt.zeros(3).copy_([a.sum(), 1.0, 2.0]),
        lambda: tt.compile(lambda a: a * (a, a))(a),
        lambda: tt.compile(lambda a: tt.maximum(a, [a, a]))(a),
        lambda: tt.where(a > 0, a, [a[0], a[1], a[2]]),
        lambda: tt.matmul(a, [a[0], a[1], a[2]]),
        lambda: tt.tensor([a.sum(), a.mean()]),
        lambda: tt.compile(lambda a: tt.sum([a.sum(), a.mean()]))(a),
        lambda: tt.compile(lambda a: tt.Tensor([a.sum(), 1.0]))(a),
        lambda: F.softmax([a, a]),
    ):
        with pytest.raises(DTypeError, match=r"a list of Tensors is no Tensor"):
            attempt()
    assert tt.tensor([a.sum().detach(), tt.Tensor(2.0)]).tolist() == [3.0, 2.0]
    assert tt.asarray([tt.tensor(1), tt.tensor(2)]).tolist() == [1, 2]
    with tt.no_grad():
        assert tt.tensor([a.sum(), a.mean()]).tolist() == [3.0, 1.0]
    assert tt.sum([1, 2]).item() == 3 and a[[tt.tensor(2), tt.tensor(0)]].tolist() == [1.0, 1.0]


def test_lists_where_pytorch_takes_them():
    """Ground truth: the grids of two arguments; torch.broadcast_shapes."""
    x, y = tt.arange(2), tt.arange(3)
    for indexing in ("xy", "ij"):
        for mine, truth in zip(
            tt.meshgrid([x, y], indexing=indexing),
            np.meshgrid(np.arange(2), np.arange(3), indexing=indexing),
            strict=True,
        ):
            assert mine.tolist() == truth.tolist()
    assert [g.tolist() for g in tt.meshgrid([1, 2])] == [[1, 2]]
    assert tt.broadcast_shapes(3, (2, 1)) == (2, 3) == tuple(torch.broadcast_shapes(3, (2, 1)))
    for nothing in ([], np.zeros(0, int)):
        assert tt.repeat(tt.zeros(0), nothing).shape == (0,)
    with pytest.raises(ShapeError, match="counts do not fit"):
        tt.repeat(tt.zeros(2), [])
    with pytest.raises(SettingError, match="negative count"):
        tt.linspace(0.0, 1.0, -1)
    for equation, x in (("...i...", tt.zeros(2, 3)), ("...i->......", tt.zeros(2, 3))):
        with pytest.raises(ShapeError, match="einsum"):
            tt.einsum(equation, x)


@pytest.mark.parametrize("way", WAYS, ids=IDS)
def test_cosine_similarity_counts_axes_of_the_common_shape(way):
    """Ground truth: PyTorch, which broadcasts first."""
    rng = np.random.default_rng(2)
    for a, b, dim in (
        ((1, 2, 3), (2, 1, 3), -2),
        ((1, 2, 3), (2, 1, 3), 0),
        ((2, 3), (3,), 1),
        ((3,), (4, 3), -1),
        ((5, 1), (5, 4), 1),
    ):
        p, q = rng.normal(size=a).astype("f4"), rng.normal(size=b).astype("f4")
        mine = by(way, lambda p, q, dim=dim: F.cosine_similarity(p, q, dim=dim))
        truth = torch.nn.functional.cosine_similarity(torch.tensor(p), torch.tensor(q), dim=dim)
        out = mine(tt.Tensor(p), tt.Tensor(q)).numpy()
        assert out.shape == tuple(truth.shape)
        np.testing.assert_allclose(out, truth.numpy(), atol=6e-7)  # 5 terms of at most 1
