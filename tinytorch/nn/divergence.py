"""Kullback-Leibler divergence: how far one distribution is from another.

Knows log-probabilities, never the model.
"""

from __future__ import annotations

from tinytorch.nn.loss_reduction import (
    REDUCTIONS,
    counted,
    note_divisor,
    reduced,
    reduction_of,
    same_shapes,
    weighed,
)
from tinytorch.tensor.elementwise import exp, log
from tinytorch.tensor.half_precision import in_float32
from tinytorch.tensor.tensor import Tensor


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
