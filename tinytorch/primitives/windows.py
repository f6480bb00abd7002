"""Windows: how filters and pools step over images.

Knows sizes, steps and padding, never what is done with a window.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tinytorch.base.errors import ShapeError
from tinytorch.primitives.shapes import check_positive

IMAGE = "(N, C, H, W)"


class Window(NamedTuple):
    """How filters step over images."""

    stride: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]
    dilation: tuple[int, int]
    groups: int


def output_size(n: int, k: int, stride: int, padding: tuple[int, int], dilation: int = 1) -> int:
    """Positions of a filter of k taps along an axis of n."""
    return (n + padding[0] + padding[1] - dilation * (k - 1) - 1) // stride + 1


def reaching(
    n: int, k: int, stride: int, padding: tuple[int, int], dilation: int = 1
) -> tuple[int, int]:
    """Padding before and behind an axis of n so that a last window, begun before the end, fits.

    That is PyTorch's `ceil_mode`: no cell of the image is left over, and no window begins in the
    padding behind it.

    >>> reaching(5, 2, 2, (0, 0)), reaching(4, 2, 2, (0, 0)), reaching(3, 2, 2, (1, 1))
    ((0, 1), (0, 0), (1, 1))
    """
    before, behind = padding
    whole = n + before + behind - dilation * (k - 1) - 1
    last = -(-whole // stride)
    if last * stride >= n + before:
        last -= 1
    return before, behind + max(0, last * stride - whole)


def check_window(name: str, size: tuple, kernel: tuple, stride, padding, dilation=(1, 1)) -> None:
    """Refuse steps that do not exist and kernels larger than the padded image."""
    for argument, pair in (("kernel", kernel), ("stride", stride), ("dilation", dilation)):
        check_positive(name, argument, pair)
    check_positive(name, "padding", (*padding[0], *padding[1]), least=0)
    for axis, n, k, p, d in zip("HW", size, kernel, padding, dilation, strict=True):
        if d * (k - 1) + 1 > n + sum(p):
            raise ShapeError(
                f"{name}: the kernel is larger than the padded image",
                got=f"{axis} = {n}, padding {p}, kernel {k} with dilation {d}",
                rule="dilation * (kernel - 1) + 1 <= size + padding",
                fix="use a smaller kernel, more padding, or fewer poolings before it",
            )


def padded(x: np.ndarray, padding, value, extra_rows: int = 0) -> np.ndarray:
    """Images with `value` around them, and below them `extra_rows` more."""
    (top, bottom), (left, right) = padding
    if not (top or bottom or left or right or extra_rows):
        return x
    n, c, h, w = x.shape
    out = np.full((n, c, top + h + bottom + extra_rows, left + w + right), value, x.dtype)
    out[:, :, top : top + h, left : left + w] = x
    return out
