"""Conv2d: one small window of weights slid over an image.

Knows its weights and settings; the arithmetic is `functional.conv2d`.
"""

from __future__ import annotations

from tinytorch.base.checks import flag, pair, whole
from tinytorch.base.errors import SettingError
from tinytorch.nn import functional as F
from tinytorch.nn.initialisation import uniform
from tinytorch.nn.module import Module, Parameter
from tinytorch.tensor.tensor import Tensor


class Conv2d(Module):
    """2-D convolution (cross-correlation, as everywhere in deep learning) of images.

    Args:
        in_channels: C of the input; at least 1, divisible by groups.
        out_channels: K of the output; at least 1, divisible by groups.
        kernel_size: window, one number or (vertical, horizontal).
        stride: step of the window, one number or a pair; default 1.
        padding: zeros added on each side, one number or a pair; default 0.
        dilation: distance between the rows of the window, one number or a pair; default 1.
        groups: channels are split in so many parts that do not see each other; default 1.
        bias: whether to add one number per output channel.

    Shapes: (N, C, H, W) -> (N, K, H', W') with H' = (H + 2 padding - dilation (kernel - 1) - 1) //
    stride + 1; weight (K, C / groups, kernel, kernel), bias (K,).

    Cost: 2 K C / groups kernel^2 operations per output pixel.

    Source: initial values as in PyTorch, uniform in +-1/sqrt(C / groups kernel^2).

    Differs from PyTorch: padding is with zeros only, and no "same".

    Example:
        >>> import tinytorch as tt
        >>> tt.nn.Conv2d(3, 16, 3, padding=1)(tt.zeros(2, 3, 8, 8)).shape
        (2, 16, 8, 8)
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size, stride=1, padding=0,
        dilation=1, groups: int = 1, bias: bool = True,
    ):  # fmt: skip
        self.in_channels = whole("Conv2d", "in_channels", in_channels, at_least=1)
        self.out_channels = whole("Conv2d", "out_channels", out_channels, at_least=1)
        self.kernel_size = pair("Conv2d", "kernel_size", kernel_size, at_least=1)
        self.stride = pair("Conv2d", "stride", stride, at_least=1)
        self.padding = pair("Conv2d", "padding", padding, at_least=0)
        self.dilation = pair("Conv2d", "dilation", dilation, at_least=1)
        self.groups = whole("Conv2d", "groups", groups, at_least=1)
        for name in ("in_channels", "out_channels"):
            if getattr(self, name) % groups:
                raise SettingError(
                    f"Conv2d: {name} cannot be split into groups",
                    got=f"{name}={getattr(self, name)}, groups={groups}",
                    rule=f"{name} is a multiple of groups",
                    fix="groups=1, or a divisor of both channel counts",
                )
        shape = (out_channels, in_channels // groups, *self.kernel_size)
        bound = (shape[1] * shape[2] * shape[3]) ** -0.5
        self.weight = Parameter(uniform(shape, bound))
        self.bias = Parameter(uniform(shape[:1], bound)) if flag("Conv2d", "bias", bias) else None

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, K, H', W')."""
        return F.conv2d(
            x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups
        )

    def extra_repr(self) -> str:
        """Sizes, then the settings that are not the default."""
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"
        for name, default in (
            ("stride", (1, 1)),
            ("padding", (0, 0)),
            ("dilation", (1, 1)),
            ("groups", 1),
        ):
            if getattr(self, name) != default:
                text += f", {name}={getattr(self, name)}"
        return text + ("" if self.bias is not None else ", bias=False")
