"""find_learning_rate: a learning rate to begin with, from a hundred steps with growing ones.

Knows rates and losses, never the rule that uses them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tinytorch.base import files
from tinytorch.base.checks import number, whole
from tinytorch.base.errors import GradientError, SettingError
from tinytorch.training.plot import svg_plot, text_plot
from tinytorch.training.trial import endless, trial

if TYPE_CHECKING:
    from tinytorch.training.trainer import Trainer

SMOOTHING = 0.9  # share of the past: about ten steps; noise of single batches must not win
DIVERGED = 4.0  # times the smallest loss: there is nothing left to see (fastai's rule)
MARGIN = 10.0  # the best loss is reached shortly before it diverges, so a tenth of that rate


@dataclass(frozen=True)
class LearningRates:
    """What `find_learning_rate` found.

    Args:
        rates: learning rates, growing.
        losses: smoothed loss after a step with each.
        suggestion: a tenth of the rate with the smallest loss.
    """

    rates: list[float]
    losses: list[float]
    suggestion: float

    def plot(self, width: int = 60, height: int = 12) -> str:
        """The curve as text, over log10 of the rate."""
        return text_plot(self._curve(), width, height)

    def save_plot(self, path: str | Path) -> None:
        """The curve as an SVG picture, over log10 of the rate."""
        picture = svg_plot(self._curve(), f"suggested: {self.suggestion:.2g}", "log10(rate)")
        with files.replacing(path) as file:
            file.write(picture.encode())

    def _curve(self) -> dict[str, list[tuple[float, float]]]:
        pairs = zip(self.rates, self.losses, strict=True)
        return {"loss": [(math.log10(rate), loss) for rate, loss in pairs]}


def find_learning_rate(
    trainer: Trainer, loader: Iterable, *, low: float = 1e-6, high: float = 10.0, steps: int = 100
) -> LearningRates:
    """Train with rates that grow from step to step until the loss diverges; everything is put back.

        rate(i) = low * (high / low) ** (i / (steps - 1))

    Args:
        trainer: the model, optimizer and loss that will be used.
        loader: gives batches; gone through again if it is shorter than `steps`.
        low: first rate, in (0, inf).
        high: last rate, above `low`.
        steps: updates of the weights, at least 10.

    Raises:
        SettingError: a setting outside its range.
        GradientError: the loss is no number at the lowest rate already.

    Cost: `steps` training steps and a copy of the trainer's state.

    Source: Smith 2015, https://arxiv.org/abs/1506.01186, section 3.3; the tenth is the custom of
    the fastai library.

    Example:
        >>> import numpy as np, tinytorch as tt
        >>> from tinytorch.training import Trainer
        >>> x = np.eye(4, dtype=np.float32)
        >>> trainer = Trainer(tt.nn.Linear(4, 4), tt.optim.SGD(), tt.nn.MSELoss(), compile=False)
        >>> found = find_learning_rate(trainer, [(x, x)], steps=60)
        >>> 0.1 < found.suggestion < 10.0, trainer.steps
        (True, 0)
    """
    low = number("find_learning_rate", "low", low, "(0, inf)")
    high = number("find_learning_rate", "high", high, "(0, inf)")
    steps = whole("find_learning_rate", "steps", steps, at_least=10)
    if high <= low:
        raise SettingError(
            "find_learning_rate: the rates do not grow",
            got=f"low={low:g}, high={high:g}",
            rule="low < high",
            fix="low=1e-6, high=10.0",
        )
    rates, losses, loss = [], [], math.nan
    with trial(trainer, loader) as own:
        batches = endless(own)
        for i in range(steps):
            trainer.optimizer.lr = rate = low * (high / low) ** (i / (steps - 1))
            loss = _window_loss(trainer, batches)
            if not math.isfinite(loss):
                break
            losses.append(SMOOTHING * losses[-1] + (1 - SMOOTHING) * loss if losses else loss)
            rates.append(rate)
            if loss > DIVERGED * min(losses):
                break
    if not rates:
        raise GradientError(
            "find_learning_rate: the first loss is no number",
            got=f"{loss} at rate {low:g}",
            rule="the loss is finite before anything is learned",
            fix="look for NaN in the data, or at the loss function",
        )
    best = min(range(len(losses)), key=losses.__getitem__)
    return LearningRates(rates, losses, rates[best] / MARGIN)


def _window_loss(trainer: Trainer, batches) -> float:
    """Mean loss of the batches of one update."""
    losses = []
    while True:
        losses.append(trainer.passes.train(next(batches))[0]["loss"])
        if trainer.passes.move_if_due():
            return sum(losses) / len(losses)
