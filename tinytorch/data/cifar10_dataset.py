"""CIFAR-10 as the course writes it: a data set, or with a batch size at once a loader of it.

Knows how the two fit together; the files and the batches are the business of others.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

import numpy as np

from tinytorch.base.errors import SettingError
from tinytorch.data.augmentation import Transform
from tinytorch.data.cifar10 import load_cifar10
from tinytorch.data.loader import DataLoader


class CIFAR10Dataset:
    """The pictures of CIFAR-10; both `DataLoader(CIFAR10Dataset(), batch_size=64)` and
    `CIFAR10Dataset(batch_size=64)` go through them in batches.

    Args:
        train: the 50,000 training pictures, or the 10,000 for testing.
        batch_size: None for a data set; a number >= 1 for a loader of it: iterating gives batches
            and `len` counts them.
        shuffle: a new order each epoch, of the loader.
        seed: of the loader's order, 0 <= seed < 2**64.
        transform: of the loader's batches.
        folder: where the files are or shall be, as in `load_cifar10`.

    Raises:
        SettingError: a loader's setting without a batch size, or outside its range.
        DataError: the files are damaged, or missing and cannot be downloaded.

    Cost: as `load_cifar10`.
    """

    def __init__(
        self,
        train: bool = True,
        batch_size: int | None = None,
        *,
        shuffle: bool = False,
        seed: int = 0,
        transform: Transform | None = None,
        folder: str | os.PathLike[str] | None = None,
    ):
        if batch_size is None and (shuffle or seed or transform is not None):
            raise SettingError(
                "CIFAR10Dataset: these are settings of a loader",
                got=f"shuffle={shuffle}, seed={seed}, transform={transform!r}, no batch_size",
                rule="without a batch size it is a data set, which has no order of its own",
                fix="CIFAR10Dataset(batch_size=64, ...) or DataLoader(CIFAR10Dataset(), ...)",
            )
        self.samples = load_cifar10(train, folder)
        self.classes = self.samples.classes
        self.loader = None
        if batch_size is not None:
            self.loader = DataLoader(
                self.samples, batch_size, shuffle=shuffle, seed=seed, transform=transform
            )

    def __len__(self) -> int:
        """Samples; batches, if it is a loader."""
        return len(self.samples if self.loader is None else self.loader)

    def __getitem__(self, index: int) -> tuple:
        """Picture (3, 32, 32) float32 and label of one sample."""
        return self.samples[index]

    def __iter__(self) -> Iterator[tuple]:
        """Samples; batches, if it is a loader."""
        return iter(self.samples if self.loader is None else self.loader)

    def take(self, indices: np.ndarray) -> tuple[np.ndarray, ...]:
        """The samples with these numbers."""
        return self.samples.take(indices)

    def state_dict(self) -> dict[str, int]:
        """The loader's position; of a data set nothing."""
        return {} if self.loader is None else self.loader.state_dict()

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go to a position of the loader."""
        if self.loader is not None:
            self.loader.load_state_dict(state)
