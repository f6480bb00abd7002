"""Pooling: each window of an image or a signal becomes one number, its largest or its mean.

Knows window, stride and padding; the arithmetic is in `functional`.
"""

from __future__ import annotations

from typing import Any

from tinytorch.base.checks import flag, pair, single
from tinytorch.nn import functional as F
from tinytorch.nn.module import Module
from tinytorch.nn.window_functions import check_padding, output_sizes
from tinytorch.tensor.tensor import Tensor


class _Pool2d(Module):
    """Window, stride (default: the window) and padding, checked."""

    def __init__(self, kernel_size, stride, padding, ceil_mode):
        owner = type(self).__name__
        self.kernel_size = pair(owner, "kernel_size", kernel_size, at_least=1)
        self.stride = (
            self.kernel_size if stride is None else pair(owner, "stride", stride, at_least=1)
        )
        self.padding = pair(owner, "padding", padding, at_least=0)
        self.ceil_mode = flag(owner, "ceil_mode", ceil_mode)
        check_padding(owner, self.kernel_size, self.padding)

    def extra_repr(self) -> str:
        """Window, stride, padding."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class _Pool1d(Module):
    """Window, stride (default: the window) and padding of a signal, checked."""

    def __init__(self, kernel_size, stride, padding, ceil_mode):
        owner = type(self).__name__
        self.kernel_size = single(owner, "kernel_size", kernel_size, at_least=1)
        self.stride = (
            self.kernel_size if stride is None else single(owner, "stride", stride, at_least=1)
        )
        self.padding = single(owner, "padding", padding, at_least=0)
        self.ceil_mode = flag(owner, "ceil_mode", ceil_mode)
        check_padding(owner, (self.kernel_size,), (self.padding,))

    def extra_repr(self) -> str:
        """Window, stride, padding."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class MaxPool2d(_Pool2d):
    """The largest number of each window, channel by channel.

    Args:
        kernel_size: window, one number or (vertical, horizontal).
        stride: step of the window, one number or a pair; default: kernel_size.
        padding: cells of minus infinity on each side, at most half the window; default 0.
        dilation: distance between rows of the window, one number or a pair; default 1.
        return_indices: give the places h * W + w of the largest numbers too.
        ceil_mode: a window that begins before the end reaches over it, so that none is left over.

    Shapes: (N, C, H, W) -> (N, C, H', W') with H' = (H + 2 padding - dilation (kernel - 1) - 1)
        // stride + 1, rounded up with ceil_mode; (C, H, W) -> (C, H', W').

    Example:
        >>> import tinytorch as tt
        >>> tt.nn.MaxPool2d(2)(tt.zeros(2, 3, 8, 8)).shape
        (2, 3, 4, 4)
    """

    def __init__(
        self, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
        return_indices: bool = False, ceil_mode: bool = False,
    ):  # fmt: skip
        super().__init__(kernel_size, stride, padding, ceil_mode)
        self.dilation = pair("MaxPool2d", "dilation", dilation, at_least=1)
        self.return_indices = flag("MaxPool2d", "return_indices", return_indices)

    def forward(self, x: Tensor) -> Any:
        """(N, C, H, W) -> (N, C, H', W'), with return_indices two of them."""
        return F.max_pool2d(
            x, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode,
            self.return_indices,
        )  # fmt: skip


class AvgPool2d(_Pool2d):
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

    def __init__(
        self, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
        count_include_pad: bool = True, divisor_override: int | None = None,
    ):  # fmt: skip
        super().__init__(kernel_size, stride, padding, ceil_mode)
        self.count_include_pad = flag("AvgPool2d", "count_include_pad", count_include_pad)
        self.divisor_override = divisor_override

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H', W')."""
        return F.avg_pool2d(
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

    def __init__(self, output_size: Any):
        output_sizes("AdaptiveAvgPool2d", output_size, (1, 1))
        self.output_size = tuple(output_size) if isinstance(output_size, list) else output_size

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, rows, columns)."""
        return F.adaptive_avg_pool2d(x, self.output_size)

    def extra_repr(self) -> str:
        """Rows and columns."""
        return f"output_size={self.output_size}"


class MaxPool1d(_Pool1d):
    """The largest number of each window of a signal.

    Args:
        kernel_size: of the window.
        stride: step of the window; default: kernel_size.
        padding: cells of minus infinity on each side, at most half the window; default 0.
        dilation: distance between numbers of the window; default 1.
        return_indices: give the places of the largest numbers too.
        ceil_mode: a window that begins before the end reaches over it.

    Shapes: (N, C, T) -> (N, C, T') with T' = (T + 2 padding - dilation (kernel - 1) - 1) // stride
        + 1, rounded up with ceil_mode; (C, T) -> (C, T').
    """

    def __init__(
        self, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
        return_indices: bool = False, ceil_mode: bool = False,
    ):  # fmt: skip
        super().__init__(kernel_size, stride, padding, ceil_mode)
        self.dilation = single("MaxPool1d", "dilation", dilation, at_least=1)
        self.return_indices = flag("MaxPool1d", "return_indices", return_indices)

    def forward(self, x: Tensor) -> Any:
        """(N, C, T) -> (N, C, T'), with return_indices two of them."""
        return F.max_pool1d(
            x, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode,
            self.return_indices,
        )  # fmt: skip


class AvgPool1d(_Pool1d):
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

    def __init__(
        self, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
        count_include_pad: bool = True,
    ):  # fmt: skip
        super().__init__(kernel_size, stride, padding, ceil_mode)
        self.count_include_pad = flag("AvgPool1d", "count_include_pad", count_include_pad)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T) -> (N, C, T')."""
        return F.avg_pool1d(
            x, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad
        )
