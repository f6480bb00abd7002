"""Binary cross-entropy: each number is a yes or no of its own.

Knows logits or probabilities, and targets of the same shape, never the model.
"""

from __future__ import annotations

from tinytorch.nn.loss_reduction import check_probabilities, reduced, same_shapes, weighed
from tinytorch.tensor.elementwise import exp, log, maximum, where
from tinytorch.tensor.exponentials import log1p
from tinytorch.tensor.half_precision import in_float32
from tinytorch.tensor.number_types import check_one_float
from tinytorch.tensor.tensor import Tensor


@in_float32("input", "target")
def binary_cross_entropy_with_logits(
    input: Tensor, target: Tensor, weight: Tensor | None = None, *, reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """-(pos_weight y log sigmoid(x) + (1 - y) log(1 - sigmoid(x))), averaged, without overflow.

    Infinite logits give the limits: 0 where they are right, infinity where they are wrong.

    Note [softplus with a right slope at 0]
        -log(1 - sigmoid(x)) = log(1 + exp(x)) = max(x, 0) + log1p(exp(-|x|)). Written with max and
        abs its slope at 0 would be that of their corners; both halves take the same side of one
        comparison here, and then the slope is sigmoid(x) everywhere, and its slope too.

    Args:
        input: logits x, any shape.
        target: y of the same shape, in [0, 1].
        weight: of each loss; broadcasts to input.
        reduction: "mean", "sum" or "none".
        pos_weight: of the positive part; broadcasts to input. Above 1 it raises recall.

    Returns:
        0-d, or the shape of input for "none".

    Raises:
        ShapeError: shapes differ, or an empty mean.
        SettingError: a target outside [0, 1]; a compiled function cannot look and does not say it.

    Example:
        >>> import tinytorch as tt
        >>> x, y = tt.Tensor([0.0, 1e4, -1e4]), tt.Tensor([1.0, 1.0, 1.0])
        >>> binary_cross_entropy_with_logits(x, y, reduction="none").numpy().round(4)
        array([6.931e-01, 0.000e+00, 1.000e+04], dtype=float32)
    """
    input, target = same_shapes("binary_cross_entropy_with_logits", input, target)
    check_probabilities("binary_cross_entropy_with_logits", "target", target)
    input = input if input.dtype.is_float else input.astype("float32")
    target = target.astype(input.dtype)
    positive = input >= 0.0
    tail = log1p(exp(where(positive, -input, input)))
    if pos_weight is None:
        losses = weighed(where(positive, 1.0 - target, -target), input) + tail
    else:  # (1 - y) softplus(x) + pos_weight y softplus(-x)
        wrong, right = 1.0 - target, pos_weight * target
        losses = weighed(where(positive, wrong, -right), input) + (wrong + right) * tail
    losses = losses if weight is None else weighed(weight, losses)
    return reduced("binary_cross_entropy_with_logits", losses, reduction)


@in_float32("input", "target")
def binary_cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None = None, *, reduction: str = "mean"
) -> Tensor:
    """-(y log p + (1 - y) log(1 - p)), averaged, for probabilities p.

    Args:
        input: probabilities p in [0, 1], any shape.
        target: y of the same shape, in [0, 1].
        weight: of each loss; broadcasts to input.
        reduction: "mean", "sum" or "none".

    Raises:
        ShapeError: shapes differ, or an empty mean.
        SettingError: an input or target outside [0, 1]; a compiled function cannot look.

    Source: a logarithm below -100 counts as -100, as in PyTorch, so that a certain mistake costs
    100. Better give logits to binary_cross_entropy_with_logits, which loses no digits.

    Example:
        >>> import tinytorch as tt
        >>> binary_cross_entropy(tt.Tensor([0.5, 0.0]), tt.Tensor([1.0, 1.0]), reduction="sum")
        Tensor(100.693146)
    """
    input, target = same_shapes("binary_cross_entropy", input, target)
    check_one_float("binary_cross_entropy", input=input, target=target)
    check_probabilities("binary_cross_entropy", "target", target)
    check_probabilities("binary_cross_entropy", "input", input)
    input = input if input.dtype.is_float else input.astype("float32")
    target = target.astype(input.dtype)
    losses = -(target * _bounded_log(input) + (1.0 - target) * _bounded_log(1.0 - input))
    losses = losses if weight is None else weighed(weight, losses)
    return reduced("binary_cross_entropy", losses, reduction)


def _bounded_log(p: Tensor) -> Tensor:
    """max(log p, -100); where p is 0 the slope is 0, not infinite."""
    known = p > 0.0
    return where(known, maximum(log(where(known, p, 1.0)), -100.0), -100.0)
