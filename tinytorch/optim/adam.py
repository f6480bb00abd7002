"""Adam: steps scaled by running averages of the gradient and of its square.

Knows where the weight decay goes; the averages are in `adaptive_moments`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tinytorch.optim.adaptive_moments import AdaptiveMoments


class Adam(AdaptiveMoments):
    """Adam (Kingma & Ba 2015, https://arxiv.org/abs/1412.6980, Algorithm 1).

    For each parameter p with gradient g, at step t = 1, 2, ...

        g = g + weight_decay * p
        m = beta1 * m + (1 - beta1) * g             average gradient
        v = beta2 * v + (1 - beta2) * g**2          average squared gradient
        p = p - lr * (m / (1 - beta1**t)) / (sqrt(v / (1 - beta2**t)) + eps)

    Args:
        params: Tensors, or groups of them, to update in place; None: see `bind`.
        lr: step size, in [0, inf); default 1e-3.
        betas: how much of the past m and v stays, each in [0, 1); default (0.9, 0.999).
        eps: keeps the division finite, in [0, inf); default 1e-8 (float16: at least 2**-14).
        weight_decay: pull towards zero through the gradient, in [0, inf); default 0.

    Raises:
        SettingError: a setting outside its range; the message names it and the value.

    Cost: 2 extra arrays per parameter; 4 reads and 3 writes of memory per weight per step.

    Differs from PyTorch: no amsgrad, maximize, foreach or fused; same numbers otherwise
    (tests/peer/test_optim_peer.py).

    Example:
        >>> import tinytorch as tt
        >>> w = tt.Tensor([1.0, -2.0], requires_grad=True)
        >>> adam = tt.optim.Adam([w], lr=0.1)
        >>> (w * w).sum().backward()
        >>> adam.step()
        >>> w.detach().numpy().round(3)               # the first step has size lr
        array([ 0.9, -1.9], dtype=float32)
    """

    def __init__(
        self, params: Iterable | None = None, lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0.0,
    ):  # fmt: skip
        super().__init__(params, lr, betas, eps, weight_decay)

    def decayed(self, p: Any, g: Any, shrink: Any, weight_decay: float) -> Any:
        """The weight stays, its pull joins the gradient."""
        pull = weight_decay * p
        pull += g
        return pull
