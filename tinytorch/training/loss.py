"""What a Trainer has to know of its loss: how much a batch counts, and whether it takes logits.

Knows losses and targets, the last layer of a model and the last operations that were recorded;
never models otherwise.

The mean over two batches is not the mean of their means: it is (w1 * mean1 + w2 * mean2) /
(w1 + w2), where w is what each mean was divided by.

Note [what a loss was divided by]
    A loss object says it by its settings, a loss of `nn.functional` when it is computed, whoever
    calls it: a lambda with `ignore_index` is known. A function of another kind is tried on the
    first batches, whole and in two halves: is it a mean of one of these weights, or a sum? If
    neither, gradients of several batches cannot be put together without the user's word: the
    method `batch_weight(target)` of a loss object.

Note [softmax before cross-entropy]
    A common mistake: it is recognised, and put right where it can be. Cross-entropy takes logits
    and applies softmax itself. Applied twice, probabilities between 0 and 1 are read as logits:
    with ten classes the loss stays above log(1 + 9 / e) = 1.46 however good the model is, and its
    gradient is small.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable
from operator import itemgetter
from typing import Any

import numpy as np

from tinytorch.base.errors import SettingError
from tinytorch.nn.activation import Softmax
from tinytorch.nn.functional import cross_entropy
from tinytorch.nn.losses import CrossEntropyLoss, Noted, losses_noted
from tinytorch.nn.module import Module, Sequential
from tinytorch.tensor.autograd import TapeNode
from tinytorch.tensor.creation import full
from tinytorch.tensor.elementwise import where
from tinytorch.tensor.indexing import take
from tinytorch.tensor.interpreter import no_grad
from tinytorch.tensor.shaping import concat
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
        >>> weight_of(skipping, tt.tensor([0, 2, 1])).item()
        2.0
    """
    own = getattr(loss, "batch_weight", None)
    if callable(own):
        weight: Any = own(target)
        return weight
    weights, ignored = setting(loss, "weight"), setting(loss, "ignore_index")
    if target.dtype.is_float or (weights is None and ignored is None):
        return target.size * 1.0  # a float, also of a number that is known when it runs
    with no_grad():
        counts = target != ignored if ignored is not None else None
        labels = target if counts is None else where(counts, target, 0)
        each = full(target.shape, 1.0) if weights is None else take(weights.detach(), labels, 0)
        return (each if counts is None else where(counts, each, 0.0)).sum()


def noted_weight(loss: Callable, target: Tensor, noted: Noted) -> Tensor | float:
    """What this loss was divided by, as it was computed: see Note [what a loss was divided by].

    Args:
        loss: function of (output, target).
        target: one batch's.
        noted: what was heard while it was computed.
    """
    if not callable(getattr(loss, "batch_weight", None)) and len(noted.divisors) == 1:
        (divisor,) = noted.divisors
        if isinstance(divisor, Tensor):
            return divisor
    return weight_of(loss, target)


def adds_up(loss: Callable) -> bool:
    """Whether the loss is a sum: its gradients over several batches are added, not averaged."""
    return setting(loss, "reduction") == "sum"


def is_trusted(loss: Callable) -> bool:
    """Whether a loss is one of TinyTorch's own, or says itself what it is divided by."""
    if callable(getattr(loss, "batch_weight", None)):
        return True
    while isinstance(loss, functools.partial):
        loss = loss.func
    made_by = loss if hasattr(loss, "__qualname__") else type(loss)
    return str(getattr(made_by, "__module__", "")).startswith("tinytorch.nn.")


def is_a_sum(loss: Callable, output: Any, target: Tensor) -> bool | None:
    """Whether an unknown loss adds up (True) or is a mean (False), tried on one batch.

    Args:
        loss: function of (output, target) without a gradient.
        output, target: of a batch, with numbers.

    Returns:
        None if this batch does not tell: a loss of 0, or nothing that counts.

    Raises:
        SettingError: it is neither: the gradients of several batches cannot be put together.

    Example:
        >>> import tinytorch as tt
        >>> x, y = tt.Tensor([1.0, 2.0, 4.0]), tt.zeros(3)
        >>> [is_a_sum(f, x, y) for f in (lambda x, y: (x - y).sum(), lambda x, y: (x - y).mean())]
        [True, False]
    """
    count = target.shape[0] if target.shape else 0
    if not count:
        return None
    if count == 1:  # one sample beside itself
        output = each_tensor(output, lambda x: concat([x, x]), samples=1)
        target, count = concat([target, target]), 2
    half, parts = count // 2, []
    for cut in (slice(None), slice(0, half), slice(half, count)):
        share = target[cut]
        with losses_noted() as noted:
            found = loss(each_tensor(output, itemgetter(cut), samples=count), share)
        weight = noted_weight(loss, share, noted)
        weight = weight.item() if isinstance(weight, Tensor) else weight
        parts.append((found.item() if weight else 0.0, weight))
    (whole, w), (first, w1), (second, w2) = parts
    size = abs(first) + abs(second)
    small = math.sqrt(np.finfo(found.dtype.storage).eps) if found.dtype.itemsize > 2 else 0.03
    if not math.isfinite(whole) or not size:
        return None
    if abs(whole * w - (first * w1 + second * w2)) <= small * (abs(first) * w1 + abs(second) * w2):
        return False
    if abs(whole - (first + second)) <= small * size:
        return True
    raise SettingError(
        "Trainer(accumulate=...): this loss over several batches is not that of its parts",
        got=f"{whole:.6g} for {count} samples, {first:.6g} and {second:.6g} for their halves",
        rule="a sum, or a mean over all of the target; of another mean the divisor is needed",
        fix="give the loss a method batch_weight(target) that returns what its mean is divided by; "
        "or use a loss of nn or nn.functional, which says it",
    )


def each_tensor(output: Any, change: Callable[[Tensor], Tensor], samples: int | None = None) -> Any:
    """What a model gave, with `change` of every Tensor in it: alone or in lists and tuples.

    Args:
        output: of a model.
        change: what to do.
        samples: of Tensors with so many alone, where it is given.
    """
    if isinstance(output, Tensor):
        fits = samples is None or (output.shape and output.shape[0] == samples)
        return change(output) if fits else output
    if not isinstance(output, (list, tuple)):
        return output
    make = getattr(type(output), "_make", type(output))  # named tuples are made by another name
    return make([each_tensor(x, change, samples) for x in output])


def setting(loss: Callable, name: str) -> Any:
    """What a loss object, or a `functools.partial`, was given for `name`; None if nothing."""
    if isinstance(loss, functools.partial):
        return loss.keywords.get(name, setting(loss.func, name))
    return getattr(loss, name, None)


def scored_by(model: Module, loss: Callable) -> Callable:
    """What gives the loss its input: the model, without a softmax that cross-entropy would repeat.

    See Note [softmax before cross-entropy]. Predictions keep the model's softmax.

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
    if not isinstance(node, TapeNode) or _name(node) != "div":
        return False
    powers, total = node.parents
    total = _before_moving(total)
    if not isinstance(total, TapeNode) or _name(total) != "sum" or _name(powers) != "exp":
        return False
    return _before_moving(total.parents[0]) is powers


def _before_moving(node: Any) -> Any:
    while isinstance(node, TapeNode) and node.parents:
        if node.primitive is not None and _name(node) not in _PASSED_ON:
            break
        node = node.parents[0]
    return node


def _name(node: Any) -> str:
    """Of its primitive, or of what stands in the tape for one."""
    return str(node.primitive) if isinstance(node, TapeNode) else ""
