"""A training as the settings of a run describe it: data, network, optimizer, trainer.

Knows how these are put together, never what is printed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import tinytorch as tt
from tinytorch.cli.data_sets import data_set
from tinytorch.cli.networks import build
from tinytorch.cli.recipe import WARMUP, WEIGHT_DECAY
from tinytorch.cli.run_folder import RunFolder, Settings
from tinytorch.data import DataLoader
from tinytorch.training import Checkpoints, History, Trainer
from tinytorch.training.progress import Progress
from tinytorch.training.trainer import Callback

KEPT = 2  # checkpoints: the newest, and the one before it


class KeepHistory(Callback):
    """Writes the history beside each checkpoint, so that it can be looked at during the run."""

    file: Path | None = None  # JSON lines, one an epoch

    def saved(self, trainer: Trainer, place: Path) -> None:
        """Write all rows."""
        if self.file is not None:
            trainer.run.history.save(self.file)


class Learning:
    """Everything a run needs, made from its settings alone.

    Args:
        settings: what was asked.
        progress: who shows it, or None for the best that the output can do.
        downloading: told about downloads, or None.
    """

    def __init__(
        self, settings: Settings, progress: Progress | None = None,
        downloading: Callable | None = None,
    ):  # fmt: skip
        self.known = known = data_set(settings.data)
        folder = None if settings.data_dir is None else Path(settings.data_dir)
        self.parts = {split: known.load(split, folder, downloading) for split in ("train", "test")}
        tt.manual_seed(settings.seed)
        self.settings, self.keep_history = settings, KeepHistory()
        self.model = build(settings.model, known.shape)
        # Every batch has one shape: one compiled program serves the whole run.
        size = min(settings.batch_size, len(self.parts["train"]))
        self.loader = DataLoader(
            self.parts["train"], size, shuffle=True, seed=settings.seed, drop_last=True,
            transform=known.transform(), prefetch=2,
        )  # fmt: skip
        self.test_loader = DataLoader(self.parts["test"], known.test_batch)
        self.optimizer = tt.optim.AdamW(
            self.model.parameters(), lr=settings.lr, weight_decay=WEIGHT_DECAY
        )
        steps = max(1, settings.epochs * len(self.loader))
        self.trainer = Trainer(
            self.model, self.optimizer, precision=settings.precision, compile=not settings.eager,
            schedule=tt.optim.WarmupCosineLR(self.optimizer, int(WARMUP * steps), steps),
            schedule_every="step", progress=progress, callbacks=[self.keep_history],
        )  # fmt: skip

    def learn(self, folder: RunFolder, resume: bool) -> History:
        """Train, from the beginning or from the newest checkpoint; the folder gets the state."""
        self.keep_history.file = folder.checked().history
        kept = Checkpoints(folder.checkpoints, keep=KEPT)
        return self.trainer.train(
            self.loader, self.settings.epochs, validation=self.test_loader, checkpoint=kept,
            resume=resume,
        )  # fmt: skip

    def evaluate(self) -> dict[str, float]:
        """Loss and accuracy on the test part."""
        return self.trainer.evaluate(self.test_loader)
