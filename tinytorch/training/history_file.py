"""HistoryFile: the history of a run as a file that grows with it.

Knows rows and a path, never what was measured.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from tinytorch.base.files import replacing
from tinytorch.training.callback import Callback
from tinytorch.training.history import line_of

if TYPE_CHECKING:
    from tinytorch.training.trainer import Trainer


class HistoryFile(Callback):
    """Writes one JSON line for each epoch as soon as it is over.

    The file is replaced each time: never half a line is read, and a link in its place is refused.
    When a run is resumed the file is brought to what the checkpoint knows, so that no epoch is
    there twice.

    Args:
        path: the file, by custom "history.jsonl"; its folder is made.

    Example:
        >>> HistoryFile("run/history.jsonl").path.name
        'history.jsonl'
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)

    def begin_training(self, trainer: Trainer) -> None:
        """Write what is known."""
        self._write(trainer, "")

    def end_epoch(self, trainer: Trainer, row: dict[str, float]) -> None:
        """Add the row. (Callbacks before this one may have put numbers into it.)"""
        self._write(trainer, line_of(row))

    def _write(self, trainer: Trainer, newest: str) -> None:
        with replacing(self.path) as file:
            file.write((trainer.run.history.to_json() + newest).encode())
