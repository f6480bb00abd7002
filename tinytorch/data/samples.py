"""From a list of sample numbers to arrays with the samples stacked.

Knows the two ways a data set may answer: `take(indices)`, or one sample at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tinytorch.base.errors import ShapeError


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
