"""What a loss does with one number for each element: their mean, their sum, or nothing.

Knows the three names, never what was lost.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.tensor.creation import asarray
from tinytorch.tensor.dispatch import to_dtype
from tinytorch.tensor.elementwise import absorb
from tinytorch.tensor.interpreter import STATE
from tinytorch.tensor.tensor import Tensor

ROUNDED = 1e-4  # of mixed or smoothed labels, in any float type but the 8 bits of bfloat16
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
    return averaged(owner, losses, None, reduction)


def averaged(owner: str, losses: Tensor, counts: Tensor | None, reduction: str) -> Tensor:
    """The sum of all losses, or that divided by how much they count; or the losses.

    Args:
        owner: the loss, for messages.
        losses: one for each element, already times how much it counts.
        counts: how much each counts; None: 1.
        reduction: "mean", "sum" or "none".

    Raises:
        ShapeError: the mean of no numbers.
    """
    reduction_of(owner, reduction)
    if reduction == "none":
        return losses
    total = losses.sum()
    if reduction == "sum":
        note_divisor(None)
        return total
    number_of = counted(owner, losses)
    divisor = number_of if counts is None else counts.sum()
    note_divisor(divisor)
    return total * (1.0 / number_of) if counts is None else total / divisor


class Noted:
    """What the losses computed in a block said of themselves.

    `divisors`: what each was divided by, in order, None for a sum; `logits`: what cross-entropy,
    which applies softmax itself, was given.
    """

    def __init__(self):
        self.divisors: list[Tensor | float | None] = []
        self.logits: list[Tensor] = []


class _Listener(threading.local):
    noted: Noted | None = None


_LISTENER = _Listener()


@contextmanager
def losses_noted() -> Iterator[Noted]:
    """Within the block losses say what they were divided by and what they took for logits.

    Who puts means over several batches together needs it: (w1 mean1 + w2 mean2) / (w1 + w2).

    Example:
        >>> import tinytorch as tt
        >>> with losses_noted() as noted:
        ...     _ = tt.nn.functional.mse_loss(tt.zeros(2, 3), tt.ones(2, 3))
        >>> noted.divisors
        [6]
    """
    before, _LISTENER.noted = _LISTENER.noted, Noted()
    try:
        yield _LISTENER.noted
    finally:
        _LISTENER.noted = before


def note_divisor(divisor: Tensor | float | None) -> None:
    """Tell who listens."""
    if _LISTENER.noted is not None:
        divisor = divisor.detach() if isinstance(divisor, Tensor) else divisor
        _LISTENER.noted.divisors.append(divisor)


def note_logits(logits: Tensor) -> None:
    """Tell who listens."""
    if _LISTENER.noted is not None:
        _LISTENER.noted.logits.append(logits)


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
        weight: broadcasts to loss.
        loss: any shape.
    """
    product = weight * loss  # in the wider of their types
    return absorb(product, to_dtype(weight, product.dtype))


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


def check_probabilities(owner: str, name: str, x: Tensor) -> None:
    """Refuse numbers outside [0, 1] where numbers are known: not while a program is recorded.

    Labels of 7 would give a loss below 0 that falls without end. What a rounding brought beyond
    the ends passes.

    Cost: two passes over x; NaN passes, and makes the loss NaN.
    """
    if STATE.interpreter is not None or not math.prod(x.shape):
        return
    numbers = x.detach().numpy()
    least, most = numbers.min(), numbers.max()
    if least < -ROUNDED or most > 1.0 + ROUNDED:
        raise SettingError(
            f"{owner}: {name} holds numbers that are no probabilities",
            got=f"{name} from {least:g} to {most:g}",
            rule=f"each number of {name} in [0, 1]",
            fix="labels of yes or no as 1.0 and 0.0; cross_entropy for class numbers"
            if name == "target"
            else "binary_cross_entropy_with_logits takes any number",
        )
