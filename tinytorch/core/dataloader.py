"""Chapter "dataloader": samples, and the batches that are made of them."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np

from tinytorch.base.arguments import whole
from tinytorch.data import load_cifar10
from tinytorch.data.dataset import ArrayDataset, Dataset, ImageDataset
from tinytorch.data.loader import DataLoader

__all__ = ["ArrayDataset", "CIFAR10Dataset", "DataLoader", "Dataset"]


class CIFAR10Dataset(ImageDataset):
    """CIFAR-10: a data set, and with a `batch_size` its own batches.

    Args:
        batch_size: None for a data set that a DataLoader takes; else iterating gives batches of so
            many, in order.
        train: the 50,000 training pictures, or the 10,000 for testing.
        folder: where the files are; default as `load_cifar10`.

    Raises:
        DataError: the files are missing or damaged.
        SettingError: a batch_size below 1.
    """

    def __init__(
        self,
        batch_size: int | None = None,
        train: bool = True,
        folder: str | os.PathLike[str] | None = None,
    ):
        data = load_cifar10(train, folder)
        self.__dict__.update(data.__dict__)
        self.batch_size = None
        if batch_size is not None:
            self.batch_size = whole("CIFAR10Dataset", "batch_size", batch_size, at_least=1)

    def __iter__(self) -> Iterator[tuple[np.ndarray, ...]]:
        """Samples, or batches when a batch_size was given."""
        if self.batch_size is None:
            return (self[i] for i in range(len(self)))
        return iter(DataLoader(self, batch_size=self.batch_size))
