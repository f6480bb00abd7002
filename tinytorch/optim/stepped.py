"""Schedules that multiply the learning rate by a factor now and then.

Knows factors and moments, never optimizers.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable

from tinytorch.base.checks import number, whole
from tinytorch.base.errors import SettingError
from tinytorch.optim.optimizer import Optimizer
from tinytorch.optim.schedule import Schedule


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
