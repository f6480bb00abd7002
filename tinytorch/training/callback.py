"""Callbacks: what else should happen at the twelve moments of a training run.

Knows the names of the moments, never what is done at them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinytorch.base.errors import SettingError, printable

if TYPE_CHECKING:
    from tinytorch.training.history import History
    from tinytorch.training.trainer import Trainer


class Callback:
    """Something that happens during training: subclass it and define the moments you need.

    A moment that is not defined costs nothing. Every moment is given the Trainer: its `run.epoch`,
    `steps`, `model` and `optimizer` can be looked at, `trainer.stop(reason)` ends the run after the
    present batch or epoch.

    Example:
        >>> class Counting(Callback):
        ...     batches = 0
        ...     def after_batch(self, trainer, values):
        ...         self.batches += 1
        >>> len(Callbacks([Counting()]).moments["after_batch"]), len(MOMENTS)
        (1, 12)
    """

    def begin_training(self, trainer: Trainer) -> None:
        """The run begins, or goes on after a resume."""

    def begin_epoch(self, trainer: Trainer) -> None:
        """An epoch begins, or goes on."""

    def before_batch(self, trainer: Trainer, batch: tuple) -> None:
        """This batch comes next."""

    def after_batch(self, trainer: Trainer, values: dict[str, float]) -> None:
        """A batch is done; `values` are its loss and metrics."""

    def after_update(self, trainer: Trainer) -> None:
        """The weights have moved."""

    def begin_validation(self, trainer: Trainer) -> None:
        """The validation data come next."""

    def end_validation(self, trainer: Trainer, values: dict[str, float]) -> None:
        """They are done; `values` are their loss and metrics."""

    def end_epoch(self, trainer: Trainer, row: dict[str, float]) -> None:
        """An epoch is over; what is added to `row` is kept in the history."""

    def saved(self, trainer: Trainer, place: Path) -> None:
        """A checkpoint lies in `place`."""

    def interrupted(self, trainer: Trainer) -> None:
        """The user pressed Ctrl-C; nothing is saved yet."""

    def failed(self, trainer: Trainer, error: BaseException) -> None:
        """An error ends the run; it is raised afterwards."""

    def end_training(self, trainer: Trainer, history: History) -> None:
        """The run has ended, early or not."""

    def state_dict(self) -> dict[str, Any]:
        """What has to be saved for going on exactly; nothing by default."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take what `state_dict` gave."""


MOMENTS = tuple(
    name
    for name, value in vars(Callback).items()
    if callable(value) and not name.startswith("_") and not name.endswith("state_dict")
)


class Callbacks:
    """Several callbacks, told and saved together.

    Args:
        callbacks: in the order they are told.

    Raises:
        SettingError: something else is among them.
    """

    def __init__(self, callbacks: Iterable[Callback]):
        self.all = list(callbacks)
        self.moments: dict[str, list[Callable]] = {name: [] for name in MOMENTS}
        for callback in self.all:
            if not isinstance(callback, Callback):
                raise SettingError(
                    "Trainer: this is not a callback",
                    got=repr(callback),
                    rule="objects of subclasses of Callback",
                    fix="class Mine(Callback): ..., then callbacks=[Mine()]",
                )
            for name, methods in self.moments.items():
                if getattr(type(callback), name) is not getattr(Callback, name):
                    methods.append(getattr(callback, name))

    def state_dict(self) -> dict[str, Any]:
        """The states of all, each name with the place of its callback before it."""
        return {
            f"{place}.{name}": value
            for place, callback in enumerate(self.all)
            for name, value in callback.state_dict().items()
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Hand out what `state_dict` of the same callbacks gathered."""
        saved = {name.partition(".")[0] for name in state}
        own = {name.partition(".")[0] for name in self.state_dict()}
        if own != saved:
            raise SettingError(
                "the callbacks are not those that were saved",
                got=f"state of callbacks number {printable(', '.join(sorted(saved))) or '(none)'}",
                rule=f"state of callbacks number {', '.join(sorted(own)) or '(none)'}",
                fix="build the Trainer with the callbacks it had, in the same order",
            )
        for place, callback in enumerate(self.all):
            begins = f"{place}."
            names = [name for name in state if name.startswith(begins)]
            if names:
                callback.load_state_dict({n.removeprefix(begins): state[n] for n in names})
