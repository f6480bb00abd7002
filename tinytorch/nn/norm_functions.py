"""Normalisation as functions: mean and variance taken out, scale and shift put in.

Knows over which axes; every variance is taken in two passes (see `layer_norm`).
"""

from __future__ import annotations

import math

from tinytorch.base.errors import ShapeError
from tinytorch.tensor.elementwise import rsqrt
from tinytorch.tensor.modes import no_grad
from tinytorch.tensor.tensor import Tensor


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
    sizes = (
        tuple(normalized_shape)
        if isinstance(normalized_shape, (list, tuple))
        else (normalized_shape,)
    )
    if tuple(input.shape[-len(sizes) :]) != sizes:
        raise ShapeError(
            "layer_norm: the last axes are not those of the layer",
            got=f"input {tuple(input.shape)}",
            rule=f"(..., {', '.join(map(str, sizes))})",
            fix=f"LayerNorm({tuple(input.shape[-len(sizes) :])})",
        )
    axes = tuple(range(len(input.shape) - len(sizes), len(input.shape)))
    centered = input - input.mean(axes, keepdim=True)
    variance = (centered * centered).mean(axes, keepdim=True)
    out = centered * rsqrt(variance + eps)
    out = out if weight is None else out * weight
    return out if bias is None else out + bias


def batch_norm(
    input: Tensor, running_mean: Tensor | None, running_var: Tensor | None, weight=None, bias=None,
    training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """(x - mean) / sqrt(variance + eps) * weight + bias, each channel over everything else.

    Args:
        input: (N, C, ...).
        running_mean: (C,); moved in training, used in evaluation.
        running_var: (C,); the same.
        weight: (C,).
        bias: (C,).
        training: use the batch's own mean and variance, as without running statistics.
        momentum: weight of this batch in the running statistics.
        eps: added to the variance.

    Source: Ioffe, Szegedy 2015, https://arxiv.org/abs/1502.03167. The running variance is the
    unbiased one (n / (n - 1)), as in the paper and PyTorch.
    """
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


def _move(running: Tensor, new: Tensor, momentum: float) -> None:
    new = new.detach().reshape(*running.shape)
    running.assign_(running * (1.0 - momentum) + new * momentum)
