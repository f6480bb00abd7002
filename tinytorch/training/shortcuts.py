"""Two ways to train beside the Trainer: the smallest loop there is, and one settings object.

`train_epoch` knows batches and a model that gives its own loss, never what the model is.
`OptimizedTrainer` knows which part of `training/` each saving of memory belongs to; the work is
done there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from tinytorch.nn.functional import cross_entropy
from tinytorch.nn.module import Module
from tinytorch.optim.adam import AdamW
from tinytorch.optim.optimizer import Optimizer
from tinytorch.tensor.tensor import Tensor
from tinytorch.training.callbacks import MemoryWatch
from tinytorch.training.history import History
from tinytorch.training.run import no_batches
from tinytorch.training.step import Step
from tinytorch.training.trainer import Callback, Trainer
from tinytorch.training.update import check_parameters


def train_epoch(
    model: Module | Callable, dataloader: Iterable, optimizer: Optimizer, *, compile: bool = False
) -> float:
    """`loss = model(batch)`, backward, step, for every batch: the smallest loop there is.

    Args:
        model: gives the loss, a 0-d Tensor, of a batch. A batch of one array is given as that
            array; one of several as separate arguments. A Module is put in training mode, as by
            the Trainer.
        dataloader: gives arrays, or tuples of them.
        optimizer: one without parameters is given the model's.
        compile: each step as one program, which is kept for this call alone.

    Returns:
        the mean loss of the batches.

    Raises:
        DataError: there is no batch.

    Example:
        >>> import numpy as np, tinytorch as tt
        >>> class Fit(tt.nn.Module):
        ...     def __init__(self):
        ...         self.weight = tt.nn.Parameter([0.0])
        ...     def forward(self, x):
        ...         return ((self.weight * x - 2.0 * x) ** 2).mean()
        >>> model, data = Fit(), [np.ones(3, np.float32)] * 20
        >>> train_epoch(model, data, tt.optim.SGD(lr=0.2)) > 0.0, round(model.weight.item(), 3)
        (True, 2.0)
    """
    if isinstance(model, Module):
        check_parameters("train_epoch", model, optimizer, model)
        model.train()

    def learn(*batch: Tensor) -> Tensor:
        loss = model(*batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    step, losses = Step(learn, compile), []
    optimizer.zero_grad()
    for batch in dataloader:
        losses.append(step(*(batch if isinstance(batch, (tuple, list)) else (batch,))).item())
    if not losses:
        raise no_batches("at least one batch")
    return sum(losses) / len(losses)


@dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained; each saving can be switched on by itself.

    Args:
        epochs: passes over the data.
        lr: learning rate of AdamW.
        loss: function of (output, target).
        profile_memory: put memory into the history and report leaks (`MemoryWatch`).
        accumulate: batches whose gradients are put together.
        precision: "float32", "bf16" or "float16".
        checkpoint_dir: folder of checkpoints, or None; a run that is there is gone on with.
        compile: whether steps are programs.
    """

    epochs: int = 10
    lr: float = 1e-3
    loss: Callable = cross_entropy
    profile_memory: bool = False
    accumulate: int = 1
    precision: str = "float32"
    checkpoint_dir: str | Path | None = None
    compile: bool = True


class OptimizedTrainer:
    """Memory profiling, gradient accumulation, mixed precision, checkpoints and resuming.

    Args:
        model: what is trained.
        config: what is switched on.

    Example:
        >>> import numpy as np, tinytorch as tt
        >>> config = TrainingConfig(epochs=2, accumulate=2, profile_memory=True, compile=False)
        >>> data = [(np.eye(2, dtype=np.float32), np.arange(2))] * 4
        >>> optimized = OptimizedTrainer(tt.nn.Linear(2, 2), config)
        >>> history = optimized.train(data)                   # doctest: +ELLIPSIS
        epoch 1/2  loss ...
        epoch 2/2  loss ...
        >>> "memory_mb" in history.last, optimized.trainer.run.updates
        (True, 4)
    """

    def __init__(self, model: Module, config: TrainingConfig):
        watching: list[Callback] = [MemoryWatch()] if config.profile_memory else []
        self.config = config
        self.trainer = Trainer(
            model, AdamW(lr=config.lr), config.loss, accumulate=config.accumulate,
            precision=config.precision, compile=config.compile, callbacks=watching,
        )  # fmt: skip

    def train(self, dataloader: Iterable, validation: Iterable | None = None) -> History:
        """Train for the configured epochs; with a checkpoint folder, from where it left off.

        Args:
            dataloader: gives batches (input, ..., target).
            validation: gives batches to measure after each epoch.
        """
        folder = self.config.checkpoint_dir
        return self.trainer.train(
            dataloader, self.config.epochs, validation=validation,
            checkpoint=folder, resume=folder is not None,
        )  # fmt: skip
