"""Cross-entropy: how surprised a classifier is by the right answers.

Knows logits or log-probabilities and labels, never the model.
"""

from __future__ import annotations

from tinytorch.base.checks import number
from tinytorch.base.errors import ShapeError
from tinytorch.nn.indices import inside
from tinytorch.nn.loss_reduction import averaged, note_logits, reduction_of, weighed
from tinytorch.tensor.creation import asarray
from tinytorch.tensor.elementwise import where
from tinytorch.tensor.half_precision import in_float32
from tinytorch.tensor.indexing import gather, take
from tinytorch.tensor.number_types import check_one_float
from tinytorch.tensor.reductions import logsumexp
from tinytorch.tensor.shaping import moveaxis
from tinytorch.tensor.tensor import Tensor


@in_float32("input", "target")
def cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None = None, *, ignore_index: int | None = None,
    reduction: str = "mean", label_smoothing: float = 0.0,
) -> Tensor:  # fmt: skip
    """logsumexp(logits) - logits[label], which is -log softmax(logits)[label] without overflow.

    Args:
        input: logits (N, K), or (N, K, ...) with the classes on axis 1, or (K,) for one sample.
        target: integers in [0, K) shaped like input without the classes, or probabilities shaped
            like input. A class of probability 0 costs 0, also where its logit is -inf.
        weight: (K,), how much a class counts; default None: all alike.
        ignore_index: a label that does not count; default None: every label counts. Logits of such
            a row get the gradient 0, whatever they are.
        reduction: "mean" (over the labels that count, each with its weight), "sum" or "none".
        label_smoothing: share of the target spread evenly over all classes, in [0, 1].

    Returns:
        0-d, or shaped like the labels for "none".

    Raises:
        IndexRangeError: a label outside [0, K).
        ShapeError: target or weight does not belong to input; the mean of an empty batch.

    Cost: 4 passes over the logits in NumPy, 2 compiled.

    Source: smoothing: Szegedy et al. 2015, https://arxiv.org/abs/1512.00567, section 7.

    Differs from PyTorch: ignore_index has no default (there -100).

    Example:
        >>> import tinytorch as tt
        >>> cross_entropy(tt.zeros(2, 8), tt.tensor([3, 7])).item() == tt.log(tt.Tensor(8.0)).item()
        True
        >>> cross_entropy(tt.Tensor([[1e4, -1e4]]), tt.tensor([1])).item()
        20000.0
    """
    reduction_of("cross_entropy", reduction)
    input, target = asarray(input), asarray(target)
    note_logits(input)
    smoothing = number("cross_entropy", "label_smoothing", label_smoothing, "[0, 1]")
    logits = _classes_last(input)
    logits = logits if logits.dtype.is_float else logits.astype("float32")
    _check_weight("cross_entropy", weight, logits)
    if target.dtype.is_float:
        losses = _against_probabilities(logits, _last(target, input), smoothing, weight)
        return averaged("cross_entropy", losses, None, reduction)
    losses, counts = _against_labels(logits, target, smoothing, weight, ignore_index)
    return averaged("cross_entropy", losses, counts, reduction)


@in_float32("input", "target")
def nll_loss(
    input: Tensor, target: Tensor, weight: Tensor | None = None, *, ignore_index: int | None = None,
    reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """-input[label], averaged: cross-entropy of what is log-probabilities already.

    Args:
        input: log-probabilities (N, K), (N, K, ...) or (K,); from log_softmax.
        target: integers in [0, K) shaped like input without the classes.
        weight: (K,), how much a class counts.
        ignore_index: a label that does not count; default None.
        reduction: "mean" (over the labels that count, each with its weight), "sum" or "none".

    Raises:
        IndexRangeError: a label outside [0, K).
        ShapeError: target or weight does not belong to input; the mean of an empty batch.

    Differs from PyTorch: ignore_index has no default (there -100).

    Example:
        >>> import tinytorch as tt
        >>> nll_loss(tt.Tensor([[-1.0, -2.0]]), tt.tensor([1])).item()
        2.0
    """
    reduction_of("nll_loss", reduction)
    input, target = asarray(input), asarray(target)
    scores = _classes_last(input)
    scores = scores if scores.dtype.is_float else scores.astype("float32")
    _check_weight("nll_loss", weight, scores)
    labels, keep = _labels("nll_loss", scores, target, ignore_index)
    losses = -gather(scores, -1, labels.unsqueeze(-1)).squeeze(-1)
    losses, counts = _weighted(losses, labels, weight, keep)
    return averaged("nll_loss", losses, counts, reduction)


def _classes_last(x: Tensor) -> Tensor:
    return x if len(x.shape) < 3 else moveaxis(x, 1, -1)


def _check_weight(owner: str, weight: Tensor | None, logits: Tensor) -> None:
    classes = logits.shape[-1] if logits.shape else 0
    if weight is not None and tuple(weight.shape) != (classes,):
        raise ShapeError(
            f"{owner}: weight is not one number for each class",
            got=f"weight {tuple(weight.shape)} for {classes} classes",
            rule="weight (K,)",
            fix="one weight for each class, in the order of the labels",
        )
    check_one_float(owner, input=logits, weight=weight)


def _labels(owner: str, logits: Tensor, labels: Tensor, ignore_index: int | None):
    """Labels that are certain to lie in [0, K), and which of them count (None: all)."""
    classes = logits.shape[-1] if logits.shape else 0
    if not logits.shape or tuple(labels.shape) != tuple(logits.shape[:-1]):
        raise ShapeError(
            f"{owner}: labels do not belong to the logits",
            got=f"labels {tuple(labels.shape)} for {tuple(logits.shape[:-1])} rows of {classes}",
            rule="input (N, K) and target (N,), or input (N, K, ...) and target (N, ...)",
            fix="logits.reshape(-1, K), labels.reshape(-1)",
        )
    keep = None
    if ignore_index is not None:
        keep = labels != ignore_index
        labels = where(keep, labels, 0)
    return inside(owner, "label", labels, classes), keep


def _against_labels(logits, labels, smoothing, weight, ignore_index):
    labels, keep = _labels("cross_entropy", logits, labels, ignore_index)
    chosen = gather(logits, -1, labels.unsqueeze(-1)).squeeze(-1)
    mass = logsumexp(logits, -1)
    losses, counts = _weighted(mass - chosen, labels, weight, keep)
    if smoothing:
        if weight is None:
            spread = mass - logits.mean(-1)
        else:
            each = weighed(weight, mass.unsqueeze(-1) - logits)  # what has weight 0 does not count
            spread = each.sum(-1) * (1.0 / logits.shape[-1])
        spread = spread if keep is None else where(keep, spread, 0.0)
        losses = spread if smoothing == 1.0 else losses * (1.0 - smoothing) + spread * smoothing
    return losses, counts


def _weighted(losses: Tensor, labels: Tensor, weight: Tensor | None, keep: Tensor | None):
    """Losses times the weight of their class, 0 where ignored; and those weights (None: all 1)."""
    if weight is not None:
        counts = take(weight.astype(losses.dtype), labels, 0)
        counts = counts if keep is None else where(keep, counts, 0.0)
        losses = losses if keep is None else where(keep, losses, 0.0)
        return weighed(counts, losses), counts
    if keep is None:
        return losses, None
    return where(keep, losses, 0.0), keep.astype(losses.dtype)


def _against_probabilities(logits, target, smoothing, weight):
    if tuple(target.shape) != tuple(logits.shape):
        raise ShapeError(
            "cross_entropy: probabilities do not belong to the logits",
            got=f"target {tuple(target.shape)}, logits {tuple(logits.shape)} (classes last)",
            rule="integer labels, one for each row, or probabilities shaped like the logits",
            fix='labels.astype("int64"), if these are class numbers',
        )
    if smoothing:
        target = target * (1.0 - smoothing) + smoothing / logits.shape[-1]
    target = target if weight is None else target * weight
    return weighed(target, logsumexp(logits, -1, keepdim=True) - logits).sum(-1)


def _last(target: Tensor, input: Tensor) -> Tensor:
    return moveaxis(target, 1, -1) if len(target.shape) == len(input.shape) >= 3 else target
