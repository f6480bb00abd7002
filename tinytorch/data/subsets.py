"""Parts of a data set, and several data sets as one.

Knows lengths and sample numbers, never samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tinytorch.base.errors import IndexRangeError, SettingError
from tinytorch.data.dataset import check_index
from tinytorch.data.samplers import sample_numbers
from tinytorch.data.samples import take
from tinytorch.data.stream import SPLIT, Stream


class Subset:
    """The samples of a data set with these numbers, renumbered from 0.

    Args:
        dataset: the whole.
        indices: sample numbers of it, in 0..len(dataset) - 1.

    Raises:
        SettingError: indices that are no sample numbers.
        IndexRangeError: an index outside the data set.

    Example:
        >>> Subset([10, 20, 30], [2, 0])[0]
        30
    """

    def __init__(self, dataset, indices: Sequence[int] | np.ndarray):
        self.dataset, self.indices = dataset, sample_numbers("Subset", indices)
        if self.indices.max(initial=-1) >= len(dataset):
            raise IndexRangeError(
                "Subset: a sample number is outside the data set",
                got=int(self.indices.max()),
                rule=f"0 <= index < {len(dataset)}",
                fix="indices[indices < len(dataset)]",
            )

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int):
        check_index(index, len(self))
        return self.dataset[int(self.indices[index])]

    def take(self, indices: np.ndarray) -> tuple[np.ndarray, ...]:
        """The samples with these numbers of the part."""
        return take(self.dataset, self.indices[indices])


class ConcatDataset:
    """Several data sets one after the other.

    Args:
        datasets: at least one; samples of the same parts and shapes.

    Raises:
        SettingError: no data set.

    Example:
        >>> both = ConcatDataset([[1, 2], [3]])
        >>> len(both), both[2], both.take(np.array([2, 0]))
        (3, 3, (array([3, 1]),))
    """

    def __init__(self, datasets: Sequence):
        self.datasets = tuple(datasets)
        if not self.datasets:
            raise SettingError(
                "ConcatDataset: there is nothing to put together",
                got="no data set",
                rule="at least one",
                fix="ConcatDataset([first, second])",
            )
        self._ends = np.cumsum([len(d) for d in self.datasets])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int):
        check_index(index, len(self))
        index = int(index) % len(self)
        i = int(np.searchsorted(self._ends, index, side="right"))
        return self.datasets[i][index - int(self._ends[i]) + len(self.datasets[i])]

    def take(self, indices: np.ndarray) -> tuple[np.ndarray, ...]:
        """The samples with these numbers, in their order."""
        which = np.searchsorted(self._ends, indices, side="right")
        parts = []
        for i in np.unique(which):
            start = int(self._ends[i]) - len(self.datasets[i])
            parts.append(take(self.datasets[i], indices[which == i] - start))
        back = np.argsort(np.argsort(which, kind="stable"), kind="stable")
        return tuple(np.concatenate(arrays)[back] for arrays in zip(*parts, strict=True))


def random_split(dataset, lengths: Sequence[float], seed: int = 0) -> list[Subset]:
    """Parts without a common sample, chosen at random.

    Args:
        dataset: the whole.
        lengths: how many samples each part has, in all len(dataset); or fractions, in all 1. What
            rounding down leaves over goes one each to the first parts.
        seed: the same seed gives the same parts, 0 <= seed < 2**64.

    Returns:
        a Subset for each length.

    Raises:
        SettingError: the lengths are negative or do not add up.

    Cost: a permutation of the sample numbers.

    Differs from PyTorch: `seed` in place of a generator.

    Example:
        >>> train, rest = random_split(range(10), [0.8, 0.2])
        >>> len(train), len(rest), sorted([*train.indices, *rest.indices]) == list(range(10))
        (8, 2, True)
    """
    n = len(dataset)
    counts = [float(x) for x in lengths]
    if counts and all(0 <= x <= 1 for x in counts) and math.isclose(sum(counts), 1) and n != 1:
        # 1e-9: a product like 0.7 * 10 that is 7 lies a rounding below it
        counts = [math.floor(x * n + 1e-9) for x in counts]
        for i in range(n - sum(counts)):
            counts[i % len(counts)] += 1
    if any(x < 0 or x != int(x) for x in counts) or sum(counts) != n:
        raise SettingError(
            "random_split: the parts do not make the whole",
            got=f"lengths={list(lengths)}",
            rule=f"whole numbers that add up to {n}, or fractions that add up to 1",
            fix="random_split(dataset, [0.9, 0.1])",
        )
    order = Stream(seed, purpose=SPLIT).permutation(n)
    ends = np.cumsum([int(x) for x in counts])
    return [Subset(dataset, part) for part in np.split(order, ends[:-1])]
