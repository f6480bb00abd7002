"""Dropout as functions: random zeros in training, the expectation kept.

Knows probabilities; the random bits come from the framework's generator.
"""

from __future__ import annotations

from tinytorch.base.checks import number
from tinytorch.base.errors import ShapeError
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


def drop_path(input: Tensor, p: float = 0.0, training: bool = False) -> Tensor:
    """Whole samples become zero with probability p, the others are divided by 1 - p.

    Meant for the branch beside a residual connection: a dropped sample skips the block.

    Args:
        input: (N, ...).
        p: probability of dropping a sample, in [0, 1].
        training: False passes the input on.

    Source: Huang et al. 2016, https://arxiv.org/abs/1603.09382 (stochastic depth).
    """
    return _by_leading_axes("drop_path", input, p, training, kept=1)


def dropout2d(input: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """Whole channels become zero with probability p, the others are divided by 1 - p.

    Args:
        input: (N, C, H, W) or (N, C, T).
        p: probability of dropping a channel, in [0, 1].
        training: False passes the input on.

    Source: Tompson et al. 2014, https://arxiv.org/abs/1411.4280, section 3.2.
    """
    return _by_leading_axes("dropout2d", input, p, training, kept=2)


def _by_leading_axes(owner: str, input: Tensor, p: float, training: bool, kept: int) -> Tensor:
    """Dropout with one draw for all that lies behind the first `kept` axes."""
    p = number(owner, "p", p, "[0, 1]")
    if len(input.shape) < kept:
        raise ShapeError(
            f"{owner}: input has too few axes",
            got=f"input {tuple(input.shape)}",
            rule=f"at least {kept}, samples first",
            fix="input.unsqueeze(0)",
        )
    if not training or p == 0.0:
        return input
    if p == 1.0:
        return input * 0.0
    shape = (*input.shape[:kept], *(1,) * (len(input.shape) - kept))
    return where(rand(*shape) >= p, input * (1.0 / (1.0 - p)), 0.0)
