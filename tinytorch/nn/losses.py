"""Losses: of numbers, of yes or no, of classes, of distributions; functions and modules.

Each loss is one number for each element, of which `averaged` takes the mean, the sum, or nothing.
Knows predictions and targets, never the model.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tinytorch.base.arguments import flag, number, whole
from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.nn.embedding import inside
from tinytorch.nn.module import Module
from tinytorch.tensor.creation import asarray
from tinytorch.tensor.dispatch import in_float32, to_dtype
from tinytorch.tensor.elementwise import abs as magnitude
from tinytorch.tensor.elementwise import absorb, exp, log, log1p, maximum, where
from tinytorch.tensor.indexing import gather, take
from tinytorch.tensor.interpreter import STATE
from tinytorch.tensor.operands import check_one_float
from tinytorch.tensor.reductions import logsumexp
from tinytorch.tensor.shaping import moveaxis
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


class Loss(Module):
    """Abstract: a prediction and a target give one number, the smaller the better.

    Args:
        reduction: "mean", "sum" or "none".
    """

    function: Callable[..., Tensor]
    settings: tuple[str, ...] = ("reduction",)  # attributes that the function gets, by name
    reductions = REDUCTIONS
    _shown = {"reduction": "mean"}
    weight: Tensor | None  # of classes or elements, of the losses that have one
    pos_weight: Tensor | None

    def __init__(self, reduction: str = "mean"):
        self.reduction = reduction_of(type(self).__name__, reduction, self.reductions)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Prediction and target, shaped as the class says -> 0-d; for "none" one for each."""
        return self.function(input, target, **{name: getattr(self, name) for name in self.settings})

    def _set_weight(self, name: str, weight) -> None:
        """Keep the weights of classes or elements as state that is not trained, or None."""
        if weight is None:
            setattr(self, name, None)
            return
        weight = weight if isinstance(weight, Tensor) else Tensor(weight)
        if not weight.dtype.is_float:
            raise SettingError(
                f"{type(self).__name__}: {name} is not made of floats",
                got=f"{name} of dtype {weight.dtype.name}",
                rule="floats, one for each class or element",
                fix=f'{name}.astype("float32")',
            )
        self.register_buffer(name, weight.detach())


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


class MSELoss(Loss):
    """Mean of squared differences.

    Args:
        reduction: "mean", "sum" or "none".

    Shapes: two of the same shape -> 0-d.

    Example:
        >>> import tinytorch as tt
        >>> tt.nn.MSELoss()(tt.Tensor([1.0, 2.0]), tt.Tensor([1.0, 4.0])).item()
        2.0
    """

    function = staticmethod(mse_loss)


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


class L1Loss(Loss):
    """Mean of absolute differences.

    Args:
        reduction: "mean", "sum" or "none".

    Shapes: two of the same shape -> 0-d.

    Example:
        >>> import tinytorch as tt
        >>> tt.nn.L1Loss()(tt.Tensor([1.0, 2.0]), tt.Tensor([1.0, 4.0])).item()
        1.0
    """

    function = staticmethod(l1_loss)


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


class HuberLoss(Loss):
    """d^2 / 2 for differences up to delta, delta (|d| - delta / 2) beyond: outliers pull less.

    Args:
        reduction: "mean", "sum" or "none".
        delta: where the line begins, in (0, inf); default 1.

    Shapes: two of the same shape -> 0-d.

    Source: Huber 1964, "Robust estimation of a location parameter".

    Example:
        >>> import tinytorch as tt
        >>> tt.nn.HuberLoss()(tt.Tensor([3.0]), tt.zeros(1)).item()
        2.5
    """

    function = staticmethod(huber_loss)
    settings = ("reduction", "delta")

    def __init__(self, reduction: str = "mean", delta: float = 1.0):
        super().__init__(reduction)
        self.delta = number("HuberLoss", "delta", delta, "(0, inf)")


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


class SmoothL1Loss(Loss):
    """d^2 / (2 beta) for differences below beta, |d| - beta / 2 beyond.

    Args:
        reduction: "mean", "sum" or "none".
        beta: where the line begins, in [0, inf); default 1; 0 is L1Loss.

    Shapes: two of the same shape -> 0-d.

    Source: Girshick 2015, https://arxiv.org/abs/1504.08083, equation 3.

    Example:
        >>> import tinytorch as tt
        >>> tt.nn.SmoothL1Loss(beta=2.0)(tt.Tensor([1.0]), tt.zeros(1)).item()
        0.25
    """

    function = staticmethod(smooth_l1_loss)
    settings = ("reduction", "beta")

    def __init__(self, reduction: str = "mean", beta: float = 1.0):
        super().__init__(reduction)
        self.beta = number("SmoothL1Loss", "beta", beta, "[0, inf)")


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


class BCEWithLogitsLoss(Loss):
    """Mean of -(y log sigmoid(x) + (1 - y) log(1 - sigmoid(x))), without overflow.

    Args:
        weight: of each loss; broadcasts to the input; default None.
        reduction: "mean", "sum" or "none".
        pos_weight: of the part of y; broadcasts to the input; default None.

    Shapes: two of the same shape -> 0-d.

    Example:
        >>> import tinytorch as tt
        >>> tt.nn.BCEWithLogitsLoss()(tt.Tensor([1e4]), tt.Tensor([0.0])).item()
        10000.0
    """

    function = staticmethod(binary_cross_entropy_with_logits)
    settings = ("weight", "reduction", "pos_weight")

    def __init__(self, weight=None, reduction: str = "mean", pos_weight=None):
        super().__init__(reduction)
        self._set_weight("weight", weight)
        self._set_weight("pos_weight", pos_weight)


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


class BCELoss(Loss):
    """Mean of -(y log p + (1 - y) log(1 - p)); for logits take BCEWithLogitsLoss.

    Args:
        weight: of each loss; broadcasts to the input; default None.
        reduction: "mean", "sum" or "none".

    Shapes: two of the same shape -> 0-d.

    Example:
        >>> import tinytorch as tt
        >>> tt.nn.BCELoss()(tt.Tensor([0.5]), tt.Tensor([1.0]))
        Tensor(0.6931472)
    """

    function = staticmethod(binary_cross_entropy)
    settings = ("weight", "reduction")

    def __init__(self, weight=None, reduction: str = "mean"):
        super().__init__(reduction)
        self._set_weight("weight", weight)


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
    logits = _scores("cross_entropy", input, weight)
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
    scores = _scores("nll_loss", input, weight)
    labels, keep = _labels("nll_loss", scores, target, ignore_index)
    losses = -gather(scores, -1, labels.unsqueeze(-1)).squeeze(-1)
    losses, counts = _weighted(losses, labels, weight, keep)
    return averaged("nll_loss", losses, counts, reduction)


def _scores(owner: str, input: Tensor, weight: Tensor | None) -> Tensor:
    """Floats with the classes on the last axis; a weight belongs to them."""
    scores = input if len(input.shape) < 3 else moveaxis(input, 1, -1)
    scores = scores if scores.dtype.is_float else scores.astype("float32")
    classes = scores.shape[-1] if scores.shape else 0
    if weight is not None and tuple(weight.shape) != (classes,):
        raise ShapeError(
            f"{owner}: weight is not one number for each class",
            got=f"weight {tuple(weight.shape)} for {classes} classes",
            rule="weight (K,)",
            fix="one weight for each class, in the order of the labels",
        )
    check_one_float(owner, input=scores, weight=weight)
    return scores


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


class _OfClasses(Loss):
    """What the losses with class weights and a label that does not count share."""

    _shown = {"ignore_index": None, "reduction": "mean"}

    def __init__(self, weight=None, ignore_index: int | None = None, reduction: str = "mean"):
        super().__init__(reduction)
        self._set_weight("weight", weight)
        # Any whole number may be the label that does not count; -100 is the custom.
        if ignore_index is not None:
            ignore_index = whole(type(self).__name__, "ignore_index", ignore_index, -(2**31))
        self.ignore_index = ignore_index


class CrossEntropyLoss(_OfClasses):
    """Mean of logsumexp(logits) - logits[label].

    Args:
        weight: (K,), how much a class counts; default None: all alike.
        ignore_index: a label that does not count; default None: every label counts.
        reduction: "mean", "sum" or "none".
        label_smoothing: share of the target spread evenly over all classes, in [0, 1].

    Shapes: logits (N, K), labels (N,) -> 0-d.

    Differs from PyTorch: ignore_index has no default (there -100).

    Example:
        >>> import tinytorch as tt
        >>> tt.nn.CrossEntropyLoss()(tt.Tensor([[0.0, 50.0]]), tt.tensor([1])).item()
        0.0
    """

    function = staticmethod(cross_entropy)
    settings = ("weight", "ignore_index", "reduction", "label_smoothing")

    _shown = {"ignore_index": None, "reduction": "mean", "label_smoothing": 0.0}

    def __init__(
        self, weight=None, ignore_index: int | None = None, reduction: str = "mean",
        label_smoothing: float = 0.0,
    ):  # fmt: skip
        super().__init__(weight, ignore_index, reduction)
        self.label_smoothing = number(
            "CrossEntropyLoss", "label_smoothing", label_smoothing, "[0, 1]"
        )


class NLLLoss(_OfClasses):
    """Mean of -log-probability[label].

    Args:
        weight: (K,), how much a class counts; default None: all alike.
        ignore_index: a label that does not count; default None: every label counts.
        reduction: "mean", "sum" or "none".

    Shapes: log-probabilities (N, K), labels (N,) -> 0-d.

    Differs from PyTorch: ignore_index has no default (there -100).

    Example:
        >>> import tinytorch as tt
        >>> tt.nn.NLLLoss()(tt.Tensor([[-1.0, -2.0]]), tt.tensor([1])).item()
        2.0
    """

    function = staticmethod(nll_loss)
    settings = ("weight", "ignore_index", "reduction")


@in_float32("input", "target")
def kl_div(
    input: Tensor, target: Tensor, *, reduction: str = "mean", log_target: bool = False
) -> Tensor:
    """target * (log(target) - input): what coding `target` with the distribution `input` costs.

    Args:
        input: log-probabilities, any shape; from log_softmax.
        target: probabilities of the same shape, or their logarithms with log_target. Where a
            probability is 0 the loss is 0, whatever input says, and so are its gradients.
        reduction: "batchmean" (the divergence of mathematics: the sum over the first axis's size),
            "mean" (over all elements), "sum" or "none".
        log_target: whether target holds logarithms.

    Returns:
        0-d, or the shape of input for "none".

    Raises:
        ShapeError: shapes differ, or an empty mean.

    Source: Kullback, Leibler 1951, equation 2.4.

    Example:
        >>> import tinytorch as tt
        >>> p = tt.Tensor([[0.5, 0.5], [1.0, 0.0]])
        >>> kl_div(tt.log(tt.Tensor([[0.5, 0.5]] * 2)), p, reduction="batchmean").item() * 2
        0.6931471824645996
    """
    reduction_of("kl_div", reduction, (*REDUCTIONS, "batchmean"))
    input, target = same_shapes("kl_div", input, target)
    if log_target:
        losses = weighed(exp(target), target - input)
    else:
        losses = weighed(target, log(target) - input)
    if reduction == "batchmean":
        counted("kl_div", losses)
        note_divisor(losses.shape[0])
        return losses.sum() * (1.0 / losses.shape[0])
    return reduced("kl_div", losses, reduction)


class KLDivLoss(Loss):
    """Mean of target * (log(target) - input).

    Args:
        reduction: "batchmean" (the divergence of mathematics), "mean", "sum" or "none".
        log_target: whether targets are logarithms; default False.

    Shapes: log-probabilities and probabilities of one shape -> 0-d.

    Example:
        >>> import tinytorch as tt
        >>> p = tt.Tensor([[0.25, 0.75]])
        >>> tt.nn.KLDivLoss("batchmean")(tt.log(p), p).item()
        0.0
    """

    function = staticmethod(kl_div)
    settings = ("reduction", "log_target")

    reductions = (*REDUCTIONS, "batchmean")

    def __init__(self, reduction: str = "mean", log_target: bool = False):
        super().__init__(reduction)
        self.log_target = flag("KLDivLoss", "log_target", log_target)
