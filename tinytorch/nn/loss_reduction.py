"""What a loss does with one number for each element: their mean, their sum, or nothing.

Knows the three names, never what was lost.
"""

from __future__ import annotations

import math

from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.tensor.creation import asarray
from tinytorch.tensor.elementwise import absorb
from tinytorch.tensor.tensor import Tensor

REDUCTIONS = ("mean", "sum", "none")


def reduction_of(owner: str, reduction: str, allowed: tuple[str, ...] = REDUCTIONS) -> str:
    """`reduction` if it is one of those allowed, else a SettingError that names them."""
    if reduction in allowed:
        return reduction
    raise SettingError(
        f"{owner}: no such reduction",
        got=f"reduction={reduction!r}",
        rule="one of " + ", ".join(map(repr, allowed)),
        fix='reduction="mean"',
    )


def reduced(owner: str, losses: Tensor, reduction: str) -> Tensor:
    """The mean or the sum of all losses (0-d), or the losses.

    Raises:
        ShapeError: the mean of no numbers.
    """
    reduction_of(owner, reduction)
    if reduction == "none":
        return losses
    if reduction == "sum":
        return losses.sum()
    return losses.sum() * (1.0 / counted(owner, losses))


def counted(owner: str, losses: Tensor) -> int:
    """How many losses there are; none is an error, for their mean would be 0 / 0."""
    count = math.prod(losses.shape)
    if not count:
        raise ShapeError(
            f"{owner}: an empty batch has no mean",
            got=f"losses {tuple(losses.shape)}",
            rule="at least one number to average",
            fix='leave the empty batch out, or reduction="sum", which gives 0',
        )
    return count


def weighed(weight: Tensor, loss: Tensor) -> Tensor:
    """weight * loss; where the weight is 0 the loss does not count, were it infinite or NaN.

    Its gradient is 0 there as well, in both.

    Args:
        weight: broadcasts to loss; of its dtype.
        loss: any shape.
    """
    return absorb(weight * loss, weight)


def same_shapes(owner: str, input: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Both as Tensors (arrays are taken too); refused where broadcasting would hide a mistake."""
    input, target = asarray(input), asarray(target)
    if tuple(input.shape) != tuple(target.shape):
        raise ShapeError(
            f"{owner}: input and target have different shapes",
            got=f"input {tuple(input.shape)}, target {tuple(target.shape)}",
            rule="equal shapes",
            fix=f"target.reshape{tuple(input.shape)}"
            if math.prod(target.shape) == math.prod(input.shape)
            else "target.broadcast_to(input.shape), if that is what is meant",
        )
    return input, target
