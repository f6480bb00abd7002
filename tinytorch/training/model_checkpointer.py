"""ModelCheckpointer: checkpoints for a loop of one's own.

Knows objects with a state and how many epochs are done, never what happens in an epoch. The Trainer
has this built in.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tinytorch.base.checks import whole
from tinytorch.base.errors import SettingError
from tinytorch.tensor.random import default_generator
from tinytorch.training.checkpoints import Checkpoints
from tinytorch.training.restore import gather, restore

_OWN = ("epoch", "saves", "random")


class ModelCheckpointer:
    """Saves everything a run needs to go on bit for bit, and gives the epochs that are left.

    The state of the default random generator is always part of it.

    Args:
        folder: where the checkpoints are, or a `Checkpoints` with settings of its own.
        parts: whatever has state_dict() and load_state_dict(), by name: model=..., optimizer=...,
            loader=..., schedule=... A loader that is left out begins each epoch as it does anew.

    Raises:
        SettingError: a part has no state_dict(), or a name that is taken.

    Cost: each save writes the state once (see `save_checkpoint`).

    Example:
        >>> import tempfile, tinytorch as tt
        >>> folder = tempfile.mkdtemp()
        >>> def run(until):
        ...     model = tt.nn.Linear(2, 1)
        ...     sgd = tt.optim.SGD(model.parameters(), lr=0.1)
        ...     checkpointer = ModelCheckpointer(folder, model=model, optimizer=sgd)
        ...     for epoch in checkpointer.resume_from_checkpoint(10):
        ...         print("epoch", epoch)
        ...         if epoch == until:
        ...             break                      # as if the power had failed here
        >>> run(until=2)
        epoch 0
        epoch 1
        epoch 2
        >>> run(until=3)
        epoch 2
        epoch 3
    """

    def __init__(self, folder: str | os.PathLike[str] | Checkpoints, **parts: Any):
        self.checkpoints = folder if isinstance(folder, Checkpoints) else Checkpoints(folder)
        self.parts = parts
        self.epoch = 0  # whole epochs done
        self._saves = 0
        for name, part in parts.items():
            if name in _OWN or not hasattr(part, "state_dict"):
                raise SettingError(
                    f"ModelCheckpointer: {name} cannot be one of its parts",
                    got=f"{name}={type(part).__name__}",
                    rule="objects with state_dict() and load_state_dict(), under names other than "
                    + ", ".join(_OWN),
                    fix="ModelCheckpointer(folder, model=model, optimizer=optimizer)",
                )

    def save(self, metrics: Mapping[str, float] | None = None) -> Path:
        """Write a checkpoint now; within an epoch too, if the loader is one of the parts.

        Args:
            metrics: numbers by name, among them the one that says which checkpoint is best.

        Returns:
            its folder.

        Raises:
            StorageError: it cannot be written; the older ones are all there.
        """
        self._saves += 1
        own = {"epoch": self.epoch, "saves": self._saves, "random": default_generator.state_dict()}
        return self.checkpoints.save({**gather(self.parts), **own}, self._saves, metrics)

    def restore(self) -> bool:
        """Load the newest whole checkpoint into the parts; False if there is none.

        Raises:
            FileFormatError: there are checkpoints, and none is whole.
            SettingError, ShapeError: the state is of other parts, for example of a model with
                another architecture; nothing has changed then.
        """
        state = self.checkpoints.load()
        if state is None:
            return False
        restore({**self.parts, "random": default_generator}, state)
        self.epoch = whole("ModelCheckpointer", "epoch", state.get("epoch"), at_least=0)
        self._saves = whole("ModelCheckpointer", "saves", state.get("saves"), at_least=0)
        return True

    def resume_from_checkpoint(self, epochs: int) -> Iterator[int]:
        """The epochs that are left of `range(epochs)`; after each, a checkpoint is saved.

        Args:
            epochs: how many the whole run has, those already done included.

        Returns:
            an iterator; when it starts, the newest whole checkpoint is loaded.
        """
        epochs = whole("resume_from_checkpoint", "epochs", epochs, at_least=0)
        self.restore()
        while self.epoch < epochs:
            yield self.epoch
            self.epoch += 1
            self.save()
