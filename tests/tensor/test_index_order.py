"""What a key takes where numbers, slices, arrays and masks meet: PyTorch's order of axes.

Ground truth: PyTorch 2, for reading, writing and gradients; eagerly and compiled.
"""

import numpy as np
import pytest
import torch

import tinytorch as tt
from tests.compiler.compiled import targets
from tinytorch.base.errors import DTypeError, IndexRangeError, ShapeError

I = np.array([1, 0, 2])  # noqa: E741
J = np.array([[0], [3]])
ROWS = np.array([True, False, True])

# Keys of an array (2, 3, 4, 5); NumPy arrays stand for Tensors of both libraries.
KEYS = {
    "tuple as list": (slice(None), (1, 2)),
    "list": (slice(None), [1, 2]),
    "tuple first": ((1, 0), slice(None), (1, 3)),
    "number, slice, array": (0, slice(None), I),
    "number, slice, array, array": (1, slice(None), I, I),
    "array, slice, number": (slice(None), I, slice(None), 0),
    "array, number": (slice(None), I, 0),
    "number, array": (0, I),
    "array, number, array": (slice(None), I, 1, I),
    "array, slice, array": (slice(None), I, slice(None), I),
    "array, slice, array first": (I % 2, slice(None), I),
    "number, array, slice, array": (0, I, slice(None), I),
    "array, None, array": (slice(None), I, None, I),
    "None, number, array": (None, 0, slice(1, 3), I),
    "two-axis array": (0, slice(None), J, 1),
    "negative": (-1, slice(None, None, 2), -I),
    "ellipsis, array": (..., I),
    "number, ellipsis, array": (0, ..., I),
    "array, ellipsis, number": (slice(None), I, ..., 0),
    "0-d index": (np.array(1), slice(None), I),
    "0-d index last": (slice(None), I, slice(None), np.array(2)),
    "mask": (slice(None), ROWS),
    "number, mask": (0, ROWS),
    "number, slice, mask list": (1, slice(None), [True, False, True, True]),
    "mask, slice, array": (slice(None), ROWS, slice(None), np.array([4, 0])),
    "ellipsis, mask": (..., np.array([True, False, False, True, True])),
    "ellipsis, mask of two axes": (..., np.arange(20).reshape(4, 5) % 3 == 0),
    "true": np.array(True),
    "false": np.array(False),
    "Python's true": True,
    "number, true": (0, np.array(True)),
    "true, array": (True, [0, 1]),
    "empty list": (slice(None), []),
}
# A compiled function does not know values, so not the number of elements a Tensor mask takes.
UNKNOWN = ("mask", "true", "false")


def whole():
    return np.arange(120, dtype=np.float32).reshape(2, 3, 4, 5)


def of(library, key):
    if isinstance(key, tuple):
        return tuple(library(k) if isinstance(k, np.ndarray) else k for k in key)
    return library(key) if isinstance(key, np.ndarray) else key


def theirs(key):
    key = of(torch.tensor, key)
    x = torch.tensor(whole(), requires_grad=True)
    taken = x[key]
    (taken * torch.arange(taken.numel()).reshape(taken.shape)).sum().backward()
    written = torch.tensor(whole())
    written[key] = -torch.arange(taken.numel(), dtype=torch.float32).reshape(taken.shape)
    return [taken.detach().numpy(), x.grad.numpy(), written.numpy()]


def ours(x, key):
    x = x.detach().requires_grad_()
    taken = x[key]
    numbers = tt.arange(taken.size).reshape(taken.shape)
    (taken * numbers).sum().backward()
    written = x.detach() + 0.0
    written[key] = -numbers.astype("float32")
    return [taken.detach(), x.grad, written]


@pytest.mark.parametrize("name", KEYS)
def test_keys_mean_what_they_mean_in_pytorch(name):
    """Ground truth: PyTorch: values, gradient, and the array after an assignment."""
    key = KEYS[name]
    for mine, truth in zip(ours(tt.Tensor(whole()), of(tt.Tensor, key)), theirs(key), strict=True):
        assert mine.shape == truth.shape
        np.testing.assert_array_equal(mine.numpy(), truth)


@pytest.mark.parametrize("target", targets(), ids=lambda t: t.name)
def test_compiled_keys_mean_the_same(target):
    """Ground truth: PyTorch, as above; masks are NumPy arrays, whose values are known."""
    known = {n: k for n, k in KEYS.items() if not any(word in n for word in ("empty", "false"))}

    def everything(x):
        out = []
        for key in known.values():
            parts = key if isinstance(key, tuple) else (key,)
            masks = any(isinstance(k, np.ndarray) and k.dtype == bool for k in parts)
            out += ours(x, key if masks else of(tt.Tensor, key))
        return out

    outs = iter(tt.compile(everything, target=target)(tt.Tensor(whole())))
    for name, key in known.items():
        for truth in theirs(key):
            mine = next(outs)
            assert mine.shape == truth.shape, name
            np.testing.assert_array_equal(mine.numpy(), truth, name)


@pytest.mark.parametrize(
    ("key", "error", "phrase"),
    [
        ((0, 0, 0, 0, 0), IndexRangeError, "too many"),
        ((slice(None), (1, 3)), IndexRangeError, "outside"),
        ((slice(None), (0.5, 1.0)), DTypeError, "cannot be an index"),
        ((..., 0, ...), DTypeError, "cannot be an index"),
        ((slice(None), np.array([True, False])), ShapeError, "does not fit"),
        (np.array(0.5), DTypeError, "cannot be an index"),
        ("a", DTypeError, "cannot be an index"),
    ],
)
def test_keys_that_mean_nothing_are_refused(key, error, phrase):
    """Ground truth: the messages; reading and writing."""
    x = tt.Tensor(whole())
    with pytest.raises(error, match=phrase):
        x[key]
    with pytest.raises(error, match=phrase):
        x[key] = 1.0
