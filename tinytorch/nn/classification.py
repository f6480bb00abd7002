"""Cross-entropy: how surprised a classifier is by the right answers.

Knows logits and labels, never the model.
"""

from __future__ import annotations

import math

from tinytorch.base.checks import number
from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.nn.indices import inside
from tinytorch.tensor.elementwise import where
from tinytorch.tensor.indexing import gather
from tinytorch.tensor.reductions import logsumexp
from tinytorch.tensor.shaping import moveaxis
from tinytorch.tensor.tensor import Tensor

REDUCTIONS = ("mean", "sum", "none")


def cross_entropy(
    input: Tensor, target: Tensor, *, ignore_index: int | None = None, reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:  # fmt: skip
    """logsumexp(logits) - logits[label], which is -log softmax(logits)[label] without overflow.

    Args:
        input: logits (N, K), or (N, K, ...) with the classes on axis 1, or (K,) for one sample.
        target: integers in [0, K) shaped like input without the classes, or probabilities shaped
            like input.
        ignore_index: a label that does not count; default None: every label counts.
        reduction: "mean" (over the labels that count), "sum" or "none".
        label_smoothing: share of the target spread evenly over all classes, in [0, 1].

    Returns:
        0-d, or shaped like the labels for "none".

    Raises:
        IndexRangeError: a label outside [0, K).
        ShapeError: target does not belong to input.

    Cost: 4 passes over the logits in NumPy, 2 compiled.

    Source: smoothing: Szegedy et al. 2015, https://arxiv.org/abs/1512.00567, section 7.

    Differs from PyTorch: ignore_index has no default (there -100); no class weights.

    Example:
        >>> import tinytorch as tt
        >>> cross_entropy(tt.zeros(2, 8), tt.Tensor([3, 7])).item() == tt.log(tt.Tensor(8.0)).item()
        True
        >>> cross_entropy(tt.Tensor([[1e4, -1e4]]), tt.Tensor([1])).item()
        20000.0
    """
    smoothing = _check_settings(reduction, label_smoothing)
    logits = input if len(input.shape) < 3 else moveaxis(input, 1, -1)  # classes last
    logits = logits if logits.dtype.is_float else logits.astype("float32")
    if target.dtype.is_float:
        losses, keep = _against_probabilities(logits, _last(target, input), smoothing), None
    else:
        losses, keep = _against_labels(logits, target, smoothing, ignore_index)
    if reduction == "none":
        return losses
    summed = losses.sum()
    if reduction == "sum":
        return summed
    if keep is not None:
        return summed / keep.astype(summed.dtype).sum()
    count = math.prod(losses.shape)
    return summed * (1.0 / count) if count else summed / 0.0


def _against_labels(logits, labels, smoothing, ignore_index):
    classes = logits.shape[-1] if logits.shape else 0
    if not logits.shape or tuple(labels.shape) != tuple(logits.shape[:-1]):
        raise ShapeError(
            "cross_entropy: labels do not belong to the logits",
            got=f"labels {tuple(labels.shape)} for {tuple(logits.shape[:-1])} rows of {classes}",
            rule="input (N, K) and target (N,), or input (N, K, ...) and target (N, ...)",
            fix="logits.reshape(-1, K), labels.reshape(-1)",
        )
    keep = None
    if ignore_index is not None:
        keep = labels != ignore_index
        labels = where(keep, labels, 0)
    labels = inside("cross_entropy", "label", labels, classes)
    chosen = gather(logits, -1, labels.unsqueeze(-1)).squeeze(-1)
    mass = logsumexp(logits, -1)
    losses = mass - chosen
    if smoothing:
        losses = losses * (1.0 - smoothing) + (mass - logits.mean(-1)) * smoothing
    return (losses if keep is None else where(keep, losses, 0.0)), keep


def _against_probabilities(logits, target, smoothing):
    if tuple(target.shape) != tuple(logits.shape):
        raise ShapeError(
            "cross_entropy: probabilities do not belong to the logits",
            got=f"target {tuple(target.shape)}, logits {tuple(logits.shape)} (classes last)",
            rule="integer labels, one for each row, or probabilities shaped like the logits",
            fix='labels.astype("int64"), if these are class numbers',
        )
    if smoothing:
        target = target * (1.0 - smoothing) + smoothing / logits.shape[-1]
    return (target * (logsumexp(logits, -1, keepdim=True) - logits)).sum(-1)


def _last(target: Tensor, input: Tensor) -> Tensor:
    return moveaxis(target, 1, -1) if len(target.shape) == len(input.shape) >= 3 else target


def _check_settings(reduction: str, label_smoothing: float) -> float:
    if reduction not in REDUCTIONS:
        raise SettingError(
            "cross_entropy: no such reduction",
            got=f"reduction={reduction!r}",
            rule="one of " + ", ".join(map(repr, REDUCTIONS)),
            fix='reduction="mean"',
        )
    return number("cross_entropy", "label_smoothing", label_smoothing, "[0, 1]")
