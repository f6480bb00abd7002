"""Clipping: gradients made shorter when they are too long.

Knows the gradients of a list of Tensors, never the rule that will use them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from tinytorch.base.checks import number
from tinytorch.base.errors import SettingError
from tinytorch.tensor.creation import zeros
from tinytorch.tensor.modes import no_grad
from tinytorch.tensor.tensor import Tensor


def clip_grad_norm_(
    parameters: Iterable[Tensor] | Tensor, max_norm: float, norm_type: float = 2.0
) -> Tensor:
    """Scale all gradients together so that their common length is at most `max_norm`.

        total = sqrt(sum of all squared gradients)          norm_type 2
        g = g * min(1, max_norm / (total + 1e-6))

    Args:
        parameters: Tensors; those without a gradient are passed over.
        max_norm: greatest length, in (0, inf).
        norm_type: 2 (Euclid), 1 (sum of sizes) or inf (greatest size); default 2.

    Returns:
        the length before scaling, 0-d.

    Cost: each gradient is read twice and written once.

    Source: Pascanu et al. 2013, https://arxiv.org/abs/1211.5063; the 1e-6 is PyTorch's.

    Differs from PyTorch: three norms only; a length that is not finite is not an error here but the
    Trainer's.

    Example:
        >>> import tinytorch as tt
        >>> w = tt.Tensor([3.0, 4.0], requires_grad=True)
        >>> (w * w / 2).sum().backward()
        >>> tt.optim.clip_grad_norm_([w], 1.0).item(), w.grad.numpy().round(3)
        (5.0, array([0.6, 0.8], dtype=float32))
    """
    limit = number("clip_grad_norm_", "max_norm", max_norm, "(0, inf)")
    if norm_type not in (1, 2, math.inf):
        raise SettingError(
            "clip_grad_norm_: no such length",
            got=f"norm_type={norm_type!r}",
            rule="1, 2 or inf",
            fix="norm_type=2.0",
        )
    held = _with_gradients(parameters)
    with no_grad():
        if not held:
            return zeros(())
        length = _length([p.grad for p in held], norm_type)
        scale = (limit / (length + 1e-6)).minimum(1.0)
        for p in held:
            p.grad = p.grad * scale.astype(p.dtype)
        return length


def clip_grad_value_(parameters: Iterable[Tensor] | Tensor, clip_value: float) -> None:
    """Bring every number of every gradient into [-clip_value, clip_value].

    Args:
        parameters: Tensors; those without a gradient are passed over.
        clip_value: greatest size, in (0, inf).

    Cost: each gradient is read and written once.

    Example:
        >>> import tinytorch as tt
        >>> w = tt.Tensor([3.0, -0.5], requires_grad=True)
        >>> (w * w).sum().backward()
        >>> tt.optim.clip_grad_value_([w], 2.0)
        >>> w.grad.tolist()
        [2.0, -1.0]
    """
    limit = number("clip_grad_value_", "clip_value", clip_value, "(0, inf)")
    with no_grad():
        for p in _with_gradients(parameters):
            p.grad = p.grad.maximum(-limit).minimum(limit)


def _with_gradients(parameters: Iterable[Tensor] | Tensor) -> list:
    given = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    return [p for p in given if p.grad is not None]


def _length(gradients: list[Tensor], norm_type: float) -> Tensor:
    """Of all numbers of all gradients, as if they were one vector."""
    if norm_type == 2:
        parts = [(g * g).sum() for g in gradients]
    else:
        parts = [g.abs().sum() if norm_type == 1 else g.abs().max() for g in gradients]
    total = parts[0]
    for part in parts[1:]:
        part = part.astype(total.dtype)
        total = total.maximum(part) if norm_type == math.inf else total + part
    return total.sqrt() if norm_type == 2 else total
