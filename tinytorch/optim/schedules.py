"""Schedules: learning rates that follow a curve, or that fall when a number no longer improves.

`Schedule` knows when a curve moves on and whom it tells; each class below it is a curve: its `rate`
after t steps. First come those that multiply by a factor now and then, then those that go from one
rate to another (straight, by a power, by a cosine), then one after the other, and what is measured.
"""

from __future__ import annotations

import math
import numbers
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from tinytorch.base.arguments import number, whole
from tinytorch.base.errors import SettingError, printable
from tinytorch.optim.group import Group
from tinytorch.optim.optimizer import Optimizer
from tinytorch.tensor.interpreter import STATE
from tinytorch.tensor.tensor import Tensor


class Schedule:
    """Abstract: a curve defines `rate`; `step()` moves every group of an optimizer along it.

    The rate after t steps is computed from t and the group's first rate alone, so a schedule is
    restored by one number: the rates are right as soon as its state is loaded, before or after the
    optimizer's. It is set once when the schedule is made (t = 0).

    Where somebody else has changed the rate in between (`param_groups[0]["lr"] = 0.5`, another
    schedule), curves that multiply go on from what they find, as in PyTorch:

        lr = floor + (found - floor) * (rate(t) - floor) / (rate(t - 1) - floor)

    (floor is 0, or a cosine's eta_min), and those with `follows = False` (LambdaLR, OneCycleLR,
    warm restarts) go back to their curve.

    Args:
        optimizer: whose learning rates are set; it may be bound to parameters later.

    Cost: about 12 us a group and step.
    """

    needs_metric: bool = False  # whether step() wants the number that was measured
    follows: bool = True  # whether it goes on from a rate that somebody else has set
    floor: float = 0.0  # what its factors leave out: eta_min of a cosine

    def __init__(self, optimizer: Optimizer):
        if not isinstance(optimizer, Optimizer):
            raise SettingError(
                f"{type(self).__name__}: a schedule belongs to an optimizer",
                got=type(optimizer).__name__,
                rule="an Optimizer comes first",
                fix=f"{type(self).__name__}(optimizer, ...)",
            )
        self.optimizer = optimizer
        self.last_epoch = 0  # t; PyTorch's name, whether steps are epochs or batches
        self._begin()

    def rate(self, initial: float, t: int) -> float:
        """The learning rate after `t` steps of a group that began with `initial`."""
        raise NotImplementedError(f"{type(self).__name__} has no rate()")

    def step(self) -> None:
        """Move one step along the curve: after an epoch, or after a batch, as it was made for."""
        if STATE.interpreter is not None:
            STATE.interpreter.refuse("schedule.step()")
        self.last_epoch += 1
        for group in self.optimizer.groups:
            found, initial = float(group.lr.item()), float(group.initial_lr.item())
            group.set_rate(self.next_rate(found, initial, self.last_epoch))

    def next_rate(self, found: float, initial: float, t: int) -> float:
        """The learning rate after `t` steps of a group that has the rate `found` before the t-th.

        Args:
            found: its rate now: rate(initial, t - 1), if nobody has changed it.
            initial: the rate it began with.
            t: at least 1.
        """
        due, before = self.rate(initial, t), self.rate(initial, t - 1)
        return self._from(found, before, due) if self.follows else due

    def _from(self, found: float, before: float, due: float) -> float:
        """Where a step from `before` to `due` leads from another rate."""
        if found == before:
            return due
        if before == self.floor:
            return found + (due - before)
        return self.floor + (found - self.floor) * ((due - self.floor) / (before - self.floor))

    def _begin(self) -> None:
        """The rate at t = 0: where a schedule made before has acted already, a factor of that."""
        for group in self.optimizer.groups:
            found, initial = float(group.lr.item()), float(group.initial_lr.item())
            due = self.rate(initial, 0)
            group.is_scheduled = True
            group.set_rate(self._from(found, initial, due) if self.follows else due)

    def get_last_lr(self) -> list[float]:
        """The learning rate of each group now."""
        return [float(group.lr.item()) for group in self.optimizer.groups]

    def state_dict(self) -> dict[str, int | float]:
        """Where on the curve it is, and "lr.0", "lr.1", ...: the rate of each group now."""
        rates = {f"lr.{i}": rate for i, rate in enumerate(self.get_last_lr())}
        return {**self._place(), **rates}

    def _place(self) -> dict[str, int | float]:
        """The attributes that change from step to step."""
        return {"last_epoch": self.last_epoch}

    def load_state_dict(self, state: Mapping) -> None:
        """Go on from where `state` was taken; the rates are right at once.

        Args:
            state: what `state_dict()` of a schedule with the same settings gave; one of an older
                version has no rates: they follow from the place on the curve.

        Raises:
            SettingError: the names are not its names.
        """
        own, rates = self._place(), {n: x for n, x in state.items() if n.startswith("lr.")}
        if set(state) - set(rates) != set(own):
            raise SettingError(
                f"{type(self).__name__}: the names in this state are not its names",
                got=printable(", ".join(map(str, state))) or "no names",
                rule="exactly " + ", ".join(sorted(own)),
                fix="load what state_dict() of the same schedule gave",
            )
        groups = self.optimizer.groups
        values = {name: _as(type(own[name]), state[name], name) for name in own}
        known = [rates.get(f"lr.{i}") for i in range(len(groups))]
        found = [None if x is None else _as(float, x, f"lr.{i}") for i, x in enumerate(known)]
        for name, value in values.items():
            setattr(self, name, value)
        for group, rate in zip(groups, found, strict=True):
            rate = self._rate_of(group) if rate is None else rate
            group.set_rate(rate)

    def _rate_of(self, group: Group) -> float:
        """The curve's rate for a group now."""
        return self.rate(float(group.initial_lr.item()), self.last_epoch)


def _as(kind: type, value: Any, name: str) -> int | float:
    """A number of `kind`; checkpoints may hand back NumPy's numbers or arrays of one element."""
    number = value.item() if hasattr(value, "item") else value
    if not isinstance(number, numbers.Real):
        raise SettingError(
            "a schedule's state is made of numbers",
            got=f"{name}={value!r}",
            rule=f"one {kind.__name__}",
            fix="load what state_dict() of the same schedule gave",
        )
    return kind(number)


# --- curves that multiply the rate by a factor now and then ---


class StepLR(Schedule):
    """The rate is multiplied by `gamma` every `step_size` steps.

        lr = initial * gamma ** (t // step_size)

    Args:
        optimizer: whose rates are set.
        step_size: steps between two changes, at least 1.
        gamma: factor, in [0, inf); default 0.1.

    Example:
        >>> import tinytorch as tt
        >>> sgd = tt.optim.SGD(lr=1.0)
        >>> schedule = tt.optim.StepLR(sgd, step_size=2, gamma=0.5)
        >>> rates = []
        >>> for epoch in range(5):
        ...     rates.append(sgd.lr)
        ...     schedule.step()
        >>> rates
        [1.0, 1.0, 0.5, 0.5, 0.25]
    """

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1):
        self.step_size = whole("StepLR", "step_size", step_size, at_least=1)
        self.gamma = number("StepLR", "gamma", gamma, "[0, inf)")
        super().__init__(optimizer)

    def rate(self, initial: float, t: int) -> float:
        """A staircase."""
        return initial * self.gamma ** (t // self.step_size)


class MultiStepLR(Schedule):
    """The rate is multiplied by `gamma` at each of the milestones.

        lr = initial * gamma ** (number of milestones <= t)

    Args:
        optimizer: whose rates are set.
        milestones: whole numbers >= 0.
        gamma: factor, in [0, inf); default 0.1.

    Example:
        >>> import tinytorch as tt
        >>> schedule = tt.optim.MultiStepLR(tt.optim.SGD(lr=1.0), [30, 80])
        >>> [round(schedule.rate(1.0, t), 6) for t in (29, 30, 80)]
        [1.0, 0.1, 0.01]
    """

    def __init__(self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1):
        self.milestones = sorted(
            whole("MultiStepLR", "milestones", m, at_least=0) for m in milestones
        )
        self.gamma = number("MultiStepLR", "gamma", gamma, "[0, inf)")
        super().__init__(optimizer)

    def rate(self, initial: float, t: int) -> float:
        """A staircase with steps of different widths."""
        return initial * self.gamma ** bisect_right(self.milestones, t)


class ExponentialLR(Schedule):
    """The rate is multiplied by `gamma` at each step.

        lr = initial * gamma ** t

    Args:
        optimizer: whose rates are set.
        gamma: factor, in [0, inf).

    Example:
        >>> import tinytorch as tt
        >>> schedule = tt.optim.ExponentialLR(tt.optim.SGD(lr=1.0), gamma=0.5)
        >>> [schedule.rate(1.0, t) for t in range(4)]
        [1.0, 0.5, 0.25, 0.125]
    """

    def __init__(self, optimizer: Optimizer, gamma: float):
        self.gamma = number("ExponentialLR", "gamma", gamma, "[0, inf)")
        super().__init__(optimizer)

    def rate(self, initial: float, t: int) -> float:
        """Exponential decay."""
        return initial * self.gamma**t


class ConstantLR(Schedule):
    """A fraction of the rate for the first steps, then all of it.

        lr = initial * (factor if t < total_iters else 1)

    Args:
        optimizer: whose rates are set.
        factor: in [0, inf); default 1/3, as in PyTorch.
        total_iters: number of the first steps, at least 0; default 5, as in PyTorch.

    Example:
        >>> import tinytorch as tt
        >>> schedule = tt.optim.ConstantLR(tt.optim.SGD(lr=1.0), factor=0.25, total_iters=2)
        >>> [schedule.rate(1.0, t) for t in range(4)]
        [0.25, 0.25, 1.0, 1.0]
    """

    def __init__(self, optimizer: Optimizer, factor: float = 1 / 3, total_iters: int = 5):
        self.factor = number("ConstantLR", "factor", factor, "[0, inf)")
        self.total_iters = whole("ConstantLR", "total_iters", total_iters, at_least=0)
        super().__init__(optimizer)

    def rate(self, initial: float, t: int) -> float:
        """One step up, or down."""
        return initial * (self.factor if t < self.total_iters else 1.0)


class LambdaLR(Schedule):
    """The rate is multiplied by what a function of the step count gives.

        lr = initial * lr_lambda(t)

    Args:
        optimizer: whose rates are set.
        lr_lambda: t -> factor >= 0.

    A rate set by hand holds until the next step, which goes back to the function's curve.

    Differs from PyTorch: one function for all groups.

    Example:
        >>> import tinytorch as tt
        >>> schedule = tt.optim.LambdaLR(tt.optim.SGD(lr=1.0), lambda t: 1 / (1 + t))
        >>> [schedule.rate(1.0, t) for t in (0, 1, 3)]
        [1.0, 0.5, 0.25]
    """

    follows = False

    def __init__(self, optimizer: Optimizer, lr_lambda: Callable[[int], float]):
        if not callable(lr_lambda):
            raise SettingError(
                "LambdaLR: lr_lambda gives the factor for a step count",
                got=f"lr_lambda={lr_lambda!r}",
                rule="a function of one whole number",
                fix="LambdaLR(optimizer, lambda t: 0.95**t)",
            )
        self.lr_lambda = lr_lambda
        super().__init__(optimizer)

    def rate(self, initial: float, t: int) -> float:
        """Any curve."""
        return initial * self.lr_lambda(t)


# --- curves from one rate to another: straight, by a power, by a cosine ---


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


# --- one schedule after the other, and what follows a measurement ---


class SequentialLR(Schedule):
    """Each schedule counts its own steps from the milestone at which it begins.

    Args:
        optimizer: whose rates are set, that of all the schedules.
        schedulers: schedules that follow a curve (not ReduceLROnPlateau).
        milestones: step counts at which the second, third, ... begin, rising; one fewer than
            schedules.

    Example:
        >>> import tinytorch as tt
        >>> sgd = tt.optim.SGD(lr=1.0)
        >>> warm_up = tt.optim.LinearLR(sgd, start_factor=0.5, total_iters=2)
        >>> decay = tt.optim.ExponentialLR(sgd, gamma=0.5)
        >>> schedule = tt.optim.SequentialLR(sgd, [warm_up, decay], milestones=[2])
        >>> [schedule.rate(1.0, t) for t in range(5)]
        [0.5, 0.75, 1.0, 0.5, 0.25]
    """

    def __init__(
        self, optimizer: Optimizer, schedulers: Sequence[Schedule], milestones: Sequence[int]
    ):
        self.schedulers = tuple(schedulers)
        self.milestones = [whole("SequentialLR", "milestones", m, at_least=1) for m in milestones]
        wrong = [
            type(s).__name__
            for s in self.schedulers
            if not isinstance(s, Schedule) or s.needs_metric or s.optimizer is not optimizer
        ]
        if wrong or not self.schedulers:
            raise SettingError(
                "SequentialLR: these cannot follow one another",
                got=", ".join(wrong) or "no schedules",
                rule="schedules of this optimizer that follow a curve",
                fix="SequentialLR(optimizer, [LinearLR(optimizer), ExponentialLR(optimizer, 0.9)],"
                " milestones=[5])",
            )
        rising = sorted(set(self.milestones)) == self.milestones
        if len(self.milestones) != len(self.schedulers) - 1 or not rising:
            raise SettingError(
                "SequentialLR: the milestones do not fit the schedules",
                got=f"{len(self.schedulers)} schedules, milestones={list(milestones)}",
                rule="rising step counts, one fewer than schedules",
                fix=f"milestones={[5 * (i + 1) for i in range(len(self.schedulers) - 1)]}",
            )
        super().__init__(optimizer)

    def _begin(self) -> None:
        """The schedules have acted when they were made: back to the first one's curve."""
        for group in self.optimizer.groups:
            group.set_rate(self._rate_of(group))

    def next_rate(self, found: float, initial: float, t: int) -> float:
        """The step of the schedule that t falls in; its curve where it begins."""
        i = bisect_right(self.milestones, t)
        if t in self.milestones:
            return self.rate(initial, t)
        return self.schedulers[i].next_rate(found, initial, t - ([0, *self.milestones])[i])

    def rate(self, initial: float, t: int) -> float:
        """The curve of the schedule that t falls in."""
        i = bisect_right(self.milestones, t)
        return self.schedulers[i].rate(initial, t - ([0, *self.milestones])[i])


class ReduceLROnPlateau(Schedule):
    """After more than `patience` steps without a better number, the rate is multiplied by `factor`.

        better = metric < best - threshold * |best|     mode "max": metric > best + ...
        lr = max(lr * factor, min_lr)                   when there were too many that are not better

    Args:
        optimizer: whose rates are set.
        mode: "min" (a loss) or "max" (an accuracy); default "min".
        factor: in (0, 1); default 0.1.
        patience: steps without a better number that are waited for, at least 0; default 10.
        threshold: relative improvement that counts, in [0, inf); default 1e-4.
        min_lr: lowest rate, in [0, inf); default 0.

    Differs from PyTorch: no cooldown and no absolute threshold; a number that is not finite is
    never better; of negative numbers too only an improvement by `threshold` of their size counts
    (PyTorch takes -1 after -1 for better).

    Example:
        >>> import tinytorch as tt
        >>> sgd = tt.optim.SGD(lr=1.0)
        >>> schedule = tt.optim.ReduceLROnPlateau(sgd, factor=0.5, patience=1)
        >>> for loss in (3.0, 2.0, 2.0, 2.1):
        ...     schedule.step(loss)
        >>> sgd.lr
        0.5
    """

    needs_metric = True

    def __init__(
        self, optimizer: Optimizer, mode: str = "min", factor: float = 0.1, patience: int = 10,
        threshold: float = 1e-4, min_lr: float = 0.0,
    ):  # fmt: skip
        if mode not in ("min", "max"):
            raise SettingError(
                "ReduceLROnPlateau: which numbers are better?",
                got=f"mode={mode!r}",
                rule='"min" or "max"',
                fix='ReduceLROnPlateau(optimizer, mode="min")',
            )
        self.mode = mode
        self.factor = number("ReduceLROnPlateau", "factor", factor, "(0, 1)")
        self.patience = whole("ReduceLROnPlateau", "patience", patience, at_least=0)
        self.threshold = number("ReduceLROnPlateau", "threshold", threshold, "[0, inf)")
        self.min_lr = number("ReduceLROnPlateau", "min_lr", min_lr, "[0, inf)")
        self.best = math.inf if mode == "min" else -math.inf
        self.num_bad_epochs = 0  # PyTorch's name
        super().__init__(optimizer)

    def _begin(self) -> None:
        """Nothing is set: the rate follows what is measured, not a curve."""
        for group in self.optimizer.groups:
            group.is_scheduled = True

    def _rate_of(self, group: Group) -> float:
        return float(group.lr.item())

    def step(self, metric: float | Tensor) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Take note of one more number, and lower the rate if there were too many bad ones.

        Args:
            metric: what was measured, a number or a Tensor of one.
        """
        if STATE.interpreter is not None:
            STATE.interpreter.refuse("schedule.step()")
        value = float(metric)
        self.last_epoch += 1
        better = self._is_better(value)
        self.best = value if better else self.best
        self.num_bad_epochs = 0 if better else self.num_bad_epochs + 1
        if self.num_bad_epochs > self.patience:
            self.num_bad_epochs = 0
            for group in self.optimizer.groups:
                group.set_rate(max(float(group.lr.item()) * self.factor, self.min_lr))

    def _is_better(self, value: float) -> bool:
        if not math.isfinite(value):
            return False
        if math.isinf(self.best):  # nothing has been measured yet
            return True
        change = value - self.best if self.mode == "max" else self.best - value
        return change > self.threshold * abs(self.best)

    def _place(self) -> dict[str, int | float]:
        """Steps, the best number, and how many were not better since."""
        bad = self.num_bad_epochs
        return {"last_epoch": self.last_epoch, "best": self.best, "num_bad_epochs": bad}
