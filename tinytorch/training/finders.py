"""Finders: a few training steps to find something out, after which everything is as it was.

`find_learning_rate`: a learning rate to begin with, from a hundred steps with growing ones.
`overfit_one_batch`: can the model learn a single batch by heart? If not, something is wrong.

Knows how a trainer takes a step, how its state is put back, rates and losses; never the rule that
uses a rate, nor why a loss does not fall.
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinytorch.base import files
from tinytorch.base.arguments import number, whole
from tinytorch.base.errors import GradientError, SettingError
from tinytorch.training.checkpoint import copied, gather, restore
from tinytorch.training.history import svg_plot, text_plot
from tinytorch.training.run import keeps_its_place, no_batches
from tinytorch.training.trainer import Trainer

SMOOTHING = 0.9  # share of the past: about ten steps; noise of single batches must not win
DIVERGED = 4.0  # times the smallest loss: there is nothing left to see (fastai's rule)
MARGIN = 10.0  # the best loss is reached shortly before it diverges, so a tenth of that rate


@contextlib.contextmanager
def trial(trainer: Trainer, loader: Any = None) -> Iterator[Any]:
    """Around training steps that must leave no trace: model, optimizer, random numbers, data.

    Args:
        trainer: put back to its present state afterwards.
        loader: what the batches are of; None: none are needed.

    Yields:
        what to go through in place of the loader, whose own place stays; or the loader, put back to
        its present place, if it keeps one.
    """
    parts = {name: part for name, part in trainer._parts().items() if name != "loader"}
    state, mode = copied(gather(parts)), trainer.model.training
    aside = getattr(loader, "aside", None)
    place = None
    if aside is None and keeps_its_place(loader):
        place = copy.deepcopy(loader.state_dict())
    trainer.model.train()
    trainer.passes.update.clear()
    try:
        yield loader if aside is None else aside()
    finally:
        restore(parts, state)
        trainer.model.train(mode)
        if place is not None:
            loader.load_state_dict(place)


def endless(loader: Iterable) -> Iterator:
    """The batches of a loader, epoch after epoch.

    Raises:
        DataError: an epoch has no batch.
    """
    while True:
        batch = None
        for batch in loader:
            yield batch
        if batch is None:
            raise no_batches("at least one batch in an epoch")


@dataclass(frozen=True)
class Overfit:
    """What `overfit_one_batch` saw.

    Args:
        losses: of each step.
        share: the loss has to fall below this share of the first.
    """

    losses: list[float]
    share: float

    @property
    def passed(self) -> bool:
        """Whether the loss fell far enough; a loss that is no number has not."""
        return bool(self.losses) and self.losses[-1] <= self.share * self.losses[0]

    def __str__(self) -> str:
        steps, first, last = len(self.losses), self.losses[0], self.losses[-1]
        if self.passed:
            return f"learned by heart: loss {first:.4g} -> {last:.4g} in {steps} steps"
        return (
            f"not learned by heart: loss {first:.4g} -> {last:.4g} in {steps} steps. Look at: "
            "targets that belong to other inputs; a layer whose parameters the optimizer does not "
            "have; a learning rate far off (find_learning_rate); too few steps"
        )


def overfit_one_batch(
    trainer: Trainer, batch: tuple, *, steps: int = 200, share: float = 0.05
) -> Overfit:
    """Train on one batch again and again; everything is put back afterwards.

    A model, loss and optimizer that fit together learn a few samples by heart. Do this before the
    first long run.

    Args:
        trainer: what will be trained.
        batch: (input, ..., target); 8 to 64 samples.
        steps: at most so many, at least 1; it ends as soon as the loss is small enough.
        share: of the first loss that counts as learned, in (0, 1).

    Cost: `steps` training steps and a copy of the trainer's state.

    Example:
        >>> import numpy as np, tinytorch as tt
        >>> from tinytorch.training import Trainer
        >>> trainer = Trainer(tt.nn.Linear(4, 4), tt.optim.Adam(lr=0.1), compile=False)
        >>> result = overfit_one_batch(trainer, (np.eye(4, dtype=np.float32), np.arange(4)))
        >>> result.passed, trainer.steps
        (True, 0)
    """
    steps = whole("overfit_one_batch", "steps", steps, at_least=1)
    share = number("overfit_one_batch", "share", share, "(0, 1)")
    losses: list[float] = []
    with trial(trainer):
        while len(losses) < steps and not Overfit(losses, share).passed:
            losses.append(trainer.passes.train(batch)[0]["loss"])
            trainer.passes.move_if_due(at_the_end=True)
    return Overfit(losses, share)


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
