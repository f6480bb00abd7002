"""Penalties: what is added to a loss so that weights stay small.

Knows a list of Tensors, never the loss. Weight decay (an optimizer's setting) is the other way.
"""

from __future__ import annotations

from collections.abc import Iterable

from tinytorch.base.arguments import number
from tinytorch.tensor.creation import zeros
from tinytorch.tensor.tensor import Tensor


def l1_penalty(parameters: Iterable[Tensor] | Tensor, strength: float) -> Tensor:
    """Strength times the sum of all absolute values: weights that are not needed become 0.

        strength * sum(abs(p))

    Args:
        parameters: Tensors.
        strength: in [0, inf).

    Returns:
        0-d; its gradient is strength * sign(p), 0 at 0.

    Source: Tibshirani 1996 (the lasso).

    Example:
        >>> import tinytorch as tt
        >>> w = tt.Tensor([3.0, -4.0], requires_grad=True)
        >>> tt.optim.l1_penalty([w], 0.5).item()
        3.5
    """
    weight = number("l1_penalty", "strength", strength, "[0, inf)")
    return _sum([p.abs().sum() for p in _listed(parameters)]) * weight


def l2_penalty(parameters: Iterable[Tensor] | Tensor, strength: float) -> Tensor:
    """Half of strength times the sum of all squares: every weight is pulled towards 0.

        strength / 2 * sum(p**2)

    Args:
        parameters: Tensors.
        strength: in [0, inf); the gradient is strength * p, so it is SGD's `weight_decay`.

    Returns:
        0-d.

    Source: Hoerl & Kennard 1970 (ridge regression).

    Example:
        >>> import tinytorch as tt
        >>> w = tt.Tensor([3.0, -4.0], requires_grad=True)
        >>> tt.optim.l2_penalty([w], 0.5).item()
        6.25
    """
    weight = number("l2_penalty", "strength", strength, "[0, inf)")
    return _sum([(p * p).sum() for p in _listed(parameters)]) * (weight / 2)


def _listed(parameters: Iterable[Tensor] | Tensor) -> list[Tensor]:
    return [parameters] if isinstance(parameters, Tensor) else list(parameters)


def _sum(parts: list[Tensor]) -> Tensor:
    total = parts[0] if parts else zeros(())
    for part in parts[1:]:
        total = total + part.astype(total.dtype)
    return total
