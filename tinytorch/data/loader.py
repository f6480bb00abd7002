"""Batches of a data set, in an order that depends on the seed and the epoch alone.

Knows sample numbers and NumPy arrays, never a model.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tinytorch.base.errors import SettingError
from tinytorch.data.dataset import Dataset
from tinytorch.data.prefetch import prefetched


class DataLoader:
    """Goes through a data set in batches; each `for` over it is one epoch.

    The order of epoch e is a permutation made from (seed, e) alone: the same on every machine, in
    every process and after a restart. `state_dict` holds the position, also in the middle of an
    epoch: after `load_state_dict` the next `for` yields the batches that were still to come.

    Args:
        dataset: anything with `__len__` and `take(indices)`.
        batch_size: samples in a batch, >= 1.
        shuffle: a new order each epoch; otherwise the data set's own.
        seed: 0 <= seed < 2**64.
        drop_last: leave out a last batch that is not full, so that all have one shape.
        prefetch: batches made early by a background thread; 0 makes each when it is asked for.

    Raises:
        SettingError: a setting outside its range; the message names it and the value.

    Cost: one permutation of N numbers each epoch; `prefetch` + 1 batches of memory.

    Differs from PyTorch: yields NumPy arrays; no worker processes; `seed` in place of a generator.

    Example:
        >>> from tinytorch.data import ArrayDataset
        >>> loader = DataLoader(ArrayDataset(np.arange(5)), batch_size=2, shuffle=True, seed=1)
        >>> [batch.tolist() for (batch,) in loader], len(loader)
        ([[3, 2], [0, 1], [4]], 3)
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int = 32,
        *,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        prefetch: int = 0,
    ):
        _check("batch_size", batch_size, 1, 2**31)
        _check("seed", seed, 0, 2**64 - 1)
        _check("prefetch", prefetch, 0, 1024)
        self.dataset, self.batch_size, self.shuffle = dataset, batch_size, shuffle
        self.seed, self.drop_last, self.prefetch = seed, drop_last, prefetch
        self.epoch = 0  # epochs finished
        self.position = 0  # batches of the present epoch that were handed out

    def __len__(self) -> int:
        """Batches in an epoch."""
        n = len(self.dataset)
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    def order(self, epoch: int) -> np.ndarray:
        """The sample numbers of epoch `epoch` in the order they are used, (N,) int64."""
        n = len(self.dataset)
        if not self.shuffle:
            return np.arange(n)
        # Sorting raw words, since only a bit generator's raw output is fixed across NumPy
        # versions (NEP 19); n equal words would need about 2**32 samples.
        words = np.random.Philox(key=np.array([self.seed, epoch], np.uint64)).random_raw(n)
        return np.argsort(words, kind="stable")

    def __iter__(self) -> Iterator[tuple[np.ndarray, ...]]:
        """The batches of the present epoch that are still to come."""
        batches = self._batches(self.position)
        if self.prefetch:
            batches = prefetched(batches, self.prefetch)
        for batch in batches:
            self.position += 1
            yield batch
        self.epoch, self.position = self.epoch + 1, 0

    def _batches(self, start: int) -> Iterator[tuple[np.ndarray, ...]]:
        order = self.order(self.epoch)
        for i in range(start, len(self)):
            yield self.dataset.take(order[i * self.batch_size : (i + 1) * self.batch_size])

    def state_dict(self) -> dict[str, int]:
        """The position in the data: whole numbers that can be saved anywhere."""
        return {"seed": self.seed, "epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go to a position that `state_dict` gave.

        Raises:
            SettingError: a number outside its range.
        """
        _check("seed", state["seed"], 0, 2**64 - 1)
        _check("epoch", state["epoch"], 0, 2**64 - 1)
        _check("position", state["position"], 0, len(self))
        self.seed, self.epoch, self.position = state["seed"], state["epoch"], state["position"]


def _check(name: str, value: int, least: int, most: int) -> None:
    if not isinstance(value, (int, np.integer)) or not least <= value <= most:
        raise SettingError(
            f"DataLoader: {name} is outside its range",
            got=f"{name}={value!r}",
            rule=f"a whole number, {least} <= {name} <= {most}",
            fix=f"{name}={least}",
        )
