"""A run in the making: data, model, optimizer and Trainer, put together from its settings alone.

`Learning` is what every kind of run shares, `Pictures` one that learns classes; texts are in
`texts`. Knows how the parts are joined, never what is printed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path

import tinytorch as tt
from tinytorch.cli.recipes import WARMUP, WEIGHT_DECAY, build, data_set
from tinytorch.cli.runs import RunFolder, Settings, save_model
from tinytorch.data import DataLoader
from tinytorch.nn import Module
from tinytorch.optim.optimizer import Optimizer
from tinytorch.training import Checkpoints, History, Trainer
from tinytorch.training.history import Progress
from tinytorch.training.trainer import Callback

KEPT = 2  # checkpoints: the newest, and the one before it
AHEAD = 2  # batches made early


class KeepHistory(Callback):
    """Writes the history beside each checkpoint, so that it can be looked at during the run."""

    file: Path | None = None  # JSON lines, one an epoch

    def saved(self, trainer: Trainer, place: Path) -> None:
        """Write all rows."""
        if self.file is not None:
            trainer.run.history.save(self.file)


class Learning(ABC):
    """Everything a run needs.

    Args:
        settings: what was asked.
        model: what is trained.
        optimizer: moves its weights.
        loaders: of training and of measuring.
        loss: function of (output, target).
        progress: who shows it, or None for the best that the output can do.
        callbacks: what else happens.
    """

    # What to do with the result, by the verb of `tito` that does it.
    verbs: Mapping[str, str]

    def __init__(
        self, settings: Settings, model: Module, optimizer: Optimizer,
        loaders: tuple[DataLoader, DataLoader], loss: Callable, progress: Progress | None,
        callbacks: tuple[Callback, ...] = (),
    ):  # fmt: skip
        self.settings, self.model, self.keep_history = settings, model, KeepHistory()
        self.loader, self.test_loader = loaders
        steps = max(1, settings.epochs * len(self.loader))
        self.trainer = Trainer(
            model, optimizer, loss, precision=settings.precision, compile=not settings.eager,
            schedule=tt.optim.WarmupCosineLR(optimizer, int(WARMUP * steps), steps),
            schedule_every="step", progress=progress, callbacks=[self.keep_history, *callbacks],
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
        """Loss and metrics on what was not trained on."""
        return self.trainer.evaluate(self.test_loader)

    @abstractmethod
    def decided(self) -> dict[str, object]:
        """Data, model and optimizer in words."""

    @abstractmethod
    def found(self, values: dict[str, float], as_json: bool) -> dict[str, object]:
        """What `evaluate` gave, in words or as numbers."""

    @abstractmethod
    def save(self, folder: RunFolder, values: dict[str, float]) -> None:
        """Write the model, with what `evaluate` gave."""

    def weights(self) -> int:
        """How many numbers are learned."""
        return sum(parameter.size for parameter in self.model.parameters())


class Pictures(Learning):
    """A network that tells classes of pictures apart.

    Args:
        settings: what was asked.
        progress: who shows it, or None for the best that the output can do.
        downloading: told about downloads, or None.
    """

    verbs = {"evaluate": "each class", "predict": "a few images", "curve": "what it learned when"}

    def __init__(
        self, settings: Settings, progress: Progress | None = None,
        downloading: Callable | None = None,
    ):  # fmt: skip
        self.known = known = data_set(settings.data)
        folder = None if settings.data_dir is None else Path(settings.data_dir)
        self.parts = {split: known.load(split, folder, downloading) for split in ("train", "test")}
        tt.manual_seed(settings.seed)
        model = build(settings.model, known.shape)
        # Every batch has one shape: one compiled program serves the whole run.
        size = min(settings.batch_size, len(self.parts["train"]))
        loader = DataLoader(
            self.parts["train"], size, shuffle=True, seed=settings.seed, drop_last=True,
            transform=known.transform(), prefetch=AHEAD,
        )  # fmt: skip
        optimizer = tt.optim.AdamW(model.parameters(), lr=settings.lr, weight_decay=WEIGHT_DECAY)
        super().__init__(
            settings, model, optimizer, (loader, DataLoader(self.parts["test"], known.test_batch)),
            tt.nn.functional.cross_entropy, progress,
        )  # fmt: skip

    def decided(self) -> dict[str, object]:
        """Numbers of pictures, sizes."""
        _, height, width = self.known.shape
        train, test = (len(self.parts[split]) for split in ("train", "test"))
        return {
            "data": self.known.title,
            "images": f"{train} to train, {test} to test, {height}x{width}",
            "model": f"{self.settings.model}, {self.weights()} weights",
            "optimizer": f"AdamW, lr up to {self.settings.lr:g}, then falling to 0",
        }

    def found(self, values: dict[str, float], as_json: bool) -> dict[str, object]:
        """The accuracy."""
        accuracy, count = values["accuracy"], len(self.parts["test"])
        if as_json:
            return {"test accuracy": accuracy}
        right = round(accuracy * count)
        return {"test accuracy": f"{100 * accuracy:.2f} % ({right} of {count} images)"}

    def save(self, folder: RunFolder, values: dict[str, float]) -> None:
        """The weights, and in the file's notes which network they belong to."""
        settings = self.settings
        notes = {"seed": str(settings.seed), "test accuracy": f"{values['accuracy']:.4f}"}
        save_model(self.model, settings.data, settings.model, folder.weights, notes)
