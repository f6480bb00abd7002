"""SequentialLR: one schedule after the other.

Knows where each begins, never which curve it follows.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from tinytorch.base.checks import whole
from tinytorch.base.errors import SettingError
from tinytorch.optim.optimizer import Optimizer
from tinytorch.optim.schedule import Schedule


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
