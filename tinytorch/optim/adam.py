"""Adam and AdamW: steps scaled by running averages of the gradient and of its square.

Knows their rule, stated once: they differ in where weight decay acts. Groups and state are the
Optimizer's.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tinytorch.base.dtypes import DType
from tinytorch.optim.group import Part, checked_betas, divisor, sqrt
from tinytorch.optim.optimizer import Optimizer


class Adam(Optimizer):
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

    _decays_weights = False  # whether weight decay acts on the weight, not through the gradient

    def __init__(
        self, params: Iterable | None = None, lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0.0,
    ):  # fmt: skip
        super().__init__(params, lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def check(self, settings: dict) -> dict:
        """Ranges of betas, eps and weight_decay."""
        betas = checked_betas(self.name, settings["betas"])
        return {"betas": betas, **self.in_ranges(settings, eps="[0, inf)", weight_decay="[0, inf)")}

    def slot_names(self, settings: dict) -> tuple[str, ...]:
        """PyTorch's names for m and v."""
        return ("exp_avg", "exp_avg_sq")

    def update(self, group: Part) -> None:
        """One step of the rule in the class's docstring.

        Note [the correction is one number]
            m / (1 - beta1**t) / (sqrt(v / (1 - beta2**t)) + eps) is, with c = sqrt(1 - beta2**t),
            c / (1 - beta1**t) * m / (sqrt(v) + c * eps): the arrays are gone through less often
            (Kingma & Ba 2015, end of section 2).
        """
        (beta1, beta2), eps = group.settings["betas"], group.settings["eps"]
        weight_decay = group.settings["weight_decay"]

        def scalars(t: Any, lr: Any, dtype: DType) -> tuple:
            c = sqrt(1.0 - beta2**t)
            return lr * c / (1.0 - beta1**t), divisor(eps, dtype, c), 1.0 - lr * weight_decay

        for p, g, (m, v), (rate, small, shrink) in group.blocks(scalars):
            if weight_decay and self._decays_weights:
                p *= shrink
            elif weight_decay:
                pull = weight_decay * p
                pull += g
                g = pull
            m *= beta1
            m += (1.0 - beta1) * g
            square = g * g
            square *= 1.0 - beta2
            v *= beta2
            v += square
            size = sqrt(v)
            size += small
            step = m / size
            step *= rate
            p -= step


class AdamW(Adam):
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

    _decays_weights = True

    def __init__(
        self, params: Iterable | None = None, lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0.01,
    ):  # fmt: skip
        super().__init__(params, lr, betas, eps, weight_decay)
