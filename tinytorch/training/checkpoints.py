"""Checkpoints: the checkpoints of one run, which to keep, when the next is due, where to go on.

Knows steps, numbers and folders, never what a state holds.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import secrets
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tinytorch.base.checks import number, whole
from tinytorch.base.errors import FileFormatError, SettingError, StorageError, TinyTorchError
from tinytorch.storage import FutureVersionError
from tinytorch.storage.folder import (
    check_writable,
    is_replaceable,
    remove_folder,
    remove_leftovers,
)
from tinytorch.training.checkpoint import (
    KIND,
    about_checkpoint,
    load_checkpoint,
    open_checkpoint,
    save_checkpoint,
)

_LOWER = ("loss", "error", "perplexity", "seconds")
_HIGHER = ("accuracy", "top_k", "top_5", "top5", "precision", "recall", "f1", "score")
_OURS = r"step-\d{6,18}"  # names of checkpoints; their number fits 64 bits


class Checkpoints:
    """A folder of checkpoints, "step-000123" for each: the newest few and the best.

    A new one is written whole before an old one is removed, so that at every moment, also when the
    process is killed or the disk is full, the newest whole one can be loaded.

    The folder may be of somebody else: a link in it is not followed, and what is no checkpoint as
    `save_checkpoint` wrote it is neither replaced nor removed.

    Args:
        folder: where they are; made when the first is saved.
        keep: how many of the newest stay, >= 1.
        every_steps: `due` says yes after so many steps, >= 1; None: never because of steps.
        every_seconds: `due` says yes after so much time, > 0; None: never because of time.
        best: name of a metric, for example "val_loss": the checkpoint with its best value stays.
        highest: whether the best value is the highest; None: by the name (loss, error and
            perplexity: the lowest; accuracy: the highest).

    Raises:
        SettingError: a setting outside its range, or a metric of which nobody knows whether high
            or low is good.

    Example:
        >>> import tempfile
        >>> kept = Checkpoints(tempfile.mkdtemp(), keep=2, best="val_loss")
        >>> for step, loss in [(10, 0.9), (20, 0.4), (30, 0.5), (40, 0.6)]:
        ...     path = kept.save({"step": step}, step, {"val_loss": loss})
        >>> kept.steps(), kept.best_step(), kept.load()
        ([20, 30, 40], 20, {'step': 40})
    """

    def __init__(
        self, folder: str | os.PathLike[str], keep: int = 3, *, every_steps: int | None = None,
        every_seconds: float | None = None, best: str | None = None, highest: bool | None = None,
    ):  # fmt: skip
        self.folder = Path(folder)
        self.keep = whole("Checkpoints", "keep", keep, at_least=1)
        self.every_steps = (
            None if every_steps is None else whole("Checkpoints", "every_steps", every_steps, 1)
        )
        self.every_seconds = (
            None
            if every_seconds is None
            else number("Checkpoints", "every_seconds", every_seconds, "(0, inf)")
        )
        self.best = best
        self.highest = _direction(best, highest)
        self._saved_at: float = time.monotonic()
        self._saved_step: int | None = None

    # --- looking ---

    def path(self, step: int) -> Path:
        """Where the checkpoint of a step is."""
        return self.folder / f"step-{step:06d}"

    def steps(self) -> list[int]:
        """The steps of which there is a checkpoint with all its files, oldest first."""
        return [step for step in self._listed() if self._is_complete(step)]

    def best_step(self) -> int | None:
        """The step whose `best` metric was best; the earlier of equals; None without any."""
        return self._best_of(self.steps())

    def exists(self) -> bool:
        """Whether the folder holds any checkpoint, whole or damaged."""
        return bool(self._listed())

    def due(self, step: int) -> bool:
        """Whether it is time to save after training step `step`.

        Args:
            step: training steps done.
        """
        if self.every_steps and step % self.every_steps == 0 and step != self._saved_step:
            return True
        if self.every_seconds is None:
            return False
        return time.monotonic() - self._saved_at >= self.every_seconds

    # --- saving ---

    def prepare(self) -> None:
        """Make the folder and try to write there: an error now, not after hours of training.

        Raises:
            StorageError: it cannot be written.
        """
        check_writable(self.folder)

    def save(
        self, state: Mapping[str, Any], step: int, metrics: Mapping[str, float] | None = None
    ) -> Path:
        """Write a checkpoint, then remove the old ones that are neither new nor best.

        Args:
            state: see `save_checkpoint`.
            step: training steps done, >= 0.
            metrics: numbers by name; without the one called `best` it is never the best.

        Returns:
            the folder of this checkpoint.

        Raises:
            StorageError: it cannot be written; the older ones are all there.
        """
        step = whole("Checkpoints.save", "step", step, at_least=0)
        target = self.path(step)
        if self.folder.is_dir():
            remove_leftovers(self.folder, _OURS, KIND)
        if os.path.lexists(target) and not is_replaceable(target, KIND):
            # Nobody can load it, or it holds more than we wrote: not ours to throw away.
            os.rename(target, self.folder / f"damaged-{target.name}-{secrets.token_hex(3)}")
        about = {"step": step, "metrics": {k: float(v) for k, v in (metrics or {}).items()}}
        save_checkpoint(target, state, about)
        self._saved_at, self._saved_step = time.monotonic(), step
        self._remove_old(step)
        return target

    def _remove_old(self, step: int) -> None:
        # Later steps are of another attempt at this run (somebody went back): left alone.
        steps = [s for s in self.steps() if s <= step]
        stay = {*steps[-self.keep :], self._best_of(steps)}
        for old in steps:
            if old not in stay:
                # A folder that cannot be removed costs space, and must not end a training run.
                with contextlib.suppress(OSError):
                    remove_folder(self.path(old), KIND)

    # --- loading ---

    def load(self) -> dict[str, Any] | None:
        """The state of the newest whole checkpoint; None if there is none and never was.

        A damaged one is passed over with a warning that names it.

        Raises:
            FileFormatError: there are checkpoints, and each is damaged; or the newest was written
                by a newer TinyTorch (FutureVersionError): going on from an older one would lose
                what it holds.
        """
        if self.folder.is_dir():
            remove_leftovers(self.folder, _OURS, KIND)
        passed: list[str] = []
        for step in reversed(self._listed()):
            try:
                state = load_checkpoint(self.path(step), links=False)
            except FutureVersionError:
                raise
            except (FileFormatError, StorageError) as error:
                passed.append(f"step-{step:06d} ({error.what})")
                continue
            if passed:
                warnings.warn(
                    f"damaged: {'; '.join(passed)}. Going on from step {step}.",
                    RuntimeWarning, stacklevel=2,
                )  # fmt: skip
            return state
        if passed:
            raise FileFormatError(
                f"no checkpoint in {self.folder} is whole",
                got="; ".join(passed),
                rule="at least one that is as it was written",
                fix="copy the folder again, or begin anew in another folder",
            )
        return None

    def load_best(self) -> dict[str, Any] | None:
        """The state of the checkpoint with the best metric; None if there is none."""
        step = self.best_step()
        return None if step is None else load_checkpoint(self.path(step), links=False)

    # --- inside ---

    def _listed(self) -> list[int]:
        if not self.folder.is_dir():
            return []
        # A folder that was being replaced when the process was killed is found under its old name.
        found = (re.fullmatch(rf"({_OURS})|\.({_OURS})\.before", name, re.ASCII)
                 for name in os.listdir(self.folder))  # fmt: skip
        names = {match[1] or match[2] for match in found if match}
        steps = {int(name.removeprefix("step-")) for name in names}
        return sorted(step for step in steps if self.path(step).name in names)

    def _is_complete(self, step: int) -> bool:
        try:
            open_checkpoint(self.path(step), checksums=False, links=False)
        except (TinyTorchError, OSError):
            return False
        return True

    def _best_of(self, steps: list[int]) -> int | None:
        if self.best is None:
            return None
        values = {}
        for step in steps:
            value = self._metric(step)
            if not math.isnan(value):
                values[step] = -value if self.highest else value
        return min(values, key=lambda step: (values[step], step), default=None)

    def _metric(self, step: int) -> float:
        try:
            metrics = about_checkpoint(self.path(step), links=False).get("metrics")
        except TinyTorchError:  # of somebody else, who wrote there what is no value
            return math.nan
        value = metrics.get(self.best) if isinstance(metrics, dict) else None
        return value if isinstance(value, float) else math.nan

    def __repr__(self) -> str:
        return f"Checkpoints({str(self.folder)!r}, keep={self.keep}, {len(self.steps())} there)"


def _direction(best: str | None, highest: bool | None) -> bool:
    if highest is not None or best is None:
        return bool(highest)
    if any(word in best for word in _LOWER):
        return False
    if any(word in best for word in _HIGHER):
        return True
    raise SettingError(
        f"Checkpoints: is a high {best!r} good or bad?",
        got=f"best={best!r}",
        rule="loss, error and perplexity are good when low, accuracy when high; of other names "
        "nobody knows",
        fix=f'Checkpoints(..., best="{best}", highest=True)',
    )
