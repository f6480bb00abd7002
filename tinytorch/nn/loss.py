"""Losses as modules: of numbers, of classes, of yes or no, of distributions.

Knows the settings of a loss; the arithmetic is in `functional`.
"""

from __future__ import annotations

from tinytorch.base.checks import flag, number, whole
from tinytorch.base.errors import SettingError
from tinytorch.nn import functional as F
from tinytorch.nn.loss_reduction import REDUCTIONS, reduction_of
from tinytorch.nn.module import Module
from tinytorch.tensor.tensor import Tensor


class Loss(Module):
    """Abstract: a prediction and a target give one number, the smaller the better.

    Args:
        reduction: "mean", "sum" or "none".
    """

    reductions = REDUCTIONS
    weight: Tensor | None  # of classes or elements, of the losses that have one
    pos_weight: Tensor | None

    def __init__(self, reduction: str = "mean"):
        self.reduction = reduction_of(type(self).__name__, reduction, self.reductions)

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

    def extra_repr(self) -> str:
        """The reduction, if it is not the mean."""
        return "" if self.reduction == "mean" else f"reduction={self.reduction!r}"


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

    def __init__(self, reduction: str = "mean"):
        super().__init__(reduction)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Two Tensors of one shape -> 0-d."""
        return F.mse_loss(input, target, reduction=self.reduction)


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

    def __init__(self, reduction: str = "mean"):
        super().__init__(reduction)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Two Tensors of one shape -> 0-d."""
        return F.l1_loss(input, target, reduction=self.reduction)


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

    def __init__(self, reduction: str = "mean", delta: float = 1.0):
        super().__init__(reduction)
        self.delta = number("HuberLoss", "delta", delta, "(0, inf)")

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Two Tensors of one shape -> 0-d."""
        return F.huber_loss(input, target, reduction=self.reduction, delta=self.delta)


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

    def __init__(self, reduction: str = "mean", beta: float = 1.0):
        super().__init__(reduction)
        self.beta = number("SmoothL1Loss", "beta", beta, "[0, inf)")

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Two Tensors of one shape -> 0-d."""
        return F.smooth_l1_loss(input, target, reduction=self.reduction, beta=self.beta)


class _OfClasses(Loss):
    """What the losses with class weights and a label that does not count share."""

    def __init__(self, weight=None, ignore_index: int | None = None, reduction: str = "mean"):
        super().__init__(reduction)
        self._set_weight("weight", weight)
        # Any whole number may be the label that does not count; -100 is the custom.
        self.ignore_index = (
            None
            if ignore_index is None
            else whole(type(self).__name__, "ignore_index", ignore_index, at_least=-(2**31))
        )

    def extra_repr(self) -> str:
        """Settings that are not the default."""
        ignored = "" if self.ignore_index is None else f"ignore_index={self.ignore_index}"
        return ", ".join(text for text in (ignored, super().extra_repr()) if text)


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

    def __init__(
        self, weight=None, ignore_index: int | None = None, reduction: str = "mean",
        label_smoothing: float = 0.0,
    ):  # fmt: skip
        super().__init__(weight, ignore_index, reduction)
        self.label_smoothing = number(
            "CrossEntropyLoss", "label_smoothing", label_smoothing, "[0, 1]"
        )

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Logits (N, K) and labels (N,) -> 0-d."""
        return F.cross_entropy(
            input, target, self.weight, ignore_index=self.ignore_index, reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )  # fmt: skip

    def extra_repr(self) -> str:
        """Settings that are not the default."""
        smoothing = f"label_smoothing={self.label_smoothing:g}" if self.label_smoothing else ""
        return ", ".join(text for text in (super().extra_repr(), smoothing) if text)


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

    def __init__(self, weight=None, ignore_index: int | None = None, reduction: str = "mean"):
        super().__init__(weight, ignore_index, reduction)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Log-probabilities (N, K) and labels (N,) -> 0-d."""
        return F.nll_loss(
            input, target, self.weight, ignore_index=self.ignore_index, reduction=self.reduction
        )


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

    def __init__(self, weight=None, reduction: str = "mean", pos_weight=None):
        super().__init__(reduction)
        self._set_weight("weight", weight)
        self._set_weight("pos_weight", pos_weight)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Logits and targets in [0, 1] of one shape -> 0-d."""
        return F.binary_cross_entropy_with_logits(
            input, target, self.weight, reduction=self.reduction, pos_weight=self.pos_weight
        )


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

    def __init__(self, weight=None, reduction: str = "mean"):
        super().__init__(reduction)
        self._set_weight("weight", weight)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Probabilities and targets in [0, 1] of one shape -> 0-d."""
        return F.binary_cross_entropy(input, target, self.weight, reduction=self.reduction)


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

    reductions = (*REDUCTIONS, "batchmean")

    def __init__(self, reduction: str = "mean", log_target: bool = False):
        super().__init__(reduction)
        self.log_target = flag("KLDivLoss", "log_target", log_target)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Log-probabilities and probabilities of one shape -> 0-d."""
        return F.kl_div(input, target, reduction=self.reduction, log_target=self.log_target)
