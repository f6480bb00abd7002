"""x[key] and x[key] = value, with NumPy as the truth."""

import numpy as np
import pytest

import tinytorch as tt
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
