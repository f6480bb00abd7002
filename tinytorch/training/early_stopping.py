"""EarlyStopping: ends a run that no longer improves, and gives the best weights back.

Knows one column of the history, never how it is measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tinytorch.base.checks import flag, number, whole
from tinytorch.base.errors import SettingError
from tinytorch.tensor.tensor import Tensor
from tinytorch.training.callback import Callback

if TYPE_CHECKING:
    from tinytorch.training.history import History
    from tinytorch.training.trainer import Trainer


class EarlyStopping(Callback):
    """Stops after `patience` epochs in which a number has not improved.

        better = value < best - min_delta           mode "max": value > best + min_delta

    Args:
        monitor: column of the history, for example "val_loss" or "val_accuracy".
        patience: epochs without improvement that are waited for, at least 1; default 5.
        min_delta: improvement that counts, in [0, inf); default 0.
        mode: "min" or "max"; default by the name: "max" for an accuracy, else "min".
        restore_best: give the model the weights of its best epoch when the run ends. The averages
            of `Trainer(ema=...)` are not kept apart: they are the model's own affair.

    Cost: with `restore_best` a copy of the weights at each improvement.

    Source: Prechelt 1998, "Early stopping - but when?", criterion UP.

    Example:
        >>> stopping = EarlyStopping("val_loss", patience=2)
        >>> [stopping.improved(loss) for loss in (3.0, 2.0, 2.5, 1.0)]
        [True, True, False, True]
    """

    def __init__(
        self, monitor: str = "val_loss", patience: int = 5, min_delta: float = 0.0,
        mode: str | None = None, restore_best: bool = True,
    ):  # fmt: skip
        if mode not in (None, "min", "max"):
            raise SettingError(
                "EarlyStopping: which numbers are better?",
                got=f"mode={mode!r}",
                rule='"min", "max", or None: by the name',
                fix='EarlyStopping("val_loss", mode="min")',
            )
        self.monitor = monitor
        self.patience = whole("EarlyStopping", "patience", patience, at_least=1)
        self.min_delta = number("EarlyStopping", "min_delta", min_delta, "[0, inf)")
        self.highest = mode == "max" or (mode is None and "accuracy" in monitor)
        self.restore_best = flag("EarlyStopping", "restore_best", restore_best)
        self.best, self.best_epoch, self.waited = math.nan, 0, 0
        self.weights: dict[str, Tensor] = {}

    def improved(self, value: float) -> bool:
        """Whether `value` is better than all before; it is then the best."""
        gain = (value - self.best) if self.highest else (self.best - value)
        if math.isnan(value) or not (math.isnan(self.best) or gain > self.min_delta):
            return False
        self.best = value
        return True

    def begin_training(self, trainer: Trainer) -> None:
        """A run that had ended before it was resumed ends again; another run begins anew."""
        if trainer.run.epoch == 0 and trainer.run.batch == 0:
            self.best, self.best_epoch, self.waited, self.weights = math.nan, 0, 0, {}
        self._stop_if_due(trainer)

    def end_epoch(self, trainer: Trainer, row: dict[str, float]) -> None:
        """Look at the epoch's number."""
        if self.monitor not in row:
            raise SettingError(
                "EarlyStopping: the history has no such column",
                got=f"monitor={self.monitor!r}",
                rule="one of " + ", ".join(row),
                fix="train(..., validation=loader), or monitor='loss'",
            )
        if self.improved(row[self.monitor]):
            self.best_epoch, self.waited = int(row["epoch"]), 0
            if self.restore_best:
                self.weights = {n: Tensor(t) for n, t in trainer.model.state_dict().items()}
            return
        self.waited += 1
        self._stop_if_due(trainer)

    def _stop_if_due(self, trainer: Trainer) -> None:
        if self.waited >= self.patience:
            trainer.stop(
                f"{self.monitor} has not improved for {self.waited} epochs "
                f"(best: {self.best:.4g}, epoch {self.best_epoch})"
            )

    def end_training(self, trainer: Trainer, history: History) -> None:
        """Give the best weights back, if the run is over and not interrupted."""
        if self.weights and not history.stopped:
            trainer.model.load_state_dict(self.weights)

    def state_dict(self) -> dict[str, Any]:
        """The best so far: its number, epoch and weights, and how long ago it was."""
        weights = {f"weights.{name}": tensor.detach() for name, tensor in self.weights.items()}
        found = {"best": self.best, "best_epoch": self.best_epoch, "waited": self.waited}
        return {**found, **weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take what `state_dict` gave."""
        self.best, self.best_epoch = float(state["best"]), int(state["best_epoch"])
        self.waited = int(state["waited"])
        begins = "weights."
        self.weights = {n.removeprefix(begins): Tensor(t)
                        for n, t in state.items() if n.startswith(begins)}  # fmt: skip
