"""Samplers: which numbers, how often, and the same answer to the same question."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinytorch.base.errors import SettingError
from tinytorch.data import (
    ArrayDataset,
    BatchSampler,
    DataLoader,
    RandomSampler,
    SequentialSampler,
    Stream,
    SubsetSampler,
    WeightedSampler,
)

TEN = range(10)
EVERY = [
    SequentialSampler(TEN),
    RandomSampler(TEN),
    RandomSampler(TEN, num_samples=4),
    RandomSampler(TEN, replacement=True, num_samples=25),
    SubsetSampler([3, 1, 7]),
    SubsetSampler([3, 1, 7], shuffle=False),
    WeightedSampler(np.arange(10), 6),
    WeightedSampler(np.arange(10), 6, replacement=False),
]


@pytest.mark.parametrize("sampler", EVERY)
def test_a_pure_function_of_seed_and_epoch(sampler):
    """Ground truth: asked twice, answered the same; as many numbers as it says; in range."""
    order = sampler.order(5, 2)
    assert np.array_equal(order, sampler.order(5, 2)) and len(order) == len(sampler)
    assert order.dtype == np.int64 and order.min() >= 0 and order.max() < 10


@pytest.mark.parametrize("sampler", [EVERY[i] for i in (1, 3, 4, 6, 7)])
def test_seeds_and_epochs_differ(sampler):
    """Ground truth: of forty orders at least five differ (three numbers have six orders)."""
    orders = {tuple(sampler.order(s, e)) for s in range(8) for e in range(5)}
    assert len(orders) >= 5


def test_without_replacement_each_at_most_once():
    """Ground truth: counting; a weight of 0 is never drawn."""
    for seed in range(20):
        assert len(set(EVERY[2].order(seed, 0))) == 4
        assert sorted(EVERY[1].order(seed, 0)) == list(TEN)
        assert sorted(EVERY[4].order(seed, 0)) == [1, 3, 7]
        drawn = EVERY[7].order(seed, 0)
        assert len(set(drawn)) == 6 and 0 not in drawn


def test_weights_are_probabilities():
    """Ground truth: weight / sum within five standard errors."""
    n, weights = 20_000, np.array([0, 1, 2, 7])
    share = np.bincount(WeightedSampler(weights, n).order(1, 0), minlength=4) / n
    p = weights / weights.sum()
    assert (np.abs(share - p) <= 5 * np.sqrt(p * (1 - p) / n)).all()


def test_a_weight_of_0_is_never_drawn_not_even_at_an_edge(monkeypatch):
    """Ground truth: the smallest and the largest number a stream can give."""
    sampler = WeightedSampler([0, 1, 0, 2, 0], 2)
    edges = np.array([0.0, 1 - 2.0**-53])
    monkeypatch.setattr(Stream, "uniform", lambda self, n: edges)
    assert sampler.order(0, 0).tolist() == [1, 3]


def test_first_of_a_draw_without_replacement_has_its_weight():
    """Ground truth: the first drawn is distributed as with replacement."""
    weights = np.array([1.0, 2.0, 7.0])
    sampler = WeightedSampler(weights, 1, replacement=False)
    share = np.bincount([sampler.order(s, 0)[0] for s in range(4000)], minlength=3) / 4000
    p = weights / 10
    assert (np.abs(share - p) <= 5 * np.sqrt(p * (1 - p) / 4000)).all()


@given(n=st.integers(0, 30), size=st.integers(1, 8), drop=st.booleans())
def test_batches_put_together_are_the_order(n, size, drop):
    """Ground truth: the sampler's order, without a last batch that is not full if so asked."""
    batches = BatchSampler(RandomSampler(range(n)), size, drop)
    whole = [batches.batch(i, 3, 1) for i in range(len(batches))]
    order = RandomSampler(range(n)).order(3, 1)
    joined = np.concatenate([*whole, np.empty(0, int)])
    assert np.array_equal(joined, order[: len(joined)])
    assert len(joined) == (n - n % size if drop else n)
    assert all(len(b) == size for b in whole[:-1])


def test_loader_takes_a_sampler():
    """Ground truth: the sampler's own order."""
    data = ArrayDataset(np.arange(10) * 10)
    loader = DataLoader(data, 2, sampler=SubsetSampler([3, 1, 7], shuffle=False))
    assert [b.tolist() for (b,) in loader] == [[30, 10], [70]] and len(loader) == 2
    loader = DataLoader(data, sampler=BatchSampler(SequentialSampler(data), 4, drop_last=True))
    assert [b.tolist() for (b,) in loader] == [[0, 10, 20, 30], [40, 50, 60, 70]]
    assert loader.state_dict()["batch_size"] == 4


@pytest.mark.parametrize(
    "make",
    [
        lambda: RandomSampler(TEN, num_samples=11),
        lambda: RandomSampler(TEN, num_samples=0),
        lambda: SubsetSampler([-1]),
        lambda: SubsetSampler([0.5]),
        lambda: WeightedSampler([0, 0], 1),
        lambda: WeightedSampler([1, np.nan], 1),
        lambda: WeightedSampler([1, -1], 1),
        lambda: WeightedSampler([1, 0], 2, replacement=False),
        lambda: BatchSampler(SequentialSampler(TEN), 0),
    ],
)
def test_bad_settings_are_named(make):
    """Ground truth: the documented ranges."""
    with pytest.raises(SettingError, match="Sampler: "):
        make()


def test_one_sample_may_be_drawn():
    """Closed form: a number of 1 is a number."""
    assert len(RandomSampler(TEN, num_samples=1).order(0, 0)) == 1
