"""Functions along axes, of values and of their places: tinytorch means what PyTorch means.

Ground truth: PyTorch, run beside it; NumPy for tinytorch.array_api (tests/test_array_api.py).
"""

import numpy as np
import pytest
import torch

import tinytorch as tt
import tinytorch.array_api as xp
from tinytorch.base.errors import CompileError, ShapeError

X = np.array([[3.0, 1.0, 3.0, -2.0], [0.5, 7.0, np.nan, 7.0], [4.0, 4.0, 4.0, 4.0]], np.float32)
PAIRS = {
    "max along 1": lambda t, x: t.max(x, 1),
    "max along -2, kept": lambda t, x: t.max(x, -2, keepdim=True),
    "max by keyword": lambda t, x: t.max(x, dim=0),
    "max by the other keyword": lambda t, x: t.max(x, axis=0),
    "min along 0": lambda t, x: t.min(x, 0),
    "method max": lambda t, x: x.max(1),
    "method min, kept": lambda t, x: x.min(1, True),
    "max of a number along 0": lambda t, x: t.max(x[0, 0], 0),
    "sort": lambda t, x: t.sort(x[:, [1, 3]]),
    "sort along 0": lambda t, x: t.sort(x[:, :2], 0),
    "sort, the largest first": lambda t, x: t.sort(x[:, :2], dim=0, descending=True),
    "sort, stable": lambda t, x: x[:, :2].sort(dim=1, stable=True),
    "sort of a number": lambda t, x: t.sort(x[0, 0], -1),
    "topk": lambda t, x: t.topk(x[:2, :2], 2, 0),
}


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("name", PAIRS)
def test_pairs_of_values_and_places(name, compiled):
    """PyTorch: values, places, number types; both by position and by name."""
    call = PAIRS[name]
    function = (lambda x: call(tt, x)) if not compiled else tt.compile(lambda x: call(tt, x))
    found, wanted = function(tt.tensor(X)), call(torch, torch.tensor(X))
    assert len(found) == len(wanted) == 2
    for a, b in ((found[0], wanted[0]), (found.values, wanted.values)):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    for a, b in ((found[1], wanted[1]), (found.indices, wanted.indices)):
        assert a.dtype is tt.int64 and a.tolist() == b.tolist()


def test_the_idiom_of_accuracy():
    """PyTorch's programs: `_, predicted = torch.max(outputs, 1)`, here with two samples."""
    logits = tt.tensor([[0.1, 0.9, 0.0], [0.8, 0.1, 0.3]])
    _, predicted = tt.max(logits, 1)
    assert predicted.tolist() == [1, 0] and logits.max(1)[1].tolist() == [1, 0]


@pytest.mark.parametrize("name", ["max along 1", "min along 0", "sort along 0", "topk"])
def test_gradients_go_to_the_places(name):
    """PyTorch; of equal elements one alone gets it."""
    ours = tt.tensor(X[[0, 2]], requires_grad=True)
    theirs = torch.tensor(X[[0, 2]], requires_grad=True)
    for t, x in ((tt, ours), (torch, theirs)):
        values = PAIRS[name](t, x).values
        (values * values * 3).sum().backward()
    assert ours.grad.tolist() == theirs.grad.tolist()


def test_max_of_everything_and_of_two():
    """PyTorch: without an axis the value alone, its gradient shared; with a Tensor `maximum`."""
    ours = tt.tensor([1.0, 5.0, 5.0], requires_grad=True)
    assert ours.max().item() == 5 and tt.min(ours).item() == 1
    ours.max().backward()
    assert ours.grad.tolist() == [0, 0.5, 0.5]
    other = tt.tensor([2.0, 0.0, 9.0])
    assert tt.max(ours.detach(), other).tolist() == [2, 5, 9]
    assert ours.detach().min(other).tolist() == [1, 0, 5]


def test_equal_is_one_answer():
    """PyTorch; `eq` and `==` compare each."""
    a, b = tt.tensor([1.0, 2.0]), tt.tensor([1.0, 3.0])
    assert tt.equal(a, a) is True and tt.equal(a, b) is False and a.equal(b) is False
    assert tt.equal(a, tt.ones(1, 2)) is False
    nan = tt.tensor([float("nan")])
    assert tt.equal(nan, nan) is torch.equal(torch.tensor(nan.numpy()), torch.tensor(nan.numpy()))
    assert tt.eq(a, b).tolist() == (a == b).tolist() == [True, False]
    assert [f(a, b).tolist() for f in (tt.ne, tt.lt, tt.le, tt.gt, tt.ge)] == [
        f(torch.tensor(a.numpy()), torch.tensor(b.numpy())).tolist()
        for f in (torch.ne, torch.lt, torch.le, torch.gt, torch.ge)
    ]
    with pytest.raises(CompileError, match="look at values"):
        tt.compile(lambda x: tt.equal(x, x))(a)


def test_nonzero_is_a_table():
    """PyTorch; a tuple when asked for."""
    x = np.array([[0, 2, 0], [3, 0, 4]])
    ours, theirs = tt.tensor(x), torch.tensor(x)
    assert tt.nonzero(ours).tolist() == torch.nonzero(theirs).tolist() == ours.nonzero().tolist()
    assert len(tt.nonzero(ours)) == 3
    pair = tt.nonzero(ours, as_tuple=True)
    assert [p.tolist() for p in pair] == [p.tolist() for p in torch.nonzero(theirs, as_tuple=True)]
    assert ours[pair].tolist() == [2, 3, 4]
    assert tt.nonzero(tt.tensor(5)).shape == (1, 0) == tuple(torch.nonzero(torch.tensor(5)).shape)


def test_several_axes_have_no_place():
    """PyTorch refuses them too."""
    with pytest.raises(ShapeError, match="positions are along one axis") as caught:
        tt.max(tt.ones(2, 3), (0, 1))
    assert "amax" in caught.value.fix


def test_the_array_api_keeps_its_meaning():
    """The standard: values alone, divisor n, elementwise equal, a tuple of vectors."""
    x = tt.tensor([[1.0, 3.0], [2.0, 8.0]])
    assert xp.max(x, axis=1).tolist() == [3, 8] and xp.min(x, axis=(0, 1)).item() == 1
    assert xp.sort(x, axis=0, descending=True).tolist() == [[2, 8], [1, 3]]
    assert xp.var(x).item() == np.var(x.numpy()) and xp.std(x, axis=0).tolist() == [0.5, 2.5]
    assert xp.equal(x, x).tolist() == [[True, True], [True, True]]
    assert len(xp.nonzero(x)) == 2
    with pytest.raises(ShapeError, match="more than one element"):
        xp.squeeze(x, axis=0)
    with pytest.raises(ShapeError, match="no axes"):
        xp.nonzero(tt.tensor(1.0))
