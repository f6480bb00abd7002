"""Data sets: a length, and a way to take samples by their numbers; or samples that come one by one.

Knows NumPy arrays, numbers of samples and of classes, never batches or files. A data set is
anything with `__len__`, and `take` or `__getitem__`. In this order: from sample numbers to stacked
arrays; data sets, of arrays, of pictures with labels and of windows of a text's tokens; parts of a
data set, and several as one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from tinytorch.base.arguments import flag
from tinytorch.base.errors import DataError, IndexRangeError, SettingError, ShapeError
from tinytorch.data.mapped import MappedArray
from tinytorch.data.samplers import sample_numbers
from tinytorch.data.stream import SPLIT, Stream


def take(dataset, indices: np.ndarray) -> Any:
    """The samples with these numbers as arrays (B, ...).

    Args:
        dataset: with `take(indices)`; or with `dataset[i]` giving an array, a number, or tuples or
            dicts of these, as data sets written for PyTorch do.
        indices: (B,) sample numbers; B >= 1 where the data set has no `take`.

    Returns:
        a tuple of arrays, also where a sample is one array; a dict where samples are dicts.

    Raises:
        ShapeError: samples of different shapes or sizes.

    Cost: a call of the data set for a batch with `take`, else one for each sample and a copy.

    Example:
        >>> take([(1.0, 2), (3.0, 4)], np.array([1, 0]))
        (array([3., 1.]), array([4, 2]))
    """
    if hasattr(dataset, "take"):
        batch = dataset.take(indices)
        return batch if isinstance(batch, Mapping) else tuple(batch)
    return stacked([dataset[int(i)] for i in indices])


def stacked(samples: Sequence[Any]) -> Any:
    """Samples as one batch: part by part, each an array (B, ...).

    Args:
        samples: at least one; arrays, numbers, and tuples, lists and dicts of these to any depth.

    Returns:
        what one sample is, with arrays in place of its numbers; a sample that is one array or
        number gives a tuple of one array.

    Raises:
        ShapeError: samples of different shapes or parts.

    Example:
        >>> stacked([{"x": 1, "y": (2.0, 3.0)}, {"x": 4, "y": (5.0, 6.0)}])
        {'x': array([1, 4]), 'y': (array([2., 5.]), array([3., 6.]))}
    """
    if isinstance(samples[0], tuple | list | Mapping):
        return _stacked(samples)
    return (_stacked(samples),)


def _stacked(parts: Sequence[Any]) -> Any:
    first = parts[0]
    if isinstance(first, Mapping):
        if any(not isinstance(p, Mapping) or p.keys() != first.keys() for p in parts):
            raise _unlike({tuple(p) if isinstance(p, Mapping) else type(p).__name__ for p in parts})
        return {name: _stacked([p[name] for p in parts]) for name in first}
    if isinstance(first, tuple | list):
        if any(not isinstance(p, tuple | list) or len(p) != len(first) for p in parts):
            raise _unlike({np.shape(p) if _is_plain(p) else f"{len(p)} parts" for p in parts})
        make = getattr(type(first), "_make", tuple)  # named tuples stay what they are
        return make([_stacked(together) for together in zip(*parts, strict=True)])
    shapes = {np.shape(p) if _is_plain(p) else type(p).__name__ for p in parts}
    if len(shapes) > 1:
        raise _unlike(shapes)
    return np.stack([np.asarray(p) for p in parts])


def _is_plain(x: Any) -> bool:
    return not isinstance(x, tuple | list | Mapping)


def _unlike(kinds: set) -> ShapeError:
    return ShapeError(
        "the samples of a batch do not fit together",
        got=f"shapes {sorted(kinds, key=str)[:3]}",
        rule="every sample has the same parts with the same shapes",
        fix="cut or pad the samples in the data set",
    )


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


class ImageDataset:
    """Images kept as bytes and handed out as numbers from 0 to 1, with their labels.

    Args:
        images: (N, H, W) grey or (N, C, H, W), uint8, in memory or mapped.
        labels: (N,) whole numbers >= 0.
        largest: the byte that means 1.0, in 1..255.
        classes: the names of the classes; then every label lies below their number.
        as_bytes: hand the images out as the bytes they are: a quarter of the memory to move, for
            a transform that turns them into numbers at its end (`Normalize`).

    Raises:
        ShapeError: the shapes are not as above.
        DataError: a label is not a class number (NaN, a fraction, negative, too large).
        SettingError: the images are not bytes, or `largest` is outside its range.

    Cost: N * C * H * W bytes; a batch is made when it is taken.

    Example:
        >>> data = ImageDataset(np.full((2, 1, 2), 4, np.uint8), np.array([0, 1]), largest=16)
        >>> data[1]
        (array([[[0.25, 0.25]]], dtype=float32), np.int64(1))
    """

    def __init__(
        self, images: np.ndarray | MappedArray, labels: np.ndarray, largest: int = 255,
        classes: Sequence[str] = (), as_bytes: bool = False,
    ):  # fmt: skip
        labels = np.asarray(labels)
        if not isinstance(images, MappedArray):
            images = np.asarray(images)
        if images.ndim not in (3, 4) or labels.shape != images.shape[:1]:
            raise ShapeError(
                "images and labels do not belong together",
                got=f"images {images.shape}, labels {labels.shape}",
                rule="images (N, H, W) or (N, C, H, W), and labels (N,)",
                fix="images.reshape(-1, 28, 28), labels.reshape(-1)",
            )
        if images.dtype != np.uint8:
            raise SettingError(
                "ImageDataset: the images are not bytes",
                got=f"dtype {images.dtype}",
                rule="uint8, 0 to `largest`",
                fix="ArrayDataset(images, labels) hands out numbers of any kind",
            )
        if not 1 <= largest <= 255:
            raise SettingError(
                "ImageDataset: largest is outside its range",
                got=f"largest={largest}",
                rule="1 <= largest <= 255, the byte that means white",
                fix="largest=255",
            )
        self.images = images
        self.classes = tuple(classes)
        self.labels = class_numbers(labels, len(self.classes) or None)
        self.largest = largest
        self.as_bytes = flag("ImageDataset", "as_bytes", as_bytes)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple:
        check_index(index, len(self))
        images, labels = self.take(np.array([index]))
        return images[0], labels[0]

    def take(self, indices: np.ndarray) -> tuple[np.ndarray, ...]:
        """Images (B, C, H, W) and labels (B,) int64 with these numbers.

        The images are float32 in [0, 1], or uint8 where `as_bytes` is set.
        """
        images = self.images[indices]
        if images.ndim == 3:
            images = images[:, None]
        if not self.as_bytes:
            images = images.astype(np.float32)
            images *= np.float32(1 / self.largest)
        return images, self.labels[indices]


def class_numbers(labels: np.ndarray, classes: int | None = None) -> np.ndarray:
    """The labels as int64, or an error that names the first that is no class number.

    Args:
        labels: any shape; floats are taken if each is a whole number.
        classes: how many classes there are, K; None checks only for labels below 0.

    Returns:
        int64, the same shape; the same array if it was int64 already.

    Raises:
        DataError: a label is NaN, infinite, a fraction, or outside 0..K-1.

    Cost: two passes over the labels.

    Example:
        >>> class_numbers(np.array([2.0, 0.0]), classes=3)
        array([2, 0])
    """
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iubf":
        raise DataError(
            "labels are not numbers",
            got=f"dtype {labels.dtype}",
            rule="whole numbers from 0 on, one for each class",
            fix="np.unique(labels, return_inverse=True)[1] numbers the classes",
        )
    if labels.dtype.kind == "f":
        _refuse(labels, ~np.isfinite(labels) | (labels != np.floor(labels)), classes)
    _refuse(labels, labels < 0 if classes is None else (labels < 0) | (labels >= classes), classes)
    return labels.astype(np.int64, copy=False)


def _refuse(labels: np.ndarray, wrong: np.ndarray, classes: int | None) -> None:
    if wrong.any():
        at = int(np.flatnonzero(wrong)[0])
        raise DataError(
            "a label is not a class number",
            got=f"{labels.reshape(-1)[at]} at place {at}; {int(wrong.sum())} such in all",
            rule="a whole number >= 0" + (f" and < {classes}" if classes else ""),
            fix="correct these labels, or leave out their samples",
        )


class TextWindows:
    """Windows of a token sequence: each input is `length` tokens, its target the same one later.

    Args:
        tokens: (M,) token ids, in memory or left in their file (`text.map_tokens`).
        length: T, tokens in a window, 1 <= T < M.
        step: tokens between the starts of two windows, >= 1; None means `length` (no overlap).
        vocab: number of tokens of the model, V: an id that is not below it is refused when a batch
            with it is taken. None: not looked at.

    Raises:
        SettingError: a setting outside its range.

    Cost: nothing but the tokens; a batch is cut when it is taken, and read then where the tokens
    are in a file.

    Example:
        >>> TextWindows(np.arange(6), length=2)[1]
        (array([2, 3]), array([3, 4]))
    """

    def __init__(
        self, tokens: np.ndarray | MappedArray, length: int, step: int | None = None,
        vocab: int | None = None,
    ):  # fmt: skip
        step = length if step is None else step
        if not 1 <= length < len(tokens) or step < 1:
            raise SettingError(
                "TextWindows: these windows do not fit the text",
                got=f"length={length}, step={step}, {len(tokens)} tokens",
                rule="1 <= length < number of tokens, step >= 1",
                fix=f"length={max(1, min(length, len(tokens) - 1))}",
            )
        self.tokens = tokens if isinstance(tokens, MappedArray) else np.asarray(tokens)
        self.length, self.step, self.vocab = length, step, vocab

    def __len__(self) -> int:
        """Number of whole windows, N."""
        return (len(self.tokens) - 1 - self.length) // self.step + 1

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        check_index(index, len(self))
        inputs, targets = self.take(np.array([index % len(self)]))
        return inputs[0], targets[0]

    def take(self, indices: np.ndarray) -> tuple[np.ndarray, ...]:
        """Inputs (B, T) and targets (B, T) of the windows with these numbers; int64 of a file."""
        at = np.asarray(indices)[:, None] * self.step + np.arange(self.length + 1)  # (B, T + 1)
        both = self.tokens[at.reshape(-1)].reshape(at.shape)
        if self.vocab is not None and both.size and both.max() >= self.vocab:
            place = int(at.reshape(-1)[both.argmax()])
            raise DataError(
                "TextWindows: a token is none of the model's vocabulary",
                got=f"id {int(both.max())} at place {place}",
                rule=f"0 <= id < {self.vocab}",
                fix="a model with the vocabulary of the tokenizer that made these tokens",
            )
        if isinstance(self.tokens, MappedArray):
            both = both.astype(np.int64)
        return both[:, :-1], both[:, 1:]


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
