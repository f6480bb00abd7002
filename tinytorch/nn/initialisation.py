"""First values of weights, from the framework's own generator.

Knows shapes and distributions, never layers. `tt.manual_seed` decides what comes out.
"""

from __future__ import annotations

import math

from tinytorch.base.checks import number
from tinytorch.base.errors import ShapeError
from tinytorch.tensor.random import rand, randn
from tinytorch.tensor.tensor import Tensor


def uniform(shape: tuple[int, ...], bound: float) -> Tensor:
    """Evenly spread in [-bound, bound).

    Args:
        shape: of the weight.
        bound: largest size, in [0, inf).

    Example:
        >>> import tinytorch as tt
        >>> _ = tt.manual_seed(0)
        >>> bool(uniform((1000,), 0.5).abs().max().item() <= 0.5)
        True
    """
    bound = number("uniform", "bound", bound, "[0, inf)")
    return rand(*shape) * (2.0 * bound) - bound


def normal(shape: tuple[int, ...], std: float = 1.0) -> Tensor:
    """Normal with mean 0.

    Args:
        shape: of the weight.
        std: standard deviation, in [0, inf).
    """
    return randn(*shape) * number("normal", "std", std, "[0, inf)")


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """How many numbers each output reads and each input feeds, for a weight (K, C, ...).

    >>> fans((16, 3, 5, 5))
    (75, 400)
    """
    if len(shape) < 2:
        raise ShapeError(
            "this weight has no inputs to count",
            got=f"shape {tuple(shape)}",
            rule="(outputs, inputs, ...)",
            fix="uniform or normal, which need no counts",
        )
    window = math.prod(shape[2:])
    return shape[1] * window, shape[0] * window


def kaiming_uniform(shape: tuple[int, ...], a: float = 0.0) -> Tensor:
    """Uniform with a variance that leaky ReLU of slope `a` keeps from layer to layer.

    Args:
        shape: (K, C, ...).
        a: slope for negative numbers; 0 is ReLU; sqrt(5) gives PyTorch's default for layers.

    Source: He et al. 2015, https://arxiv.org/abs/1502.01852, equation 14: variance 2 / ((1 + a^2)
    C), which is bound^2 / 3 of a uniform distribution.
    """
    return uniform(shape, math.sqrt(6.0 / ((1.0 + a * a) * fans(shape)[0])))


def kaiming_normal(shape: tuple[int, ...], a: float = 0.0) -> Tensor:
    """Normal with the variance of `kaiming_uniform`.

    Args:
        shape: (K, C, ...).
        a: slope for negative numbers.
    """
    return normal(shape, math.sqrt(2.0 / ((1.0 + a * a) * fans(shape)[0])))


def xavier_uniform(shape: tuple[int, ...]) -> Tensor:
    """Uniform with a variance between what forward and backward want.

    Args:
        shape: (K, C, ...).

    Source: Glorot, Bengio 2010, https://proceedings.mlr.press/v9/glorot10a.html, equation 16.
    """
    return uniform(shape, math.sqrt(6.0 / sum(fans(shape))))
