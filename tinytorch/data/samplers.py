"""Which samples, in which order: a pure function of (seed, epoch).

Knows sample numbers, never samples. A sampler is anything with `__len__` and `order(seed, epoch)`;
asking twice gives the same answer, so an interrupted epoch needs no state but its number. One that
can name a part of its order without the rest has `part(seed, epoch, start, stop)` too: an epoch of
10**10 samples then costs no more than its batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from tinytorch.base.arguments import flag, whole
from tinytorch.base.errors import SettingError
from tinytorch.data.stream import ORDER, Stream

SORTED = 2**24  # samples that are brought into order by sorting: 130 MB; more are enciphered


class Sampler(Protocol):
    """What a DataLoader asks for an order."""

    def __len__(self) -> int:
        """How many sample numbers an epoch has."""
        ...

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """The sample numbers of an epoch, (n,) int64."""
        ...


class SequentialSampler:
    """Every sample in the data set's own order.

    Args:
        dataset: anything with a length.

    Example:
        >>> SequentialSampler([7, 8, 9]).order(seed=0, epoch=0)
        array([0, 1, 2])
    """

    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """0, 1, 2, ... whatever seed and epoch are."""
        return np.arange(len(self))

    def part(self, seed: int, epoch: int, start: int, stop: int) -> np.ndarray:
        """order(seed, epoch)[start:stop]."""
        return np.arange(start, min(stop, len(self)))


class RandomSampler:
    """Samples at random, each once in an epoch, or drawn again and again.

    Args:
        dataset: anything with a length.
        replacement: draw each time from all samples.
        num_samples: how many an epoch has, >= 1; None means the data set's length. More than
            that needs `replacement`.

    Raises:
        SettingError: a setting outside its range.

    Cost: of an epoch's order in memory, up to 2**24 samples without replacement; otherwise of a
    batch, however many samples there are.

    Differs from PyTorch: the seed comes with the question, not from a generator's state.

    Example:
        >>> RandomSampler(range(5)).order(seed=1, epoch=0).tolist()
        [3, 2, 0, 1, 4]
        >>> sampler = RandomSampler(range(5), replacement=True, num_samples=10**10)
        >>> len(sampler), sampler.part(1, 0, 9_999_999_998, 10**10).tolist()
        (10000000000, [2, 2])
    """

    def __init__(self, dataset, replacement: bool = False, num_samples: int | None = None):
        self.dataset = dataset
        self.replacement = flag("RandomSampler", "replacement", replacement)
        if num_samples is not None:
            whole("RandomSampler", "num_samples", num_samples, at_least=1)
        self.num_samples = num_samples
        if num_samples is not None and num_samples > len(dataset) and not replacement:
            raise SettingError(
                "RandomSampler: there are not so many samples",
                got=f"num_samples={num_samples}, {len(dataset)} samples",
                rule="without replacement each sample is drawn at most once",
                fix="RandomSampler(dataset, replacement=True, num_samples=...)",
            )

    def __len__(self) -> int:
        return len(self.dataset) if self.num_samples is None else self.num_samples

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """A permutation's first numbers, or independent draws."""
        part = self.part(seed, epoch, 0, len(self))
        if part is not None:
            return part
        return Stream(seed, epoch, purpose=ORDER).permutation(len(self.dataset))[: len(self)]

    def part(self, seed: int, epoch: int, start: int, stop: int) -> np.ndarray | None:
        """order(seed, epoch)[start:stop]; None where it has to be cut from the whole."""
        stream, samples = Stream(seed, epoch, purpose=ORDER), len(self.dataset)
        stop = min(stop, len(self))
        if self.replacement:
            return stream.go_to(start).whole(samples, stop - start)
        return stream.scattered(samples, start, stop) if samples > SORTED else None


class SubsetSampler:
    """The samples with these numbers alone, in random order or as listed.

    Args:
        indices: sample numbers, each >= 0.
        shuffle: a new order each epoch.

    Raises:
        SettingError: an index is negative or no whole number.

    Differs from PyTorch's SubsetRandomSampler: `shuffle=False` keeps the listed order.

    Example:
        >>> SubsetSampler([4, 2, 7], shuffle=False).order(seed=0, epoch=0)
        array([4, 2, 7])
    """

    def __init__(self, indices: Sequence[int] | np.ndarray, shuffle: bool = True):
        self.indices = sample_numbers("SubsetSampler", indices)
        self.shuffle = flag("SubsetSampler", "shuffle", shuffle)

    def __len__(self) -> int:
        return len(self.indices)

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """The listed numbers."""
        if not self.shuffle:
            return self.indices
        return self.indices[Stream(seed, epoch, purpose=ORDER).permutation(len(self))]


class WeightedSampler:
    """Sample i is drawn with probability weights[i] / sum(weights): rare classes made frequent.

    With replacement each draw is independent. Without, each next one is drawn from those left
    with the same rule: the samples in the order of u**(1/weight), u uniform (Efraimidis & Spirakis
    2006, Weighted random sampling with a reservoir, algorithm A).

    Args:
        weights: (N,) numbers >= 0, finite, not all 0.
        num_samples: how many an epoch has, >= 1.
        replacement: draw each time from all samples.

    Raises:
        SettingError: a weight outside its range, or more samples asked for than have a weight.

    Differs from PyTorch's WeightedRandomSampler: the seed comes with the question.

    Example:
        >>> drawn = WeightedSampler([1, 0, 3], num_samples=4000).order(seed=0, epoch=0)
        >>> [round(float((drawn == i).mean()), 1) for i in range(3)]
        [0.2, 0.0, 0.8]
    """

    def __init__(
        self, weights: Sequence[float] | np.ndarray, num_samples: int, replacement: bool = True
    ):
        self.weights = np.asarray(weights, np.float64)
        self.num_samples = whole("WeightedSampler", "num_samples", num_samples, at_least=1)
        self.replacement = flag("WeightedSampler", "replacement", replacement)
        self._bounds: tuple[np.ndarray, int] | None = None  # made when first asked
        good = self.weights.ndim == 1 and np.isfinite(self.weights).all()
        if not good or (self.weights < 0).any() or not self.weights.sum() > 0:
            raise SettingError(
                "WeightedSampler: these are not weights",
                got=f"shape {self.weights.shape}, smallest {self.weights.min(initial=np.inf)}",
                rule="one finite number >= 0 for each sample, not all 0",
                fix="weights = (1 / np.bincount(labels))[labels]",
            )
        usable = int((self.weights > 0).sum())
        if not replacement and num_samples > usable:
            raise SettingError(
                "WeightedSampler: there are not so many samples",
                got=f"num_samples={num_samples}, {usable} samples with a weight above 0",
                rule="without replacement each sample is drawn at most once",
                fix=f"WeightedSampler(weights, {usable}, replacement=False)",
            )

    def __len__(self) -> int:
        return self.num_samples

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """Sample numbers drawn by weight."""
        stream = Stream(seed, epoch, purpose=ORDER)
        if not self.replacement:
            with np.errstate(divide="ignore"):  # a weight of 0 comes last
                keys = np.log1p(-stream.uniform(len(self.weights))) / self.weights
            return np.argsort(-keys, kind="stable")[: len(self)]
        return self._drawn(stream.uniform(len(self)))

    def part(self, seed: int, epoch: int, start: int, stop: int) -> np.ndarray | None:
        """order(seed, epoch)[start:stop]; None without replacement: every weight plays a part."""
        if not self.replacement:
            return None
        stream, stop = Stream(seed, epoch, purpose=ORDER), min(stop, len(self))
        return self._drawn(stream.go_to(start).uniform(stop - start))

    def _drawn(self, uniform: np.ndarray) -> np.ndarray:
        if self._bounds is None:
            self._bounds = np.cumsum(self.weights), np.flatnonzero(self.weights)[-1]
        bounds, last = self._bounds
        drawn = np.searchsorted(bounds, uniform * bounds[-1], side="right")
        return np.minimum(drawn, last)  # a product rounded up


class BatchSampler:
    """A sampler's order cut into batches.

    Args:
        sampler: where the order comes from.
        batch_size: samples in a batch, >= 1.
        drop_last: leave out a last batch that is not full.

    Raises:
        SettingError: a setting outside its range.

    Example:
        >>> batches = BatchSampler(SequentialSampler(range(5)), 2)
        >>> [batches.batch(i, seed=0, epoch=0).tolist() for i in range(len(batches))]
        [[0, 1], [2, 3], [4]]
    """

    def __init__(self, sampler: Sampler, batch_size: int, drop_last: bool = False):
        self.sampler = sampler
        self.batch_size = whole("BatchSampler", "batch_size", batch_size, at_least=1)
        self.drop_last = flag("BatchSampler", "drop_last", drop_last)
        self._known: tuple[tuple[int, int], np.ndarray] | None = None  # the last epoch's order

    def __len__(self) -> int:
        """Batches in an epoch."""
        n = len(self.sampler)
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    def batch(self, i: int, seed: int, epoch: int) -> np.ndarray:
        """The sample numbers of batch i of an epoch, (B,) int64."""
        start, stop = i * self.batch_size, (i + 1) * self.batch_size
        part = getattr(self.sampler, "part", None)
        if part is not None and (found := part(seed, epoch, start, stop)) is not None:
            return found
        known = self._known
        if known is None or known[0] != (seed, epoch):
            known = (seed, epoch), self.sampler.order(seed, epoch)
            self._known = known
        return known[1][start:stop]


def sample_numbers(owner: str, indices: Sequence[int] | np.ndarray) -> np.ndarray:
    """Indices as (n,) int64, or a SettingError."""
    numbers = np.asarray(indices)
    if numbers.size == 0:
        return np.empty(0, np.int64)
    if numbers.ndim != 1 or numbers.dtype.kind not in "iu" or (numbers < 0).any():
        raise SettingError(
            f"{owner}: these are not sample numbers",
            got=f"shape {numbers.shape}, dtype {numbers.dtype}",
            rule="a list of whole numbers >= 0",
            fix="np.flatnonzero(mask) gives the numbers of the chosen samples",
        )
    return numbers.astype(np.int64)
