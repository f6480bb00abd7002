"""Data sets: a length, and a way to take samples by their numbers; or samples that come by
themselves.

Knows NumPy arrays, never batches or files. A data set is anything with `__len__`, and `take` or
`__getitem__`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from tinytorch.base.errors import IndexRangeError, SettingError, ShapeError
from tinytorch.data.mapped import MappedArray
from tinytorch.data.samples import stacked


class Dataset(Protocol):
    """What a DataLoader needs. A subclass defines `__len__`, and `__getitem__` or `take`.

    Example:
        >>> class Squares(Dataset):
        ...     def __len__(self):
        ...         return 4
        ...     def __getitem__(self, index):
        ...         return float(index), index * index
        >>> Squares().take(np.array([2, 3]))
        (array([2., 3.]), array([4, 9]))
    """

    def __len__(self) -> int:
        """Number of samples, N."""
        raise _undefined(self, "__len__", "def __len__(self): return the number of samples")

    def take(self, indices: np.ndarray) -> Any:
        """The samples with these numbers, stacked along axis 0 of each array: tuple or dict."""
        one = getattr(self, "__getitem__", None)
        if one is None:
            raise _undefined(self, "__getitem__", "def __getitem__(self, index): return a sample")
        return stacked([one(int(i)) for i in indices])


class IterableDataset:
    """Samples that come in their own order, from a stream without a length: define `__iter__`.

    Each pass of a DataLoader calls `iter()` anew.

    Example:
        >>> from tinytorch.data import DataLoader
        >>> class Lines(IterableDataset):
        ...     def __iter__(self):
        ...         return iter([1.0, 2.0, 3.0])
        >>> [batch.tolist() for (batch,) in DataLoader(Lines(), 2)]
        [[1.0, 2.0], [3.0]]
    """

    def __iter__(self) -> Iterator[Any]:
        """The samples, one by one."""
        raise _undefined(self, "__iter__", "def __iter__(self): yield each sample")


def _undefined(dataset: object, name: str, fix: str) -> SettingError:
    owner = type(dataset).__name__
    return SettingError(
        f"{owner} has no {name}",
        got=f"a data set {owner} that does not define it",
        rule="a Dataset defines __len__, and __getitem__ or take; an IterableDataset __iter__",
        fix=fix,
    )


def check_dataset(dataset) -> None:
    """Refuse what is no data set, as early as it can be seen.

    Raises:
        SettingError: no length, no way to take samples, or an array: its `take` means another
            thing.
    """
    if isinstance(dataset, IterableDataset):
        return
    takes = hasattr(dataset, "take") or hasattr(dataset, "__getitem__")
    if hasattr(dataset, "__array__") or not hasattr(dataset, "__len__") or not takes:
        raise SettingError(
            "DataLoader: this is not a data set",
            got=type(dataset).__name__,
            rule="an object with a length, and `take(indices)` or `dataset[i]`",
            fix="ArrayDataset(images, labels) makes one of arrays; list(samples) of a generator",
        )


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
