"""Lion: steps of one size, in the direction of the sign of an average gradient.

Knows its rule, stated once; groups and state are the Optimizer's.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tinytorch.base.dtypes import DType
from tinytorch.optim.group import Part, checked_betas, sign
from tinytorch.optim.optimizer import Optimizer


class Lion(Optimizer):
    """Lion (Chen et al. 2023, https://arxiv.org/abs/2302.06675, Algorithm 2).

    For each parameter p with gradient g

        c = beta1 * m + (1 - beta1) * g             what the step follows
        p = p - lr * (sign(c) + weight_decay * p)
        m = beta2 * m + (1 - beta2) * g             average gradient, starts at 0

    Args:
        params: Tensors, or groups of them, to update in place; None: see `bind`.
        lr: step size, in [0, inf); default 1e-4: every weight moves by lr, so it is 3 to 10 times
            smaller than AdamW's.
        betas: how much of the past counts in the step and in m, each in [0, 1); default
            (0.9, 0.99).
        weight_decay: pull towards zero, in [0, inf); default 0; 3 to 10 times larger than AdamW's.

    Raises:
        SettingError: a setting outside its range; the message names it and the value.

    Cost: 1 extra array per parameter, half of Adam's.

    Example:
        >>> import tinytorch as tt
        >>> w = tt.Tensor([1.0, -2.0], requires_grad=True)
        >>> lion = tt.optim.Lion([w], lr=0.1)
        >>> (w * w).sum().backward()
        >>> lion.step()
        >>> w.detach().numpy().round(3)
        array([ 0.9, -1.9], dtype=float32)
    """

    def __init__(
        self, params: Iterable | None = None, lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99), weight_decay: float = 0.0,
    ):  # fmt: skip
        super().__init__(params, lr, betas=betas, weight_decay=weight_decay)

    def check(self, settings: dict) -> dict:
        """Ranges of betas and weight_decay."""
        betas = checked_betas(self.name, settings["betas"])
        return {"betas": betas, **self.in_ranges(settings, weight_decay="[0, inf)")}

    def slot_names(self, settings: dict) -> tuple[str, ...]:
        """The name of m."""
        return ("exp_avg",)

    def update(self, group: Part) -> None:
        """One step of the rule above."""
        (beta1, beta2), decay = group.settings["betas"], group.settings["weight_decay"]

        def scalars(t: Any, lr: Any, dtype: DType) -> tuple:
            return lr, 1.0 - lr * decay

        for p, g, (m,), (lr, shrink) in group.blocks(scalars):
            direction = beta1 * m
            direction += (1.0 - beta1) * g
            if decay:
                p *= shrink
            p -= lr * sign(direction)
            m *= beta2
            m += (1.0 - beta2) * g
