"""Axes, counts, sizes and calls that PyTorch refuses are refused here, in four parts, and what is
remembered of an equal argument changes nothing: eager and compiled."""

import warnings

import numpy as np
import pytest
import torch

import tinytorch as tt
from tinytorch.base.errors import (
    ArgumentTypeError,
    DTypeError,
    SettingError,
    ShapeError,
    TinyTorchError,
)
from tinytorch.nn import functional as F

INDEX = tt.zeros(1, 1, dtype=tt.int64)
AXES = {
    "sum": lambda x, a: x.sum(a), "sum of a tuple": lambda x, a: x.sum((a,)),
    "mean": lambda x, a: x.mean(a), "prod": lambda x, a: x.prod(a),
    "amax": lambda x, a: x.amax(a), "amin": lambda x, a: x.amin(a), "max": lambda x, a: x.max(a),
    "argmax": lambda x, a: x.argmax(a), "any": lambda x, a: x.any(a), "all": lambda x, a: x.all(a),
    "var": lambda x, a: x.var((a,)), "std": lambda x, a: x.std((a,)),
    "norm": lambda x, a: x.norm(2, a), "logsumexp": lambda x, a: x.logsumexp(a),
    "softmax": lambda x, a: x.softmax(a), "log_softmax": lambda x, a: x.log_softmax(a),
    "cumsum": lambda x, a: x.cumsum(a), "cumprod": lambda x, a: x.cumprod(a),
    "sort": lambda x, a: x.sort(a), "argsort": lambda x, a: x.argsort(a),
    "topk": lambda x, a: x.topk(1, a), "count_nonzero": lambda x, a: x.count_nonzero(a),
    "stack": lambda x, a: tt.stack([x], a), "cat": lambda x, a: tt.cat([x], a),
    "permute": lambda x, a: x.permute(a, 1), "permute of a tuple": lambda x, a: x.permute((a, 1)),
    "transpose": lambda x, a: x.transpose(a, 1), "movedim": lambda x, a: x.movedim(a, 1),
    "unsqueeze": lambda x, a: x.unsqueeze(a), "squeeze": lambda x, a: x.squeeze(a),
    "flip": lambda x, a: x.flip(a), "roll": lambda x, a: x.roll(1, a),
    "flatten": lambda x, a: x.flatten(a), "split": lambda x, a: x.split(1, a),
    "chunk": lambda x, a: x.chunk(1, a), "narrow": lambda x, a: x.narrow(a, 0, 1),
    "select": lambda x, a: x.select(a, 0), "unbind": lambda x, a: x.unbind(a),
    "gather": lambda x, a: x.gather(a, INDEX), "take": lambda x, a: x.take(tt.tensor([0]), a),
    "index_select": lambda x, a: x.index_select(a, tt.tensor([0])),
    "scatter_add": lambda x, a: x.scatter_add(a, INDEX, x),
    "diff": lambda x, a: tt.diff(x, 1, a), "diagonal": lambda x, a: x.diagonal(0, a, 1),
    "vecdot": lambda x, a: tt.vecdot(x, x, axis=a), "normalize": lambda x, a: F.normalize(x, dim=a),
    "glu": lambda x, a: F.glu(x, a), "repeat": lambda x, a: tt.repeat(x, 2, axis=a),
    "of a number": lambda x, a: x[0, 0].sum(a), "place in a number": lambda x, a: x[0, 0].argmax(a),
    "transposed number": lambda x, a: x[0, 0].transpose(a, a),
}  # fmt: skip


@pytest.mark.parametrize("name", AXES)
def test_a_bool_is_no_axis(name):
    """Ground truth: PyTorch raises TypeError, and 0, which False equals, is an axis."""
    x = tt.arange(12.0).reshape(4, 3)
    for ask in (AXES[name], tt.compile(AXES[name])):
        ask(x, 0)  # what is remembered of 0 must not answer for False
        with pytest.raises(ArgumentTypeError, match="a bool is no axis"):
            ask(x, False)
    for a in (torch.ones(2, 2).sum, torch.ones(2, 2).softmax, torch.ones(2, 2).unsqueeze):
        with pytest.raises(TypeError):
            a(False)


def test_a_bool_is_no_axis_of_strides():
    """Ground truth: as above; not offered in compiled code."""
    with pytest.raises(ArgumentTypeError):
        tt.ones(2, 3).stride(False)
    assert tt.ones(2, 3).stride(-2) == 3


V = 5
COUNTS = {
    "repeat(-1)": (lambda x: x.repeat(-1), SettingError),
    "repeat(2, -1)": (lambda x: x.repeat(2, -1), SettingError),
    "repeat(0, -1)": (lambda x: x.repeat(0, -1), SettingError),
    "repeat((-2,))": (lambda x: x.repeat((-2,)), SettingError),
    "tile": (lambda x: x.tile((-1,)), SettingError),
    "repeat_interleave(-1)": (lambda x: x.repeat_interleave(-1), SettingError),
    "repeat_interleave(2.5)": (lambda x: x.repeat_interleave(2.5), ArgumentTypeError),
    "a negative count among some": (
        lambda x: x.repeat_interleave([1, -1, 1, 1, 1]),
        (ShapeError, TypeError),
    ),
    "expand(-2)": (lambda x: x.expand(-2), ShapeError),
    "expand(-1, 5)": (lambda x: x.expand(-1, V), ShapeError),
    "split(0)": (lambda x: x.split(0), ShapeError),
    "split(-1)": (lambda x: x.split(-1), ShapeError),
    "split(2.0)": (lambda x: x.split(2.0), ArgumentTypeError),
    "split([6, -1])": (lambda x: x.split([V + 1, -1]), ShapeError),
    "split([2, 2])": (lambda x: x.split([2, 2]), ShapeError),
    "split([2, 4])": (lambda x: x.split((2, 4)), ShapeError),
    "split([])": (lambda x: x.split([]), ShapeError),
    "chunk(0)": (lambda x: x.chunk(0), SettingError),
    "chunk(-1)": (lambda x: x.chunk(-1), SettingError),
    "chunk(-1) of nothing": (lambda x: x[:0].chunk(-1), SettingError),
    "chunk(1.5)": (lambda x: x.chunk(1.5), ArgumentTypeError),
}


@pytest.mark.parametrize("name", COUNTS)
def test_counts_and_sizes_below_zero_are_refused(name):
    """Ground truth: PyTorch refuses each of them too."""
    ask, kind = COUNTS[name]
    for way in (ask, tt.compile(ask)):
        with pytest.raises(kind) as found:
            way(tt.ones(V))
        assert isinstance(found.value, TinyTorchError)
    with pytest.raises((RuntimeError, TypeError)):
        ask(torch.ones(V))


GOOD = {
    "split": lambda x: x.split(2), "split in sizes": lambda x: x.split([2, 0, 3]),
    "split of nothing": lambda x: x[:0].split(0), "sizes of nothing": lambda x: x[:0].split([]),
    "chunk": lambda x: x.chunk(3), "chunk of nothing": lambda x: x[:0].chunk(3),
    "repeat(0)": lambda x: (x.repeat(0),), "repeat": lambda x: (x.repeat(2, 3),),
    "expand": lambda x: (x.expand(2, -1),),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_the_others_are_as_they_were(name):
    """Ground truth: PyTorch, shapes and numbers."""
    wanted = [y.tolist() for y in GOOD[name](torch.arange(5.0))]
    for way in (GOOD[name], tt.compile(GOOD[name])):
        assert [y.tolist() for y in way(tt.arange(5.0))] == wanted


def test_only_memory_that_can_be_shared_is_taken():
    """Ground truth: the promise of from_numpy; PyTorch refuses both too."""
    for given in (np.zeros(3, ">f4"), [1.0], 1.0):
        with pytest.raises(DTypeError, match="cannot be shared"):
            tt.from_numpy(given)
        with pytest.raises((ValueError, TypeError)):
            torch.from_numpy(given)
    assert tt.from_numpy(np.zeros((0, 2))).shape == (0, 2)
    assert tt.asarray(np.zeros((0, 2)), copy=False).shape == (0, 2)
    assert tt.tensor(np.ones(2, ">f4")).tolist() == [1.0, 1.0]
    a = np.zeros(2)
    assert tt.compile(lambda x: x + tt.from_numpy(a))(tt.ones(2)).tolist() == [1.0, 1.0]


def test_numbers_without_an_axis_are_not_joined():
    """Ground truth: PyTorch refuses; whichever of them comes first."""
    for given in (lambda x: (x, x[0]), lambda x: (x[0], x), lambda x: (x[0], x[0])):
        for way in (tt.cat, tt.compile(lambda xs: tt.cat(xs))):
            with pytest.raises(ShapeError, match="has no axis"):
                way(given(tt.ones(3)))
        with pytest.raises(RuntimeError):
            torch.cat(given(torch.ones(3)))
    assert tt.cat((tt.tensor(1.0), tt.tensor(2.0)), dim=None).tolist() == [1.0, 2.0]


def test_shapes_are_of_whole_numbers():
    """Ground truth: PyTorch refuses each of them."""
    for given in ("ab", (1.5,), ("a", "b"), (-1, 2)):
        with pytest.raises((ArgumentTypeError, ShapeError)):
            tt.broadcast_shapes(given)
        with pytest.raises((TypeError, ValueError)):
            torch.broadcast_shapes(given)
    assert tt.broadcast_shapes((3, 1), 4, [2, 1, 1]) == (2, 3, 4)


def test_what_is_beyond_float32_is_infinite_without_a_word():
    """Ground truth: PyTorch; warnings are errors here."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for given in (1e40, [1e40, -1e40, 1.0]):
            wanted = torch.tensor(given).tolist()
            assert tt.tensor(given).tolist() == tt.Tensor(given).tolist() == wanted
            assert tt.asarray(given).tolist() == wanted
        assert tt.compile(lambda x: x + tt.tensor(1e40))(tt.ones(1)).tolist() == [np.inf]


CALLS = {
    "exp": lambda x: tt.exp(x, x), "x.exp": lambda x: x.exp(x), "add": lambda x: tt.add(x),
    "sum": lambda x: tt.sum(), "x.sum": lambda x: x.sum(foo=1), "mean": lambda x: tt.mean(x, typ=1),
    "reshape": lambda x: tt.reshape(), "eq": lambda x: tt.eq(x), "relu": lambda x: x.relu(1),
    "sin": lambda x: tt.sin(x, out=x), "floor": lambda x: x.floor(2), "tan": lambda x: tt.tan(),
    "log1p": lambda x: x.log1p(1), "sigmoid": lambda x: tt.sigmoid(),
    "clip": lambda x: x.clip(least=1),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_a_call_that_does_not_fit_is_explained(name):
    """Ground truth: the error's class; the signature is its rule."""
    for way in (CALLS[name], tt.compile(CALLS[name])):
        with pytest.raises(ArgumentTypeError, match="argument") as found:
            way(tt.ones(2))
        assert found.value.rule.partition("(")[2]


DTYPES = {
    "mean": lambda lib, x: x.mean(dtype=lib.float64),
    "mean of an axis": lambda lib, x: lib.mean(x, 0, True, dtype=lib.float32),
    "sum": lambda lib, x: x.sum(dtype=lib.float32),
    "prod": lambda lib, x: x.prod(dtype=lib.float32),
    "cumsum": lambda lib, x: x.cumsum(0, dtype=lib.float32),
    "cumprod": lambda lib, x: x.cumprod(0, dtype=lib.float32),
    "softmax": lambda lib, x: x.softmax(0, lib.float32),
    "softmax by name": lambda lib, x: lib.softmax(x, 0, dtype=lib.float64),
    "log_softmax": lambda lib, x: x.log_softmax(0, dtype=lib.float32),
}  # fmt: skip


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("kind", ["float16", "float32", "int64"])
def test_a_result_has_the_type_that_was_asked_for(name, kind):
    """Ground truth: PyTorch: x is converted first, and the result is not rounded back."""
    numbers = [[1.0, 2.0, 5.0], [3.0, 4.0, 7.0]]
    wanted = DTYPES[name](torch, torch.tensor(numbers).to(getattr(torch, kind)))
    x = tt.tensor(numbers).astype(kind)
    for way in (DTYPES[name], tt.compile(lambda lib, x: DTYPES[name](tt, x))):
        y = way(tt, x)
        assert f"torch.{y.dtype.name}" == str(wanted.dtype)
        np.testing.assert_allclose(y.numpy(), wanted.numpy(), 1e-6)


def test_a_mean_is_no_whole_number():
    """Ground truth: PyTorch refuses it."""
    with pytest.raises(DTypeError, match="no whole number"):
        tt.ones(2).mean(dtype=tt.int64)
    with pytest.raises(RuntimeError):
        torch.ones(2).mean(dtype=torch.int64)
    assert tt.ones(70_000).mean(dtype=tt.float16).item() == 1.0  # computed in float32
