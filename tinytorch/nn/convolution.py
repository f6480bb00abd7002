"""Convolution: one small window of weights slid over an image or a signal; functions and layers.

Knows windows and weights; the arithmetic is in `tensor.contractions`. A signal (N, C, T) is an
image of height 1.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

from tinytorch.base.arguments import flag, pair, single, whole
from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.nn.init import uniform
from tinytorch.nn.module import Module, Parameter
from tinytorch.nn.quantized import WeightForm
from tinytorch.tensor.contractions import (
    convolution,
    convolution_transpose,
)
from tinytorch.tensor.operands import check_one_float
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


def check_rank(owner: str, name: str, x: Tensor, rank: int, axes: str) -> None:
    """Refuse an array with another number of axes than those listed."""
    if len(x.shape) != rank:
        raise ShapeError(
            f"{owner}: {name} has the wrong number of axes",
            got=f"{name} {tuple(x.shape)}",
            rule=axes,
            fix=f"{name}.unsqueeze(0), if the first axis is missing",
        )


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
    check_rank("conv1d", "input", input, 3, "(N, C, T)")
    check_rank("conv1d", "weight", weight, 3, "(K, C / groups, kernel)")
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


class _Convolution(Module):
    """Channels, window and weights of every convolution; subclasses say which way it goes."""

    kernel_size: Any
    stride: Any
    padding: Any
    dilation: Any
    _image = "(N, C, H, W)"
    _rank = 4

    def _channels(self, in_channels: int, out_channels: int, groups: int) -> None:
        owner = type(self).__name__
        self.in_channels = whole(owner, "in_channels", in_channels, at_least=1)
        self.out_channels = whole(owner, "out_channels", out_channels, at_least=1)
        self.groups = whole(owner, "groups", groups, at_least=1)
        for name in ("in_channels", "out_channels"):
            if getattr(self, name) % groups:
                raise SettingError(
                    f"{owner}: {name} cannot be split into groups",
                    got=f"{name}={getattr(self, name)}, groups={groups}",
                    rule=f"{name} is a multiple of groups",
                    fix="groups=1, or a divisor of both channel counts",
                )

    def _weights(self, shape: tuple[int, ...], bias: bool) -> None:
        """Uniform in +-1/sqrt(numbers that one output reads), as in PyTorch."""
        bound = math.prod(shape[1:]) ** -0.5
        self.weight = Parameter(uniform(shape, bound))
        wanted = flag(type(self).__name__, "bias", bias)
        self.bias = Parameter(uniform((self.out_channels,), bound)) if wanted else None

    def _check(self, x: Tensor) -> None:
        if len(x.shape) != self._rank or x.shape[1] != self.in_channels:
            owner = type(self).__name__
            raise ShapeError(
                f"{owner}: input has the wrong shape",
                got=f"x {tuple(x.shape)}",
                rule=f"{self._image} with C = in_channels = {self.in_channels}",
                fix=_fix(x, self),
            )

    def extra_repr(self) -> str:
        """Sizes, then the settings that are not the default."""
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"
        without = "" if self.bias is not None else "bias=False"
        return ", ".join(part for part in (text, super().extra_repr(), without) if part)


def _fix(x: Tensor, layer: _Convolution) -> str:
    shape, rank = tuple(x.shape), layer._rank
    if len(shape) == rank - 1:
        return "x.unsqueeze(0), a batch of one" if shape[0] == layer.in_channels else "x[:, None]"
    if len(shape) == rank and shape[-1] == layer.in_channels:
        axes = ", ".join(map(str, (0, rank - 1, *range(1, rank - 1))))
        return f"x.permute({axes}), if the channels come last"
    return f"{type(layer).__name__}(C, {layer.out_channels}, ...) with the C of the input"


class _Correlation(_Convolution):
    """What Conv1d and Conv2d share; each names its function and the check of its settings."""

    _checked: Callable[..., Any]
    function: Callable[..., Tensor]

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1,
        padding: Any = 0, dilation: Any = 1, groups: int = 1, bias: bool = True,
    ):  # fmt: skip
        """One number for a signal; for an image one number, or a pair (vertical, horizontal).

        Args:
            in_channels: C of the input; at least 1, divisible by groups.
            out_channels: K of the output; at least 1, divisible by groups.
            kernel_size: of the window.
            stride: step of the window; default 1.
            padding: zeros added on each side; default 0. "valid" is 0, "same" keeps the size
                (stride 1 only).
            dilation: distance between the numbers, or rows, of the window; default 1.
            groups: channels are split in so many parts that do not see each other; default 1.
            bias: whether to add one number per output channel.
        """
        owner, checked = type(self).__name__, self._checked
        self._channels(in_channels, out_channels, groups)
        self.kernel_size = checked(owner, "kernel_size", kernel_size, at_least=1)
        self.stride = checked(owner, "stride", stride, at_least=1)
        self.dilation = checked(owner, "dilation", dilation, at_least=1)
        window = [
            n if isinstance(n, tuple) else (1, n)
            for n in (self.kernel_size, self.stride, self.dilation)
        ]
        if isinstance(padding, str):
            named_padding(owner, padding, *window)  # refused, if there is no such
        else:
            padding = checked(owner, "padding", padding, at_least=0)
        self.padding = padding
        kernel = window[0] if self._rank == 4 else (self.kernel_size,)
        self._weights((out_channels, in_channels // groups, *kernel), bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, K, H', W'), or (N, C, T) -> (N, K, T')."""
        self._check(x)
        settings = self.stride, self.padding, self.dilation, self.groups
        if isinstance(self.weight, WeightForm):
            return self.weight.convolve(self.function, x, self.bias, *settings)
        return self.function(x, self.weight, self.bias, *settings)


class Conv2d(_Correlation):
    """2-D convolution (cross-correlation, as everywhere in deep learning) of images.

    Arguments: `help(nn.Conv2d.__init__)`.

    Shapes: (N, C, H, W) -> (N, K, H', W') with H' = (H + 2 padding - dilation (kernel - 1) - 1) //
    stride + 1; weight (K, C / groups, kernel, kernel), bias (K,).

    Cost: 2 K C / groups kernel^2 operations per output pixel.

    Source: initial values as in PyTorch, uniform in +-1/sqrt(C / groups kernel^2).

    Differs from PyTorch: padding is with zeros only.

    Example:
        >>> import tinytorch as tt
        >>> tt.nn.Conv2d(3, 16, 3, padding=1)(tt.zeros(2, 3, 8, 8)).shape
        (2, 16, 8, 8)
    """

    _shown = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1}
    _checked, function = staticmethod(pair), staticmethod(conv2d)


class Conv1d(_Correlation):
    """1-D convolution (cross-correlation) of signals.

    Arguments: `help(nn.Conv1d.__init__)`.

    Shapes: (N, C, T) -> (N, K, T') with T' = (T + 2 padding - dilation (kernel - 1) - 1) // stride
    + 1; weight (K, C / groups, kernel), bias (K,).

    Cost: 2 K C / groups kernel operations per output number.

    Example:
        >>> import tinytorch as tt
        >>> tt.nn.Conv1d(3, 16, 5, padding="same")(tt.zeros(2, 3, 8)).shape
        (2, 16, 8)
    """

    _image, _rank = "(N, C, T)", 3
    _shown = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
    _checked, function = staticmethod(whole), staticmethod(conv1d)


class ConvTranspose2d(_Convolution):
    """Convolution turned round: each pixel of the input adds its window to the output.

    With stride 2 it doubles an image, as decoders and generators do.

    Args:
        in_channels: C of the input; at least 1, divisible by groups.
        out_channels: K of the output; at least 1, divisible by groups.
        kernel_size: window, one number or (vertical, horizontal).
        stride: distance between windows in the output, one number or a pair; default 1.
        padding: cells cut off on each side of the output, one number or a pair; default 0.
        output_padding: cells added below and to the right, fewer than stride (or dilation).
        groups: channels are split in so many parts that do not see each other; default 1.
        bias: whether to add one number per output channel.
        dilation: distance between the rows of the window, one number or a pair; default 1.

    Shapes: (N, C, H, W) -> (N, K, H', W') with H' = (H - 1) stride - 2 padding + dilation (kernel -
    1) + 1 + output_padding; weight (C, K / groups, kernel, kernel), bias (K,).

    Cost: 2 C K / groups kernel^2 operations per input pixel.

    Source: Dumoulin, Visin 2016, https://arxiv.org/abs/1603.07285, section 4; initial values as in
    PyTorch, uniform in +-1/sqrt(K / groups kernel^2).

    Example:
        >>> import tinytorch as tt
        >>> tt.nn.ConvTranspose2d(16, 3, 4, stride=2, padding=1)(tt.zeros(2, 16, 8, 8)).shape
        (2, 3, 16, 16)
    """

    _shown = {
        "stride": (1, 1), "padding": (0, 0), "output_padding": (0, 0), "groups": 1,
        "dilation": (1, 1),
    }  # fmt: skip

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1,
        padding: Any = 0, output_padding: Any = 0, groups: int = 1, bias: bool = True,
        dilation: Any = 1,
    ):  # fmt: skip
        owner = "ConvTranspose2d"
        self._channels(in_channels, out_channels, groups)
        self.kernel_size = pair(owner, "kernel_size", kernel_size, at_least=1)
        self.stride = pair(owner, "stride", stride, at_least=1)
        self.padding = pair(owner, "padding", padding, at_least=0)
        self.output_padding = pair(owner, "output_padding", output_padding, at_least=0)
        self.dilation = pair(owner, "dilation", dilation, at_least=1)
        limits = zip(self.output_padding, self.stride, self.dilation, strict=True)
        if any(extra >= max(s, d) for extra, s, d in limits):
            raise SettingError(
                f"{owner}: output_padding is too large",
                got=f"output_padding={self.output_padding}, stride={self.stride}",
                rule="output_padding < stride, or < dilation: more would lie beyond every window",
                fix="output_padding=0",
            )
        self._weights((in_channels, out_channels // groups, *self.kernel_size), bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, K, H', W')."""
        self._check(x)
        return conv_transpose2d(
            x, self.weight, self.bias, self.stride, self.padding, self.output_padding,
            self.groups, self.dilation,
        )  # fmt: skip
