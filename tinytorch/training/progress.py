"""Progress: a live line on a terminal, one plain line an epoch elsewhere.

Knows numbers to show, never what is trained. Without rich, or when the output is not a terminal, it
prints plain lines.
"""

from __future__ import annotations

import sys
import time
from importlib.util import find_spec

from tinytorch.training.metrics import Averages


class Progress:
    """What the trainer tells whoever shows it; a moment that is not defined shows nothing."""

    def begin_epoch(self, epoch: int, epochs: int, batches: int | None) -> None:
        """Epoch `epoch` of `epochs` (from 1) begins; it has `batches` batches, if that is known."""

    def batch(self, index: int, averages: Averages) -> None:
        """Batch `index` (from 1) is done; `averages` are those of the epoch so far."""

    def end_epoch(self, row: dict[str, float]) -> None:
        """The epoch is over; `row` is its line of the history."""

    def message(self, text: str) -> None:
        """Something the user should read."""

    def close(self) -> None:
        """Nothing more will come."""


class Silent(Progress):
    """Shows nothing."""


class PlainLines(Progress):
    """One line for each epoch, for logs and pipes."""

    def begin_epoch(self, epoch: int, epochs: int, batches: int | None) -> None:
        """Remember which epoch it is."""
        self._place = f"epoch {epoch}/{epochs}"

    def end_epoch(self, row: dict[str, float]) -> None:
        """Print the line."""
        print(self._place + "  " + shown(row), flush=True)

    def message(self, text: str) -> None:
        """Print it."""
        print(text, flush=True)


class LiveLine(PlainLines):
    """A bar that moves, by rich, and a plain line for each epoch that is over."""

    # Seconds between updates: what an eye follows, and 0.2 % of the time at 0.2 ms each.
    REFRESH = 0.1

    def __init__(self):
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self._bar = Bar(
            TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(),
            TimeRemainingColumn(), TextColumn("{task.fields[values]}"),
            auto_refresh=False, transient=True,
        )  # fmt: skip
        self._task, self._due = None, 0.0
        self._bar.start()

    def begin_epoch(self, epoch: int, epochs: int, batches: int | None) -> None:
        """A new bar."""
        super().begin_epoch(epoch, epochs, batches)
        self._task = self._bar.add_task(self._place, total=batches, values="")
        self._due = 0.0

    def batch(self, index: int, averages: Averages) -> None:
        """Move the bar, at most ten times a second."""
        now = time.monotonic()
        if now >= self._due and self._task is not None:
            self._due = now + self.REFRESH
            self._bar.update(
                self._task, completed=index, values=shown(averages.means()), refresh=True
            )

    def end_epoch(self, row: dict[str, float]) -> None:
        """Replace the bar by a line."""
        self._remove()
        self.message(self._place + "  " + shown(row))

    def message(self, text: str) -> None:
        """Print it above the bar."""
        self._bar.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def close(self) -> None:
        """Give the terminal back."""
        self._remove()
        self._bar.stop()

    def _remove(self) -> None:
        if self._task is not None:
            self._bar.remove_task(self._task)
            self._bar.refresh()  # else the next line printed draws the old bar again below it
            self._task = None


def shown(values: dict[str, float]) -> str:
    """Names and numbers on one line; "epoch" is left out, seconds and shares get their unit.

    >>> shown({"epoch": 3, "loss": 0.12345, "accuracy": 0.9312, "seconds": 2.04})
    'loss 0.1235  accuracy 93.12 %  2.0 s'
    """
    parts = []
    for name, value in values.items():
        if name == "seconds":
            parts.append(f"{value:.1f} s")
        elif name.endswith("accuracy"):
            parts.append(f"{name} {100 * value:.2f} %")
        elif name != "epoch":
            parts.append(f"{name} {value:.4g}")
    return "  ".join(parts)


def best_for_output() -> Progress:
    """A live line where the output is a terminal and rich is installed, plain lines elsewhere."""
    live = sys.stdout.isatty() and find_spec("rich") is not None
    return LiveLine() if live else PlainLines()
