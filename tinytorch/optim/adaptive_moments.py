"""The rule that Adam and AdamW share: steps scaled by averages of gradient and squared gradient.

Knows the averages and their correction; how weight decay enters is each rule's own.
"""

from __future__ import annotations

from collections.abc import Iterable

from tinytorch.base.checks import number
from tinytorch.optim.betas import checked_betas
from tinytorch.optim.group import Group
from tinytorch.optim.optimizer import Optimizer
from tinytorch.tensor.tensor import Tensor


class AdaptiveMoments(Optimizer):
    """Abstract: everything of Adam but its weight decay.

    Args:
        params: Tensors, or groups of them, to update in place.
        lr: step size, in [0, inf).
        betas: how much of the past averages stays, each in [0, 1).
        eps: keeps the division finite, in [0, inf).
        weight_decay: pull towards zero, in [0, inf).
    """

    def __init__(
        self,
        params: Iterable | None,
        lr: float,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
    ):
        super().__init__(params, lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def slot_names(self, settings: dict) -> tuple[str, ...]:
        """PyTorch's names for m and v."""
        return ("exp_avg", "exp_avg_sq")

    def check(self, settings: dict) -> dict:
        """Ranges of betas, eps and weight_decay."""
        return {
            "betas": checked_betas(self.name, settings["betas"]),
            "eps": number(self.name, "eps", settings["eps"], "[0, inf)"),
            "weight_decay": number(self.name, "weight_decay", settings["weight_decay"], "[0, inf)"),
        }

    def decayed(
        self, p: Tensor, g: Tensor, shrink: Tensor, weight_decay: float
    ) -> tuple[Tensor, Tensor]:
        """Parameter and gradient after weight decay; `shrink` is 1 - lr * weight_decay."""
        raise NotImplementedError(f"{self.name} has no decayed()")

    def update(self, group: Group) -> None:
        """One step of the rule in the subclass's docstring."""
        (beta1, beta2), eps = group.settings["betas"], group.settings["eps"]
        decay, t, lr = group.settings["weight_decay"], group.steps, group.lr
        # Note [scalars in float64]: 1 - beta2**t loses 3 digits in float32 (beta2 = 0.999), so what
        # is one number for a whole group is computed in float64 and rounded once.
        rate = lr / (1.0 - beta1**t)
        scale = 1.0 / (1.0 - beta2**t).sqrt()
        shrink = 1.0 - lr * decay
        for p, g, slots in group.live():
            m, v = slots["exp_avg"], slots["exp_avg_sq"]
            start, g = self.decayed(p, g, shrink.astype(p.dtype), decay)
            m.assign_(beta1 * m + (1.0 - beta1) * g)
            v.assign_(beta2 * v + (1.0 - beta2) * (g * g))
            p.assign_(start - rate.astype(p.dtype) * m / (v.sqrt() * scale.astype(p.dtype) + eps))
