"""Alerts: says during a run, not after it, that something goes wrong.

Knows the losses of the batches, never the model.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tinytorch.base.checks import number, whole
from tinytorch.training.callback import Callback

if TYPE_CHECKING:
    from tinytorch.training.trainer import Trainer

SMOOTHING = 0.9  # share of the past in the running loss: about the last ten batches


class Alerts(Callback):
    """Reports, at the step at which it can be known, a loss that diverges, stalls, or is no number.

        running = 0.9 * running + 0.1 * loss        from the first loss on
        no number: loss is nan or infinite
        diverges:  loss > factor * the smallest running loss so far
        stalls:    the smallest running loss is `patience` steps old

    Each kind is reported once until it has passed.

    Args:
        factor: in (1, inf); default 3.
        patience: steps, at least 1; default 1000.
        tell: is given the text; default the trainer's progress display.

    Example:
        >>> said = []
        >>> alerts = Alerts(factor=2.0, tell=said.append)
        >>> for step, loss in enumerate([1.0, 0.9, 5.0], 1):
        ...     alerts.look(step, loss)
        >>> said
        ['alert at step 3: the loss diverges: 5, at best 0.99']
    """

    def __init__(
        self, factor: float = 3.0, patience: int = 1000, tell: Callable[[str], Any] | None = None
    ):
        self.factor = number("Alerts", "factor", factor, "(1, inf)")
        self.patience = whole("Alerts", "patience", patience, at_least=1)
        self.tell = tell
        self.running = self.best = math.inf
        self.best_step = 0
        self.reported: set[str] = set()

    def after_batch(self, trainer: Trainer, values: dict[str, float]) -> None:
        """Look at the batch's loss."""
        if self.tell is None:
            self.tell = trainer.shown.message
        self.look(trainer.steps, values["loss"])

    def failed(self, trainer: Trainer, error: BaseException) -> None:
        """A loss that is no number ends the run before `after_batch`: it is reported here."""
        tell = self.tell or trainer.shown.message
        tell(f"alert at step {trainer.steps}: {type(error).__name__}: {str(error).splitlines()[0]}")

    def look(self, step: int, loss: float) -> None:
        """Take one more loss, and report what it shows."""
        if not math.isfinite(loss):
            self._report("no number", step, True, f"the loss is {loss}")
            return
        self._report("no number", step, False, "")
        first = math.isinf(self.running)
        self.running = loss if first else SMOOTHING * self.running + (1 - SMOOTHING) * loss
        diverges = f"the loss diverges: {loss:.4g}, at best {self.best:.4g}"
        self._report("diverges", step, loss > self.factor * self.best, diverges)
        if self.running < self.best:
            self.best, self.best_step = self.running, step
        waited = step - self.best_step
        stalls = f"the loss stalls: no better than {self.best:.4g} for {waited} steps"
        self._report("stalls", step, waited >= self.patience, stalls)

    def _report(self, kind: str, step: int, now: bool, text: str) -> None:
        if not now:
            self.reported.discard(kind)
        elif kind not in self.reported:
            self.reported.add(kind)
            if self.tell is not None:
                self.tell(f"alert at step {step}: {text}")
