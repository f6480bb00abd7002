"""LayerNorm and BatchNorm2d: numbers brought to mean 0 and variance 1, then scaled and shifted.

Knows the weights and, for BatchNorm2d, the running statistics; the arithmetic is in `functional`.
"""

from __future__ import annotations

from tinytorch.base.checks import flag, number, whole
from tinytorch.base.dtypes import int64
from tinytorch.base.errors import ShapeError
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
        normalized_shape,
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
    ):
        sizes = (
            normalized_shape if isinstance(normalized_shape, (list, tuple)) else (normalized_shape,)
        )
        self.normalized_shape = tuple(
            whole("LayerNorm", "normalized_shape", s, at_least=1) for s in sizes
        )
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


class BatchNorm2d(Module):
    """(x - mean) / sqrt(variance + eps) * weight + bias, each channel over the batch and the image.

    In training mean and variance are those of the batch, and running averages of them are kept:

        running_mean = (1 - momentum) * running_mean + momentum * mean
        running_var  = (1 - momentum) * running_var  + momentum * variance * n / (n - 1)

    In evaluation (`eval()`) the running averages are used and nothing changes.

    Args:
        num_features: C, channels; at least 1.
        eps: added to the variance; default 1e-5.
        momentum: weight of the newest batch in the running averages, in [0, 1]; default 0.1.
        affine: whether there are a weight and a bias.

    Shapes: (N, C, H, W) -> the same; weight, bias, running_mean, running_var (C,).

    Source: Ioffe, Szegedy 2015, https://arxiv.org/abs/1502.03167; defaults of PyTorch.

    Example:
        >>> import tinytorch as tt
        >>> norm = tt.nn.BatchNorm2d(3)
        >>> norm(tt.zeros(2, 3, 4, 4)).shape, norm.running_var.numpy().round(2)
        ((2, 3, 4, 4), array([0.9, 0.9, 0.9], dtype=float32))
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float = 0.1, affine: bool = True
    ):
        self.num_features = whole("BatchNorm2d", "num_features", num_features, at_least=1)
        self.eps = number("BatchNorm2d", "eps", eps, "[0, inf)")
        self.momentum = number("BatchNorm2d", "momentum", momentum, "[0, 1]")
        affine = flag("BatchNorm2d", "affine", affine)
        self.weight = Parameter(ones((num_features,))) if affine else None
        self.bias = Parameter(zeros((num_features,))) if affine else None
        self.register_buffer("running_mean", zeros((num_features,)))
        self.register_buffer("running_var", ones((num_features,)))
        self.register_buffer("num_batches_tracked", zeros((), dtype=int64))

    def forward(self, x: Tensor) -> Tensor:
        """The same shape; in training the running statistics move."""
        if len(x.shape) != 4 or x.shape[1] != self.num_features:
            raise ShapeError(
                "BatchNorm2d: input has the wrong shape",
                got=f"x {tuple(x.shape)}",
                rule=f"(N, C, H, W) with C = num_features = {self.num_features}",
                fix="BatchNorm2d(C) with the C of the images, and images as (N, C, H, W)",
            )
        if self.training:
            self.num_batches_tracked.assign_(self.num_batches_tracked + 1)
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias,
            training=self.training, momentum=self.momentum, eps=self.eps,
        )  # fmt: skip

    def extra_repr(self) -> str:
        """Channels, eps, momentum."""
        return f"{self.num_features}, eps={self.eps:g}, momentum={self.momentum:g}"
