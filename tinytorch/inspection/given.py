"""What is looked at, as it is given: arrays, Tensors or lists become checked NumPy arrays.

Knows shapes and numbers, never what they mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinytorch.base.errors import ArgumentError, ShapeError, short
from tinytorch.tensor.tensor import Tensor


def floats(owner: str, name: str, x: Any, shape: str) -> np.ndarray:
    """Finite numbers with so many axes.

    Args:
        owner, name: who takes it and as what, for messages.
        x: what was given.
        shape: what it has to be, as it is told: "(N, K)".

    Raises:
        ShapeError: another number of axes, or one of length 0.
        ArgumentError: no numbers, or not all finite.

    Example:
        >>> floats("draw", "images", [[0, 1]], "(N, K)")
        array([[0., 1.]])
    """
    if isinstance(x, Tensor):
        x = x.detach().astype("float64")
    try:
        array = np.asarray(x, np.float64)
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            f"{owner}: {name} are no numbers",
            got=f"{short(x, 60)}: {error}",
            rule=f"an array {shape} of numbers",
            fix=f"np.asarray({name})",
        ) from None
    axes = len([word for word in shape.strip("()").split(",") if word])
    if array.ndim != axes or not array.size:
        raise ShapeError(
            f"{owner}: {name} have another shape",
            got=f"{name} {array.shape}",
            rule=f"{shape}, no axis of length 0",
            fix=f"{name} with {axes} axes",
        )
    if not np.isfinite(array).all():
        raise ArgumentError(
            f"{owner}: {name} are not all finite",
            got=f"{int((~np.isfinite(array)).sum())} of {array.size} are NaN or infinite",
            rule="finite numbers",
            fix="leave out what was not measured",
        )
    return array


def numbers_of_classes(owner: str, name: str, x: Any, classes: int | None) -> np.ndarray:
    """Numbers of classes (N,) int64, in [0, classes) where that is known.

    Raises:
        ShapeError, ArgumentError: something else.

    Example:
        >>> numbers_of_classes("confusion_matrix", "labels", [2, 0], 3)
        array([2, 0])
    """
    array = floats(owner, name, x, "(N,)")
    wrong = (array != np.rint(array)) | (array < 0)
    if classes is not None:
        wrong |= array >= classes
    if wrong.any():
        place = int(wrong.argmax())
        raise ArgumentError(
            f"{owner}: {name} are no numbers of classes",
            got=f"{name}[{place}] = {array[place]:g}",
            rule="whole numbers from 0" + ("" if classes is None else f" to {classes - 1}"),
            fix="classes counted from 0, as the data sets of tinytorch.data give them",
        )
    return array.astype(np.int64)


def check_names(owner: str, names: Sequence[str] | None, count: int) -> list[str]:
    """One name for each of so many things; None: their numbers.

    Raises:
        ArgumentError: another number of names.
    """
    if names is None:
        return [str(i) for i in range(count)]
    if len(names) != count:
        raise ArgumentError(
            f"{owner}: there are not as many names as things",
            got=f"{len(names)} names: {short(list(names), 60)}",
            rule=f"{count}, one for each",
            fix="leave names out: they are numbered",
        )
    return [str(name) for name in names]
