"""Losses of numbers against numbers: squared, absolute, and between the two.

Knows predictions and targets of one shape, never the model.
"""

from __future__ import annotations

from tinytorch.base.checks import number
from tinytorch.nn.loss_reduction import reduced, same_shapes
from tinytorch.tensor.elementwise import abs as magnitude
from tinytorch.tensor.elementwise import where
from tinytorch.tensor.half_precision import in_float32
from tinytorch.tensor.tensor import Tensor


@in_float32("input", "target")
def mse_loss(input: Tensor, target: Tensor, *, reduction: str = "mean") -> Tensor:
    """(input - target)^2, averaged.

    Args:
        input: any shape.
        target: the same shape.
        reduction: "mean", "sum" or "none".

    Returns:
        0-d, or the shape of input for "none".

    Raises:
        ShapeError: shapes differ; broadcasting would hide a mistake here. Or an empty mean.

    Example:
        >>> import tinytorch as tt
        >>> mse_loss(tt.Tensor([1.0, 2.0]), tt.Tensor([1.0, 4.0])).item()
        2.0
    """
    input, target = same_shapes("mse_loss", input, target)
    distance = input - target
    return reduced("mse_loss", distance * distance, reduction)


@in_float32("input", "target")
def l1_loss(input: Tensor, target: Tensor, *, reduction: str = "mean") -> Tensor:
    """|input - target|, averaged; its gradient is 0 where they are equal.

    Args:
        input: any shape.
        target: the same shape.
        reduction: "mean", "sum" or "none".

    Example:
        >>> import tinytorch as tt
        >>> l1_loss(tt.Tensor([1.0, 2.0]), tt.Tensor([1.0, 4.0])).item()
        1.0
    """
    input, target = same_shapes("l1_loss", input, target)
    return reduced("l1_loss", magnitude(input - target), reduction)


@in_float32("input", "target")
def huber_loss(
    input: Tensor, target: Tensor, *, reduction: str = "mean", delta: float = 1.0
) -> Tensor:
    """d^2 / 2 for distances up to delta, a line of slope delta beyond, averaged.

        delta * (|d| - delta / 2)    where |d| > delta

    Args:
        input: any shape.
        target: the same shape.
        reduction: "mean", "sum" or "none".
        delta: where the line begins, in (0, inf); default 1.

    Source: Huber 1964, "Robust estimation of a location parameter".

    Example:
        >>> import tinytorch as tt
        >>> huber_loss(tt.Tensor([0.5, 3.0]), tt.zeros(2), reduction="none").tolist()
        [0.125, 2.5]
    """
    delta = number("huber_loss", "delta", delta, "(0, inf)")
    input, target = same_shapes("huber_loss", input, target)
    distance = input - target
    size = magnitude(distance)
    near = size <= delta
    losses = where(near, distance * distance * 0.5, (size - 0.5 * delta) * delta)
    return reduced("huber_loss", losses, reduction)


@in_float32("input", "target")
def smooth_l1_loss(
    input: Tensor, target: Tensor, *, reduction: str = "mean", beta: float = 1.0
) -> Tensor:
    """d^2 / (2 beta) for distances below beta, |d| - beta / 2 beyond, averaged: huber_loss / beta.

    Args:
        input: any shape.
        target: the same shape.
        reduction: "mean", "sum" or "none".
        beta: where the line begins, in [0, inf); default 1; 0 is l1_loss.

    Source: Girshick 2015, https://arxiv.org/abs/1504.08083, equation 3, with beta as in PyTorch.

    Example:
        >>> import tinytorch as tt
        >>> smooth_l1_loss(tt.Tensor([0.5, 3.0]), tt.zeros(2), reduction="none").tolist()
        [0.125, 2.5]
    """
    beta = number("smooth_l1_loss", "beta", beta, "[0, inf)")
    input, target = same_shapes("smooth_l1_loss", input, target)
    distance = input - target
    size = magnitude(distance)
    if beta == 0.0:
        return reduced("smooth_l1_loss", size, reduction)
    losses = where(size < beta, distance * distance * (0.5 / beta), size - 0.5 * beta)
    return reduced("smooth_l1_loss", losses, reduction)
