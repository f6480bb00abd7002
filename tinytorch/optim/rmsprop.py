"""RMSprop: steps divided by the running size of the gradient.

Knows its rule, stated once; groups and state are the Optimizer's.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tinytorch.base.dtypes import DType
from tinytorch.optim.group import Part, divisor, sqrt
from tinytorch.optim.optimizer import Optimizer


class RMSprop(Optimizer):
    """RMSprop (Tieleman & Hinton 2012, Neural Networks for Machine Learning, lecture 6.5).

    For each parameter p with gradient g

        g = g + weight_decay * p
        v = alpha * v + (1 - alpha) * g**2          average squared gradient, starts at 0
        b = momentum * b + g / (sqrt(v) + eps)      b is not kept without momentum
        p = p - lr * b

    Args:
        params: Tensors, or groups of them, to update in place; None: see `bind`.
        lr: step size, in [0, inf); default 1e-2.
        alpha: how much of the past v stays, in [0, 1); default 0.99.
        eps: keeps the division finite, in [0, inf); default 1e-8 (float16: at least 2**-14).
        weight_decay: pull towards zero, in [0, inf); default 0.
        momentum: how much of the past step stays, in [0, 1); default 0.

    Raises:
        SettingError: a setting outside its range; the message names it and the value.

    Cost: 1 extra array per parameter, 2 with momentum.

    Differs from PyTorch: no centered, maximize, foreach or fused; same numbers otherwise
    (tests/peer/test_optim_peer.py).

    Example:
        >>> import tinytorch as tt
        >>> w = tt.Tensor([1.0, -2.0], requires_grad=True)
        >>> rmsprop = tt.optim.RMSprop([w], lr=0.01)
        >>> (w * w).sum().backward()
        >>> rmsprop.step()
        >>> w.detach().numpy().round(3)               # the first step has size lr / sqrt(1 - alpha)
        array([ 0.9, -1.9], dtype=float32)
    """

    def __init__(
        self, params: Iterable | None = None, lr: float = 1e-2, alpha: float = 0.99,
        eps: float = 1e-8, weight_decay: float = 0.0, momentum: float = 0.0,
    ):  # fmt: skip
        super().__init__(
            params, lr, alpha=alpha, eps=eps, weight_decay=weight_decay, momentum=momentum
        )

    def check(self, settings: dict) -> dict:
        """Ranges of alpha, eps, weight_decay and momentum."""
        return self.in_ranges(
            settings, alpha="[0, 1)", eps="[0, inf)", weight_decay="[0, inf)", momentum="[0, 1)"
        )

    def slot_names(self, settings: dict) -> tuple[str, ...]:
        """PyTorch's names for v and b."""
        return ("square_avg", "momentum_buffer") if settings["momentum"] else ("square_avg",)

    def update(self, group: Part) -> None:
        """One step of the rule above."""
        alpha, eps = group.settings["alpha"], group.settings["eps"]
        momentum, decay = group.settings["momentum"], group.settings["weight_decay"]

        def scalars(t: Any, lr: Any, dtype: DType) -> tuple:
            return lr, divisor(eps, dtype)

        for p, g, (v, *rest), (lr, small) in group.blocks(scalars):
            if decay:
                pull = decay * p
                pull += g
                g = pull
            square = g * g
            square *= 1.0 - alpha
            v *= alpha
            v += square
            size = sqrt(v)
            size += small
            step = g / size
            if momentum:
                (b,) = rest
                b *= momentum
                b += step
                step = b
            p -= lr * step
