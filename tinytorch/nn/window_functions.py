"""Functions that slide a window over images and signals: convolution and pooling.

Knows windows; the arithmetic is in `tensor.contractions`. A signal (N, C, T) is an image of height
1.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tinytorch.base.checks import pair, single
from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.tensor.contractions import (
    convolution,
    convolution_transpose,
    matmul,
    max_pool2d,
    reaching,
)
from tinytorch.tensor.elementwise import divide
from tinytorch.tensor.half_precision import in_float32
from tinytorch.tensor.number_types import check_one_float
from tinytorch.tensor.shaping import pad
from tinytorch.tensor.tensor import Tensor


def of_one_sample(rank: int) -> Callable:
    """Decorator for functions of a batch with `rank` axes: they take one sample without the first.

    What they give, one Tensor or several, has no first axis then.
    """

    def decorate(function: Callable) -> Callable:
        @functools.wraps(function)
        def either(input, *args, **named):
            if len(input.shape) != rank - 1:
                return function(input, *args, **named)
            out = function(input.unsqueeze(0), *args, **named)
            return tuple(o.squeeze(0) for o in out) if type(out) is tuple else out.squeeze(0)

        return either

    return decorate


@of_one_sample(4)
def conv2d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None,
    stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1,
) -> Tensor:  # fmt: skip
    """Cross-correlation of images with windows of weights, plus one number per channel.

    Args:
        input: (N, C, H, W) or (C, H, W).
        weight: (K, C / groups, kernel height, kernel width).
        bias: (K,).
        stride: step of the window, one number or a pair.
        padding: zeros on each side, one number or a pair; "valid" is 0, "same" keeps the size of
            the image (stride 1 only; an odd cell goes to the right and the bottom).
        dilation: distance between rows of the window, one number or a pair.
        groups: so many parts of the channels do not see each other.

    Returns:
        (N, K, H', W').
    """
    if isinstance(padding, str):
        padding = named_padding("conv2d", padding, weight.shape[2:], stride, dilation)
    out = convolution(
        input, weight, stride=stride, padding=padding, dilation=dilation, groups=groups
    )
    return out if bias is None else _biased("conv2d", out, bias)


def _biased(owner: str, out: Tensor, bias: Tensor) -> Tensor:
    """One number more for each channel."""
    if bias.dtype is not out.dtype:
        check_one_float(owner, output=out, bias=bias)
    return out + bias.reshape(1, out.shape[1], *(1,) * (len(out.shape) - 2))


def named_padding(owner: str, name: str, kernel, stride, dilation) -> tuple:
    """Cells ((top, bottom), (left, right)) that "same" or "valid" stand for.

    >>> named_padding("conv2d", "same", (3, 4), 1, (2, 1))
    ((2, 2), (1, 2))
    """
    if name == "valid":
        return ((0, 0), (0, 0))
    strides, dilations = pair(owner, "stride", stride, 1), pair(owner, "dilation", dilation, 1)
    if name != "same" or strides != (1, 1):
        raise SettingError(
            f"{owner}: no such padding",
            got=f"padding={name!r}, stride={stride}",
            rule='whole numbers, "valid", or "same" with stride 1',
            fix="padding=kernel_size // 2",
        )
    spare = [d * (k - 1) for k, d in zip(kernel, dilations, strict=True)]
    return tuple((n // 2, n - n // 2) for n in spare)


@of_one_sample(3)
def conv1d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None,
    stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1,
) -> Tensor:  # fmt: skip
    """Cross-correlation of signals with windows of weights, plus one number per channel.

    Args:
        input: (N, C, T) or (C, T).
        weight: (K, C / groups, kernel).
        bias: (K,).
        stride: step of the window.
        padding: zeros on each side, "valid" or "same" (see `conv2d`).
        dilation: distance between numbers of the window.
        groups: so many parts of the channels do not see each other.

    Returns:
        (N, K, T') with T' = (T + 2 padding - dilation (kernel - 1) - 1) // stride + 1.
    """
    _check_rank("conv1d", "input", input, 3, "(N, C, T)")
    _check_rank("conv1d", "weight", weight, 3, "(K, C / groups, kernel)")
    stride = single("conv1d", "stride", stride, at_least=1)
    dilation = single("conv1d", "dilation", dilation, at_least=1)
    if isinstance(padding, str):
        padding = named_padding("conv1d", padding, (1, weight.shape[2]), (1, stride), (1, dilation))
    else:
        padding = (0, single("conv1d", "padding", padding, at_least=0))
    out = convolution(
        input.unsqueeze(2), weight.unsqueeze(2),
        stride=(1, stride), padding=padding, dilation=(1, dilation), groups=groups,
    ).squeeze(2)  # fmt: skip
    return out if bias is None else _biased("conv1d", out, bias)


@of_one_sample(4)
def conv_transpose2d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None,
    stride: Any = 1, padding: Any = 0, output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
) -> Tensor:  # fmt: skip
    """Each pixel of the input adds its window of weights to the output: conv2d turned round.

    Args:
        input: (N, C, H, W) or (C, H, W).
        weight: (C, K / groups, kernel height, kernel width).
        bias: (K,).
        stride: distance between the windows in the output, one number or a pair.
        padding: cells cut off on each side of the output, one number or a pair.
        output_padding: cells added below and to the right, fewer than stride (or dilation).
        groups: so many parts of the channels do not see each other.
        dilation: distance between rows of the window, one number or a pair.

    Returns:
        (N, K, H', W') with H' = (H - 1) stride - 2 padding + dilation (kernel - 1) + 1 +
        output_padding.

    Source: Dumoulin, Visin 2016, https://arxiv.org/abs/1603.07285, section 4. It is the gradient of
    conv2d with respect to its image, a primitive of its own.
    """
    out = convolution_transpose(
        input, weight, stride=stride, padding=padding, output_padding=output_padding,
        groups=groups, dilation=dilation,
    )  # fmt: skip
    return out if bias is None else _biased("conv_transpose2d", out, bias)


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
    _check_rank("max_pool1d", "input", input, 3, "(N, C, T)")
    kernel, step, side = _signal_window("max_pool1d", kernel_size, stride, padding)
    gap = single("max_pool1d", "dilation", dilation, at_least=1)
    check_padding("max_pool1d", (kernel,), (side,))
    out = max_pool2d(
        input.unsqueeze(2), (1, kernel), (1, step), (0, side), (1, gap), ceil_mode, return_indices
    )
    return tuple(o.squeeze(2) for o in out) if return_indices else out.squeeze(2)


def _signal_window(owner: str, kernel_size, stride, padding) -> tuple[int, int, int]:
    kernel = single(owner, "kernel_size", kernel_size, at_least=1)
    step = kernel if stride is None or stride == () else single(owner, "stride", stride, at_least=1)
    return kernel, step, single(owner, "padding", padding, at_least=0)


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
    _check_rank("avg_pool2d", "input", input, 4, "(N, C, H, W)")
    kernel = pair("avg_pool2d", "kernel_size", kernel_size, at_least=1)
    step = kernel
    if stride is not None and stride != ():
        step = pair("avg_pool2d", "stride", stride, at_least=1)
    sides = pair("avg_pool2d", "padding", padding, at_least=0)
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
        return _shared(summed, np.array(divisor_override))
    if around == tuple((p, p) for p in sides) and (count_include_pad or bare):
        return _shared(summed, np.array(math.prod(kernel)))
    counts = [
        _counts(*axis, count_include_pad)
        for axis in zip(image, kernel, step, sides, sizes, strict=True)
    ]
    return _shared(summed, np.outer(*counts))


def _shared(summed: Tensor, counts: np.ndarray) -> Tensor:
    """The sums of windows by their counts; of integers without the fraction, as PyTorch."""
    if not summed.dtype.is_float:
        return divide(summed, Tensor(counts).astype(summed.dtype), rounding_mode="trunc")
    if not counts.shape:
        return summed * (1.0 / float(counts))
    return summed * Tensor(1.0 / counts).astype(summed.dtype)


def check_padding(owner: str, kernel: tuple, padding: tuple) -> None:
    """Refuse padding wider than half the window: some window would see nothing else."""
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


def _summed(x: Tensor, axis: int, kernel: int, step: int, size: int) -> Tensor:
    """Sums of windows along one axis: one shifted view for each of its cells."""
    total = None
    for first in range(kernel):
        key = [slice(None)] * 4
        key[axis] = slice(first, first + step * (size - 1) + 1, step)
        view = x[tuple(key)]
        total = view if total is None else total + view
    return total  # pyright: ignore[reportReturnType]  (kernel >= 1)


def _counts(n: int, kernel: int, step: int, side: int, size: int, padding: bool) -> np.ndarray:
    """How many cells of the image, or of its padding too, each window along one axis holds."""
    first = np.arange(size) * step - side
    if padding:
        return np.minimum(first + kernel, n + side) - first
    return np.minimum(first + kernel, n) - np.maximum(first, 0)


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
    _check_rank("avg_pool1d", "input", input, 3, "(N, C, T)")
    kernel, step, side = _signal_window("avg_pool1d", kernel_size, stride, padding)
    return avg_pool2d(
        input.unsqueeze(2), (1, kernel), (1, step), (0, side), ceil_mode, count_include_pad
    ).squeeze(2)


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
    _check_rank("adaptive_avg_pool2d", "input", input, 4, "(N, C, H, W)")
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


def _check_rank(owner: str, name: str, x: Tensor, rank: int, axes: str) -> None:
    if len(x.shape) != rank:
        raise ShapeError(
            f"{owner}: {name} has the wrong number of axes",
            got=f"{name} {tuple(x.shape)}",
            rule=axes,
            fix=f"{name}.unsqueeze(0), if the first axis is missing",
        )
