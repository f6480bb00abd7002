"""Saving: when a run is written to its checkpoint folder, and taken from it again.

Knows the moments, never files: those are the work of `Checkpoints`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tinytorch.base.errors import SettingError
from tinytorch.training.checkpoints import Checkpoints

if TYPE_CHECKING:
    from tinytorch.training.trainer import Trainer


class Saver:
    """Saves a trainer after each epoch, at Ctrl-C, and within epochs if `Checkpoints` says so.

    Args:
        trainer: whose state is saved; it is restored here if asked for.
        checkpoint: a folder, `Checkpoints`, or None: nothing is saved.
        resume: go on from the newest whole checkpoint, if there is one.

    Raises:
        SettingError: there are checkpoints and resume is False, or nowhere to resume from.
    """

    def __init__(self, trainer: Trainer, checkpoint: str | Path | Checkpoints | None, resume: bool):
        self.trainer = trainer
        if isinstance(checkpoint, (str, Path)):
            checkpoint = Checkpoints(checkpoint)
        self.checkpoints = checkpoint
        if checkpoint is None:
            if resume:
                raise SettingError(
                    "train: nothing says where to resume from",
                    got="resume=True without checkpoint",
                    rule="checkpoint names the folder of the run",
                    fix='train(loader, epochs, checkpoint="run", resume=True)',
                )
        elif resume:
            self._resume(checkpoint)
        elif checkpoint.exists():
            raise SettingError(
                "train: this folder holds a run already",
                got=f"checkpoints in {checkpoint.folder}",
                rule="a new run has a folder of its own, so that nothing is overwritten",
                fix="resume=True to go on with it, or another folder",
            )
        if checkpoint is not None:
            checkpoint.prepare()

    def _resume(self, checkpoints: Checkpoints) -> None:
        state = checkpoints.load()
        if state is None:
            return
        trainer = self.trainer
        trainer.load_state_dict(state)
        trainer.resumed()
        trainer.shown.message(f"going on after step {trainer.steps}, epoch {trainer.run.epoch + 1}")

    def after_batch(self) -> None:
        """Save, if a checkpoint within the epoch is due."""
        if self.checkpoints is not None and self.checkpoints.due(self.trainer.steps):
            self._save()

    def after_epoch(self) -> None:
        """Save, with the epoch's numbers: they say which checkpoint is best."""
        self._save(self.trainer.run.history.last)

    def at_the_end(self, epochs: int) -> None:
        """Save what a stop left unsaved, and say how to go on."""
        trainer, run = self.trainer, self.trainer.run
        run.history.stopped = trainer.interrupted and run.epoch < epochs
        run.history.reason = trainer.reason
        if run.history.stopped:
            trainer.tell("interrupted")
        if run.batch:
            self._save()
        if run.history.stopped:
            trainer.shown.message(self._how_to_go_on(epochs))
        elif run.history.reason:
            trainer.shown.message(f"stopped after epoch {run.epoch}: {run.history.reason}")

    def _save(self, row: Mapping[str, float] | None = None) -> None:
        trainer = self.trainer
        if self.checkpoints is not None:
            place = self.checkpoints.save(trainer.state_dict(), trainer.steps, row)
            trainer.tell("saved", place)

    def _how_to_go_on(self, epochs: int) -> str:
        trainer = self.trainer
        begins = f"stopped after step {trainer.steps}"
        if self.checkpoints is None:
            return f"{begins}. To go on: trainer.train(loader, epochs={epochs - trainer.run.epoch})"
        folder = str(self.checkpoints.folder)
        return (
            f"{begins}; saved in {folder}. To go on: trainer.train(loader, epochs={epochs}, "
            f"checkpoint={folder!r}, resume=True)"
        )
