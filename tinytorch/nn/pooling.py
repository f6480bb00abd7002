"""MaxPool2d: each window of an image becomes its largest number.

Knows window, stride and padding; the arithmetic is `functional.max_pool2d`.
"""

from __future__ import annotations

from tinytorch.base.checks import pair
from tinytorch.base.errors import SettingError
from tinytorch.nn import functional as F
from tinytorch.nn.module import Module
from tinytorch.tensor.tensor import Tensor


class MaxPool2d(Module):
    """The largest number of each window, channel by channel.

    Args:
        kernel_size: window, one number or (vertical, horizontal).
        stride: step of the window, one number or a pair; default: kernel_size.
        padding: cells of minus infinity on each side, at most half the window; default 0.

    Shapes: (N, C, H, W) -> (N, C, H', W') with H' = (H + 2 padding - kernel) // stride + 1.

    Differs from PyTorch: no dilation, ceil_mode or return_indices.

    Example:
        >>> import tinytorch as tt
        >>> tt.nn.MaxPool2d(2)(tt.zeros(2, 3, 8, 8)).shape
        (2, 3, 4, 4)
    """

    def __init__(self, kernel_size, stride=None, padding=0):
        self.kernel_size = pair("MaxPool2d", "kernel_size", kernel_size, at_least=1)
        self.stride = (
            self.kernel_size if stride is None else pair("MaxPool2d", "stride", stride, at_least=1)
        )
        self.padding = pair("MaxPool2d", "padding", padding, at_least=0)
        if any(2 * p > k for p, k in zip(self.padding, self.kernel_size, strict=True)):
            raise SettingError(
                "MaxPool2d: padding is wider than half the window",
                got=f"padding={self.padding}, kernel_size={self.kernel_size}",
                rule="2 * padding <= kernel_size, so that no window sees padding alone",
                fix="padding=kernel_size // 2 at most",
            )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H', W')."""
        return F.max_pool2d(x, self.kernel_size, self.stride, self.padding)

    def extra_repr(self) -> str:
        """Window, stride, padding."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"
