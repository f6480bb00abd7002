"""Schedule: a learning rate that follows a curve.

Knows when the curve moves on and whom it tells, never which curve it is.
"""

from __future__ import annotations

import numbers
from collections.abc import Mapping

from tinytorch.base.errors import SettingError
from tinytorch.optim.optimizer import Optimizer
from tinytorch.tensor.interpreter import STATE


class Schedule:
    """Abstract: a curve defines `rate`; `step()` moves every group of an optimizer along it.

    The rate after t steps is computed from t and the group's first rate alone, so a schedule is
    restored by one number. It is set once when the schedule is made (t = 0).

    Args:
        optimizer: whose learning rates are set; it may be bound to parameters later.

    Cost: about 12 us a group and step.

    Differs from PyTorch: two schedules of one optimizer do not multiply (use SequentialLR), and
    after `optimizer.lr = x` the curve goes on from x.
    """

    needs_metric: bool = False  # whether step() wants the number that was measured

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
        self._set_rates()

    def rate(self, initial: float, t: int) -> float:
        """The learning rate after `t` steps of a group that began with `initial`."""
        raise NotImplementedError(f"{type(self).__name__} has no rate()")

    def step(self) -> None:
        """Move one step along the curve: after an epoch, or after a batch, as it was made for."""
        if STATE.interpreter is not None:
            STATE.interpreter.refuse("schedule.step()")
        self.last_epoch += 1
        self._set_rates()

    def _set_rates(self) -> None:
        for group in self.optimizer.groups:
            group.set_rate(self.rate(float(group.initial_lr.item()), self.last_epoch))

    def get_last_lr(self) -> list[float]:
        """The learning rate of each group now."""
        return [float(group.lr.item()) for group in self.optimizer.groups]

    def state_dict(self) -> dict[str, int | float]:
        """Where on the curve it is; the rates themselves are the optimizer's state."""
        return {"last_epoch": self.last_epoch}

    def load_state_dict(self, state: Mapping) -> None:
        """Go on from where `state` was taken.

        Args:
            state: what `state_dict()` of a schedule with the same settings gave.

        Raises:
            SettingError: the names are not its names.
        """
        own = self.state_dict()
        if set(state) != set(own):
            raise SettingError(
                f"{type(self).__name__}: the names in this state are not its names",
                got=", ".join(sorted(state)),
                rule="exactly " + ", ".join(sorted(own)),
                fix="load what state_dict() of the same schedule gave",
            )
        for name, value in state.items():
            setattr(self, name, _as(type(own[name]), value, name))


def _as(kind: type, value, name: str) -> int | float:
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
