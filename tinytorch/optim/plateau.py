"""ReduceLROnPlateau: the learning rate falls when a measured number no longer improves.

Knows the best number so far, never what was measured.
"""

from __future__ import annotations

import math

from tinytorch.base.checks import number, whole
from tinytorch.base.errors import SettingError
from tinytorch.optim.group import Group
from tinytorch.optim.optimizer import Optimizer
from tinytorch.optim.schedule import Schedule
from tinytorch.tensor.interpreter import STATE


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

    def step(self, metric) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
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
