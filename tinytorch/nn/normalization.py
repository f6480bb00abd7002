"""LayerNorm, RMSNorm and GroupNorm: each sample brought to mean 0 and variance 1 by itself.

Knows the weights; the arithmetic is in `functional`. Norms over the batch are in `batch_norm`.
"""

from __future__ import annotations

from typing import Any

from tinytorch.base.checks import flag, number, whole
from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.nn import functional as F
from tinytorch.nn.module import Module, Parameter
from tinytorch.tensor.creation import ones, zeros
from tinytorch.tensor.tensor import Tensor


class LayerNorm(Module):
    """(x - mean) / sqrt(variance + eps) * weight + bias, over the last axes of each sample.

    Args:
        normalized_shape: sizes of the last axes, one number or several.
        eps: added to the variance; default 1e-5, as in PyTorch.
        elementwise_affine: whether there are a weight and a bias.
        bias: whether there is a bias.

    Shapes: (..., *normalized_shape) -> the same; weight and bias (*normalized_shape).

    Source: Ba, Kiros, Hinton 2016, https://arxiv.org/abs/1607.06450.

    Example:
        >>> import tinytorch as tt
        >>> tt.nn.LayerNorm(2)(tt.Tensor([[1.0, 3.0]])).numpy().round(3)
        array([[-1.,  1.]], dtype=float32)
    """

    def __init__(
        self,
        normalized_shape: Any,
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
    ):
        self.normalized_shape = _sizes("LayerNorm", normalized_shape)
        self.eps = number("LayerNorm", "eps", eps, "[0, inf)")
        affine = flag("LayerNorm", "elementwise_affine", elementwise_affine)
        self.weight = Parameter(ones(self.normalized_shape)) if affine else None
        self.bias = (
            Parameter(zeros(self.normalized_shape))
            if affine and flag("LayerNorm", "bias", bias)
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """The same shape; each sample's last axes normalised."""
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """Shape and eps."""
        return f"{self.normalized_shape}, eps={self.eps:g}"


class RMSNorm(Module):
    """x / sqrt(mean(x^2) + eps) * weight, over the last axes of each sample.

    Args:
        normalized_shape: sizes of the last axes, one number or several.
        eps: added to the mean square; default: the smallest step of the input's dtype, as PyTorch.
        elementwise_affine: whether there is a weight.

    Shapes: (..., *normalized_shape) -> the same; weight (*normalized_shape).

    Source: Zhang, Sennrich 2019, https://arxiv.org/abs/1910.07467.

    Example:
        >>> import tinytorch as tt
        >>> tt.nn.RMSNorm(2)(tt.Tensor([[3.0, -3.0]])).numpy().round(3)
        array([[ 1., -1.]], dtype=float32)
    """

    def __init__(
        self, normalized_shape: Any, eps: float | None = None, elementwise_affine: bool = True
    ):
        self.normalized_shape = _sizes("RMSNorm", normalized_shape)
        self.eps = None if eps is None else number("RMSNorm", "eps", eps, "[0, inf)")
        affine = flag("RMSNorm", "elementwise_affine", elementwise_affine)
        self.weight = Parameter(ones(self.normalized_shape)) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        """The same shape; each sample's last axes divided by their root mean square."""
        return F.rms_norm(x, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        """Shape and eps."""
        return f"{self.normalized_shape}, eps={self.eps}"


class GroupNorm(Module):
    """(x - mean) / sqrt(variance + eps) * weight + bias, each sample's channels in groups.

    Args:
        num_groups: so many groups of neighbouring channels; divides num_channels.
        num_channels: C; at least 1.
        eps: added to the variance; default 1e-5.
        affine: whether there are a weight and a bias.

    Shapes: (N, C, ...) -> the same; weight, bias (C,).

    Source: Wu, He 2018, https://arxiv.org/abs/1803.08494.

    Example:
        >>> import tinytorch as tt
        >>> tt.nn.GroupNorm(2, 4)(tt.zeros(2, 4, 3, 3)).shape
        (2, 4, 3, 3)
    """

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True):
        self.num_groups = whole("GroupNorm", "num_groups", num_groups, at_least=1)
        self.num_channels = whole("GroupNorm", "num_channels", num_channels, at_least=1)
        if num_channels % num_groups:
            raise SettingError(
                "GroupNorm: the channels cannot be split into groups",
                got=f"num_groups={num_groups}, num_channels={num_channels}",
                rule="num_channels is a multiple of num_groups",
                fix="num_groups=1, or a divisor of num_channels",
            )
        self.eps = number("GroupNorm", "eps", eps, "[0, inf)")
        affine = flag("GroupNorm", "affine", affine)
        self.weight = Parameter(ones((num_channels,))) if affine else None
        self.bias = Parameter(zeros((num_channels,))) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        """The same shape; each group of each sample normalised."""
        if len(x.shape) < 2 or x.shape[1] != self.num_channels:
            raise ShapeError(
                "GroupNorm: input has the wrong shape",
                got=f"x {tuple(x.shape)}",
                rule=f"(N, C, ...) with C = num_channels = {self.num_channels}",
                fix="GroupNorm(groups, C) with the C of the input, which is its axis 1",
            )
        return F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """Groups, channels, eps."""
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps:g}"


def _sizes(owner: str, normalized_shape: Any) -> tuple[int, ...]:
    several = isinstance(normalized_shape, (list, tuple))
    sizes = tuple(normalized_shape) if several else (normalized_shape,)
    return tuple(whole(owner, "normalized_shape", size, at_least=1) for size in sizes)
