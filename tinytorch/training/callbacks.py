"""The callbacks that come with the Trainer: stop early, warn, watch memory, write the history.

Knows losses, rows of the history and this process's size, never how a step is taken.
"""

from __future__ import annotations

import math
import os
import resource
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tinytorch.base import files
from tinytorch.base.arguments import flag, number, whole
from tinytorch.base.errors import SettingError
from tinytorch.tensor.tensor import Tensor
from tinytorch.training.history import History, line_of
from tinytorch.training.trainer import Callback, Trainer

SMOOTHING = 0.9  # share of the past in the running loss: about the last ten batches
MEGABYTE = 2**20
STATM = Path("/proc/self/statm")


class EarlyStopping(Callback):
    """Stops after `patience` epochs in which a number has not improved.

        better = value < best - min_delta           mode "max": value > best + min_delta

    Args:
        monitor: column of the history, for example "val_loss" or "val_accuracy".
        patience: epochs without improvement that are waited for, at least 1; default 5.
        min_delta: improvement that counts, in [0, inf); default 0.
        mode: "min" or "max"; default by the name: "max" for an accuracy, else "min".
        restore_best: give the model the weights of its best epoch when the run ends. The averages
            of `Trainer(ema=...)` are not kept apart: they are the model's own affair.

    Cost: with `restore_best` a copy of the weights at each improvement.

    Source: Prechelt 1998, "Early stopping - but when?", criterion UP.

    Example:
        >>> stopping = EarlyStopping("val_loss", patience=2)
        >>> [stopping.improved(loss) for loss in (3.0, 2.0, 2.5, 1.0)]
        [True, True, False, True]
    """

    def __init__(
        self, monitor: str = "val_loss", patience: int = 5, min_delta: float = 0.0,
        mode: str | None = None, restore_best: bool = True,
    ):  # fmt: skip
        if mode not in (None, "min", "max"):
            raise SettingError(
                "EarlyStopping: which numbers are better?",
                got=f"mode={mode!r}",
                rule='"min", "max", or None: by the name',
                fix='EarlyStopping("val_loss", mode="min")',
            )
        self.monitor = monitor
        self.patience = whole("EarlyStopping", "patience", patience, at_least=1)
        self.min_delta = number("EarlyStopping", "min_delta", min_delta, "[0, inf)")
        self.highest = mode == "max" or (mode is None and "accuracy" in monitor)
        self.restore_best = flag("EarlyStopping", "restore_best", restore_best)
        self.best, self.best_epoch, self.waited = math.nan, 0, 0
        self.weights: dict[str, Tensor] = {}

    def improved(self, value: float) -> bool:
        """Whether `value` is better than all before; it is then the best."""
        gain = (value - self.best) if self.highest else (self.best - value)
        if math.isnan(value) or not (math.isnan(self.best) or gain > self.min_delta):
            return False
        self.best = value
        return True

    def begin_training(self, trainer: Trainer) -> None:
        """A run that had ended before it was resumed ends again; another run begins anew."""
        if trainer.run.epoch == 0 and trainer.run.batch == 0:
            self.best, self.best_epoch, self.waited, self.weights = math.nan, 0, 0, {}
        self._stop_if_due(trainer)

    def end_epoch(self, trainer: Trainer, row: dict[str, float]) -> None:
        """Look at the epoch's number."""
        if self.monitor not in row:
            raise SettingError(
                "EarlyStopping: the history has no such column",
                got=f"monitor={self.monitor!r}",
                rule="one of " + ", ".join(row),
                fix="train(..., validation=loader), or monitor='loss'",
            )
        if self.improved(row[self.monitor]):
            self.best_epoch, self.waited = int(row["epoch"]), 0
            if self.restore_best:
                self.weights = {n: Tensor(t) for n, t in trainer.model.state_dict().items()}
            return
        self.waited += 1
        self._stop_if_due(trainer)

    def _stop_if_due(self, trainer: Trainer) -> None:
        if self.waited >= self.patience:
            trainer.stop(
                f"{self.monitor} has not improved for {self.waited} epochs "
                f"(best: {self.best:.4g}, epoch {self.best_epoch})"
            )

    def end_training(self, trainer: Trainer, history: History) -> None:
        """Give the best weights back, if the run is over and not interrupted."""
        if self.weights and not history.stopped:
            trainer.model.load_state_dict(self.weights)

    def state_dict(self) -> dict[str, Any]:
        """The best so far: its number, epoch and weights, and how long ago it was."""
        weights = {f"weights.{name}": tensor.detach() for name, tensor in self.weights.items()}
        found = {"best": self.best, "best_epoch": self.best_epoch, "waited": self.waited}
        return {**found, **weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take what `state_dict` gave."""
        self.best, self.best_epoch = float(state["best"]), int(state["best_epoch"])
        self.waited = int(state["waited"])
        begins = "weights."
        self.weights = {n.removeprefix(begins): Tensor(t)
                        for n, t in state.items() if n.startswith(begins)}  # fmt: skip


class Alerts(Callback):
    """Reports, at the step at which it can be known, a loss that diverges, stalls, or is no number.

        running = 0.9 * running + 0.1 * loss        from the first loss on
        no number: loss is nan or infinite
        diverges:  loss > factor * the smallest running loss so far
        stalls:    the smallest running loss is `patience` steps old

    Each kind is reported once until it has passed.

    Args:
        factor: in (1, inf); default 3.
        patience: steps, at least 1; default 1000.
        tell: is given the text; default the trainer's progress display.

    Example:
        >>> said = []
        >>> alerts = Alerts(factor=2.0, tell=said.append)
        >>> for step, loss in enumerate([1.0, 0.9, 5.0], 1):
        ...     alerts.look(step, loss)
        >>> said
        ['alert at step 3: the loss diverges: 5, at best 0.99']
    """

    def __init__(
        self, factor: float = 3.0, patience: int = 1000, tell: Callable[[str], Any] | None = None
    ):
        self.factor = number("Alerts", "factor", factor, "(1, inf)")
        self.patience = whole("Alerts", "patience", patience, at_least=1)
        self.tell = tell
        self.running = self.best = math.inf
        self.best_step = 0
        self.reported: set[str] = set()

    def after_batch(self, trainer: Trainer, values: dict[str, float]) -> None:
        """Look at the batch's loss."""
        if self.tell is None:
            self.tell = trainer.shown.message
        self.look(trainer.steps, values["loss"])

    def failed(self, trainer: Trainer, error: BaseException) -> None:
        """A loss that is no number ends the run before `after_batch`: it is reported here."""
        tell = self.tell or trainer.shown.message
        tell(f"alert at step {trainer.steps}: {type(error).__name__}: {str(error).splitlines()[0]}")

    def look(self, step: int, loss: float) -> None:
        """Take one more loss, and report what it shows."""
        if not math.isfinite(loss):
            self._report("no number", step, True, f"the loss is {loss}")
            return
        self._report("no number", step, False, "")
        first = math.isinf(self.running)
        self.running = loss if first else SMOOTHING * self.running + (1 - SMOOTHING) * loss
        diverges = f"the loss diverges: {loss:.4g}, at best {self.best:.4g}"
        self._report("diverges", step, loss > self.factor * self.best, diverges)
        if self.running < self.best:
            self.best, self.best_step = self.running, step
        waited = step - self.best_step
        stalls = f"the loss stalls: no better than {self.best:.4g} for {waited} steps"
        self._report("stalls", step, waited >= self.patience, stalls)

    def _report(self, kind: str, step: int, now: bool, text: str) -> None:
        if not now:
            self.reported.discard(kind)
        elif kind not in self.reported:
            self.reported.add(kind)
            if self.tell is not None:
                self.tell(f"alert at step {step}: {text}")


def resident_bytes() -> int:
    """Memory that this process holds now; where the system does not say, the most it ever held."""
    if STATM.exists():
        return int(files.contents(STATM, 4096).split()[1]) * os.sysconf("SC_PAGE_SIZE")
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024  # Linux counts in KiB


class MemoryWatch(Callback):
    """Puts "memory_mb" into each row of the history, and reports memory that only grows.

    Looked at every `every` steps. If it grew by `growth_mb` over the last `looks` looks, and not
    one of them was below the one before, something is kept that should not be: a list of losses
    that are still on the tape, for example.

    Args:
        every: steps between looks, at least 1; default 20.
        looks: that must all show growth, at least 2; default 5.
        growth_mb: that is reported, in (0, inf); default 32, more than programs and caches take
            once a run is under way.
        tell: is given the text; default the trainer's progress display.

    Cost: about 10 us a look.

    Example:
        >>> said = []
        >>> watch = MemoryWatch(looks=3, growth_mb=10, tell=said.append)
        >>> for step, megabytes in enumerate([100, 100, 108, 116], 1):
        ...     watch.look(step, megabytes * 2**20)
        >>> said
        ['alert at step 4: memory grew by 16 MB within 3 looks and never fell: 116 MB']
    """

    def __init__(
        self, every: int = 20, looks: int = 5, growth_mb: float = 32.0,
        tell: Callable[[str], Any] | None = None,
    ):  # fmt: skip
        self.every = whole("MemoryWatch", "every", every, at_least=1)
        self.looks = whole("MemoryWatch", "looks", looks, at_least=2)
        self.growth = number("MemoryWatch", "growth_mb", growth_mb, "(0, inf)") * MEGABYTE
        self.tell = tell
        self.seen: list[int] = []  # the last looks, bytes
        self.peak = 0  # of the present epoch
        self.reported = False

    def begin_epoch(self, trainer: Trainer) -> None:
        """The epoch's largest number begins at the present one."""
        self.peak = resident_bytes()

    def after_batch(self, trainer: Trainer, values: dict[str, float]) -> None:
        """Look, every so many steps."""
        if trainer.steps % self.every == 0:
            if self.tell is None:
                self.tell = trainer.shown.message
            self.look(trainer.steps, resident_bytes())

    def end_epoch(self, trainer: Trainer, row: dict[str, float]) -> None:
        """Put the largest number of the epoch into its row."""
        self.peak = max(self.peak, resident_bytes())
        row["memory_mb"] = round(self.peak / MEGABYTE, 1)

    def look(self, step: int, held: int) -> None:
        """Take one more number of bytes, and report growth without end, once."""
        self.peak = max(self.peak, held)
        self.seen = [*self.seen[-(self.looks - 1) :], held]
        rises = all(a <= b for a, b in zip(self.seen, self.seen[1:], strict=False))
        grown = self.seen[-1] - self.seen[0]
        if len(self.seen) < self.looks or not rises or grown < self.growth or self.reported:
            return
        self.reported = True
        if self.tell is not None:
            self.tell(
                f"alert at step {step}: memory grew by {grown // MEGABYTE} MB within {self.looks} "
                f"looks and never fell: {held // MEGABYTE} MB"
            )


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
        with files.replacing(self.path) as file:
            file.write((trainer.run.history.to_json() + newest).encode())
