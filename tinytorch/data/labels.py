"""Class numbers: whole, not negative, and below the number of classes.

Knows one array of labels, never what the classes are.
"""

from __future__ import annotations

import numpy as np

from tinytorch.base.errors import DataError


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
