"""Softmax before cross-entropy: a common mistake, recognised and put right.

Knows the last layer of a model and what its loss expects, never a number.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

from tinytorch.nn.activation import Softmax
from tinytorch.nn.containers import Sequential
from tinytorch.nn.functional import cross_entropy
from tinytorch.nn.loss import CrossEntropyLoss
from tinytorch.nn.module import Module


def scored_by(model: Module, loss: Callable) -> Callable:
    """What gives the loss its input: the model, without a softmax that cross-entropy would repeat.

    Cross-entropy takes logits and applies softmax itself. Applied twice, probabilities between 0
    and 1 are read as logits: with ten classes the loss stays above log(1 + 9 / e) = 1.46 however
    good the model is, and its gradient is small. Predictions keep the model's softmax.

    Args:
        model: a `Sequential` that may end with `Softmax`.
        loss: function of (output, target).

    Returns:
        function of the model's inputs.

    Example:
        >>> from tinytorch import nn
        >>> net = nn.Sequential(nn.Linear(4, 2), nn.ReLU())
        >>> scored_by(net, nn.CrossEntropyLoss()) is net
        True
    """
    crossed = loss is cross_entropy or isinstance(loss, CrossEntropyLoss)
    if not (crossed and isinstance(model, Sequential) and len(model) > 1):
        return model
    if not isinstance(model[-1], Softmax):
        return model
    warnings.warn(
        "the model ends with Softmax, and cross-entropy applies softmax itself; got: both; rule: "
        "cross-entropy takes logits; fix: leave the Softmax layer out. This run computes the loss "
        "from what the Softmax layer is given",
        stacklevel=3,
    )
    return model[:-1]
