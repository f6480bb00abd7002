"""First values written into a Tensor in place, under PyTorch's names.

Knows names and argument orders; the distributions are in `initialisation`.
"""

from __future__ import annotations

from tinytorch.base.arguments import explain_all as _explain_all
from tinytorch.base.arguments import number
from tinytorch.nn import initialisation
from tinytorch.nn.initialisation import gain as calculate_gain
from tinytorch.tensor.creation import eye, full
from tinytorch.tensor.interpreter import no_grad
from tinytorch.tensor.random import rand, randn
from tinytorch.tensor.tensor import Tensor

__all__ = [
    "calculate_gain", "constant_", "eye_", "kaiming_normal_", "kaiming_uniform_", "normal_",
    "ones_", "orthogonal_", "trunc_normal_", "uniform_", "xavier_normal_", "xavier_uniform_",
    "zeros_",
]  # fmt: skip


def _filled(tensor: Tensor, values: Tensor) -> Tensor:
    with no_grad():
        tensor.assign_(values.astype(tensor.dtype))
    return tensor


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0) -> Tensor:
    """Evenly spread in [a, b).

    Args:
        tensor: is filled, and returned.
        a: smallest value.
        b: above the largest value.
    """
    return _filled(tensor, rand(*tensor.shape) * (b - a) + a)


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Normal.

    Args:
        tensor: is filled, and returned.
        mean: of the numbers.
        std: their deviation, in [0, inf).
    """
    return _filled(tensor, randn(*tensor.shape) * number("normal_", "std", std, "[0, inf)") + mean)


def trunc_normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0
) -> Tensor:
    """Normal, drawn again where it lies outside [a, b], which lies evenly around the mean.

    Args:
        tensor: is filled, and returned.
        mean: of the numbers.
        std: deviation before the ends are cut off, in (0, inf).
        a: smallest value.
        b: largest value; mean - a = b - mean >= std.

    Differs from PyTorch: the bounds lie evenly around the mean.
    """
    std = number("trunc_normal_", "std", std, "(0, inf)")
    number("trunc_normal_", "b - mean, which is mean - a", b - mean, f"[{mean - a!r}, inf)")
    values = initialisation.truncated_normal(tuple(tensor.shape), std, (b - mean) / std)
    return _filled(tensor, values + mean)


def constant_(tensor: Tensor, val: float) -> Tensor:
    """One number everywhere.

    Args:
        tensor: is filled, and returned.
        val: the number.
    """
    return _filled(tensor, full(tuple(tensor.shape), float(val)))


def zeros_(tensor: Tensor) -> Tensor:
    """Zeros.

    Args:
        tensor: is filled, and returned.
    """
    return constant_(tensor, 0.0)


def ones_(tensor: Tensor) -> Tensor:
    """Ones.

    Args:
        tensor: is filled, and returned.
    """
    return constant_(tensor, 1.0)


def eye_(tensor: Tensor) -> Tensor:
    """Ones on the diagonal of a matrix, zeros elsewhere.

    Args:
        tensor: is filled, and returned; two axes.
    """
    return _filled(tensor, eye(*tensor.shape))


def xavier_uniform_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """`initialisation.xavier_uniform`.

    Args:
        tensor: (K, C, ...), is filled, and returned.
        gain: `calculate_gain` of the activation.

    Example:
        >>> from tinytorch import nn
        >>> layer = nn.Linear(8, 4)
        >>> float(xavier_uniform_(layer.weight).abs().max()) <= (6 / 12) ** 0.5
        True
    """
    return _filled(tensor, initialisation.xavier_uniform(tuple(tensor.shape), gain))


def xavier_normal_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """`initialisation.xavier_normal`.

    Args:
        tensor: (K, C, ...), is filled, and returned.
        gain: `calculate_gain` of the activation.
    """
    return _filled(tensor, initialisation.xavier_normal(tuple(tensor.shape), gain))


def kaiming_uniform_(
    tensor: Tensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu"
) -> Tensor:
    """Uniform in +-gain sqrt(3 / fan).

    Args:
        tensor: (K, C, ...), is filled, and returned.
        a: slope of leaky ReLU for negative numbers.
        mode: "fan_in" or "fan_out".
        nonlinearity: what follows, see `calculate_gain`.
    """
    values = initialisation.kaiming_uniform(tuple(tensor.shape), 1.0, mode)  # gain 1
    return _filled(tensor, values * calculate_gain(nonlinearity, a))


def kaiming_normal_(
    tensor: Tensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu"
) -> Tensor:
    """Normal with deviation gain / sqrt(fan).

    Args:
        tensor: (K, C, ...), is filled, and returned.
        a: slope of leaky ReLU for negative numbers.
        mode: "fan_in" or "fan_out".
        nonlinearity: what follows, see `calculate_gain`.
    """
    values = initialisation.kaiming_normal(tuple(tensor.shape), 1.0, mode)  # gain 1
    return _filled(tensor, values * calculate_gain(nonlinearity, a))


def orthogonal_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """`initialisation.orthogonal`.

    Args:
        tensor: (K, C, ...), is filled, and returned.
        gain: length of each row or column.
    """
    return _filled(tensor, initialisation.orthogonal(tuple(tensor.shape), gain))


_explain_all(globals(), __all__)
