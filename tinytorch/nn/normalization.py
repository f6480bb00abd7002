"""Normalisation: mean and variance taken out, scale and shift put in; functions and layers.

They differ in what a mean is taken over: the last axes of each sample (layer norm, RMS norm),
groups of its channels (group norm; an instance norm with one channel a group), or each channel over
the whole batch (batch norm, which keeps running statistics for evaluation). Every variance is taken
in two passes (see `layer_norm`).
"""

from __future__ import annotations

import math
from typing import Any

from tinytorch.base.arguments import flag, number, one_of, whole
from tinytorch.base.dtypes import float32, float64, int64
from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.nn.module import Module, Parameter
from tinytorch.tensor.creation import ones, zeros
from tinytorch.tensor.dispatch import in_float32
from tinytorch.tensor.elementwise import abs as tensor_abs
from tinytorch.tensor.elementwise import isfinite, maximum, rsqrt, sqrt, where
from tinytorch.tensor.interpreter import no_grad
from tinytorch.tensor.operands import check_one_float
from tinytorch.tensor.reductions import norm, shift_of
from tinytorch.tensor.shaping import broadcast_arrays
from tinytorch.tensor.tensor import Tensor


def _moments(x: Tensor, axes: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, distances from it, and their mean square: a variance in two passes."""
    mean = x.mean(axes, keepdim=True)
    centered = x - mean
    return mean, centered, (centered * centered).mean(axes, keepdim=True)


def _scaled(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, shape: tuple[int, ...] | None = None
) -> Tensor:
    """x * weight + bias, as far as there are such; both are brought to a shape first."""
    if weight is not None:
        x = x * (weight if shape is None else weight.reshape(*shape))
    if bias is not None:
        x = x + (bias if shape is None else bias.reshape(*shape))
    return x


class _Norm(Module):
    """What layers that normalise keep: eps, a scale that is 1 at first and a shift that is 0."""

    weight: Parameter | None
    bias: Parameter | None

    def _keep(self, eps: float, shape: tuple[int, ...], weight: bool, bias: bool) -> None:
        self.eps = number(type(self).__name__, "eps", eps, "[0, inf)")
        self.weight = Parameter(ones(shape)) if weight else None
        self.bias = Parameter(zeros(shape)) if bias else None


@in_float32()
def layer_norm(
    input: Tensor, normalized_shape, weight=None, bias=None, eps: float = 1e-5
) -> Tensor:
    """(x - mean) / sqrt(variance + eps) * weight + bias over the last axes.

    Args:
        input: (..., *normalized_shape).
        normalized_shape: sizes of the last axes.
        weight: (*normalized_shape).
        bias: (*normalized_shape).
        eps: added to the variance.

    Source: Ba, Kiros, Hinton 2016, https://arxiv.org/abs/1607.06450. The variance is the mean of
    squared distances (two passes): the mean of squares minus the squared mean loses all digits when
    the mean is large.
    """
    axes = _last_axes("layer_norm", "LayerNorm", input, normalized_shape)
    _check_types("layer_norm", input, weight, bias)
    _, centered, variance = _moments(input, axes)
    return _scaled(centered * rsqrt(variance + eps), weight, bias)


class LayerNorm(_Norm):
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
        self, normalized_shape: Any, eps: float = 1e-5, elementwise_affine: bool = True,
        bias: bool = True,
    ):  # fmt: skip
        self.normalized_shape = _sizes("LayerNorm", normalized_shape)
        affine = flag("LayerNorm", "elementwise_affine", elementwise_affine)
        shifted = affine and flag("LayerNorm", "bias", bias)
        self._keep(eps, self.normalized_shape, affine, shifted)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape; each sample's last axes normalised."""
        return layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """Shape and eps."""
        return f"{self.normalized_shape}, eps={self.eps:g}"


@in_float32()
def rms_norm(
    input: Tensor, normalized_shape, weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight over the last axes: a layer norm without the mean.

    Args:
        input: (..., *normalized_shape).
        normalized_shape: sizes of the last axes.
        weight: (*normalized_shape).
        eps: added to the mean square; default: the smallest step of the type that is computed in
            (float32 for half precision), as PyTorch.

    Source: Zhang, Sennrich 2019, https://arxiv.org/abs/1910.07467.
    """
    axes = _last_axes("rms_norm", "RMSNorm", input, normalized_shape)
    _check_types("rms_norm", input, weight, None)
    if eps is None:
        eps = step_of(input.dtype)
    return _scaled(input * rsqrt((input * input).mean(axes, keepdim=True) + eps), weight, None)


def step_of(dtype) -> float:
    """The distance from 1 to the next number of a float type.

    >>> from tinytorch.base.dtypes import bfloat16, float64
    >>> step_of(bfloat16) == 2**-7, step_of(float64) == 2**-52
    (True, True)
    """
    digits = {"bfloat16": 7, "float16": 10, "float32": 23, "float64": 52}  # stored bits after 1.
    return 2.0 ** -digits[dtype.name]


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
        return rms_norm(x, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        """Shape and eps."""
        return f"{self.normalized_shape}, eps={self.eps}"


NORMS = ("layer", "rms")


def norm_layer(kind: str, size: int, eps: float = 1e-5, bias: bool = True) -> LayerNorm | RMSNorm:
    """The norm of a transformer's tokens, by name.

    Args:
        kind: "layer" or "rms".
        size: C, numbers per token.
        eps: what is added before the root, in [0, inf).
        bias: whether a layer norm has a shift; an RMS norm has none.

    Example:
        >>> norm_layer("rms", 8)
        RMSNorm((8,), eps=1e-05)
    """
    if one_of("norm_layer", "norm", kind, NORMS) == "rms":
        return RMSNorm(size, eps)
    return LayerNorm(size, eps, bias=bias)


def _last_axes(owner: str, layer: str, input: Tensor, normalized_shape) -> tuple[int, ...]:
    """The axes that are normalised, sizes checked."""
    sizes = _several(normalized_shape)
    if tuple(input.shape[-len(sizes) :]) != sizes:
        raise ShapeError(
            f"{owner}: the last axes are not those of the layer",
            got=f"input {tuple(input.shape)}",
            rule=f"(..., {', '.join(map(str, sizes))})",
            fix=f"{layer}({tuple(input.shape[-len(sizes) :])})",
        )
    return tuple(range(len(input.shape) - len(sizes), len(input.shape)))


def _sizes(owner: str, normalized_shape: Any) -> tuple[int, ...]:
    sizes = _several(normalized_shape)
    return tuple(whole(owner, "normalized_shape", size, at_least=1) for size in sizes)


def _several(normalized_shape: Any) -> tuple[Any, ...]:
    several = isinstance(normalized_shape, (list, tuple))
    return tuple(normalized_shape) if several else (normalized_shape,)


@in_float32()
def group_norm(
    input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """(x - mean) / sqrt(variance + eps) * weight + bias, each sample's channels in groups.

    Args:
        input: (N, C, ...).
        num_groups: so many groups of C / num_groups neighbouring channels; divides C.
        weight: (C,).
        bias: (C,).
        eps: added to the variance.

    Source: Wu, He 2018, https://arxiv.org/abs/1803.08494, equation 7. num_groups = 1 is a layer
    norm over channels and image, num_groups = C an instance norm.
    """
    num_groups = whole("group_norm", "num_groups", num_groups, at_least=1)
    if len(input.shape) < 2 or input.shape[1] % num_groups:
        raise ShapeError(
            "group_norm: the channels cannot be split into groups",
            got=f"input {tuple(input.shape)}, num_groups={num_groups}",
            rule="(N, C, ...) with C a multiple of num_groups",
            fix="num_groups=1, or a divisor of C",
        )
    _check_types("group_norm", input, weight, bias)
    shape = tuple(input.shape)
    numbers = math.prod(shape[1:]) // num_groups
    x = input.reshape(shape[0], num_groups, numbers)
    _, centered, variance = _moments(x, -1)
    out = (centered * rsqrt(variance + eps)).reshape(*shape)
    return _scaled(out, weight, bias, (shape[1], *(1,) * (len(shape) - 2)))


class GroupNorm(_Norm):
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
        affine = flag("GroupNorm", "affine", affine)
        self._keep(eps, (num_channels,), affine, affine)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape; each group of each sample normalised."""
        if len(x.shape) < 2 or x.shape[1] != self.num_channels:
            raise ShapeError(
                "GroupNorm: input has the wrong shape",
                got=f"x {tuple(x.shape)}",
                rule=f"(N, C, ...) with C = num_channels = {self.num_channels}",
                fix="GroupNorm(groups, C) with the C of the input, which is its axis 1",
            )
        return group_norm(x, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """Groups, channels, eps."""
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps:g}"


@in_float32("input", state=("running_mean", "running_var"))
def batch_norm(
    input: Tensor, running_mean: Tensor | None, running_var: Tensor | None, weight=None, bias=None,
    training: bool = False, momentum: Any = 0.1, eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """(x - mean) / sqrt(variance + eps) * weight + bias, each channel over everything else.

    Args:
        input: (N, C, ...).
        running_mean: (C,); moved in training, used in evaluation.
        running_var: (C,); the same.
        weight: (C,).
        bias: (C,).
        training: use the batch's own mean and variance, as without running statistics.
        momentum: weight of this batch in the running statistics: a number or a 0-d Tensor.
        eps: added to the variance.

    Source: Ioffe, Szegedy 2015, https://arxiv.org/abs/1502.03167. The running variance is the
    unbiased one (n / (n - 1)), as in the paper and PyTorch.
    """
    _check_types("batch_norm", input, weight, bias)
    if running_mean is not None and running_mean.dtype is float64:
        check_one_float("batch_norm", input=input, running_mean=running_mean)
    if len(input.shape) < 2:
        raise ShapeError(
            "batch_norm: there is no axis of channels",
            got=f"input {tuple(input.shape)}",
            rule="(N, C, ...)",
            fix="input.reshape(-1, C)",
        )
    axes = (0, *range(2, len(input.shape)))
    shape = tuple(1 if axis in axes else size for axis, size in enumerate(input.shape))
    if training or running_mean is None or running_var is None:
        mean, centered, variance = _moments(input, axes)
        if running_mean is not None and running_var is not None:
            n = _values_per_channel(input)
            with no_grad():
                _move(running_mean, mean, momentum)
                _move(running_var, variance * (n / (n - 1)), momentum)
    else:
        mean, variance = running_mean.reshape(*shape), running_var.reshape(*shape)
        centered = input - mean
    # Scaling factors are joined first: there are only C of them.
    scale = _scaled(rsqrt(variance + eps), weight, None, shape)
    return _scaled(centered * scale, None, bias, shape)


def _values_per_channel(input: Tensor) -> int:
    n = math.prod(input.shape) // max(1, input.shape[1])
    if n < 2:
        raise ShapeError(
            "batch_norm: a variance in training needs two numbers for each channel",
            got=f"input {tuple(input.shape)}",
            rule="N * H * W >= 2",
            fix="a larger batch, DataLoader(..., drop_last=True), or model.eval()",
        )
    return n


def _move(running: Tensor, new: Tensor, momentum: Any) -> None:
    new = new.detach().reshape(*running.shape)
    running.assign_((running * (1.0 - momentum) + new * momentum).astype(running.dtype))


class _BatchNorm(_Norm):
    """What all batch norms are; each says which inputs it takes."""

    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None
    optional_names = ("num_batches_tracked",)  # PyTorch has written it since version 0.4.1
    _axes: tuple[str, ...] = ()  # accepted shapes, for the message
    _ranks: tuple[int, ...] = ()

    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1,
        affine: bool = True, track_running_stats: bool = True,
    ):  # fmt: skip
        """Scale 1, shift 0, running averages 0 and 1.

        Args:
            num_features: C, features or channels; at least 1.
            eps: added to the variance; default 1e-5.
            momentum: weight of the newest batch in the running averages, in [0, 1]; default 0.1.
                None: their plain mean over all batches so far.
            affine: whether there are a weight and a bias.
            track_running_stats: whether there are running averages; without them evaluation uses
                the batch's own statistics too.
        """
        owner = type(self).__name__
        self.num_features = whole(owner, "num_features", num_features, at_least=1)
        self.momentum = None if momentum is None else number(owner, "momentum", momentum, "[0, 1]")
        affine = flag(owner, "affine", affine)
        self._keep(eps, (num_features,), affine, affine)
        if flag(owner, "track_running_stats", track_running_stats):
            self.register_buffer("running_mean", zeros((num_features,)))
            self.register_buffer("running_var", ones((num_features,)))
            self.register_buffer("num_batches_tracked", zeros((), dtype=int64))
        else:
            self.running_mean = self.running_var = self.num_batches_tracked = None

    def forward(self, x: Tensor) -> Tensor:
        """The same shape; in training the running statistics move."""
        if len(x.shape) not in self._ranks or x.shape[1] != self.num_features:
            owner = type(self).__name__
            raise ShapeError(
                f"{owner}: input has the wrong shape",
                got=f"x {tuple(x.shape)}",
                rule=f"{' or '.join(self._axes)} with C = num_features = {self.num_features}",
                fix=f"{owner}(C) with the C of the input, which is its axis 1",
            )
        momentum, count = self.momentum, None
        if self.training and self.num_batches_tracked is not None:
            count = self.num_batches_tracked + 1
            if momentum is None:
                momentum = 1.0 / count.astype(float64 if x.dtype is float64 else float32)
        out = batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias,
            training=self.training, momentum=momentum, eps=self.eps,
        )  # fmt: skip
        if count is not None and self.num_batches_tracked is not None:
            self.num_batches_tracked.assign_(count)  # last: a refused batch does not count
        return out

    def extra_repr(self) -> str:
        """Channels, eps, momentum."""
        momentum = "None" if self.momentum is None else f"{self.momentum:g}"
        return f"{self.num_features}, eps={self.eps:g}, momentum={momentum}"


class BatchNorm2d(_BatchNorm):
    """(x - mean) / sqrt(variance + eps) * weight + bias, each channel over the batch and the image.

    In training mean and variance are those of the batch, and running averages of them are kept:

        running_mean = (1 - momentum) * running_mean + momentum * mean
        running_var  = (1 - momentum) * running_var  + momentum * variance * n / (n - 1)

    In evaluation (`eval()`) the running averages are used and nothing changes.

    Arguments: `help(nn.BatchNorm2d.__init__)`.

    Shapes: (N, C, H, W) -> the same; weight, bias, running_mean, running_var (C,).

    Source: Ioffe, Szegedy 2015, https://arxiv.org/abs/1502.03167; defaults of PyTorch.

    Example:
        >>> import tinytorch as tt
        >>> norm = tt.nn.BatchNorm2d(3)
        >>> norm(tt.zeros(2, 3, 4, 4)).shape, norm.running_var.numpy().round(2)
        ((2, 3, 4, 4), array([0.9, 0.9, 0.9], dtype=float32))
    """

    _axes, _ranks = ("(N, C, H, W)",), (4,)


class BatchNorm1d(_BatchNorm):
    """`BatchNorm2d` for rows of features or for signals.

    Arguments: `help(nn.BatchNorm1d.__init__)`.

    Shapes: (N, C) or (N, C, T) -> the same; weight, bias, running_mean, running_var (C,).

    Source: Ioffe, Szegedy 2015, https://arxiv.org/abs/1502.03167; defaults of PyTorch.

    Example:
        >>> import tinytorch as tt
        >>> tt.nn.BatchNorm1d(1)(tt.Tensor([[1.0], [3.0]])).numpy().round(3).ravel()
        array([-1.,  1.], dtype=float32)
    """

    _axes, _ranks = ("(N, C)", "(N, C, T)"), (2, 3)


@in_float32()
def normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """x / max(norm(x), eps) along an axis.

    Args:
        input: any shape.
        p: which norm (see `tt.norm`); default 2, the length.
        dim: the axis; default 1.
        eps: smallest divisor, so that zeros stay zeros.
    """
    if not isinstance(p, Tensor) and p == 2.0:
        # the largest number is taken out first: squares of 1e20 overflow float32
        largest = shift_of(tensor_abs(input), dim)
        scale = where((largest > 0.0) & isfinite(largest), largest, 1.0)
        x = input / scale
        mass = (x * x).sum(dim, keepdim=True)
        # a square root has no slope at 0: those rows are divided by eps
        length = where(mass == 0.0, 0.0, sqrt(mass)) * scale
    else:
        length = norm(input, p, dim, True)
    return input / maximum(length, eps)


@in_float32("x1", "x2")
def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """The cosine of the angle between vectors: the product of `normalize`d ones.

    Args:
        x1: any shape.
        x2: a shape that broadcasts with it.
        dim: the axis that holds the vectors; default 1.
        eps: smallest length that is divided by.

    Returns:
        The broadcast shape without dim, in [-1, 1].
    """
    if x1.shape != x2.shape:  # first to one shape: dim counts the axes that both have then
        x1, x2 = broadcast_arrays(x1, x2)
    return (normalize(x1, dim=dim, eps=eps) * normalize(x2, dim=dim, eps=eps)).sum(dim)


def _check_types(owner: str, input: Tensor, weight: Tensor | None, bias: Tensor | None) -> None:
    """Refuse weights of another float type; float32 beside a half input is the composite's own."""
    dtype = input.dtype
    if (weight is not None and weight.dtype is not dtype) or (
        bias is not None and bias.dtype is not dtype
    ):
        check_one_float(owner, input=input, weight=weight, bias=bias)
