"""What a training run measures: shown while it goes on, kept as a History, drawn as curves.

Knows numbers by name, rows of them and named lists of points, never models. Progress is a live line
on a terminal, by rich, and one plain line an epoch elsewhere. Curves are drawn as text for a
terminal or as SVG for a page; no library is needed.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from tinytorch.base import files
from tinytorch.base.arguments import whole
from tinytorch.base.errors import DataError, FileFormatError, printable, short
from tinytorch.training.metrics import Averages

LONGEST = 64 << 20  # bytes of a file: 100,000 epochs of ten numbers have half of that
Curves = Mapping[str, Sequence[tuple[float, float]]]
MARKS = "*o+x#%"
# Colour-blind safe, from Okabe & Ito 2008, https://jfly.uni-koeln.de/color/.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 640, 400, 70, 50, 30  # of the picture and its margins, in pixels
TICKS = 5


# --- while it goes on ---


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


# --- kept: a row for each epoch ---


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
                row = files.parse_json(line.encode())
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
        """Curves as text; see `text_plot`.

        Args:
            names: columns; default every loss.
            width: characters.
            height: lines.
        """
        return text_plot(self._curves(names), width, height)

    def save_plot(self, path: str | Path, *names: str) -> None:
        """Write curves as an SVG picture, which needs no library.

        Args:
            path: by custom ending in ".svg".
            names: columns; default every loss.
        """
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


# --- drawn ---


def text_plot(curves: Curves, width: int = 60, height: int = 12) -> str:
    """Curves drawn with characters, one mark for each.

    Args:
        curves: name -> points (x, y); numbers that are not finite are left out.
        width: columns of the drawing, at least 2.
        height: lines of the drawing, at least 2.

    Returns:
        lines: the drawing with the range of y at its left and of x below, then the marks' names.

    Raises:
        DataError: there is no point.

    Example:
        >>> print(text_plot({"loss": [(1, 4.0), (2, 1.0), (3, 0.0)]}, width=9, height=3))
           4 |*
             |
           0 |    *   *
              1       3
        * loss
    """
    columns = whole("text_plot", "width", width, at_least=2)
    lines = whole("text_plot", "height", height, at_least=2)
    points = {name: _finite(curve) for name, curve in curves.items()}
    (left, right), (low, high) = _ranges(points)
    grid = [[" "] * columns for _ in range(lines)]
    for mark, curve in zip(_cycled(MARKS, len(points)), points.values(), strict=True):
        for x, y in curve:
            row = round((high - y) / (high - low) * (lines - 1))
            grid[row][round((x - left) / (right - left) * (columns - 1))] = mark
    edges = {0: f"{high:.4g}", lines - 1: f"{low:.4g}"}
    margin = max(4, *map(len, edges.values()))
    out = [f"{edges.get(i, ''):>{margin}} |{''.join(row)}".rstrip() for i, row in enumerate(grid)]
    ends = f"{left:g}", f"{right:g}"
    out.append(" " * (margin + 2) + ends[0] + ends[1].rjust(columns - len(ends[0])))
    out += [
        f"{mark} {printable(name)}"
        for mark, name in zip(_cycled(MARKS, len(points)), points, strict=True)
    ]
    return "\n".join(out)


def svg_plot(curves: Curves, title: str = "", x_name: str = "epoch") -> str:
    """Curves as an SVG picture of 640 x 400 pixels.

    Args:
        curves: name -> points (x, y); numbers that are not finite are left out.
        title: stands above.
        x_name: stands below.

    Returns:
        the text of the file.

    Raises:
        DataError: there is no point.

    Example:
        >>> picture = svg_plot({"loss": [(1, 4.0), (2, 1.0)]})
        >>> picture.count("<polyline"), picture.startswith("<svg")
        (1, True)
    """
    points = {name: _finite(curve) for name, curve in curves.items()}
    (left, right), (low, high) = _ranges(points)

    def place(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (x - left) / (right - left) * (WIDTH - LEFT - 20)
        return across, TOP + (high - y) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
             f'font-family="sans-serif" font-size="12">',
             f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
             _text(WIDTH / 2, 18, title, "middle"),
             _text(WIDTH / 2, HEIGHT - 8, x_name, "middle")]  # fmt: skip
    for i in range(TICKS):
        y = low + (high - low) * i / (TICKS - 1)
        across, down = place(left, y)
        parts.append(f'<line x1="{across:.1f}" y1="{down:.1f}" x2="{WIDTH - 20}" y2="{down:.1f}" '
                     'stroke="#ddd"/>')  # fmt: skip
        parts.append(_text(LEFT - 6, down + 4, f"{y:.4g}", "end"))
        x = left + (right - left) * i / (TICKS - 1)
        parts.append(_text(place(x, low)[0], HEIGHT - BOTTOM + 16, f"{x:.4g}", "middle"))
    for i, (name, curve) in enumerate(points.items()):
        colour = COLOURS[i % len(COLOURS)]
        corners = " ".join(f"{a:.1f},{b:.1f}" for a, b in (place(x, y) for x, y in curve))
        parts.append(f'<polyline points="{corners}" fill="none" stroke="{colour}" '
                     'stroke-width="2"/>')  # fmt: skip
        parts.append(_text(WIDTH - 24, TOP + 14 + 16 * i, name, "end", colour))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _text(x: float, y: float, words: str, anchor: str, colour: str = "black") -> str:
    from html import escape  # here: its table of names is loaded for pictures alone

    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">'
            f"{escape(printable(words))}</text>")  # fmt: skip


def _finite(curve: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(x, y) for x, y in curve if math.isfinite(x) and math.isfinite(y)]


def _ranges(points: Mapping[str, list[tuple[float, float]]]) -> list[tuple[float, float]]:
    """Smallest and largest x and y; a range of nothing is widened, so that it can be divided by."""
    every = [point for curve in points.values() for point in curve]
    if not every:
        raise DataError(
            "there is nothing to plot",
            got=f"no finite number for {', '.join(points) or 'any name'}",
            rule="at least one point",
            fix="train for an epoch, or name a column of the history",
        )
    found = []
    for numbers in zip(*every, strict=True):
        low, high = min(numbers), max(numbers)
        found.append((low, high) if low < high else (low - 0.5, high + 0.5))
    return found


def _cycled(marks: str, count: int) -> list[str]:
    return [marks[i % len(marks)] for i in range(count)]
