"""Schedule: a learning rate that follows a curve.

Knows when the curve moves on and whom it tells, never which curve it is.
"""

from __future__ import annotations

import numbers
from collections.abc import Mapping

from tinytorch.base.errors import SettingError, printable
from tinytorch.optim.group import Group
from tinytorch.optim.optimizer import Optimizer
from tinytorch.tensor.interpreter import STATE


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
