"""From a list of sample numbers to arrays with the samples stacked.

Knows the two ways a data set may answer: `take(indices)`, or one sample at a time.
"""

from __future__ import annotations

import numpy as np

from tinytorch.base.errors import SettingError, ShapeError


def take(dataset, indices: np.ndarray) -> tuple[np.ndarray, ...]:
    """The samples with these numbers as arrays (B, ...).

    Args:
        dataset: with `take(indices)`; or with `dataset[i]` giving an array, a number or a tuple
            of these, as data sets written for PyTorch do.
        indices: (B,) sample numbers; B >= 1 where the data set has no `take`.

    Raises:
        ShapeError: samples of different shapes or sizes.

    Cost: a call of the data set for a batch with `take`, else one for each sample and a copy.

    Example:
        >>> take([(1.0, 2), (3.0, 4)], np.array([1, 0]))
        (array([3., 1.]), array([4, 2]))
    """
    if hasattr(dataset, "take"):
        return tuple(dataset.take(indices))
    samples = [dataset[int(i)] for i in indices]
    samples = [s if isinstance(s, tuple | list) else (s,) for s in samples]
    shapes = {tuple(np.shape(part) for part in sample) for sample in samples}
    if len(shapes) > 1:
        raise ShapeError(
            "the samples of a batch do not fit together",
            got=f"shapes {sorted(shapes)[:3]}",
            rule="every sample has the same parts with the same shapes",
            fix="cut or pad the samples in the data set",
        )
    return tuple(np.stack([np.asarray(p) for p in parts]) for parts in zip(*samples, strict=True))


def check_dataset(dataset) -> None:
    """Refuse what is no data set, as early as it can be seen.

    Raises:
        SettingError: no length, no way to take samples, or an array: its `take` means another
            thing.
    """
    takes = hasattr(dataset, "take") or hasattr(dataset, "__getitem__")
    if hasattr(dataset, "__array__") or not hasattr(dataset, "__len__") or not takes:
        raise SettingError(
            "DataLoader: this is not a data set",
            got=type(dataset).__name__,
            rule="an object with a length, and `take(indices)` or `dataset[i]`",
            fix="ArrayDataset(images, labels) makes one of arrays; list(samples) of a generator",
        )
