"""Clipping: gradients made shorter when they are too long.

Knows the gradients of a list of Tensors, never the rule that will use them.
"""

from __future__ import annotations

from collections.abc import Iterable

from tinytorch.base.checks import number
from tinytorch.tensor.creation import zeros
from tinytorch.tensor.modes import no_grad
from tinytorch.tensor.tensor import Tensor


def clip_grad_norm_(parameters: Iterable[Tensor] | Tensor, max_norm: float) -> Tensor:
    """Scale all gradients together so that their common length is at most `max_norm`.

        total = sqrt(sum of all squared gradients)
        g = g * min(1, max_norm / (total + 1e-6))

    Args:
        parameters: Tensors; those without a gradient are passed over.
        max_norm: greatest length, in (0, inf).

    Returns:
        the length before scaling, 0-d.

    Cost: each gradient is read twice and written once.

    Source: Pascanu et al. 2013, https://arxiv.org/abs/1211.5063; the 1e-6 is PyTorch's.

    Example:
        >>> import tinytorch as tt
        >>> w = tt.Tensor([3.0, 4.0], requires_grad=True)
        >>> (w * w / 2).sum().backward()
        >>> tt.optim.clip_grad_norm_([w], 1.0).item(), w.grad.numpy().round(3)
        (5.0, array([0.6, 0.8], dtype=float32))
    """
    limit = number("clip_grad_norm_", "max_norm", max_norm, "(0, inf)")
    given = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    held = [(p, p.grad) for p in given if p.grad is not None]
    with no_grad():
        if not held:
            return zeros(())
        squares = [(g * g).sum() for _, g in held]
        total = squares[0]
        for square in squares[1:]:
            total = total + square.astype(total.dtype)
        length = total.sqrt()
        scale = (limit / (length + 1e-6)).minimum(1.0)
        for p, g in held:
            p.grad = g * scale.astype(p.dtype)
        return length
