"""Pooling: each window of an image or a signal becomes one number, its largest or its mean.

Knows windows; the arithmetic is in `tensor.contractions`. A signal (N, C, T) is an image of height
1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tinytorch.base.arguments import flag, pair, single
from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.nn.convolution import check_rank, of_one_sample
from tinytorch.nn.module import Module
from tinytorch.tensor.contractions import matmul, max_pool2d, reaching
from tinytorch.tensor.dispatch import in_float32
from tinytorch.tensor.elementwise import divide
from tinytorch.tensor.shaping import pad
from tinytorch.tensor.tensor import Tensor


@of_one_sample(4)
@in_float32()
def avg_pool2d(
    input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: int | None = None,
) -> Tensor:  # fmt: skip
    """The mean of each window of an image.

    Args:
        input: (N, C, H, W) or (C, H, W).
        kernel_size: window, one number or (vertical, horizontal).
        stride: step of the window, one number or a pair; default kernel_size.
        padding: zeros on each side, at most half the window; default 0.
        ceil_mode: a window that begins before the end reaches over it, so that none is left over;
            what lies behind the padding does not count in its mean.
        count_include_pad: whether those zeros count in the mean; default True, as in PyTorch.
        divisor_override: what the sum of a window is divided by; default the cells that count.

    Integers are divided without the fraction, as in PyTorch.

    Returns:
        (N, C, H', W') with H' = (H + 2 padding - kernel) // stride + 1, rounded up with ceil_mode.

    Cost: kernel height + kernel width additions for each output: rows first, then columns.
    """
    check_rank("avg_pool2d", "input", input, 4, "(N, C, H, W)")
    kernel, step, sides = _window("avg_pool2d", pair, kernel_size, stride, padding)
    if divisor_override == 0 or type(divisor_override) not in (int, type(None)):
        raise SettingError(
            "avg_pool2d: nothing can be divided by this",
            got=f"divisor_override={divisor_override!r}",
            rule="a whole number, not 0, or None",
            fix="divisor_override=1, which gives sums",
        )
    image = input.shape[2:]
    _check_window("avg_pool2d", image, kernel, sides)
    around = tuple((p, p) for p in sides)
    if ceil_mode:
        axes = zip(image, kernel, step, around, strict=True)
        around = tuple(reaching(*axis) for axis in axes)
    sizes = tuple(
        (n + sum(p) - k) // s + 1 for n, k, s, p in zip(image, kernel, step, around, strict=True)
    )
    bare = around == ((0, 0), (0, 0))
    if bare and step == kernel and divisor_override is None and input.dtype.is_float:
        # windows side by side: each is two axes of a reshape
        rows, columns = sizes[0] * kernel[0], sizes[1] * kernel[1]
        if (rows, columns) != tuple(image):
            input = input[:, :, :rows, :columns]
        lead = (input.shape[0], input.shape[1])
        return input.reshape(*lead, sizes[0], kernel[0], sizes[1], kernel[1]).mean((3, 5))
    x = input
    if not bare:
        (top, bottom), (left, right) = around
        x = pad(input, (0, 0, top, left), (0, 0, bottom, right))
    summed = _summed(_summed(x, 2, kernel[0], step[0], sizes[0]), 3, kernel[1], step[1], sizes[1])
    if divisor_override is not None:
        return _divided(summed, np.array(divisor_override))
    if around == tuple((p, p) for p in sides) and (count_include_pad or bare):
        return _divided(summed, np.array(math.prod(kernel)))
    counts = [
        _counts(*axis, count_include_pad)
        for axis in zip(image, kernel, step, sides, sizes, strict=True)
    ]
    return _divided(summed, np.outer(*counts))


def _summed(x: Tensor, axis: int, kernel: int, step: int, size: int) -> Tensor:
    """Sums of windows along one axis: one shifted view for each of its cells."""
    total = None
    for first in range(kernel):
        key = [slice(None)] * 4
        key[axis] = slice(first, first + step * (size - 1) + 1, step)
        view = x[tuple(key)]
        total = view if total is None else total + view
    return total  # pyright: ignore[reportReturnType]  (kernel >= 1)


def _divided(summed: Tensor, counts: np.ndarray) -> Tensor:
    """The sums of windows by their counts; of integers without the fraction, as PyTorch."""
    if not summed.dtype.is_float:
        return divide(summed, Tensor(counts).astype(summed.dtype), rounding_mode="trunc")
    if not counts.shape:
        return summed * (1.0 / float(counts))
    return summed * Tensor(1.0 / counts).astype(summed.dtype)


def _counts(n: int, kernel: int, step: int, side: int, size: int, padding: bool) -> np.ndarray:
    """How many cells of the image, or of its padding too, each window along one axis holds."""
    first = np.arange(size) * step - side
    if padding:
        return np.minimum(first + kernel, n + side) - first
    return np.minimum(first + kernel, n) - np.maximum(first, 0)


def check_padding(owner: str, kernel: Any, padding: Any) -> None:
    """Refuse padding wider than half the window: some window would see nothing else."""
    if isinstance(kernel, int):
        kernel, padding = (kernel,), (padding,)
    if any(2 * p > k for p, k in zip(padding, kernel, strict=True)):
        raise SettingError(
            f"{owner}: padding is wider than half the window",
            got=f"padding={padding}, kernel_size={kernel}",
            rule="2 * padding <= kernel_size, so that no window sees padding alone",
            fix="padding=kernel_size // 2 at most",
        )


def _check_window(owner: str, image, kernel: tuple, padding: tuple) -> None:
    check_padding(owner, kernel, padding)
    if any(k > n + 2 * p for n, k, p in zip(image, kernel, padding, strict=True)):
        raise ShapeError(
            f"{owner}: the window is larger than the padded image",
            got=f"image {tuple(image)}, kernel_size={kernel}, padding={padding}",
            rule="kernel_size <= size + 2 * padding",
            fix="use a smaller window, more padding, or fewer poolings before it",
        )


@of_one_sample(4)
@in_float32()
def adaptive_avg_pool2d(input: Tensor, output_size: Any) -> Tensor:
    """The mean of windows that divide an image into a given number of rows and columns.

        window i of n: from floor(i H / n) to ceil((i + 1) H / n); neighbours overlap by at most one

    Args:
        input: (N, C, H, W) or (C, H, W).
        output_size: one number or a pair; None in a pair keeps that axis.

    Returns:
        (N, C, *output_size).

    Cost: one mean where the sizes divide; else two products with small constant matrices.
    """
    check_rank("adaptive_avg_pool2d", "input", input, 4, "(N, C, H, W)")
    height, width = input.shape[2:]
    rows, columns = output_sizes("adaptive_avg_pool2d", output_size, (height, width))
    if 0 in (height, width):
        raise ShapeError(
            "adaptive_avg_pool2d: the image is empty",
            got=f"input {tuple(input.shape)}",
            rule="H, W >= 1",
            fix="check the size of the images",
        )
    if (rows, columns) == (1, 1):
        return input.mean((2, 3), keepdim=True)
    if height % rows == 0 and width % columns == 0:
        return avg_pool2d(input, (height // rows, width // columns))
    input = input if input.dtype.is_float else input.astype("float32")
    down = Tensor(_averaging(height, rows)).astype(input.dtype)
    across = Tensor(_averaging(width, columns).T.copy()).astype(input.dtype)
    return matmul(matmul(down, input), across)


def output_sizes(owner: str, output_size: Any, image: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns that adaptive pooling gives; None means those of the image."""
    sizes = output_size if isinstance(output_size, (list, tuple)) else (output_size, output_size)
    filled = [n if s is None else s for s, n in zip(sizes, image, strict=False)]
    return pair(owner, "output_size", filled if len(sizes) == 2 else sizes, at_least=1)


def _averaging(n: int, windows: int) -> np.ndarray:
    """(windows, n): row i has 1 / length over window i."""
    matrix = np.zeros((windows, n))
    for i in range(windows):
        first, last = i * n // windows, -((-(i + 1) * n) // windows)
        matrix[i, first:last] = 1.0 / (last - first)
    return matrix


@of_one_sample(3)
def max_pool1d(
    input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
    ceil_mode: bool = False, return_indices: bool = False,
) -> Any:  # fmt: skip
    """The largest number in each window of a signal.

    Args:
        input: (N, C, T) or (C, T).
        kernel_size: of the window.
        stride: step of the window; default kernel_size.
        padding: cells of minus infinity on each side, at most half the window.
        dilation: distance between numbers of the window.
        ceil_mode: a window that begins before the end reaches over it.
        return_indices: give the places of the largest numbers (int64) too.

    Returns:
        (N, C, T'), or two of them with return_indices.
    """
    check_rank("max_pool1d", "input", input, 3, "(N, C, T)")
    kernel, step, side = _window("max_pool1d", single, kernel_size, stride, padding)
    gap = single("max_pool1d", "dilation", dilation, at_least=1)
    check_padding("max_pool1d", kernel, side)
    out = max_pool2d(
        input.unsqueeze(2), (1, kernel), (1, step), (0, side), (1, gap), ceil_mode, return_indices
    )
    return tuple(o.squeeze(2) for o in out) if return_indices else out.squeeze(2)


@of_one_sample(3)
@in_float32()
def avg_pool1d(
    input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:  # fmt: skip
    """The mean of each window of a signal.

    Args:
        input: (N, C, T) or (C, T).
        kernel_size: of the window.
        stride: step of the window; default kernel_size.
        padding: zeros on each side, at most half the window.
        ceil_mode: a window that begins before the end reaches over it.
        count_include_pad: whether those zeros count in the mean.

    Returns:
        (N, C, T').
    """
    check_rank("avg_pool1d", "input", input, 3, "(N, C, T)")
    kernel, step, side = _window("avg_pool1d", single, kernel_size, stride, padding)
    return avg_pool2d(
        input.unsqueeze(2), (1, kernel), (1, step), (0, side), ceil_mode, count_include_pad
    ).squeeze(2)


def _window(owner: str, checked: Callable, kernel_size, stride, padding) -> tuple[Any, Any, Any]:
    """Window, step and padding, of images (`pair`) or of signals (`single`)."""
    kernel = checked(owner, "kernel_size", kernel_size, at_least=1)
    whole_window = stride is None or stride == ()
    step = kernel if whole_window else checked(owner, "stride", stride, at_least=1)
    return kernel, step, checked(owner, "padding", padding, at_least=0)


class _Pool(Module):
    """Window, stride (default: the window) and padding, checked; subclasses say for which axes."""

    _shown = {"kernel_size": ..., "stride": ..., "padding": ...}
    _checked: Callable[..., Any]  # `pair` for images, `single` for signals

    def __init__(self, kernel_size, stride, padding, ceil_mode):
        owner, checked = type(self).__name__, self._checked
        self.kernel_size = checked(owner, "kernel_size", kernel_size, at_least=1)
        self.stride = (
            self.kernel_size if stride is None else checked(owner, "stride", stride, at_least=1)
        )
        self.padding = checked(owner, "padding", padding, at_least=0)
        self.ceil_mode = flag(owner, "ceil_mode", ceil_mode)
        check_padding(owner, self.kernel_size, self.padding)


class _MaxPool(_Pool):
    """What layers of largest numbers share; subclasses name their function."""

    function: Callable[..., Any]

    def __init__(
        self, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
        return_indices: bool = False, ceil_mode: bool = False,
    ):  # fmt: skip
        """One number for a signal; for an image one number, or a pair (vertical, horizontal).

        Args:
            kernel_size: of the window.
            stride: step of the window; default: kernel_size.
            padding: cells of minus infinity on each side, at most half the window; default 0.
            dilation: distance between cells of the window; default 1.
            return_indices: give the places of the largest numbers too, h * W + w in an image.
            ceil_mode: a window that begins before the end reaches over it, so that none is left
                over.
        """
        super().__init__(kernel_size, stride, padding, ceil_mode)
        owner = type(self).__name__
        self.dilation = self._checked(owner, "dilation", dilation, at_least=1)
        self.return_indices = flag(owner, "return_indices", return_indices)

    def forward(self, x: Tensor) -> Any:
        """The same axes, the last ones shorter; with return_indices two of them."""
        return self.function(
            x, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode,
            self.return_indices,
        )  # fmt: skip


class MaxPool2d(_MaxPool):
    """The largest number of each window, channel by channel.

    Arguments: `help(nn.MaxPool2d.__init__)`.

    Shapes: (N, C, H, W) -> (N, C, H', W') with H' = (H + 2 padding - dilation (kernel - 1) - 1)
        // stride + 1, rounded up with ceil_mode; (C, H, W) -> (C, H', W').

    Example:
        >>> import tinytorch as tt
        >>> tt.nn.MaxPool2d(2)(tt.zeros(2, 3, 8, 8)).shape
        (2, 3, 4, 4)
    """

    _checked, function = staticmethod(pair), staticmethod(max_pool2d)


class AvgPool2d(_Pool):
    """The mean of each window, channel by channel.

    Args:
        kernel_size: window, one number or (vertical, horizontal).
        stride: step of the window, one number or a pair; default: kernel_size.
        padding: zeros on each side, at most half the window; default 0.
        ceil_mode: a window that begins before the end reaches over it, so that none is left over.
        count_include_pad: whether those zeros count in the mean; default True, as in PyTorch.
        divisor_override: what the sum of a window is divided by; default the cells that count.

    Shapes: (N, C, H, W) -> (N, C, H', W') with H' = (H + 2 padding - kernel) // stride + 1, rounded
        up with ceil_mode; (C, H, W) -> (C, H', W').

    Example:
        >>> import tinytorch as tt
        >>> tt.nn.AvgPool2d(2)(tt.arange(4.0).reshape(1, 1, 2, 2)).item()
        1.5
    """

    _checked = staticmethod(pair)

    def __init__(
        self, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
        count_include_pad: bool = True, divisor_override: int | None = None,
    ):  # fmt: skip
        super().__init__(kernel_size, stride, padding, ceil_mode)
        self.count_include_pad = flag("AvgPool2d", "count_include_pad", count_include_pad)
        self.divisor_override = divisor_override

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H', W')."""
        return avg_pool2d(
            x, self.kernel_size, self.stride, self.padding, self.ceil_mode,
            self.count_include_pad, self.divisor_override,
        )  # fmt: skip


class AdaptiveAvgPool2d(Module):
    """The mean of windows that divide any image into a given number of rows and columns.

    Args:
        output_size: one number or (rows, columns); None in a pair keeps that axis.

    Shapes: (N, C, H, W) -> (N, C, rows, columns); (C, H, W) -> (C, rows, columns).

    Example:
        >>> import tinytorch as tt
        >>> tt.nn.AdaptiveAvgPool2d(1)(tt.zeros(2, 3, 7, 5)).shape
        (2, 3, 1, 1)
    """

    _shown = {"output_size": ...}

    def __init__(self, output_size: Any):
        output_sizes("AdaptiveAvgPool2d", output_size, (1, 1))
        self.output_size = tuple(output_size) if isinstance(output_size, list) else output_size

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, rows, columns)."""
        return adaptive_avg_pool2d(x, self.output_size)


class MaxPool1d(_MaxPool):
    """The largest number of each window of a signal.

    Arguments: `help(nn.MaxPool1d.__init__)`.

    Shapes: (N, C, T) -> (N, C, T') with T' = (T + 2 padding - dilation (kernel - 1) - 1) // stride
        + 1, rounded up with ceil_mode; (C, T) -> (C, T').
    """

    _checked, function = staticmethod(single), staticmethod(max_pool1d)


class AvgPool1d(_Pool):
    """The mean of each window of a signal.

    Args:
        kernel_size: of the window.
        stride: step of the window; default: kernel_size.
        padding: zeros on each side, at most half the window; default 0.
        ceil_mode: a window that begins before the end reaches over it.
        count_include_pad: whether those zeros count in the mean; default True, as in PyTorch.

    Shapes: (N, C, T) -> (N, C, T') with T' = (T + 2 padding - kernel) // stride + 1, rounded up
        with ceil_mode; (C, T) -> (C, T').
    """

    _checked = staticmethod(single)

    def __init__(
        self, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
        count_include_pad: bool = True,
    ):  # fmt: skip
        super().__init__(kernel_size, stride, padding, ceil_mode)
        self.count_include_pad = flag("AvgPool1d", "count_include_pad", count_include_pad)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T) -> (N, C, T')."""
        return avg_pool1d(
            x, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad
        )
