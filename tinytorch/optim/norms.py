"""Norms of many Tensors: gradients are clipped by theirs, weights brought to one, or kept small.

Knows a list of Tensors, never the rule that will use their gradients, nor the loss that a penalty
is added to. Weight decay (an optimizer's setting) is the other way to small weights.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable

from tinytorch.base.arguments import flag, number
from tinytorch.base.dtypes import float32, float64
from tinytorch.base.errors import GradientError, SettingError
from tinytorch.tensor.creation import full, zeros
from tinytorch.tensor.dispatch import to_dtype
from tinytorch.tensor.elementwise import isfinite, where
from tinytorch.tensor.interpreter import STATE, no_grad
from tinytorch.tensor.tensor import Tensor

# --- clipping ---


def clip_grad_norm_(
    parameters: Iterable[Tensor] | Tensor, max_norm: float, norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> Tensor:  # fmt: skip
    """Scale all gradients together so that their common length is at most `max_norm`.

        total = sqrt(sum of all squared gradients)          norm_type 2
        g = g * min(1, max_norm / (total + 1e-6))

    The length is right for gradients of any size: squares of 1e20 or 1e-25 do not fit float32, so
    they are summed in float64, and those of float64 gradients as parts of the largest.

    Where a gradient is infinite or NaN so is the length: then 0 or NaN is what becomes of all of
    them, as in PyTorch; `error_if_nonfinite`, or the Trainer, says so before a weight moves.

    Args:
        parameters: Tensors; those without a gradient are passed over.
        max_norm: greatest length, in [0, inf]; 0 makes all gradients 0, inf leaves them.
        norm_type: 2 (Euclid), 1 (sum of sizes) or inf (greatest size); default 2.
        error_if_nonfinite: refuse a length that is infinite or NaN; not in a compiled function.

    Returns:
        the length before scaling, 0-d.

    Raises:
        GradientError: the length is not finite, if asked for; the gradients are as they were.

    Cost: each gradient is read twice and written once.

    Source: Pascanu et al. 2013, https://arxiv.org/abs/1211.5063; the 1e-6 is PyTorch's.

    Differs from PyTorch: three norms only; a negative limit, which would turn the gradients round,
    is refused.

    Example:
        >>> import tinytorch as tt
        >>> w = tt.Tensor([3.0, 4.0], requires_grad=True)
        >>> (w * w / 2).sum().backward()
        >>> tt.optim.clip_grad_norm_([w], 1.0).item(), w.grad.numpy().round(3)
        (5.0, array([0.6, 0.8], dtype=float32))
    """
    limit = number("clip_grad_norm_", "max_norm", max_norm, "[0, inf]")
    if norm_type not in (1, 2, math.inf):
        raise SettingError(
            "clip_grad_norm_: no such length",
            got=f"norm_type={norm_type!r}",
            rule="1, 2 or inf",
            fix="norm_type=2.0",
        )
    held = _with_gradients(parameters)
    with no_grad():
        filled = [p.grad for p in held if p.grad.size]
        if not filled:
            return zeros(())
        length = common_length(filled, norm_type)
        if flag("clip_grad_norm_", "error_if_nonfinite", error_if_nonfinite):
            _check_finite(length)
        if limit < math.inf:
            scale = (limit / (length + 1e-6)).minimum(1.0)
            for p in held:
                p.grad = _scaled(p.grad, scale)
        kind = filled[0].dtype
        return length.astype(kind if kind.itemsize >= 4 else float32)


def clip_grad_value_(parameters: Iterable[Tensor] | Tensor, clip_value: float) -> None:
    """Bring every number of every gradient into [-clip_value, clip_value].

    Args:
        parameters: Tensors; those without a gradient are passed over.
        clip_value: greatest size, in [0, inf]; NaN stays NaN.

    Cost: each gradient is read and written once.

    Example:
        >>> import tinytorch as tt
        >>> w = tt.Tensor([3.0, -0.5], requires_grad=True)
        >>> (w * w).sum().backward()
        >>> tt.optim.clip_grad_value_([w], 2.0)
        >>> w.grad.tolist()
        [2.0, -1.0]
    """
    limit = number("clip_grad_value_", "clip_value", clip_value, "[0, inf]")
    with no_grad():
        for p in _with_gradients(parameters):
            p.grad = p.grad.maximum(-limit).minimum(limit)


def all_finite(gradients: Iterable[Tensor]) -> Tensor:
    """Whether no number of any gradient is infinite or NaN, 0-d bool.

    Cost: each gradient is read once. In NumPy their sums are looked at first: a sum that is finite
    has no other parts. In a compiled function 0 times each number is summed, which is 0 or NaN.

    Example:
        >>> import tinytorch as tt
        >>> all_finite([tt.Tensor([1.0, 3e38, 3e38])]), all_finite([tt.Tensor([float("nan")])])
        (Tensor(True), Tensor(False))
    """
    with no_grad():
        if STATE.interpreter is None:
            found = all(isfinite(g.sum()).item() or isfinite(g).all().item() for g in gradients)
            return full((), found, dtype="bool")
        total = full((), 0.0)
        for g in gradients:
            total = total + (g * 0.0).sum().astype(float32)
        return total == 0.0


def _with_gradients(parameters: Iterable[Tensor] | Tensor) -> list:
    return [p for p in _listed(parameters) if p.grad is not None]


def _listed(parameters: Iterable[Tensor] | Tensor) -> list[Tensor]:
    return [parameters] if isinstance(parameters, Tensor) else list(parameters)


def common_length(gradients: list[Tensor], norm_type: float) -> Tensor:
    """The length of all numbers of all gradients, as if they were one vector.

    Args:
        gradients: at least one, none without elements.
        norm_type: 2, 1 or inf.

    Returns:
        0-d float64: right for gradients of any size, infinite or NaN where one of them is.
    """
    if norm_type == math.inf:
        return _largest(gradients)
    if norm_type == 1:
        return _total([g.astype(float64).abs().sum() for g in gradients])
    if STATE.interpreter is None and (known := _ordinary(gradients)) is not None:
        return known
    if not any(g.dtype is float64 for g in gradients):
        return _total([_square(g.astype(float64)) for g in gradients]).sqrt()
    largest = _largest(gradients)
    unit = where(largest.isfinite() & (largest > 0.0), largest, 1.0)
    total = _total([_square(g.astype(float64) / unit) for g in gradients])
    return where(largest.isfinite(), largest * total.sqrt(), largest)


def _ordinary(gradients: list[Tensor]) -> Tensor | None:
    """The length in the gradients' own precision, three times as fast in NumPy, where its square
    is far from the ends of the range: what is lost at the lower end is then below a rounding."""
    if not all(g.dtype is float32 or g.dtype is float64 for g in gradients):
        return None
    total = _total([_square(g).astype(float64) for g in gradients])
    return total.sqrt() if 1e-20 < total.item() < 1e36 else None


def _square(g: Tensor) -> Tensor:
    return (g * g).sum()


def _largest(gradients: list[Tensor]) -> Tensor:
    sizes = [g.abs().max().astype(float64) for g in gradients]
    return functools.reduce(lambda a, b: a.maximum(b), sizes)


def _total(parts: list[Tensor]) -> Tensor:
    """Their sum in the number type of the first; 0 of none."""
    return functools.reduce(lambda a, b: a + to_dtype(b, a.dtype), parts) if parts else zeros(())


def _scaled(g: Tensor, scale: Tensor) -> Tensor:
    """A half-precision number times a small factor is rounded once, not the factor too."""
    if g.dtype.itemsize >= 4:
        return g * scale.astype(g.dtype)
    return (g.astype(float32) * scale.astype(float32)).astype(g.dtype)


def _check_finite(length: Tensor) -> None:
    if STATE.interpreter is not None:
        STATE.interpreter.refuse("clip_grad_norm_(error_if_nonfinite=True)")
    if not math.isfinite(length.item()):
        raise GradientError(
            "clip_grad_norm_: the gradients have no finite length",
            got=f"a length of {length.item()}",
            rule="every number of every gradient is finite",
            fix="look for NaN in the data, or a smaller learning rate; "
            "error_if_nonfinite=False lets it pass",
        )


# --- lengths of weights ---


def renorm_(parameters: Iterable[Tensor] | Tensor) -> None:
    """Scale each weight so that its rows (filters) have length one in the root mean square.

        p = p * sqrt(K) / |p|           p (K, ...)

    For weights before a batch norm, which takes every scale out again: they would grow with each
    step, and the same step would turn them less and less. Called before `optimizer.step()` it keeps
    the angle of a step what the learning rate says, as weight decay does in the long run.

    Args:
        parameters: Tensors with at least one axis; zeros stay zeros.

    Cost: each is read twice and written once.

    Source: K. Jordan 2024, github.com/KellerJordan/cifar10-airbench, airbench94_muon.py.

    Example:
        >>> import tinytorch as tt
        >>> w = tt.Tensor([[3.0, 0.0], [0.0, 4.0]], requires_grad=True)
        >>> tt.optim.renorm_(w)
        >>> (w.detach() ** 2).sum().item().__round__(5)
        2.0
    """
    with no_grad():
        for p in _listed(parameters):
            length = common_length([p.detach()], 2.0)
            scale = math.sqrt(p.shape[0]) / where(length > 0.0, length, 1.0)
            p *= scale.astype(p.dtype)


# --- penalties ---


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
    return _total([p.abs().sum() for p in _listed(parameters)]) * weight


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
    return _total([(p * p).sum() for p in _listed(parameters)]) * (weight / 2)
