"""Softmax before cross-entropy: a common mistake, recognised, and put right where it can be.

Knows the last layer of a model, or the last operations that were recorded, and what its loss
expects; never a number.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from tinytorch.nn.activation import Softmax
from tinytorch.nn.containers import Sequential
from tinytorch.nn.functional import cross_entropy
from tinytorch.nn.losses import CrossEntropyLoss
from tinytorch.nn.module import Module
from tinytorch.tensor.tape import Node
from tinytorch.tensor.tensor import Tensor


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


# What a softmax may go through and still be one: other places, other types, a part of it.
_PASSED_ON = {"reshape", "permute", "slice", "broadcast_to", "cast", "take", "flip", "pad"}


def warn_of_softmax(logits: Tensor) -> bool:
    """Warn if what cross-entropy takes for logits is what a softmax gave; gives whether it was.

    The recorded operations say so, whoever wrote them: exp(x) divided by the sum of the same.

    Args:
        logits: as the loss was given them, with what was recorded for backward.
    """
    if not _is_softmax(logits._node):
        return False
    warnings.warn(
        "the loss is cross-entropy, which applies softmax itself, and what it is given has gone "
        "through a softmax; got: both; rule: cross-entropy takes logits; fix: let the model return "
        "what it gives to softmax, or use nn.NLLLoss with log_softmax",
        stacklevel=2,
    )
    return True


def _is_softmax(node: Any) -> bool:
    node = _before_moving(node)
    if not isinstance(node, Node) or _name(node) != "div":
        return False
    powers, total = node.parents
    total = _before_moving(total)
    if not isinstance(total, Node) or _name(total) != "sum" or _name(powers) != "exp":
        return False
    return _before_moving(total.parents[0]) is powers


def _before_moving(node: Any) -> Any:
    while isinstance(node, Node) and node.parents:
        if node.primitive is not None and _name(node) not in _PASSED_ON:
            break
        node = node.parents[0]
    return node


def _name(node: Any) -> str:
    """Of its primitive, or of what stands in the tape for one."""
    return str(node.primitive) if isinstance(node, Node) else ""
