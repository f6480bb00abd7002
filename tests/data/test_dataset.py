"""Data sets: samples stacked, arrays, pictures, windows of a text, parts and several as one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinytorch.base.errors import DataError, IndexRangeError, SettingError, ShapeError
from tinytorch.data import (
    ArrayDataset,
    ConcatDataset,
    DataLoader,
    ImageDataset,
    Subset,
    TextWindows,
    random_split,
)
from tinytorch.data.dataset import class_numbers, take


def test_take_is_indexing():
    """Ground truth: NumPy indexing of the arrays."""
    x, y = np.arange(12).reshape(6, 2), np.arange(6)
    data = ArrayDataset(x, y)
    a, b = data.take(np.array([5, 0, 0]))
    assert np.array_equal(a, x[[5, 0, 0]]) and b.tolist() == [5, 0, 0]
    assert data[-1][1] == 5
    with pytest.raises(IndexRangeError, match="no sample of that number"):
        data[6]


@pytest.mark.parametrize("arrays", [(), (np.float32(1),), (np.zeros(2), np.zeros(3))])
def test_arrays_that_do_not_belong_together(arrays):
    """Ground truth: one length of axis 0."""
    with pytest.raises(ShapeError, match="do not belong together"):
        ArrayDataset(*arrays)


# --- Batches of data sets that give one sample at a time ---


class Squares:
    """As one writes for PyTorch: a length and samples."""

    def __len__(self):
        return 5

    def __getitem__(self, i):
        return np.full((2,), i, np.float32), i * i


def test_samples_are_stacked():
    """Ground truth: np.stack by hand."""
    x, y = take(Squares(), np.array([3, 1]))
    assert x.tolist() == [[3, 3], [1, 1]] and y.tolist() == [9, 1] and x.dtype == np.float32
    assert [y.tolist() for _, y in DataLoader(Squares(), 2)] == [[0, 1], [4, 9], [16]]


def test_samples_without_parts():
    """Ground truth: one array for a data set of single values."""
    (x,) = take([np.zeros(2), np.ones(2)], np.array([1]))
    assert x.tolist() == [[1, 1]]


def test_samples_that_do_not_fit_are_named():
    """Ground truth: shapes that cannot be stacked."""
    with pytest.raises(ShapeError, match="do not fit together"):
        take([np.zeros(2), np.zeros(3)], np.array([0, 1]))


@pytest.mark.parametrize("dataset", [np.zeros((4, 2)), iter([1, 2]), 7, {1, 2}])
def test_what_is_no_data_set_is_named(dataset):
    """Ground truth: the documented ways; an array's own `take` flattens it."""
    with pytest.raises(SettingError, match="this is not a data set"):
        DataLoader(dataset, 2)


def test_a_data_set_without_samples():
    """Ground truth: an epoch of no batches, for each way of taking samples and of working."""
    for settings in ({}, {"workers": 2}, {"shuffle": True}):
        loader = DataLoader([], 4, **settings)
        assert list(loader) == [] and len(loader) == 0 and loader.epoch == 1


# --- Images: bytes inside, numbers from 0 to 1 outside, labels that are class numbers ---


def test_images_become_numbers_from_0_to_1():
    """Ground truth: byte / largest, within one rounding of float32 (the scale is rounded once)."""
    images = np.arange(256, dtype=np.uint8).reshape(4, 8, 8)
    data = ImageDataset(images, np.arange(4))
    taken, labels = data.take(np.array([3, 1]))
    assert taken.shape == (2, 1, 8, 8) and taken.dtype == np.float32
    assert labels.tolist() == [3, 1] and labels.dtype == np.int64
    exact = images[[3, 1]][:, None] / 255
    # the scale 1/255 and the product are rounded: two half units in the last place
    assert np.abs(taken - exact).max() <= np.finfo(np.float32).eps
    assert np.array_equal(data[3][0], taken[0])


def test_bad_images_are_named():
    """Ground truth: the constructor's documented ranges."""
    with pytest.raises(ShapeError, match="images and labels"):
        ImageDataset(np.zeros((2, 4), np.uint8), np.zeros(2, int))
    with pytest.raises(ShapeError, match="images and labels"):
        ImageDataset(np.zeros((2, 4, 4), np.uint8), np.zeros(3, int))
    with pytest.raises(SettingError, match="largest"):
        ImageDataset(np.zeros((2, 4, 4), np.uint8), np.zeros(2, int), largest=0)


def test_colours_and_bytes():
    """Ground truth: NumPy indexing; as_bytes hands out what was put in."""
    images = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 2, 2)
    taken, _ = ImageDataset(images, np.zeros(2, int), as_bytes=True).take(np.array([1]))
    assert taken.dtype == np.uint8 and np.array_equal(taken, images[[1]])
    taken, _ = ImageDataset(images, np.zeros(2, int)).take(np.array([1]))
    assert taken.shape == (1, 3, 2, 2) and taken[0, 2, 1, 1] == np.float32(23) * np.float32(1 / 255)


def test_images_that_are_not_bytes_are_named():
    """Ground truth: the constructor's documented kinds."""
    with pytest.raises(SettingError, match="not bytes"):
        ImageDataset(np.zeros((2, 4, 4)), np.zeros(2, int))


def test_bad_labels_are_named():
    """Ground truth: the classes named; NaN is no class."""
    images = np.zeros((2, 4, 4), np.uint8)
    with pytest.raises(DataError, match="not a class number"):
        ImageDataset(images, np.array([0, 2]), classes=("cat", "dog"))
    with pytest.raises(DataError, match="not a class number"):
        ImageDataset(images, np.array([0, np.nan]))


# --- Class numbers: whole, not negative, below the number of classes ---


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64, np.float32, bool])
def test_kinds_of_numbers(dtype):
    """Ground truth: the same numbers as int64."""
    labels = class_numbers(np.array([1, 0, 1], dtype), classes=2)
    assert labels.dtype == np.int64 and labels.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("labels", "classes", "got"),
    [
        ([0, -1, -2], None, "-1 at place 1; 2 such"),
        ([0, 10], 10, "10 at place 1"),
        ([0.0, np.nan], 10, "nan at place 1"),
        ([np.inf], None, "inf at place 0"),
        ([0.5], 10, "0.5 at place 0"),
    ],
)
def test_what_is_no_class_number_is_named(labels, classes, got):
    """Ground truth: the first wrong label, its place and their number, counted by hand."""
    with pytest.raises(DataError, match="not a class number") as raised:
        class_numbers(np.array(labels), classes)
    assert got in raised.value.got


def test_names_are_not_numbers():
    """Ground truth: the documented kinds."""
    with pytest.raises(DataError, match="labels are not numbers"):
        class_numbers(np.array(["cat"]))


def test_no_labels():
    """Ground truth: an empty batch has no wrong label."""
    assert class_numbers(np.empty(0), 10).shape == (0,)


# --- Parts of a data set: no sample lost, none twice ---

DATA = ArrayDataset(np.arange(10) * 10, np.arange(10))


def test_subset():
    """Ground truth: indexing by hand."""
    part = Subset(DATA, [7, 2, 2])
    assert len(part) == 3 and part[0] == (70, 7) and part[-1] == (20, 2)
    assert [y.tolist() for _, y in DataLoader(part, 2)] == [[7, 2], [2]]
    assert Subset(part, [2, 0]).take(np.array([1]))[1].tolist() == [7]
    with pytest.raises(IndexRangeError, match="outside the data set"):
        Subset(DATA, [10])
    with pytest.raises(SettingError, match="not sample numbers"):
        Subset(DATA, [-1])
    with pytest.raises(IndexRangeError):
        part[3]


def test_concatenated():
    """Ground truth: np.concatenate of the arrays."""
    both = ConcatDataset([DATA, Subset(DATA, []), ArrayDataset(-np.arange(3), np.arange(3))])
    whole = np.concatenate([np.arange(10) * 10, -np.arange(3)])
    assert len(both) == 13 and [both[i][0] for i in range(13)] == whole.tolist()
    assert both[-1][0] == -2
    at = np.array([12, 0, 5, 10, 5])
    assert np.array_equal(both.take(at)[0], whole[at])
    with pytest.raises(IndexRangeError):
        both[13]
    with pytest.raises(SettingError, match="nothing to put together"):
        ConcatDataset([])


@given(
    n=st.integers(0, 60),
    cuts=st.lists(st.integers(0, 60), max_size=3),
    seed=st.integers(0, 2**64 - 1),
)
def test_a_split_loses_nothing(n, cuts, seed):
    """Ground truth: counting; the same seed gives the same parts."""
    ends = sorted(min(c, n) for c in cuts)
    lengths = np.diff([0, *ends, n]).tolist()
    parts = random_split(range(n), lengths, seed)
    assert [len(p) for p in parts] == lengths
    assert sorted(i for p in parts for i in p.indices) == list(range(n))
    again = random_split(range(n), lengths, seed)
    assert all(np.array_equal(p.indices, q.indices) for p, q in zip(parts, again, strict=True))


@pytest.mark.parametrize(
    ("n", "fractions", "lengths"),
    [
        (10, [0.9, 0.1], [9, 1]),
        (10, [0.7, 0.2, 0.1], [7, 2, 1]),
        (11, [0.5, 0.5], [6, 5]),
        (7, [1 / 3, 1 / 3, 1 / 3], [3, 2, 2]),
        (1, [1.0], [1]),
    ],
)
def test_fractions(n, fractions, lengths):
    """Ground truth: rounded down, the rest to the first parts (as PyTorch documents)."""
    assert [len(p) for p in random_split(range(n), fractions)] == lengths


@pytest.mark.parametrize("lengths", [[5, 4], [11], [-1, 11], [0.5, 0.4], [2.5, 7.5], []])
def test_lengths_that_do_not_add_up(lengths):
    """Ground truth: ten samples."""
    with pytest.raises(SettingError, match="do not make the whole"):
        random_split(range(10), lengths)


def test_windows_cover_the_text():
    """Ground truth: slicing; the target is the input one token later."""
    tokens = np.arange(11) * 10
    windows = TextWindows(tokens, 3)
    assert len(windows) == 3
    x, y = windows.take(np.array([0, 2]))
    assert x.tolist() == [[0, 10, 20], [60, 70, 80]]
    assert y.tolist() == [[10, 20, 30], [70, 80, 90]]
    overlapping = TextWindows(tokens, 3, step=1)
    assert len(overlapping) == 8
    assert overlapping[7][1].tolist() == [80, 90, 100]
    assert overlapping[-1][1].tolist() == [80, 90, 100]


@pytest.mark.parametrize(("length", "step"), [(0, None), (11, None), (3, 0)])
def test_windows_that_do_not_fit(length, step):
    """Ground truth: the documented ranges."""
    with pytest.raises(SettingError, match="do not fit the text"):
        TextWindows(np.arange(11), length, step)


def test_windows_make_batches():
    """Ground truth: the shapes of language modelling, (B, T) and (B, T)."""
    tokens = np.frombuffer(b"to be or not to be, that is the question", np.uint8)
    for x, y in DataLoader(TextWindows(tokens, 4), 2, shuffle=True, drop_last=True):
        assert x.shape == y.shape == (2, 4)
        assert np.array_equal(x[:, 1:], y[:, :-1])
