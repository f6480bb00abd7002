"""Normalisation as functions: mean and variance taken out, scale and shift put in.

Knows over which axes; every variance is taken in two passes (see `layer_norm`).
"""

from __future__ import annotations

import math
from typing import Any

from tinytorch.base.checks import whole
from tinytorch.base.dtypes import float64
from tinytorch.base.errors import ShapeError
from tinytorch.tensor.elementwise import abs as tensor_abs
from tinytorch.tensor.elementwise import isfinite, maximum, rsqrt, sqrt, where
from tinytorch.tensor.half_precision import in_float32
from tinytorch.tensor.modes import no_grad
from tinytorch.tensor.number_types import check_one_float
from tinytorch.tensor.reductions import norm, shift_of
from tinytorch.tensor.repetition import broadcast_arrays
from tinytorch.tensor.tensor import Tensor


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
    centered = input - input.mean(axes, keepdim=True)
    variance = (centered * centered).mean(axes, keepdim=True)
    out = centered * rsqrt(variance + eps)
    out = out if weight is None else out * weight
    return out if bias is None else out + bias


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
    out = input * rsqrt((input * input).mean(axes, keepdim=True) + eps)
    return out if weight is None else out * weight


def step_of(dtype) -> float:
    """The distance from 1 to the next number of a float type.

    >>> from tinytorch.base.dtypes import bfloat16, float64
    >>> step_of(bfloat16) == 2**-7, step_of(float64) == 2**-52
    (True, True)
    """
    digits = {"bfloat16": 7, "float16": 10, "float32": 23, "float64": 52}  # stored bits after 1.
    return 2.0 ** -digits[dtype.name]


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
    centered = x - x.mean(-1, keepdim=True)
    variance = (centered * centered).mean(-1, keepdim=True)
    out = (centered * rsqrt(variance + eps)).reshape(*shape)
    per_channel = (shape[1], *(1,) * (len(shape) - 2))
    out = out if weight is None else out * weight.reshape(*per_channel)
    return out if bias is None else out + bias.reshape(*per_channel)


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
        mean = input.mean(axes, keepdim=True)
        centered = input - mean
        variance = (centered * centered).mean(axes, keepdim=True)
        if running_mean is not None and running_var is not None:
            n = _values_per_channel(input)
            with no_grad():
                _move(running_mean, mean, momentum)
                _move(running_var, variance * (n / (n - 1)), momentum)
    else:
        mean, variance = running_mean.reshape(*shape), running_var.reshape(*shape)
        centered = input - mean
    # Scaling factors are joined first: there are only C of them.
    scale = rsqrt(variance + eps)
    scale = scale if weight is None else scale * weight.reshape(*shape)
    out = centered * scale
    return out if bias is None else out + bias.reshape(*shape)


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


def _check_types(owner: str, input: Tensor, weight: Tensor | None, bias: Tensor | None) -> None:
    """Refuse weights of another float type; float32 beside a half input is the composite's own."""
    dtype = input.dtype
    if (weight is not None and weight.dtype is not dtype) or (
        bias is not None and bias.dtype is not dtype
    ):
        check_one_float(owner, input=input, weight=weight, bias=bias)


def _last_axes(owner: str, layer: str, input: Tensor, normalized_shape) -> tuple[int, ...]:
    """The axes that are normalised, sizes checked."""
    several = isinstance(normalized_shape, (list, tuple))
    sizes = tuple(normalized_shape) if several else (normalized_shape,)
    if tuple(input.shape[-len(sizes) :]) != sizes:
        raise ShapeError(
            f"{owner}: the last axes are not those of the layer",
            got=f"input {tuple(input.shape)}",
            rule=f"(..., {', '.join(map(str, sizes))})",
            fix=f"{layer}({tuple(input.shape[-len(sizes) :])})",
        )
    return tuple(range(len(input.shape) - len(sizes), len(input.shape)))
