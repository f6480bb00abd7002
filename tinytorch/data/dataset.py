"""Data sets: a length, and a way to take samples by their numbers.

Knows NumPy arrays, never batches or files. A data set is anything with `__len__` and `take`.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from tinytorch.base.errors import IndexRangeError, ShapeError
from tinytorch.data.mapped import MappedArray


class Dataset(Protocol):
    """What a DataLoader needs."""

    def __len__(self) -> int:
        """Number of samples, N."""
        ...

    def take(self, indices: np.ndarray) -> tuple[np.ndarray, ...]:
        """The samples with these numbers, stacked along axis 0 of each array."""
        ...


class ArrayDataset:
    """Samples that lie in arrays: sample i is entry i of each.

    Args:
        arrays: one or more arrays with the same length of axis 0, in memory or mapped.

    Raises:
        ShapeError: no array, a 0-d array, or lengths that differ.

    Example:
        >>> data = ArrayDataset(np.eye(3), np.array([7, 8, 9]))
        >>> len(data), data[1]
        (3, (array([0., 1., 0.]), np.int64(8)))
    """

    def __init__(self, *arrays: np.ndarray | MappedArray):
        self.arrays = tuple(a if isinstance(a, MappedArray) else np.asarray(a) for a in arrays)
        shapes = [a.shape for a in self.arrays]
        if not shapes or len({s[:1] for s in shapes}) != 1 or not shapes[0]:
            raise ShapeError(
                "the arrays of a data set do not belong together",
                got=f"shapes {shapes}",
                rule="at least one array; axis 0 counts samples and is equally long in all",
                fix="ArrayDataset(images, labels) with len(images) == len(labels)",
            )

    def __len__(self) -> int:
        return len(self.arrays[0])

    def __getitem__(self, index: int) -> tuple:
        check_index(index, len(self))
        return tuple(a[index] for a in self.arrays)

    def take(self, indices: np.ndarray) -> tuple[np.ndarray, ...]:
        """The samples with these numbers: one new array (B, ...) for each array."""
        return tuple(a[indices] for a in self.arrays)


def check_index(index: int, length: int) -> None:
    """Refuse a sample number outside -length..length-1."""
    if not -length <= index < length:
        raise IndexRangeError(
            "there is no sample of that number",
            got=index,
            rule=f"{-length} <= index < {length}",
            fix=f"data[{length - 1}] is the last",
        )
