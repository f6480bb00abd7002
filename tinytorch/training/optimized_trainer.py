"""OptimizedTrainer: a Trainer whose savings of memory are switched on by one settings object.

Knows which part of `training/` each switch belongs to; the work is done there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from tinytorch.nn.functional import cross_entropy
from tinytorch.nn.module import Module
from tinytorch.optim.adam import AdamW
from tinytorch.training.callback import Callback
from tinytorch.training.history import History
from tinytorch.training.memory_watch import MemoryWatch
from tinytorch.training.trainer import Trainer


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
