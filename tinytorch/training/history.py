"""History: what each epoch of a training run measured.

Knows rows of numbers, never models.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from tinytorch.base import files, strict_json
from tinytorch.base.errors import FileFormatError, printable, short

LONGEST = 64 << 20  # bytes of a file: 100,000 epochs of ten numbers have half of that


class History:
    """Rows of numbers by name, one for each epoch, oldest first.

    `stopped` is True if the run was interrupted before its last epoch ended; `reason` says why a
    run ended early, and is empty otherwise.

    Example:
        >>> history = History()
        >>> history.add({"epoch": 1, "loss": 0.5})
        >>> history.add({"epoch": 2, "loss": 0.25})
        >>> history["loss"], history.last["loss"]
        ([0.5, 0.25], 0.25)
        >>> print(history)
        epoch  loss
            1   0.5
            2  0.25
    """

    def __init__(self):
        self.rows: list[dict[str, float]] = []
        self.stopped = False
        self.reason = ""

    def add(self, row: dict[str, float]) -> None:
        """Append one epoch."""
        self.rows.append(row)

    @property
    def last(self) -> dict[str, float]:
        """The newest row; empty before the first epoch ends."""
        return self.rows[-1] if self.rows else {}

    def best(self, name: str, largest: bool = False) -> dict[str, float]:
        """The row in which `name` is smallest (or largest); empty if no row has it.

        Example:
            >>> history = History()
            >>> for epoch, loss in enumerate([0.5, 0.2, 0.3], 1):
            ...     history.add({"epoch": epoch, "val_loss": loss})
            >>> history.best("val_loss")
            {'epoch': 2, 'val_loss': 0.2}
        """
        rows = [row for row in self.rows if not math.isnan(row.get(name, math.nan))]
        pick = max if largest else min
        return pick(rows, key=lambda row: row[name]) if rows else {}

    def names(self) -> list[str]:
        """The names of all columns, in order of their first appearance."""
        return list(dict.fromkeys(name for row in self.rows for name in row))

    def __getitem__(self, name: str) -> list[float]:
        return [row[name] for row in self.rows if name in row]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[dict[str, float]]:
        return iter(self.rows)

    # --- as text and files ---

    def to_json(self) -> str:
        """JSON lines, one epoch each; what is no finite number is written as null."""
        return "".join(line_of(row) for row in self.rows)

    @classmethod
    def from_json(cls, text: str) -> History:
        """The history that `to_json` wrote; null becomes not-a-number.

        Raises:
            FileFormatError: a line is not a JSON object of numbers.
        """
        history = cls()
        for number, line in enumerate(text.splitlines(), 1):
            try:
                row = strict_json.parse(line.encode())
            except ValueError:  # half a surrogate pair is one too
                row = None
            if not isinstance(row, dict) or not all(map(_is_value, row.values())):
                raise FileFormatError(
                    "this is not a history",
                    got=f"line {number}: {short(line, 60)}",
                    rule="each line is a JSON object of names and numbers",
                    fix="History.save writes such a file",
                )
            history.add({k: math.nan if v is None else v for k, v in row.items()})
        return history

    def save(self, path: str | Path) -> None:
        """Write JSON lines, one epoch each; the file is replaced in one step.

        Raises:
            StorageError: it cannot be written, or there is a link or a device in its place.
        """
        with files.replacing(path) as file:
            file.write(self.to_json().encode())

    @classmethod
    def load(cls, path: str | Path) -> History:
        """Read a file that `save` wrote.

        Raises:
            NotFoundError: there is none; a FileNotFoundError.
            FileFormatError: it holds something else, or is no regular file.
        """
        return cls.from_json(files.text(path, LONGEST, links=True))

    def plot(self, *names: str, width: int = 60, height: int = 12) -> str:
        """Curves as text; see `plot.text_plot`.

        Args:
            names: columns; default every loss.
            width: characters.
            height: lines.
        """
        from tinytorch.training.plot import text_plot

        return text_plot(self._curves(names), width, height)

    def save_plot(self, path: str | Path, *names: str) -> None:
        """Write curves as an SVG picture, which needs no library.

        Args:
            path: by custom ending in ".svg".
            names: columns; default every loss.
        """
        from tinytorch.training.plot import svg_plot

        with files.replacing(path) as file:
            file.write(svg_plot(self._curves(names)).encode())

    def _curves(self, names: tuple[str, ...]) -> dict[str, list[tuple[float, float]]]:
        chosen = names or tuple(name for name in self.names() if name.endswith("loss"))
        return {
            name: [(row.get("epoch", i), row[name]) for i, row in enumerate(self.rows, 1)
                   if name in row]
            for name in chosen
        }  # fmt: skip

    def __str__(self) -> str:
        names = self.names()
        table = [
            [*map(printable, names)],
            *([_short(row.get(name)) for name in names] for row in self.rows),
        ]
        widths = [max(len(line[i]) for line in table) for i in range(len(names))]
        return "\n".join(
            "  ".join(x.rjust(w) for x, w in zip(line, widths, strict=True)) for line in table
        )


def line_of(row: Mapping[str, float]) -> str:
    """One epoch as a line of JSON."""
    return json.dumps({k: v if math.isfinite(v) else None for k, v in row.items()}) + "\n"


def _is_value(value: object) -> bool:
    return value is None or type(value) in (int, float)


def _short(value: float | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.4g}"
