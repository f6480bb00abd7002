"""Functions that add or repeat numbers without changing any: padding, one-hot rows, enlarging.

Knows places, never values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tinytorch.base.checks import pair, whole
from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.nn.indices import inside
from tinytorch.tensor import shaping
from tinytorch.tensor.dispatch import copied
from tinytorch.tensor.indexing import one_hot as rows_of
from tinytorch.tensor.tensor import Tensor


def pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: float = 0.0) -> Tensor:
    """Numbers added around an array; negative counts cut off.

    Args:
        input: any shape.
        pad: (before, after) of the last axis, then of the one before it, and so on.
        mode: "constant".
        value: what is added.

    Differs from PyTorch: constant padding only.

    Example:
        >>> import tinytorch as tt
        >>> pad(tt.Tensor([[1.0, 2.0]]), (1, 0, 0, 1)).tolist()
        [[0.0, 1.0, 2.0], [0.0, 0.0, 0.0]]
    """
    if mode != "constant":
        raise SettingError(
            "pad: no such mode", got=f"mode={mode!r}", rule='"constant"', fix="pad(x, (1, 1))"
        )
    rank = len(input.shape)
    if len(pad) % 2 or len(pad) > 2 * rank or not all(isinstance(n, int) for n in pad):
        raise ShapeError(
            "pad: the counts do not belong to the axes",
            got=f"pad={tuple(pad)} for input {tuple(input.shape)}",
            rule="two whole numbers for each axis that is padded, the last axis first",
            fix="pad(x, (left, right, top, bottom)) for images",
        )
    before, after, key = [0] * rank, [0] * rank, [slice(None)] * rank
    for i, (low, high) in enumerate(zip(pad[::2], pad[1::2], strict=True)):
        axis, size = rank - 1 - i, input.shape[rank - 1 - i]
        if low + high + size < 0:
            raise ShapeError(
                "pad: more is cut off than there is",
                got=f"({low}, {high}) for an axis of {size}",
                rule="size + before + after >= 0",
                fix=f"cut off at most {size}",
            )
        key[axis] = slice(max(0, -low), size - max(0, -high))
        before[axis], after[axis] = max(0, low), max(0, high)
    if min(pad, default=0) < 0:
        input = input[tuple(key)]
    if max(pad, default=0) > 0:
        return shaping.pad(input, before, after, value)
    return copied(input)


def one_hot(input: Tensor, num_classes: int) -> Tensor:
    """Rows of zeros with a one at the place of each label.

    Args:
        input: whole numbers (...) in [0, num_classes).
        num_classes: K.

    Returns:
        (..., K), int64.

    Differs from PyTorch: num_classes is not guessed from the data.
    """
    classes = whole("one_hot", "num_classes", num_classes, at_least=1)
    return rows_of(inside("one_hot", "label", input, classes), classes)


def interpolate(input: Tensor, scale_factor: Any, mode: str = "nearest") -> Tensor:
    """Images enlarged by whole numbers: each pixel becomes a block of its copies.

    Args:
        input: (N, C, H, W).
        scale_factor: whole number, or a pair (vertical, horizontal).
        mode: "nearest".

    Returns:
        (N, C, H * vertical, W * horizontal).

    Differs from PyTorch: whole factors and nearest only; no size.

    Source: with a convolution behind it, Odena, Dumoulin, Olah 2016,
    https://distill.pub/2016/deconv-checkerboard, against the checkerboard of transposed ones.
    """
    rows, columns = pair("interpolate", "scale_factor", scale_factor, at_least=1)
    if mode != "nearest" or len(input.shape) != 4:
        raise SettingError(
            "interpolate: this is not offered",
            got=f"mode={mode!r}, input {tuple(input.shape)}",
            rule='mode="nearest" and images (N, C, H, W)',
            fix="interpolate(x, 2)",
        )
    n, c, height, width = input.shape
    blocks = shaping.broadcast_to(
        input.reshape(n, c, height, 1, width, 1), n, c, height, rows, width, columns
    )
    return blocks.reshape(n, c, height * rows, width * columns)
