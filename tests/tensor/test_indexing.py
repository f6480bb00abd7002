"""x[key], x[key] = value, gather and scatter_add.

Ground truths: NumPy; PyTorch 2 for the order of axes where numbers, slices, arrays and masks meet,
for reading, writing and gradients; eagerly and compiled.
"""

import numpy as np
import pytest
import torch

import tinytorch as tt
from tests.compiler.compiled import targets
from tinytorch.base.errors import DTypeError, IndexRangeError, ShapeError

A = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
KEYS = [
    0, -1, (1, 2), slice(None), slice(1, None), (slice(None), slice(None, None, -1)),
    (Ellipsis, 2), (0, Ellipsis), (None, 1), (slice(None), None, 2, None), Ellipsis, (),
    (slice(None), slice(3, 0, -2), slice(1, 9, 2)), (slice(5, 2),), (slice(-2, None), -1),
    [1, 0, 1], (slice(None), [2, 0]), (slice(None), [[0, 1], [2, 2]]), ([1, 0], [2, 2]),
    (slice(None), [1, -1], [0, 3]), ([1, 0], slice(None), [0, 3]),
    (slice(None), [0, 1], None, [1, 2]), (slice(None), 1, [[0], [1]], [1, 2]),
    np.array([1, 1]), np.array(1), (Ellipsis, np.array([4, 0])), [],
    A[:, :, 0, 0] > 7, A > 50, (slice(None), A[0, :, 0, 0] > 15), (0, A[0, :, 0, 0] > 100),
]  # fmt: skip


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_getitem_is_numpys(key):
    """NumPy: shape, then values."""
    expected = A[np.asarray(key, int) if isinstance(key, list) and not key else key]
    got = tt.Tensor(A)[key]
    assert got.shape == expected.shape
    assert np.array_equal(got.numpy(), expected)


@pytest.mark.parametrize("recorded", [False, True])
@pytest.mark.parametrize("key", KEYS, ids=str)
def test_setitem_is_numpys(key, recorded):
    """NumPy: the last wins where a place is named twice. Recorded: by slice_update, scatter."""
    key_np = np.asarray(key, int) if isinstance(key, list) and not key else key
    expected = A.copy()
    values = -1.0 - np.arange(expected[key_np].size, dtype=np.float32).reshape(
        expected[key_np].shape
    )
    expected[key_np] = values
    x = tt.Tensor(A, requires_grad=recorded) * 1.0
    x[key] = values
    assert np.array_equal(x.detach().numpy(), expected)
    expected[key_np] = 3
    x[key] = 3
    assert np.array_equal(x.detach().numpy(), expected)


def test_a_tensor_as_index_and_as_mask():
    """NumPy."""
    x = tt.Tensor(A)
    assert np.array_equal(x[:, tt.tensor([2, 0])].numpy(), A[:, [2, 0]])
    assert np.array_equal(x[tt.tensor(1)].numpy(), A[1])
    assert np.array_equal(x[x > 50].numpy(), A[A > 50])
    x[x > 50] = 0
    assert np.array_equal(x.numpy(), np.where(A > 50, 0, A))


def test_plain_keys_give_views():
    """NumPy: where it gives a view, memory is shared."""
    x = tt.Tensor(A)
    for key in KEYS[:15]:
        if A[key].size:
            assert np.shares_memory(x[key]._buffer.array, x._buffer.array)
    for view in (
        x.T,
        x.mT,
        x.reshape(-1),
        x.transpose(0, 2),
        x.broadcast_to(2, *A.shape),
        x.detach(),
    ):
        assert np.shares_memory(view._buffer.array, x._buffer.array)


def test_gather_take_and_scatter():
    """NumPy: take_along_axis, take, add.at."""
    x, index = A[0, 0], np.array([[1, 0, 4], [2, 2, 2], [0, -1, 3], [4, 4, 4]])
    expected = np.take_along_axis(x, index, 1)
    assert np.array_equal(tt.gather(tt.Tensor(x), 1, index).numpy(), expected)
    assert np.array_equal(
        tt.take(tt.Tensor(A), index, 2 - 1).numpy()
        if index.max() < 3
        else tt.take(tt.Tensor(A), index % 3, 1).numpy(),
        np.take(A, index % 3, 1),
    )
    zeros = np.zeros((4, 5), np.float32)
    np.add.at(zeros, (np.arange(4)[:, None], index), expected)
    assert np.array_equal(tt.scatter_add(tt.zeros(4, 5), 1, index, expected).numpy(), zeros)
    assert tt.one_hot(tt.tensor([2, 0]), 3).tolist() == [[0, 0, 1], [1, 0, 0]]


@pytest.mark.parametrize(
    ("key", "error", "phrase"),
    [
        (2, IndexRangeError, "index 2 for axis 0"),
        ((0, 0, -5), IndexRangeError, "index -5 for axis 2"),
        ([0, 5], IndexRangeError, "index 5 for an axis of size 2"),
        (([0], [3]), IndexRangeError, "index 3 for an axis of size 3"),
        ((0, 0, 0, 0, 0), IndexRangeError, "too many indices"),
        (1.5, DTypeError, "cannot be an index"),
        ("a", DTypeError, "cannot be an index"),
        ([0.5], DTypeError, "cannot be an index"),
        (np.ones(3, bool), ShapeError, "mask does not fit"),
        (slice("a"), DTypeError, "cannot be an index"),
    ],
)
def test_wrong_keys_are_explained(key, error, phrase):
    """Ground truth: kind and phrase of the message."""
    with pytest.raises(error, match=phrase):
        tt.Tensor(A)[key]


def test_a_value_that_does_not_fit_is_explained():
    """Ground truth: the message."""
    x = tt.Tensor(A)
    with pytest.raises(ShapeError, match="does not fit the place"):
        x[0] = tt.ones(7)
    with pytest.raises(IndexRangeError, match="outside its axis"):
        x[9] = 1.0
    assert np.array_equal(x.numpy(), A)


# --- an index smaller than the Tensor it points into ---

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


# --- keys where numbers, slices, arrays and masks meet: the order of axes ---

I = np.array([1, 0, 2])  # noqa: E741
J = np.array([[0], [3]])
ROWS = np.array([True, False, True])

# Keys of an array (2, 3, 4, 5); NumPy arrays stand for Tensors of both libraries.
MIXED = {
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


@pytest.mark.parametrize("name", MIXED)
def test_keys_mean_what_they_mean_in_pytorch(name):
    """Ground truth: PyTorch: values, gradient, and the array after an assignment."""
    key = MIXED[name]
    for mine, truth in zip(ours(tt.Tensor(whole()), of(tt.Tensor, key)), theirs(key), strict=True):
        assert mine.shape == truth.shape
        np.testing.assert_array_equal(mine.numpy(), truth)


@pytest.mark.parametrize("target", targets(), ids=lambda t: t.name)
def test_compiled_keys_mean_the_same(target):
    """Ground truth: PyTorch, as above; masks are NumPy arrays, whose values are known."""
    known = {n: k for n, k in MIXED.items() if not any(word in n for word in ("empty", "false"))}

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


def test_take_along_axis_takes_along_the_last_by_default():
    """Ground truth: the array API standard: axis=-1."""
    x, index = np.arange(6).reshape(2, 3), np.array([[2], [0]])
    found = tt.take_along_axis(tt.Tensor(x, dtype=tt.int64), tt.Tensor(index, dtype=tt.int64))
    assert found.tolist() == [[2], [3]]


def test_as_many_numbers_as_places_are_written_when_compiled():
    """Ground truth: NumPy; the places are known at run time only."""
    x, mask = np.zeros(5, np.float32), np.array([1, 0, 1, 0, 1], bool)

    @tt.compile
    def written(x, mask, values):
        x = x + 0
        x[mask] = values
        return x

    out = written(tt.Tensor(x), tt.Tensor(mask), tt.Tensor([1.0, 2.0, 3.0]))
    assert out.tolist() == [1.0, 0.0, 2.0, 0.0, 3.0]
