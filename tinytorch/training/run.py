"""Run: where a training run stands, so that it can be put away, stopped and taken up again.

Knows counts, averages, the history, the place in the data and one signal, never the model. Ctrl-C
is a question asked between steps, so that no step is half done.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from tinytorch.base.errors import DataError
from tinytorch.tensor.tensor import Tensor
from tinytorch.training.history import History
from tinytorch.training.metrics import Averages

STANDARD_ERROR = 2  # the descriptor
SAID = b"\nstopping after this step; Ctrl-C again stops at once\n"


@dataclass
class Run:
    """The position of a run.

    Args:
        epoch: whole epochs done.
        batch: batches of the present epoch done.
        steps: batches the trainer has learned from, in all runs.
        updates: times its weights have moved.
        seconds: time the present epoch has taken.
        averages: of the present epoch.
        history: rows of the whole epochs.
    """

    epoch: int = 0
    batch: int = 0
    steps: int = 0
    updates: int = 0
    seconds: float = 0.0
    averages: Averages = field(default_factory=Averages)
    history: History = field(default_factory=History)

    def again(self, same_loader: bool) -> Run:
        """The beginning of another run: an epoch that was stopped is finished first."""
        if same_loader and self.batch:
            return Run(0, self.batch, self.steps, self.updates, self.seconds, self.averages)
        return Run(steps=self.steps, updates=self.updates, averages=self.averages.fresh())

    def end_epoch(self, row: dict[str, float]) -> None:
        """Keep the row and stand at the beginning of the next epoch."""
        self.history.add(row)
        self.epoch, self.batch, self.seconds = self.epoch + 1, 0, 0.0
        self.averages = self.averages.fresh()

    def state_dict(self) -> dict[str, Any]:
        """Numbers, and the rest as JSON."""
        numbers = {name: getattr(self, name) for name in ("epoch", "batch", "steps", "updates")}
        averages, history = json.dumps(self.averages.state_dict()), self.history.to_json()
        return {**numbers, "seconds": self.seconds, "averages": averages, "history": history}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Stand where `state_dict` was called."""
        averages, history = json.loads(state["averages"]), History.from_json(state["history"])
        for name in ("epoch", "batch", "steps", "updates"):
            setattr(self, name, int(state[name]))
        self.seconds, self.history = float(state["seconds"]), history
        self.averages = self.averages.fresh()
        self.averages.load_state_dict(averages)


def keeps_its_place(loader: Any) -> bool:
    """Whether a loader knows its position, as DataLoader does."""
    return hasattr(loader, "state_dict") and hasattr(loader, "load_state_dict")


def check_loader(owner: str, loader: Any) -> None:
    """See that what is gone through gives batches.

    Raises:
        DataError: it is an array or Tensor, or nothing that can be gone through.
    """
    if isinstance(loader, (np.ndarray, Tensor, str)) or not hasattr(loader, "__iter__"):
        raise DataError(
            f"{owner}: the data comes in batches",
            got=f"{type(loader).__name__} {getattr(loader, 'shape', '')}".rstrip(),
            rule="a DataLoader, or anything to go through that gives (input, target) of arrays",
            fix=f"{owner}(DataLoader(ArrayDataset(inputs, targets), batch_size=32), ...)",
        )


def no_batches(rule: str, fix: str = "a smaller batch_size, or drop_last=False") -> DataError:
    """The error of an epoch in which a loader gave no batch."""
    return DataError(
        "there is nothing to go through", got="a loader that gave no batch", rule=rule, fix=fix
    )


class Batches:
    """Where a run stands in its data: the pass it goes through, or, between passes, the loader.

    A loader may be gone through by others meanwhile, for example to be evaluated: the place of the
    run is that of its own pass.

    Args:
        loader: gives batches; one that can save its place is asked for it, of others batches are
            counted.
    """

    def __init__(self, loader: Iterable):
        check_loader("train", loader)
        self.loader: Any = loader
        self._passing: Any = None

    def remaining(self, done: int) -> Iterator:
        """The batches of the present epoch that are still to come.

        Args:
            done: batches of this epoch that were used; a loader that keeps its place has been told
                where to go on, of others so many are passed over.
        """
        if not keeps_its_place(self.loader):
            yield from islice(self.loader, done, None)
            return
        self._passing = iter(self.loader)
        yield from self._passing
        self._passing = None

    def state_dict(self) -> dict[str, int]:
        """The place of the pass that is under way, or else of the loader."""
        own = getattr(self._passing, "state_dict", None)
        return (own or self.loader.state_dict)()

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Let the next pass begin there."""
        self.loader.load_state_dict(state)


class Interruption:
    """Within the block the first Ctrl-C sets `requested`; a second one raises KeyboardInterrupt.

    The first one is answered at once, on standard error: a step that is being compiled can take
    seconds.

    Outside the main thread, where Python has no signals, it does nothing.

    Example:
        >>> with Interruption() as stop:
        ...     stop.requested
        False
    """

    def __init__(self):
        self.requested = False
        self._before = None

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *error) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _handle(self, number, frame) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        # Written past Python's buffers: a handler may run while they are in use.
        with contextlib.suppress(OSError):
            os.write(STANDARD_ERROR, SAID)
