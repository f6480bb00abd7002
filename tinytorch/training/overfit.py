"""overfit_one_batch: can the model learn a single batch by heart? If not, something is wrong.

Knows the loss before and after, never why.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tinytorch.base.checks import number, whole
from tinytorch.training.trial import trial

if TYPE_CHECKING:
    from tinytorch.training.trainer import Trainer


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
