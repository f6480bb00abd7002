"""The rule that Adam and AdamW share: steps scaled by averages of gradient and squared gradient.

Knows the averages and their correction; how weight decay enters is each rule's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from tinytorch.base.checks import number
from tinytorch.base.dtypes import DType, float16
from tinytorch.optim.betas import checked_betas
from tinytorch.optim.blocks import in_blocks
from tinytorch.optim.group import Part
from tinytorch.optim.optimizer import Optimizer
from tinytorch.optim.scalars import SMALLEST, Scalars, divisor
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

    def decayed(self, p: Any, g: Any, shrink: Any, weight_decay: float) -> Any:
        """Let weight decay act: on `p`, in place, or on the gradient, which is given back.

        Args:
            p: the parameter, or a piece of its array.
            g: its gradient, which is not changed.
            shrink: 1 - lr * weight_decay.
            weight_decay: not 0.
        """
        raise NotImplementedError(f"{self.name} has no decayed()")

    def update(self, group: Part) -> None:
        """One step of the rule in the subclass's docstring.

        Note [the correction is one number]
            m / (1 - beta1**t) / (sqrt(v / (1 - beta2**t)) + eps) is, with c = sqrt(1 - beta2**t),
            c / (1 - beta1**t) * m / (sqrt(v) + c * eps): the arrays are gone through less often
            (Kingma & Ba 2015, end of section 2).
        """
        scalars = _Numbers(group)
        for p, g, slots in group.live():
            m, v = slots["exp_avg"], slots["exp_avg_sq"]
            pieces = in_blocks((p, m, v), g)
            if pieces is None:
                self._move(p, g, m, v, scalars.tensors(p.dtype), group.settings, Tensor.sqrt)
                continue
            plain = scalars.plain(p.dtype)
            with np.errstate(all="ignore"):
                for piece_p, piece_m, piece_v, piece_g in pieces:
                    self._move(piece_p, piece_g, piece_m, piece_v, plain, group.settings, np.sqrt)

    def _move(self, p, g, m, v, numbers: tuple, settings: dict, root: Callable) -> None:
        """The rule itself, in place, on Tensors or on pieces of their arrays."""
        (beta1, beta2), decay = settings["betas"], settings["weight_decay"]
        rate, small, shrink = numbers
        if decay:
            g = self.decayed(p, g, shrink, decay)
        m *= beta1
        m += (1.0 - beta1) * g
        square = g * g
        square *= 1.0 - beta2
        v *= beta2
        v += square
        size = root(v)
        size += small
        step = m / size
        step *= rate
        p -= step


class _Numbers:
    """Rate, smallest divisor and shrinking of a step: Note [the correction is one number]."""

    def __init__(self, group: Part):
        self.group = group
        self.scalars: Scalars | None = None

    def tensors(self, dtype: DType) -> tuple:
        """As 0-d Tensors."""
        if self.scalars is None:  # Note [scalars in float64]
            self.scalars = Scalars(*self._of(self.group.steps, self.group.lr, Tensor.sqrt))
        rate, small, shrink = self.scalars.of(dtype)
        if dtype is float16 and self.group.settings["eps"]:
            small = small.maximum(SMALLEST)
        return rate, small, shrink

    def plain(self, dtype: DType) -> tuple:
        """As NumPy's numbers: the same arithmetic, a tenth of the time (90 us a step)."""
        steps, lr = (x.numpy()[()] for x in (self.group.steps, self.group.lr))
        rate, small, shrink = self._of(steps, lr, np.sqrt)
        return tuple([dtype.storage.type(x) for x in (rate, divisor(small, dtype), shrink)])

    def _of(self, t: Any, lr: Any, root: Callable) -> tuple:
        settings = self.group.settings
        beta1, beta2 = settings["betas"]
        correction = root(1.0 - beta2**t)
        return (
            lr * correction / (1.0 - beta1**t),
            settings["eps"] * correction,
            1.0 - lr * settings["weight_decay"],
        )
