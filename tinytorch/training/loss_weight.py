"""How much a batch counts: what a mean loss was divided by, so that means can be put together.

Knows losses and targets, never models. The mean over two batches is not the mean of their means:
it is (w1 * mean1 + w2 * mean2) / (w1 + w2), where w is what each mean was divided by.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from tinytorch.tensor.creation import full
from tinytorch.tensor.elementwise import where
from tinytorch.tensor.indexing import take
from tinytorch.tensor.modes import no_grad
from tinytorch.tensor.tensor import Tensor


def weight_of(loss: Callable, target: Tensor) -> Tensor | float:
    """What a mean loss divides by for this target: numbers, or the weights of the labels.

    A loss may say so itself: a method `batch_weight(target)` is asked first. Otherwise class
    weights (`weight`) and `ignore_index` are read from the loss object, or from the keywords of a
    `functools.partial`; a loss without them is a mean over everything in the target.

    Args:
        loss: function of (output, target).
        target: one batch's.

    Returns:
        a float where shapes alone decide, else a 0-d Tensor.

    Example:
        >>> import tinytorch as tt
        >>> skipping = tt.nn.CrossEntropyLoss(ignore_index=0)
        >>> weight_of(skipping, tt.Tensor([0, 2, 1])).item()
        2.0
    """
    own = getattr(loss, "batch_weight", None)
    if callable(own):
        weight: Any = own(target)
        return weight
    weights, ignored = setting(loss, "weight"), setting(loss, "ignore_index")
    if target.dtype.is_float or (weights is None and ignored is None):
        return float(target.size)
    with no_grad():
        counts = target != ignored if ignored is not None else None
        labels = target if counts is None else where(counts, target, 0)
        each = full(target.shape, 1.0) if weights is None else take(weights.detach(), labels, 0)
        return (each if counts is None else where(counts, each, 0.0)).sum()


def adds_up(loss: Callable) -> bool:
    """Whether the loss is a sum: its gradients over several batches are added, not averaged."""
    return setting(loss, "reduction") == "sum"


def setting(loss: Callable, name: str) -> Any:
    """What a loss object, or a `functools.partial`, was given for `name`; None if nothing."""
    if isinstance(loss, functools.partial):
        return loss.keywords.get(name, setting(loss.func, name))
    return getattr(loss, name, None)
