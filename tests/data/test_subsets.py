"""Parts of a data set: no sample lost, none twice."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinytorch.base.errors import IndexRangeError, SettingError
from tinytorch.data import ArrayDataset, ConcatDataset, DataLoader, Subset, random_split

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
