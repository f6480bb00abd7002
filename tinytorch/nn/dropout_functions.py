"""Dropout as functions: random zeros in training, the expectation kept.

Knows probabilities; the random bits come from the framework's generator.
"""

from __future__ import annotations

from tinytorch.base.checks import number
from tinytorch.tensor.elementwise import where
from tinytorch.tensor.random import rand
from tinytorch.tensor.tensor import Tensor


def dropout(input: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """Zeros with probability p, everything else divided by 1 - p; unchanged outside training.

    Args:
        input: any shape.
        p: probability of a zero, in [0, 1].
        training: False passes the input on.

    Source: Srivastava et al. 2014, https://jmlr.org/papers/v15/srivastava14a.html.
    """
    p = number("dropout", "p", p, "[0, 1]")
    if not training or p == 0.0:
        return input
    if p == 1.0:
        return input * 0.0
    return where(rand(*input.shape) >= p, input * (1.0 / (1.0 - p)), 0.0)
