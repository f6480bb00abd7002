"""AdamW: Adam whose weight decay acts on the weight, not through the gradient.

Knows where the decay goes; the averages are in `adaptive_moments`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tinytorch.optim.adaptive_moments import AdaptiveMoments


class AdamW(AdaptiveMoments):
    """AdamW (Loshchilov & Hutter 2019, https://arxiv.org/abs/1711.05101, Algorithm 2).

    For each parameter p with gradient g, at step t = 1, 2, ...

        p = p * (1 - lr * weight_decay)
        m = beta1 * m + (1 - beta1) * g             average gradient
        v = beta2 * v + (1 - beta2) * g**2          average squared gradient
        m_hat = m / (1 - beta1**t)                  both start at 0, so early
        v_hat = v / (1 - beta2**t)                  averages are too small: undo that
        p = p - lr * m_hat / (sqrt(v_hat) + eps)

    Args:
        params: Tensors, or groups of them, to update in place; None: see `bind`.
        lr: step size, about the most a weight moves in one step; in [0, inf); default 1e-3.
        betas: how much of the past m and v stays, each in [0, 1); default (0.9, 0.999).
        eps: keeps the division finite, in [0, inf); default 1e-8 (float16: at least 2**-14).
        weight_decay: pull towards zero, in [0, inf); default 0.01, as in PyTorch.

    Raises:
        SettingError: a setting outside its range; the message names it and the value.

    Cost: 2 extra arrays per parameter; 4 reads and 3 writes of memory per weight per step.

    Differs from PyTorch: no amsgrad, maximize, foreach or fused; same numbers otherwise
    (tests/peer/test_optim_peer.py).

    Example:
        >>> import tinytorch as tt
        >>> w = tt.Tensor([1.0, -2.0], requires_grad=True)
        >>> adamw = tt.optim.AdamW([w], lr=0.1)
        >>> (w * w).sum().backward()
        >>> adamw.step()
        >>> w.detach().numpy().round(3)               # 0.999 w, then lr against the gradient
        array([ 0.899, -1.898], dtype=float32)
    """

    def __init__(
        self, params: Iterable | None = None, lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0.01,
    ):  # fmt: skip
        super().__init__(params, lr, betas, eps, weight_decay)

    def decayed(self, p: Any, g: Any, shrink: Any, weight_decay: float) -> Any:
        """The weight shrinks, the gradient stays."""
        p *= shrink
        return g
