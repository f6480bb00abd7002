"""Schedules that go from one learning rate to another: straight, by a power, by a cosine.

Knows curves, never optimizers.
"""

from __future__ import annotations

import math

from tinytorch.base.checks import number, whole
from tinytorch.base.errors import SettingError
from tinytorch.optim.optimizer import Optimizer
from tinytorch.optim.schedule import Schedule


class LinearLR(Schedule):
    """A straight line between two fractions of the rate: warm-up when it rises.

        lr = initial * (start + (end - start) * min(t, total_iters) / total_iters)

    Args:
        optimizer: whose rates are set.
        start_factor: fraction at first, in [0, inf); default 1/3, as in PyTorch.
        end_factor: fraction from `total_iters` on, in [0, inf); default 1.
        total_iters: steps of the line, at least 1; default 5, as in PyTorch.

    Example:
        >>> import tinytorch as tt
        >>> warm_up = tt.optim.LinearLR(tt.optim.SGD(lr=1.0), start_factor=0.25, total_iters=3)
        >>> [warm_up.rate(1.0, t) for t in range(5)]
        [0.25, 0.5, 0.75, 1.0, 1.0]
    """

    def __init__(
        self, optimizer: Optimizer, start_factor: float = 1 / 3, end_factor: float = 1.0,
        total_iters: int = 5,
    ):  # fmt: skip
        self.start_factor = number("LinearLR", "start_factor", start_factor, "[0, inf)")
        self.end_factor = number("LinearLR", "end_factor", end_factor, "[0, inf)")
        self.total_iters = whole("LinearLR", "total_iters", total_iters, at_least=1)
        super().__init__(optimizer)

    def rate(self, initial: float, t: int) -> float:
        """A straight line, then level."""
        part = min(t, self.total_iters) / self.total_iters
        return initial * (self.start_factor + (self.end_factor - self.start_factor) * part)


class PolynomialLR(Schedule):
    """A power of the part that is left: down to zero.

        lr = initial * (1 - min(t, total_iters) / total_iters) ** power

    Args:
        optimizer: whose rates are set.
        total_iters: steps until zero, at least 1; default 5, as in PyTorch.
        power: in [0, inf); default 1, a straight line.

    Example:
        >>> import tinytorch as tt
        >>> schedule = tt.optim.PolynomialLR(tt.optim.SGD(lr=1.0), total_iters=4, power=2)
        >>> [schedule.rate(1.0, t) for t in (0, 2, 4, 9)]
        [1.0, 0.25, 0.0, 0.0]
    """

    def __init__(self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0):
        self.total_iters = whole("PolynomialLR", "total_iters", total_iters, at_least=1)
        self.power = number("PolynomialLR", "power", power, "[0, inf)")
        super().__init__(optimizer)

    def rate(self, initial: float, t: int) -> float:
        """A power of what is left."""
        return initial * (1.0 - min(t, self.total_iters) / self.total_iters) ** self.power


class CosineAnnealingLR(Schedule):
    """Half a cosine from the initial rate down to `eta_min`, and up again after `T_max`.

        lr = eta_min + (initial - eta_min) * (1 + cos(pi * t / T_max)) / 2

    Args:
        optimizer: whose rates are set.
        T_max: steps until the lowest rate, at least 1.
        eta_min: lowest rate, in [0, inf); default 0.

    Source: Loshchilov & Hutter 2017, https://arxiv.org/abs/1608.03983, equation 5.

    Example:
        >>> import tinytorch as tt
        >>> schedule = tt.optim.CosineAnnealingLR(tt.optim.SGD(lr=1.0), T_max=4)
        >>> [round(schedule.rate(1.0, t), 3) for t in range(5)]
        [1.0, 0.854, 0.5, 0.146, 0.0]
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0):
        self.T_max = whole("CosineAnnealingLR", "T_max", T_max, at_least=1)
        self.eta_min = self.floor = number("CosineAnnealingLR", "eta_min", eta_min, "[0, inf)")
        super().__init__(optimizer)

    def rate(self, initial: float, t: int) -> float:
        """Half a cosine."""
        return between(initial, self.eta_min, t / self.T_max)


class CosineAnnealingWarmRestarts(Schedule):
    """Half a cosine down, again and again, each time `T_mult` times as long.

        lr = eta_min + (initial - eta_min) * (1 + cos(pi * since / length)) / 2

    Args:
        optimizer: whose rates are set.
        T_0: steps of the first descent, at least 1.
        T_mult: factor from one length to the next, a whole number at least 1; default 1.
        eta_min: lowest rate, in [0, inf); default 0.

    Source: Loshchilov & Hutter 2017, https://arxiv.org/abs/1608.03983 (SGDR).

    Example:
        >>> import tinytorch as tt
        >>> schedule = tt.optim.CosineAnnealingWarmRestarts(tt.optim.SGD(lr=1.0), T_0=2, T_mult=2)
        >>> [round(schedule.rate(1.0, t), 3) for t in range(7)]
        [1.0, 0.5, 1.0, 0.854, 0.5, 0.146, 1.0]
    """

    follows = False

    def __init__(self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0):
        self.T_0 = whole("CosineAnnealingWarmRestarts", "T_0", T_0, at_least=1)
        self.T_mult = whole("CosineAnnealingWarmRestarts", "T_mult", T_mult, at_least=1)
        self.eta_min = number("CosineAnnealingWarmRestarts", "eta_min", eta_min, "[0, inf)")
        super().__init__(optimizer)

    def rate(self, initial: float, t: int) -> float:
        """A saw of cosines."""
        length = self.T_0
        if self.T_mult == 1:
            t %= length
        while t >= length:
            t, length = t - length, length * self.T_mult
        return between(initial, self.eta_min, t / length)


class WarmupCosineLR(Schedule):
    """Straight up from zero, then half a cosine down: what transformers are trained with.

        lr = initial * (t + 1) / warmup                                  t < warmup
        lr = eta_min + (initial - eta_min) * (1 + cos(pi * part)) / 2    afterwards
        part = min(1, (t - warmup) / (total - warmup))

    Args:
        optimizer: whose rates are set.
        warmup: steps of the rise, at least 0.
        total: steps in all, more than `warmup`.
        eta_min: last rate, in [0, inf); default 0.

    Source: warm-up: Goyal et al. 2017, https://arxiv.org/abs/1706.02677, section 2.2; the cosine:
        Loshchilov & Hutter 2017, https://arxiv.org/abs/1608.03983, equation 5.

    Example:
        >>> import tinytorch as tt
        >>> schedule = tt.optim.WarmupCosineLR(tt.optim.SGD(lr=1.0), warmup=2, total=6)
        >>> [round(schedule.rate(1.0, t), 3) for t in range(8)]
        [0.5, 1.0, 1.0, 0.854, 0.5, 0.146, 0.0, 0.0]
    """

    follows = False

    def __init__(self, optimizer: Optimizer, warmup: int, total: int, eta_min: float = 0.0):
        self.warmup = whole("WarmupCosineLR", "warmup", warmup, at_least=0)
        self.total = whole("WarmupCosineLR", "total", total, at_least=1)
        self.eta_min = number("WarmupCosineLR", "eta_min", eta_min, "[0, inf)")
        if self.total <= self.warmup:
            raise SettingError(
                "WarmupCosineLR: no steps are left after the warm-up",
                got=f"warmup={warmup}, total={total}",
                rule="total > warmup",
                fix=f"total={10 * max(1, self.warmup)}",
            )
        super().__init__(optimizer)

    def rate(self, initial: float, t: int) -> float:
        """Up a line, down a cosine."""
        if t < self.warmup:
            return initial * (t + 1) / self.warmup
        part = min(1.0, (t - self.warmup) / (self.total - self.warmup))
        return between(initial, self.eta_min, part)


class OneCycleLR(Schedule):
    """Up a cosine to `max_lr`, then down a longer one to almost nothing; a step is a batch.

        first = max_lr / div_factor          last = first / final_div_factor
        up from first to max_lr in pct_start * total_steps - 1 steps,
        down to last in the rest of total_steps - 1

    Args:
        optimizer: whose rates are set; its own rate is not used.
        max_lr: highest rate, in (0, inf).
        total_steps: steps in all, at least 2.
        pct_start: part of the steps that goes up, in [0, 1]; default 0.3.
        div_factor: max_lr / first rate, in (0, inf); default 25.
        final_div_factor: first rate / last rate, in (0, inf); default 1e4.

    Source: Smith & Topin 2018, https://arxiv.org/abs/1708.07120; the default numbers are PyTorch's.

    Differs from PyTorch: cosines only, the momentum stays as it is, one `max_lr` for all groups;
    after `total_steps` the rate stays.

    Example:
        >>> import tinytorch as tt
        >>> sgd = tt.optim.SGD(lr=0.1)
        >>> schedule = tt.optim.OneCycleLR(sgd, max_lr=1.0, total_steps=10)
        >>> [round(schedule.rate(0.1, t), 3) for t in (0, 1, 2, 5, 9)]
        [0.04, 0.52, 1.0, 0.611, 0.0]
    """

    follows = False

    def __init__(
        self, optimizer: Optimizer, max_lr: float, total_steps: int, pct_start: float = 0.3,
        div_factor: float = 25.0, final_div_factor: float = 1e4,
    ):  # fmt: skip
        self.max_lr = number("OneCycleLR", "max_lr", max_lr, "(0, inf)")
        self.total_steps = whole("OneCycleLR", "total_steps", total_steps, at_least=2)
        self.pct_start = number("OneCycleLR", "pct_start", pct_start, "[0, 1]")
        self.div_factor = number("OneCycleLR", "div_factor", div_factor, "(0, inf)")
        final = number("OneCycleLR", "final_div_factor", final_div_factor, "(0, inf)")
        self.final_div_factor = final
        super().__init__(optimizer)

    def rate(self, initial: float, t: int) -> float:
        """Up and down; `initial` plays no part."""
        first, end = self.max_lr / self.div_factor, self.total_steps - 1
        top = self.pct_start * self.total_steps - 1.0
        if t <= top and top > 0:
            return between(first, self.max_lr, t / top)
        part = (min(t, end) - top) / (end - top) if end > top else 1.0
        return between(self.max_lr, first / self.final_div_factor, part)


def between(start: float, end: float, part: float) -> float:
    """Half a cosine from `start` (part 0) to `end` (part 1).

    >>> between(1.0, 0.0, 0.5)
    0.5
    """
    return end + (start - end) * (1.0 + math.cos(math.pi * part)) / 2.0
